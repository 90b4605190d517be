//! Rules 10 to 12 and 15, changes by hand, limits and events.

use futures::StreamExt as _;

use super::*;
use crate::limits::{MAX_CLAIM, MAX_ERROR_BYTES};
use crate::request::{Change, Control, Event, ListFilter, WatchFilter};

pub(super) async fn rule_10_expiry_is_counted(harness: &dyn Harness) {
    let calls = Calls::new(harness).await;
    let after = Duration::from_millis(400);
    let short = |name: &str| BatchSpec { expires_after: Some(after), ..spec(name) };
    calls.register(vec![short("claimed"), short("left"), spec("stays")]).await;
    let lease = calls.one(request("r", 1)).await;
    harness.advance(after * 2).await;
    assert_eq!(calls.state("left").await, State::Expired);
    assert_eq!(calls.state("stays").await, State::Pending);
    assert_eq!(calls.count(State::Expired).await, 1);
    is(&calls.end(&lease, Resolution::Released).await, Verdict::Applied, State::Pending);
    harness.advance(after * 2).await;
    assert_eq!(calls.state("claimed").await, State::Pending, "it was claimed in time");
    let expired = calls.0.control(Control::Expire(after)).await.unwrap();
    assert_eq!((expired.count, calls.count(State::Expired).await), (2, 3));
    calls.0.control(Control::Requeue(vec![id("left")])).await.unwrap();
    assert_eq!(calls.state("left").await, State::Pending, "its time starts anew");
}

pub(super) async fn rule_11_waiting_claims_are_woken(harness: &dyn Harness) {
    let calls = Calls::new(harness).await;
    let wait = Duration::from_secs(60);
    let waiting = |name: &str| {
        let coordinator = Arc::clone(&calls.0);
        let claim = ClaimRequest { wait, ..request(name, 1) };
        tokio::spawn(async move { coordinator.claim(claim).await.unwrap() })
    };
    let (first, second) = (waiting("r1"), waiting("r2"));
    tokio::task::yield_now().await;
    calls.register(vec![spec("a")]).await;
    calls.register(vec![BatchSpec { delay: Duration::from_millis(200), ..spec("b") }]).await;
    harness.advance(Duration::from_millis(300)).await;
    // Far less than the wait: woken, not timed out.
    let both = futures::future::join(first, second);
    let (first, second) = tokio::time::timeout(wait / 2, both).await.unwrap();
    let mut got = [first.unwrap(), second.unwrap()].map(|claim| names(&claim.leases).join(","));
    got.sort_unstable();
    assert_eq!(got, ["a", "b"]);
    let nothing = ClaimRequest { wait: Duration::from_millis(100), ..request("r3", 1) };
    let coordinator = Arc::clone(&calls.0);
    let late = tokio::spawn(async move { coordinator.claim(nothing).await.unwrap() });
    while !late.is_finished() {
        harness.advance(Duration::from_millis(50)).await;
    }
    assert!(late.await.unwrap().leases.is_empty());
}

/// What is registered while the settle before it is stored is ready before the claim waits.
pub(super) async fn rule_11_a_claim_that_waits_behind_a_settle_is_woken(harness: &dyn Harness) {
    let calls = Calls::new(harness).await;
    calls.register(vec![spec("b0")]).await;
    let mut lease = calls.one(request("r0", 1)).await;
    let wait = Duration::from_secs(60);
    for round in 1..=20 {
        let claim = ClaimRequest { wait, ..request(&format!("r{round}"), 1) };
        let settle = SettleRequest {
            outcomes: vec![outcome(&lease, Resolution::Completed)],
            claim: Some(claim),
            ..SettleRequest::default()
        };
        let name = format!("b{round}");
        let both =
            futures::future::join(calls.0.settle(settle), calls.0.register(vec![spec(&name)]));
        // Far less than the wait.
        let (settled, registered) = tokio::time::timeout(wait / 2, both).await.unwrap();
        assert!(registered.unwrap()[0].created);
        let mut leases = settled.unwrap().claim.unwrap().leases;
        assert_eq!(names(&leases), [name.as_str()]);
        lease = leases.remove(0);
    }
}

/// Whoever lost the connection over which a claim waits sends it again, and nobody listens to the
/// first one any more.
pub(super) async fn rule_06_a_claim_that_waits_may_be_sent_again(harness: &dyn Harness) {
    let calls = Calls::new(harness).await;
    let wait = Duration::from_secs(60);
    let waiting = || {
        let coordinator = Arc::clone(&calls.0);
        let claim = ClaimRequest { wait, ..request("r1", 8) };
        tokio::spawn(async move { coordinator.claim(claim).await.unwrap() })
    };
    let (first, second) = (waiting(), waiting());
    harness.advance(Duration::from_millis(100)).await;
    calls.register(vec![spec("a"), spec("b")]).await;
    let both = futures::future::join(first, second);
    // Far less than the wait: woken, not timed out.
    let (first, second) = tokio::time::timeout(wait / 2, both).await.unwrap();
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_eq!(names(&first.leases), ["a", "b"]);
    assert_eq!(first.leases, second.leases, "the same call has the same answer");
}

