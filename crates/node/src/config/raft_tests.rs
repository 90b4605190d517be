//! Settings of a node, and of who asks several.

use std::time::Duration;

use crate::config::{Backend, Config, Machine, Mode, Origin, Problem, RawConfig};

const THREE: &str = "1=a:5001,2=b:5001, 3=c:5001,3=[::1]:5003";

fn check(settings: &[(&str, &str)]) -> Result<Config, Vec<Problem>> {
    let mut raw = RawConfig::default();
    for (name, text) in settings {
        raw.set(name, *text, Origin::Flag);
    }
    raw.validate(&Machine::of(1 << 30))
}

fn node(more: &[(&'static str, &'static str)]) -> Result<Config, Vec<Problem>> {
    let base = [
        ("mode", "coordinator"),
        ("coordinator", "raft"),
        ("node-id", "3"),
        ("peers", THREE),
        ("insecure", "true"),
    ];
    check(&[&base[..], more].concat())
}

#[test]
fn a_node_listens_where_the_others_reach_it() {
    let config = node(&[]).unwrap();
    assert_eq!(config.mode(), Mode::Coordinator);
    assert_eq!(config.flight_addr().to_string(), "c:5001");
    let Backend::Raft(raft) = config.backend() else { panic!("{:?}", config.backend()) };
    assert_eq!((raft.node(), raft.cluster(), raft.is_joining()), (3, "sheaf", false));
    assert_eq!(raft.own().to_string(), "c:5001");
    assert_eq!(raft.peers()[&3].len(), 2, "two ways to one node");
    assert_eq!(raft.election_timeout(), Duration::from_millis(1_500));
    assert_eq!(raft.heartbeat_interval(), Duration::from_millis(300));
    assert_eq!(raft.snapshot_distance(), 10_000);
    let elsewhere = node(&[("flight-addr", "0.0.0.0:5001")]).unwrap();
    assert_eq!(elsewhere.flight_addr().to_string(), "0.0.0.0:5001");
}

#[test]
fn what_does_not_fit_is_named_with_what_does() {
    for (name, text, says) in [
        ("node-id", "", "no other ever had"),
        ("node-id", "0", "from 1 on"),
        ("node-id", "x", "from 1 on"),
        ("node-id", "4", "add 4=HOST:PORT"),
        ("peers", "", "name every node"),
        ("peers", "1", "write ID=HOST:PORT"),
        ("peers", "3=a:1,2=a:1", "name each once"),
        ("peers", "3=a:0", "nobody can dial"),
        ("peers", "3=a", "write HOST:PORT"),
        ("cluster-id", "a b", "letters, digits"),
        ("election-timeout", "1ms", "allowed are"),
        ("heartbeat-interval", "800ms", "three heartbeats"),
        ("heartbeat-interval", "500ms", "three heartbeats"),
        (
            "cluster-id",
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            "1 to 64",
        ),
        ("snapshot-distance", "7", "from 100"),
        ("join", "perhaps", "neither true nor false"),
    ] {
        let problems = node(&[(name, text)]).unwrap_err();
        assert!(problems[0].message.contains(says), "{name} {text}: {problems:?}");
    }
}

#[test]
fn nodes_on_several_machines_need_certificates_or_insecure() {
    let base = [
        ("mode", "coordinator"),
        ("coordinator", "raft"),
        ("node-id", "3"),
        ("tls-cert", "cert"),
        ("tls-key", "key"),
        ("tls-ca", "ca"),
        ("token-file", "tokens"),
    ];
    let with = |more: &[(&'static str, &'static str)]| check(&[&base[..], more].concat());
    let problems = with(&[("peers", THREE)]).unwrap_err();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].message.contains("know each other by certificates"), "{problems:?}");
    assert!(problems[0].place.contains("tls-client-ca"), "{problems:?}");
    with(&[("peers", THREE), ("tls-client-ca", "ca")]).unwrap();
    with(&[("peers", THREE), ("insecure", "true")]).unwrap();
    with(&[("peers", "3=localhost:5001,2=127.0.0.1:5002")]).unwrap();
}

#[test]
fn settings_of_raft_need_raft() {
    let problems = check(&[("node-id", "1"), ("peers", "1=a:1")]).unwrap_err();
    assert_eq!(problems.len(), 2, "{problems:?}");
    let problems = node(&[("valkey-addr", "h:1")]).unwrap_err();
    assert!(problems[0].message.contains("remove one"), "{problems:?}");
    for mode in ["worker", "flight"] {
        let problems = node(&[("mode", mode), ("flight-addr", "localhost:1")]).unwrap_err();
        assert!(problems[0].message.contains("grpc://HOST:PORT"), "{mode}: {problems:?}");
    }
}

#[test]
fn a_coordinator_elsewhere_may_have_several_addresses() {
    let config = check(&[
        ("mode", "worker"),
        ("flight-addr", "localhost:1"),
        ("coordinator", "grpc://a:5001,grpc://b:5001,c:5001"),
    ]);
    let config = config.unwrap();
    let Backend::Remote(remote) = config.backend() else { panic!("{:?}", config.backend()) };
    assert_eq!(remote.to_string(), "grpc://a:5001,grpc://b:5001,grpc://c:5001");
    let wrong =
        [("mode", "worker"), ("flight-addr", "localhost:1"), ("coordinator", "grpc://a:1,b")];
    assert!(check(&wrong).unwrap_err()[0].message.contains("no port"));
}
