//! Under which addresses payloads of this process are found.

use std::net::{SocketAddr, ToSocketAddrs as _};

use crate::config::{Backend, Config, HostPort, Mode};

/// The addresses that batches are registered with.
///
/// In mode `all` there are none unless one is advertised: the store is the one
/// beside the coordinator, and whoever has reached that one reaches it. A
/// server that is one of several must be told apart. Without an advertised
/// address it is the one it is bound to in mode `flight` and on a Valkey that
/// they share, and with a coordinator that they replicate the one where its
/// peers reach it: as it is written, since certificates are for names.
pub(super) fn own(config: &Config, bound: SocketAddr) -> Vec<String> {
    if let Some(address) = config.advertise_addr() {
        return vec![address.uri()];
    }
    match (config.mode(), config.backend()) {
        (Mode::All, Backend::Raft(raft)) => vec![raft.own().uri()],
        (Mode::Flight, _) | (Mode::All, Backend::Valkey(_)) if !bound.ip().is_unspecified() => {
            vec![at(bound, config.security().has_tls())]
        }
        _ => Vec::new(),
    }
}

/// The addresses that a server may have advertised which workers dial here:
/// as it is written, and as it resolves. Looking a name up may block for a moment.
pub(super) fn near(dialled: &HostPort) -> Vec<String> {
    let mut near = vec![dialled.uri()];
    // A name that cannot be looked up now is near to nothing, that is all.
    for found in dialled.to_string().to_socket_addrs().into_iter().flatten() {
        let address = at(found, dialled.tls);
        if !near.contains(&address) && near.len() < MAX_NEAR {
            near.push(address);
        }
    }
    near
}

fn at(address: SocketAddr, tls: bool) -> String {
    HostPort { host: address.ip().to_string(), port: address.port(), tls }.uri()
}

/// Most addresses of one server.
const MAX_NEAR: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Machine, Origin, RawConfig};

    fn config(settings: &[(&str, &str)]) -> Config {
        let mut raw = RawConfig::default();
        for (name, text) in settings {
            raw.set(name, *text, Origin::Flag);
        }
        raw.validate(&Machine::of(1 << 30)).unwrap()
    }

    #[test]
    fn one_of_several_servers_has_an_address_of_its_own() {
        let bound: SocketAddr = "127.0.0.1:7".parse().unwrap();
        assert!(own(&config(&[]), bound).is_empty());
        assert_eq!(own(&config(&[("advertise-addr", "h:9")]), bound), ["grpc://h:9"]);
        assert_eq!(own(&config(&[("mode", "flight")]), bound), ["grpc://127.0.0.1:7"]);
        assert_eq!(own(&config(&[("coordinator", "valkey")]), bound), ["grpc://127.0.0.1:7"]);
        let open: SocketAddr = "0.0.0.0:7".parse().unwrap();
        assert!(own(&config(&[("mode", "flight")]), open).is_empty());
    }

    #[test]
    fn a_node_is_found_where_its_peers_reach_it() {
        let (bound, open) = ("127.0.0.1:7".parse().unwrap(), "0.0.0.0:7".parse().unwrap());
        let raft = |peers| [("coordinator", "raft"), ("node-id", "1"), ("peers", peers)];
        let loopback = raft("1=127.0.0.1:7,2=127.0.0.1:8");
        assert_eq!(own(&config(&loopback), bound), ["grpc://127.0.0.1:7"]);
        let named = raft("1=a.example.org:7,2=b.example.org:7");
        let more = [("flight-addr", "0.0.0.0:7"), ("insecure", "true")];
        let settings = [&named[..], &more].concat();
        assert_eq!(own(&config(&settings), open), ["grpc://a.example.org:7"]);
        let advertised = [&settings[..], &[("advertise-addr", "h:9")]].concat();
        assert_eq!(own(&config(&advertised), open), ["grpc://h:9"]);
        let alone = [&settings[..], &[("mode", "coordinator")]].concat();
        assert!(own(&config(&alone), open).is_empty());
        // Under TLS it is a name that its certificate has.
        let own_tls = [("tls-cert", "c"), ("tls-key", "k")];
        let tls = [("tls-ca", "ca"), ("tls-client-ca", "ca"), ("token-file", "t")];
        let secured = [&named[..], &more[..1], &own_tls, &tls].concat();
        assert_eq!(own(&config(&secured), open), ["grpc+tls://a.example.org:7"]);
    }

    #[test]
    fn a_name_is_near_under_its_addresses_too() {
        let near = near(&"localhost:8".parse().unwrap());
        assert_eq!(near[0], "grpc://localhost:8");
        assert!(near.contains(&"grpc://127.0.0.1:8".to_owned()), "{near:?}");
    }
}