pub(super) async fn rule_12_pause_and_drain(harness: &dyn Harness) {
    let calls = Calls::new(harness).await;
    let queue = "q".to_owned();
    let of = |name: &str| BatchSpec { queue: "q".to_owned(), ..spec(name) };
    calls.register(vec![of("a"), of("b")]).await;
    let claim = |name: &str| ClaimRequest { queues: vec!["q".to_owned()], ..request(name, 1) };
    let lease = calls.one(claim("r1")).await;
    calls.0.control(Control::Pause(queue.clone())).await.unwrap();
    assert!(calls.claim(claim("r2")).await.leases.is_empty());
    let by_id = ClaimRequest { ids: vec![id("b")], ..request("r3", 1) };
    assert!(calls.claim(by_id).await.leases.is_empty());
    is(&calls.end(&lease, Resolution::Completed).await, Verdict::Applied, State::Completed);
    let stats = calls.stats().await;
    assert!(stats.iter().any(|stats| stats.queue == "q" && stats.paused && !stats.draining));
    let coordinator = Arc::clone(&calls.0);
    let waiting = ClaimRequest { wait: Duration::from_secs(30), ..claim("r4") };
    let woken = tokio::spawn(async move { coordinator.claim(waiting).await.unwrap() });
    calls.0.control(Control::Resume(queue.clone())).await.unwrap();
    assert_eq!(names(&woken.await.unwrap().leases), ["b"], "a resume wakes who waits");
    calls.0.control(Control::Drain(queue.clone())).await.unwrap();
    assert_eq!(code(calls.0.register(vec![of("c")]).await), Code::FailedPrecondition);
    assert!(!calls.0.register(vec![of("a")]).await.unwrap()[0].created);
    calls.0.control(Control::Resume(queue)).await.unwrap();
    calls.register(vec![of("c")]).await;
}

pub(super) async fn rule_15_lists_go_on_where_they_ended(harness: &dyn Harness) {
    let calls = Calls::new(harness).await;
    let specs: Vec<BatchSpec> = (0..25)
        .map(|n| BatchSpec {
            queue: if n % 2 == 0 { "even" } else { "odd" }.to_owned(),
            parents: if n < 3 { vec![id("root")] } else { vec![] },
            ..spec(&format!("b{n:02}"))
        })
        .collect();
    calls.register(specs).await;
    let list = async |mut filter: ListFilter| {
        let mut all = Vec::new();
        loop {
            let query = Query::List(filter.clone());
            let Answer::Batches(page) = calls.0.query(query).await.unwrap() else {
                panic!("a list answers with batches")
            };
            assert!(page.batches.len() <= filter.limit as usize);
            all.extend(page.batches.iter().map(|batch| batch.spec.id.to_string()));
            if page.next_cursor.is_empty() {
                return all;
            }
            filter.cursor = page.next_cursor;
        }
    };
    let filter = |limit| ListFilter { limit, ..ListFilter::default() };
    let all = list(filter(7)).await;
    assert_eq!(all, (0..25).map(|n| format!("b{n:02}")).collect::<Vec<_>>());
    let first = Query::List(filter(0));
    let Answer::Batches(page) = calls.0.query(first).await.unwrap() else { panic!("no page") };
    assert_eq!((page.batches.len(), page.next_cursor.as_str()), (25, ""), "0 means 100");
    let even = ListFilter { queue: Some("even".to_owned()), ..filter(5) };
    assert_eq!(list(even).await.len(), 13);
    let tens = ListFilter { prefix: "b1".to_owned(), ..filter(3) };
    assert_eq!(list(tens).await.len(), 10);
    let children = ListFilter { parent: Some(id("root")), ..filter(2) };
    assert_eq!(list(children).await, ["b00", "b01", "b02"]);
    let done = ListFilter { states: vec![State::Completed], ..filter(2) };
    assert!(list(done).await.is_empty());
    let wrong = ListFilter { cursor: "x".to_owned(), ..filter(2) };
    assert_eq!(code(calls.0.query(Query::List(wrong)).await), Code::InvalidArgument);
}

