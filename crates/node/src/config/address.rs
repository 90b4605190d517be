//! Addresses to listen on or to dial.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// A host, by name or number, and a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// A name, or an address without brackets.
    pub host: String,
    /// 0 is any free port.
    pub port: u16,
    /// Whether TLS is spoken there.
    pub tls: bool,
}

impl HostPort {
    /// Reads `HOST:PORT`, `grpc://HOST:PORT` or `grpc+tls://HOST:PORT`, as a
    /// ready line has it.
    pub(super) fn from_uri(text: &str) -> Result<Self, String> {
        let (tls, rest) = match text.strip_prefix("grpc+tls://") {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix("grpc://").unwrap_or(text)),
        };
        Ok(HostPort { tls, ..rest.parse()? })
    }

    /// `grpc://HOST:PORT`, or `grpc+tls://HOST:PORT`.
    pub fn uri(&self) -> String {
        let scheme = if self.tls { "grpc+tls" } else { "grpc" };
        format!("{scheme}://{self}")
    }

    /// Whether it is reached from this machine only. Names other than
    /// `localhost` are not known to be, until they are resolved.
    pub fn is_loopback(&self) -> bool {
        match self.host.parse::<IpAddr>() {
            Ok(address) => address.is_loopback(),
            Err(_) => self.host.eq_ignore_ascii_case("localhost"),
        }
    }
}

impl FromStr for HostPort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| {
            format!(
                "{text:?} is no address{why}: write HOST:PORT, such as localhost:8080 or [::1]:0"
            )
        };
        let (host, port) = text.rsplit_once(':').ok_or_else(|| wrong(", it has no port"))?;
        let port = port.parse().map_err(|_| wrong(", a port is a number from 0 to 65535"))?;
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = bracketed.unwrap_or(host);
        let is_name = |host: &str| {
            !host.is_empty()
                && host.len() <= 253
                && host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
        };
        let valid = match bracketed {
            Some(host) => host.parse::<std::net::Ipv6Addr>().is_ok(),
            None => is_name(host),
        };
        match valid {
            true => Ok(HostPort { host: host.to_owned(), port, tls: false }),
            false => Err(wrong("")),
        }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_and_print() {
        for (text, loopback) in [
            ("localhost:8080", true),
            ("127.0.0.1:0", true),
            ("[::1]:65535", true),
            ("0.0.0.0:1", false),
            ("[::]:1", false),
            ("store.example.org:8080", false),
        ] {
            let address: HostPort = text.parse().unwrap();
            assert_eq!((address.to_string().as_str(), address.is_loopback()), (text, loopback));
        }
    }

    #[test]
    fn the_rest_is_refused() {
        for text in [
            "",
            "localhost",
            ":80",
            "a:65536",
            "a:-1",
            "::1:80",
            "[::1]",
            "[x]:1",
            "a b:1",
            "a/b:1",
        ] {
            assert!(text.parse::<HostPort>().is_err(), "{text}");
        }
    }
}
