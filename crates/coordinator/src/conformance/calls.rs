//! Rules 1, 2, 5 and 6.

use super::*;

pub(super) async fn rule_01_every_batch_is_in_one_place(harness: &dyn Harness) {
    let calls = Calls::new(harness).await;
    let specs = (0..8).map(|n| BatchSpec {
        delay: Duration::from_secs(if n == 7 { 3_600 } else { 0 }),
        ..spec(&format!("b{n}"))
    });
    calls.register(specs.collect()).await;
    let leases = calls.claim(request("r", 4)).await.leases;
    calls.end(&leases[0], Resolution::Completed).await;
    let mut failed = outcome(&leases[1], Resolution::Failed);
    failed.error = Some(failure(true));
    calls.settle(vec![failed]).await;
    calls.0.control(crate::Control::Cancel(vec![id("b4")])).await.unwrap();
    let stats = calls.stats().await;
    let queue = stats.iter().find(|queue| queue.queue == "default").unwrap();
    let expected = [0, 2, 1, 2, 1, 1, 1, 0];
    let counts: Vec<u64> = State::ALL.iter().map(|state| queue.counts[state]).collect();
    assert_eq!(counts, expected, "in the order of State::ALL");
    assert_eq!((queue.live_rows, queue.live_bytes), (50, 500));
    let purge = crate::Control::Purge(crate::PurgeFilter::default());
    assert_eq!(calls.0.control(purge).await.unwrap().count, 3);
    let stats = calls.stats().await;
    let queue = stats.iter().find(|queue| queue.queue == "default").unwrap();
    assert_eq!(queue.counts.values().sum::<u64>() + queue.purged, 8);
    assert!(calls.get("b0").await.is_none());
}

pub(super) async fn rule_02_claims_are_bounded_and_ordered(harness: &dyn Harness) {
    let calls = Calls::new(harness).await;
    let specs = [("a", 0), ("b", 5), ("c", 0), ("d", -1), ("e", 5)]
        .map(|(name, priority)| BatchSpec { priority, ..spec(name) });
    calls.register(specs.to_vec()).await;
    let by_bytes = ClaimRequest { max_bytes: 250, ..request("r1", 10) };
    assert_eq!(names(&calls.claim(by_bytes).await.leases), ["b", "e"]);
    let by_rows = ClaimRequest { max_rows: 1, ..request("r2", 10) };
    assert_eq!(names(&calls.claim(by_rows).await.leases), ["a"], "one is given though larger");
    assert_eq!(names(&calls.claim(request("r3", 1)).await.leases), ["c"]);
    let named = ClaimRequest { ids: vec![id("a"), id("d"), id("x")], ..request("r4", 1) };
    assert_eq!(names(&calls.claim(named).await.leases), ["d"], "only what is pending");
    assert!(calls.claim(request("r5", 10)).await.leases.is_empty(), "nothing is given twice");
}

pub(super) async fn rule_02_near_payloads_are_preferred(harness: &dyn Harness) {
    let calls = Calls::new(harness).await;
    let at = |name: &str, location: &str| BatchSpec {
        locations: vec![location.to_owned()],
        ..spec(name)
    };
    calls.register(vec![at("far", "grpc://a:1"), at("near", "grpc://b:2")]).await;
    let from =
        |name: &str| ClaimRequest { locations: vec!["grpc://b:2".to_owned()], ..request(name, 1) };
    assert_eq!(names(&calls.claim(from("r1")).await.leases), ["near"]);
    assert_eq!(names(&calls.claim(from("r2")).await.leases), ["far"], "better than nothing");
    calls.register(vec![at("old", "grpc://a:1")]).await;
    harness.advance(Duration::from_millis(1_500)).await;
    calls.register(vec![at("new", "grpc://b:2")]).await;
    assert_eq!(names(&calls.claim(from("r3")).await.leases), ["old"], "age wins in the end");
}

