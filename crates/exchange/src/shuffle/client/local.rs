//! Which worker is this process.

use std::net::IpAddr;

use sheaf_flight::Target;

use crate::shuffle::engine::Exchange;

/// What this process has received, and how it is called.
#[derive(Clone, Debug)]
pub(super) struct Local {
    names: Vec<String>,
    addresses: Vec<Address>,
    pub(super) exchange: Exchange,
}

impl Local {
    /// `None` without a name.
    pub(super) fn try_new(names: Vec<String>, exchange: Exchange) -> Option<Self> {
        let addresses = names.iter().filter_map(|name| Address::of(name)).collect();
        (!names.is_empty()).then_some(Local { names, addresses, exchange })
    }

    /// The first of its names.
    pub(super) fn name(&self) -> &str {
        self.names.first().map_or("", String::as_str)
    }

    /// Whether a worker of this name is this process.
    pub(super) fn is(&self, peer: &str) -> bool {
        if self.names.iter().any(|name| name == peer) {
            return true;
        }
        let asked = Address::of(peer);
        asked.is_some_and(|asked| self.addresses.iter().any(|known| known.is(&asked)))
    }
}

/// Where a worker listens, however it is written.
#[derive(Clone, Debug)]
enum Address {
    Number(IpAddr, u16),
    /// In small letters.
    Name(String, u16),
    /// A socket in the file system.
    File(String),
}

impl Address {
    fn of(peer: &str) -> Option<Self> {
        let target: Target = peer.parse().ok()?;
        if target.path().is_some() {
            return Some(Address::File(target.to_string()));
        }
        let host = target.host().trim_start_matches('[').trim_end_matches(']');
        Some(match host.parse::<IpAddr>() {
            Ok(number) => Address::Number(number.to_canonical(), target.port()),
            Err(_) => Address::Name(host.to_ascii_lowercase(), target.port()),
        })
    }

    /// Whether both are one. `localhost` is 127.0.0.1 and ::1, which are two: another
    /// process may listen at the same port of the other.
    fn is(&self, other: &Address) -> bool {
        match (self, other) {
            (Address::Number(one, port), Address::Number(two, at)) => (one, port) == (two, at),
            (Address::Name(one, port), Address::Name(two, at)) => (one, port) == (two, at),
            (Address::File(one), Address::File(two)) => one == two,
            (Address::Name(name, port), Address::Number(number, at))
            | (Address::Number(number, at), Address::Name(name, port)) => {
                name == "localhost" && port == at && is_localhost(*number)
            }
            _ => false,
        }
    }
}

fn is_localhost(number: IpAddr) -> bool {
    match number {
        IpAddr::V4(four) => four == std::net::Ipv4Addr::LOCALHOST,
        IpAddr::V6(six) => six == std::net::Ipv6Addr::LOCALHOST,
    }
}

#[cfg(test)]
mod tests {
    use sheaf_flight::Budget;
    use sheaf_retry::SystemClock;

    use super::*;

    #[test]
    fn a_worker_is_known_by_each_way_to_write_its_names() {
        let exchange = Exchange::new(Budget::new(1 << 20), SystemClock::shared());
        let names = ["grpc://127.0.0.1:8080", "grpc+tls://Worker-1.example:8080", "by name"];
        let local = Local::try_new(names.map(str::to_owned).to_vec(), exchange.clone()).unwrap();
        for (peer, is_local) in [
            ("grpc://127.0.0.1:8080", true),
            ("http://127.0.0.1:8080/", true),
            ("127.0.0.1:8080", true),
            ("grpc://localhost:8080", true),
            ("grpc://LOCALHOST:8080", true),
            ("[::ffff:127.0.0.1]:8080", true),
            ("grpc://worker-1.EXAMPLE:8080", true),
            ("by name", true),
            ("grpc://localhost:8081", false),
            ("grpc://127.0.0.2:8080", false),
            ("[::1]:8080", false),
            ("grpc://worker-2.example:8080", false),
            ("grpc+unix:///run/sheaf.sock", false),
            ("another name", false),
        ] {
            assert_eq!(local.is(peer), is_local, "{peer}");
        }
        assert_eq!(local.name(), names[0]);
        assert!(Local::try_new(Vec::new(), exchange).is_none());
    }
}