pub(super) async fn cancelled_work_is_told_and_requeued_work_starts_anew(harness: &dyn Harness) {
    let calls = Calls::new(harness).await;
    calls.register(vec![spec("a")]).await;
    let lease = calls.one(ClaimRequest { start: true, ..request("r", 1) }).await;
    let cancel = Control::Cancel(vec![id("a"), id("unknown")]);
    let reply = calls.0.control(cancel.clone()).await.unwrap();
    is(&reply.batches[0], Verdict::Applied, State::Cancelled);
    assert_eq!((reply.count, reply.batches[1].verdict), (1, Verdict::NotFound));
    let reply = calls.0.control(cancel).await.unwrap();
    is(&reply.batches[0], Verdict::AlreadyDone, State::Cancelled);
    let extended = calls.0.extend(vec![extension(&lease, false)]).await.unwrap();
    assert_eq!((extended[0].verdict, extended[0].cancelled), (Verdict::Stale, true));
    is(&calls.end(&lease, Resolution::Completed).await, Verdict::Stale, State::Cancelled);
    let reply = calls.0.control(Control::Requeue(vec![id("a")])).await.unwrap();
    is(&reply.batches[0], Verdict::Applied, State::Pending);
    let lease = calls.one(request("r2", 1)).await;
    assert_eq!(lease.attempt, 1, "with all its retries");
    let mut failed = outcome(&lease, Resolution::Failed);
    failed.error = Some(failure(true));
    calls.settle(vec![failed]).await;
    let all = Control::RequeueFailed("default".to_owned());
    assert_eq!(calls.0.control(all).await.unwrap().count, 1);
    assert_eq!(calls.state("a").await, State::Pending);
}

pub(super) async fn limits_are_refused_and_texts_cut(harness: &dyn Harness) {
    let calls = Calls::new(harness).await;
    let long = BatchSpec { queue: "q".repeat(300), ..spec("a") };
    assert_eq!(code(calls.0.register(vec![long]).await), Code::LimitExceeded);
    type Spoil = fn(&mut sheaf_retry::RetryPolicy);
    let policies: [(&str, Spoil); 7] = [
        ("retry.max_retries: 1001 ", |retry| retry.max_retries = 1_001),
        ("retry.base_ms: ", |retry| retry.base_ms = retry.cap_ms + 1),
        ("retry.factor: 0.1 ", |retry| retry.factor = 0.1),
        ("retry.factor: 1", |retry| retry.factor = 1e308),
        ("retry.cap_ms: ", |retry| retry.cap_ms = u64::MAX),
        ("retry.jitter: 7 ", |retry| retry.jitter = 7.0),
        ("retry.deadline_ms: 0 ", |retry| retry.deadline_ms = Some(0)),
    ];
    for (field, spoil) in policies {
        let mut wrong = spec("a");
        spoil(wrong.retry.as_mut().unwrap());
        let error = calls.0.register(vec![wrong]).await.unwrap_err();
        assert!(error.to_string().starts_with(field), "{error}");
        assert_eq!(code::<()>(Err(error)), Code::InvalidArgument, "{field}");
    }
    for wrong in [
        request("r", 0),
        ClaimRequest { lease: Duration::from_millis(1), ..request("r", 1) },
        ClaimRequest { wait: Duration::from_secs(3_600), ..request("r", 1) },
        ClaimRequest { worker: String::new(), ..request("r", 1) },
    ] {
        assert_eq!(code(calls.0.claim(wrong).await), Code::InvalidArgument);
    }
    let many = request("r", MAX_CLAIM + 1);
    assert_eq!(code(calls.0.claim(many).await), Code::LimitExceeded);
    calls.register(vec![spec("a")]).await;
    let lease = calls.one(request("r", 1)).await;
    let mut failed = outcome(&lease, Resolution::Failed);
    failed.error = Some(Failure { message: "ä".repeat(MAX_ERROR_BYTES), ..failure(true) });
    calls.settle(vec![failed]).await;
    let message = calls.get("a").await.unwrap().error.unwrap().message;
    assert_eq!(message.len(), MAX_ERROR_BYTES, "cut between characters");
}

pub(super) async fn events_tell_every_change(harness: &dyn Harness) {
    let calls = Calls::new(harness).await;
    let filter = WatchFilter { ids: vec![id("a")], ..WatchFilter::default() };
    let mut events = calls.0.watch(filter).await.unwrap();
    calls.register(vec![spec("other"), spec("a")]).await;
    let named = ClaimRequest { ids: vec![id("a")], ..request("r", 1) };
    let lease = calls.one(named).await;
    calls.end(&lease, Resolution::Completed).await;
    let mut states = Vec::new();
    while states.len() < 3 {
        let event = tokio::time::timeout(Duration::from_secs(30), events.next()).await.unwrap();
        let Some(Event::Changed(Change { id, from, to, .. })) = event else {
            panic!("every change is told, not {event:?}")
        };
        assert_eq!(id.as_str(), "a");
        states.push((from, to));
    }
    let (pending, processing) = (Some(State::Pending), Some(State::Processing));
    let expected = [(None, pending), (pending, processing), (processing, Some(State::Completed))];
    assert_eq!(states, expected);
}