pub(super) async fn rule_05_settle_is_one_step(harness: &dyn Harness) {
    let calls = Calls::new(harness).await;
    calls.register(vec![spec("in"), spec("taken")]).await;
    let named = ClaimRequest { ids: vec![id("in")], ..request("r1", 1) };
    let lease = calls.one(named).await;
    let mut done = outcome(&lease, Resolution::Completed);
    done.outputs = vec![BatchSpec { parents: vec![id("in")], ..spec("out") }, spec("taken")];
    done.outputs[1].rows = 11;
    let conflict = SettleRequest { outcomes: vec![done.clone()], ..SettleRequest::default() };
    assert_eq!(code(calls.0.settle(conflict).await), Code::AlreadyExists);
    assert_eq!(calls.state("in").await, State::Processing, "nothing of it happened");
    assert!(calls.get("out").await.is_none());
    done.outputs.pop();
    let next = ClaimRequest { ids: vec![id("out")], ..request("r2", 1) };
    let settle = SettleRequest { outcomes: vec![done], started: vec![], claim: Some(next) };
    let reply = calls.0.settle(settle.clone()).await.unwrap();
    is(&reply.outcomes[0], Verdict::Applied, State::Completed);
    let claim = reply.claim.unwrap();
    assert_eq!(names(&claim.leases), ["out"]);
    assert_eq!(calls.get("in").await.unwrap().outputs, [id("out")]);
    let again = calls.0.settle(settle).await.unwrap();
    is(&again.outcomes[0], Verdict::AlreadyDone, State::Completed);
    assert_eq!(again.claim.unwrap().leases, claim.leases, "the claim is the same one");
}

pub(super) async fn rule_06_every_call_may_be_sent_again(harness: &dyn Harness) {
    let mut calls = Calls::new(harness).await;
    calls.register(vec![spec("a"), spec("b")]).await;
    let traced = BatchSpec { trace_context: "00-other".to_owned(), ..spec("a") };
    let again = calls.0.register(vec![traced, spec("b")]).await.unwrap();
    assert!(again.iter().all(|one| !one.created && one.state == State::Pending));
    let other = vec![spec("c"), BatchSpec { checksum: "ff".to_owned(), ..spec("a") }];
    assert_eq!(code(calls.0.register(other).await), Code::AlreadyExists);
    let moved = BatchSpec { queue: "q".repeat(256), ..spec("a") };
    let error = calls.0.register(vec![moved]).await.unwrap_err();
    let text = error.to_string();
    assert_eq!(code::<()>(Err(error)), Code::AlreadyExists, "{text}");
    assert!(text.contains("another queue: \"default\", not \"qqq"), "{text}");
    assert!(calls.get("c").await.is_none(), "all or none");
    let at = |name: &str, places: &[&str]| BatchSpec {
        locations: places.iter().map(|place| (*place).to_owned()).collect(),
        queue: "places".to_owned(),
        ..spec(name)
    };
    calls.register(vec![at("here", &["grpc://a:1"]), at("home", &[])]).await;
    let more = vec![at("here", &["grpc://b:2", "grpc://a:1"]), at("home", &["grpc://b:2"])];
    let again = calls.0.register(more).await.unwrap();
    assert!(again.iter().all(|one| !one.created));
    let here = calls.get("here").await.unwrap().spec.locations;
    assert_eq!(here, ["grpc://b:2", "grpc://a:1"], "places are added, the newest first");
    assert!(calls.get("home").await.unwrap().spec.locations.is_empty(), "the store beside it");
    if let Some(reopened) = harness.reopen().await {
        calls = Calls(reopened);
        assert_eq!(calls.get("here").await.unwrap().spec.locations, here);
    }
    let first = calls.claim(request("r", 1)).await;
    let second = calls.claim(request("r", 1)).await;
    assert_eq!((&first.leases, first.leases.len()), (&second.leases, 1));
    let stranger = ClaimRequest { worker: "other".to_owned(), ..request("r", 1) };
    assert_eq!(names(&calls.claim(stranger).await.leases), ["b"]);
    let lease = &first.leases[0];
    let started = SettleRequest { started: vec![reference(lease)], ..SettleRequest::default() };
    calls.0.settle(started.clone()).await.unwrap();
    calls.0.settle(started).await.unwrap();
    assert_eq!(calls.get("a").await.unwrap().attempts, 1, "started once");
    is(&calls.end(lease, Resolution::Failed).await, Verdict::Applied, State::Pending);
    is(&calls.end(lease, Resolution::Failed).await, Verdict::AlreadyDone, State::Pending);
    assert_eq!(calls.get("a").await.unwrap().attempts, 1, "failed once");
    is(&calls.end(lease, Resolution::Completed).await, Verdict::Stale, State::Pending);
}
