//! Whose a port is, from facts.

use super::*;
use crate::doctor::Verdict;
use crate::doctor::peer::{Answers, Needs};
use crate::serve::ServerInfo;

fn address() -> HostPort {
    "localhost:8080".parse().unwrap()
}

fn peer(pid: u32) -> PeerFacts {
    let info = ServerInfo {
        version: "9.9.9".to_owned(),
        mode: "all".to_owned(),
        time: String::new(),
        uptime_ms: 0,
        pid,
        admin: "127.0.0.1:9090".to_owned(),
        format: 1,
        records: 2,
        coordinator: String::new(),
    };
    PeerFacts {
        role: "server",
        needs: Needs::default(),
        address: address(),
        lookup: Step::Done(Vec::new()),
        connect: Step::Done(std::time::Duration::ZERO),
        health: Step::Done(true),
        access: Step::Done(Answers { info: Some(info), ..Answers::default() }),
    }
}

#[test]
fn a_taken_port_is_fine_only_where_the_holder_of_the_directory_answers() {
    let of = |bind, peer: Option<&PeerFacts>, holding| flight(&address(), &bind, peer, &holding);
    let ours = of(Bind::Taken, Some(&peer(7)), Holding::Held(Some(7)));
    assert!(ours.verdict == Verdict::Ok && ours.found.contains("sheaf 9.9.9"), "{ours:?}");
    for holding in [Holding::Free, Holding::Held(Some(8))] {
        let other = of(Bind::Taken, Some(&peer(7)), holding);
        assert_eq!(other.code, Some(Code::AddressInUse), "{other:?}");
        assert!(other.found.contains("9.9.9") && other.action.contains("--flight-addr"));
    }
    let silent = PeerFacts {
        health: Step::Failed((Code::Unavailable, "x".to_owned())),
        access: Step::NotTried,
        ..peer(7)
    };
    let other = of(Bind::Taken, Some(&silent), Holding::Free);
    assert!(other.found.contains("does not speak gRPC"), "{other:?}");
    assert_eq!(of(Bind::Taken, None, Holding::Free).verdict, Verdict::Problem);
    assert_eq!(of(Bind::Free, None, Holding::Free).verdict, Verdict::Ok);
    assert_eq!(of(Bind::Free, None, Holding::Held(Some(7))).verdict, Verdict::Warning);
    assert_eq!(of(Bind::Any, None, Holding::Held(Some(7))).verdict, Verdict::Ok);
    let denied = Bind::Refused((Code::PermissionDenied, "permission denied".to_owned()));
    assert!(of(denied, None, Holding::Free).action.contains("1024"));
}

#[test]
fn the_admin_port_belongs_to_the_server_that_names_it() {
    let at = |port| HostPort { port, ..address() };
    let answer = AdminAnswer { version: "9.9.9".to_owned(), phase: "ready".to_owned() };
    let of = |port, own: Option<&PeerFacts>, holding| {
        admin(&at(port), &Bind::Taken, Some(&answer), own, &holding)
    };
    assert_eq!(of(9090, Some(&peer(7)), Holding::Held(Some(7))).verdict, Verdict::Ok);
    let other = of(9091, Some(&peer(7)), Holding::Held(Some(7)));
    assert!(other.verdict == Verdict::Problem && other.found.contains("9.9.9"), "{other:?}");
    assert_eq!(of(9090, None, Holding::Free).code, Some(Code::AddressInUse));
    // Mode worker: there is no data directory to tell by.
    assert_eq!(of(9090, None, Holding::Unknown).verdict, Verdict::Ok);
    assert_eq!(admin(&at(1), &Bind::Any, None, None, &Holding::Free).verdict, Verdict::Ok);
}

#[test]
fn binding_tells_free_from_taken() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken: HostPort = listener.local_addr().unwrap().to_string().parse().unwrap();
    assert_eq!(Bind::attempt(&taken), Bind::Taken);
    drop(listener);
    assert_eq!(Bind::attempt(&taken), Bind::Free);
    assert_eq!(Bind::attempt(&HostPort { port: 0, ..taken }), Bind::Any);
    assert!(matches!(Bind::attempt(&"192.0.2.1:9".parse().unwrap()), Bind::Refused(_)));
}

#[test]
fn an_open_address_is_dialled_by_name() {
    let own = |text: &str| own(&text.parse().unwrap(), true).uri();
    assert_eq!(own("0.0.0.0:8080"), "grpc+tls://localhost:8080");
    assert_eq!(own("[::]:8080"), "grpc+tls://localhost:8080");
    assert_eq!(own("10.0.0.7:8080"), "grpc+tls://10.0.0.7:8080");
}
