//! Every verdict on a server, from facts.

use super::*;
use crate::doctor::Verdict;
use crate::serve::ServerInfo;

fn info() -> ServerInfo {
    ServerInfo {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        mode: "all".to_owned(),
        time: "2026-11-21T08:30:00.000Z".to_owned(),
        uptime_ms: 60_000,
        pid: 7,
        admin: "127.0.0.1:9090".to_owned(),
        format: 1,
        records: 2,
        coordinator: String::new(),
    }
}

fn sound() -> PeerFacts {
    PeerFacts {
        role: "coordinator",
        needs: Needs { coordinator: true, ..Needs::default() },
        address: "store.example.org:8080".parse().unwrap(),
        lookup: Step::Done(vec!["192.0.2.1:8080".parse().unwrap()]),
        connect: Step::Done(Duration::from_millis(1)),
        health: Step::Done(true),
        access: Step::Done(Answers {
            info: Some(info()),
            took: vec![Duration::from_millis(2); 3],
            ahead_ms: Some(3),
            coordinator: Some(Ok(())),
        }),
    }
}

fn worst(facts: &PeerFacts) -> Check {
    let checks = facts.checks();
    checks.into_iter().max_by_key(|check| check.verdict).unwrap()
}

#[test]
fn a_sound_server_is_ok_throughout() {
    let checks = sound().checks();
    let names: Vec<_> = checks.iter().map(|check| check.name.as_str()).collect();
    let expected =
        ["name", "connection", "health", "access", "latency", "version", "clock", "mode"];
    assert_eq!(names, expected.map(|name| format!("coordinator.{name}")));
    assert!(checks.iter().all(|check| check.verdict == Verdict::Ok), "{checks:?}");
}

#[test]
fn the_first_step_that_fails_is_the_last_that_is_told() {
    let failed = || Step::Failed((Code::Unavailable, "connection refused".to_owned()));
    let (health, access) = (Step::NotTried, Step::NotTried);
    let away = PeerFacts {
        connect: Step::Failed((Code::Unavailable, "x".to_owned())),
        health,
        access,
        ..sound()
    };
    assert_eq!(away.checks().len(), 2);
    assert!(worst(&away).action.contains("--coordinator"), "{:?}", worst(&away));
    let unknown = PeerFacts {
        lookup: Step::Failed((Code::Unavailable, "no such host".to_owned())),
        connect: Step::NotTried,
        ..away
    };
    assert_eq!(unknown.checks().len(), 1);
    let other = PeerFacts { health: failed(), access: Step::NotTried, ..sound() };
    assert!(worst(&other).action.contains("something else listens"));
}

#[test]
fn tls_and_tokens_are_told_apart() {
    let refused = |code, why: &str| Step::Failed((code, why.to_owned()));
    let mut facts = PeerFacts { access: Step::NotTried, ..sound() };
    facts.health = refused(Code::FailedPrecondition, "h:1: this port speaks TLS only");
    assert!(worst(&facts).action.contains("grpc+tls://store.example.org:8080"));
    facts.address.tls = true;
    facts.health = refused(Code::Unauthenticated, "signed by no CA of the file");
    let check = worst(&facts);
    assert_eq!((check.name.as_str(), check.code), ("coordinator.tls", Some(Code::Unauthenticated)));
    assert!(check.action.contains("--tls-ca"));
    let access = Step::Failed((Code::Unauthenticated, "the token is not accepted".to_owned()));
    let check = worst(&PeerFacts { access, ..sound() });
    assert_eq!(
        (check.name.as_str(), check.code),
        ("coordinator.access", Some(Code::Unauthenticated))
    );
    assert!(check.action.contains("--client-token-file"));
}

#[test]
fn clocks_within_a_second_are_fine_and_over_a_minute_a_problem() {
    let of = |ms| clocks("c".to_owned(), ms);
    for (ms, expected) in [
        (0, Verdict::Ok),
        (999, Verdict::Ok),
        (-1_000, Verdict::Warning),
        (59_999, Verdict::Warning),
        (-60_000, Verdict::Problem),
        (i64::MIN, Verdict::Problem),
    ] {
        assert_eq!(of(ms).verdict, expected, "{ms}");
    }
    assert!(of(-5_000).found.contains("5.0 s behind"), "{:?}", of(-5_000));
    assert!(of(-5_000).action.contains("leases go by the server's clock"));
}

#[test]
fn versions_that_do_not_go_together_are_told() {
    let of = |theirs| version("v".to_owned(), theirs, "0.2.1", "mode all");
    assert_eq!((of("0.2.1").verdict, of("0.2.9").verdict), (Verdict::Ok, Verdict::Ok));
    assert!(of("0.1.9").found.contains("older") && of("0.10.0").found.contains("newer"));
    assert_eq!(of("1.2.1").verdict, Verdict::Warning);
    let silent = Step::Done(Answers::default());
    let check = worst(&PeerFacts { access: silent, ..sound() });
    assert!(check.verdict == Verdict::Warning && check.found.contains("does not tell"));
}

#[test]
fn a_slow_answer_is_a_warning() {
    let took = vec![Duration::from_millis(300); 3];
    let slow = Step::Done(Answers { took, info: Some(info()), ..Answers::default() });
    assert_eq!(worst(&PeerFacts { access: slow, ..sound() }).name, "coordinator.latency");
    assert_eq!(
        worst(&PeerFacts { health: Step::Done(false), ..sound() }).verdict,
        Verdict::Warning
    );
}

#[test]
fn a_server_of_the_wrong_kind_is_a_problem() {
    let of = |mode: &str, needs, coordinator| {
        let info = Some(ServerInfo { mode: mode.to_owned(), ..info() });
        let access = Step::Done(Answers { info, coordinator, ..Answers::default() });
        let check = PeerFacts { needs, access, ..sound() }.checks().pop().unwrap();
        assert_eq!(check.name, "coordinator.mode");
        (check.verdict, check.code, check.action)
    };
    let worker = Needs { coordinator: true, ..Needs::default() };
    let (store, payloads) = (Needs { itself: true, ..worker }, Needs { payloads: true, ..worker });
    let failed = |code| Some(Err((code, "why".to_owned())));
    for (mode, needs) in
        [("all", worker), ("flight", worker), ("all", store), ("coordinator", store)]
    {
        assert_eq!(of(mode, needs, Some(Ok(()))).0, Verdict::Ok, "{mode} {needs:?}");
    }
    for (mode, needs, answer, code, part) in [
        ("flight", store, Some(Ok(())), Code::FailedPrecondition, "the coordinator itself"),
        (
            "flight",
            worker,
            failed(Code::FailedPrecondition),
            Code::FailedPrecondition,
            "mode all or coordinator",
        ),
        ("flight", worker, failed(Code::Unavailable), Code::Unavailable, "start the coordinator"),
        ("coordinator", payloads, Some(Ok(())), Code::FailedPrecondition, "has the payloads"),
    ] {
        let (verdict, found, action) = of(mode, needs, answer);
        assert_eq!((verdict, found), (Verdict::Problem, Some(code)), "{mode} {needs:?}");
        assert!(action.contains(part), "{action}");
    }
}
