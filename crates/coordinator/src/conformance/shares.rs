//! Rules 2 and 12: whose turn it is, and the limits of queues.

use super::*;
use crate::policy::{QueuePolicy, RateLimit};
use crate::request::Control;

fn of(tenant: &str, name: &str) -> BatchSpec {
    BatchSpec { tenant: tenant.to_owned(), ..spec(name) }
}

async fn configure(calls: &Calls, policy: QueuePolicy) {
    calls.0.control(Control::Configure("default".to_owned(), policy)).await.unwrap();
}

pub(super) async fn rule_02_tenants_take_turns(harness: &dyn Harness) {
    let mut calls = Calls::new(harness).await;
    let big = (0..50).map(|n| of("big", &format!("big{n}")));
    calls.register(big.collect()).await;
    calls.register(vec![of("small", "small0"), of("", "free0"), of("", "free1")]).await;
    calls.register(vec![BatchSpec { priority: 1, ..of("big", "urgent") }]).await;
    let first = calls.claim(request("r1", 4)).await;
    assert_eq!(names(&first.leases), ["urgent", "free0", "big0", "small0"]);
    let second = calls.claim(request("r2", 3)).await;
    assert_eq!(names(&second.leases), ["free1", "big1", "big2"], "what has work takes its turn");
    calls.register(vec![of("small", "small1"), of("other", "other0")]).await;
    assert_eq!(names(&calls.claim(request("r3", 1)).await.leases), ["other0"], "big was served");
    if let Some(again) = harness.reopen().await {
        calls = Calls(again);
    }
    let left = calls.claim(request("r4", 3)).await;
    assert_eq!(names(&left.leases), ["small1", "big3", "big4"], "also after a restart");
}

pub(super) async fn rule_12_leases_are_capped(harness: &dyn Harness) {
    let mut calls = Calls::new(harness).await;
    let policy = QueuePolicy {
        max_leased: Some(2),
        max_leased_per_tenant: Some(1),
        max_live_bytes: Some(1 << 30),
        ..QueuePolicy::default()
    };
    configure(&calls, policy.clone()).await;
    let specs = [("a", "a1"), ("a", "a2"), ("b", "b1"), ("b", "b2"), ("c", "c1")];
    calls.register(specs.map(|(tenant, name)| of(tenant, name)).to_vec()).await;
    let held = calls.claim(request("r1", 10)).await.leases;
    assert_eq!(names(&held), ["a1", "b1"]);
    if let Some(again) = harness.reopen().await {
        calls = Calls(again);
    }
    let stats = calls.stats().await;
    assert_eq!(stats[0].policy, policy, "limits are shown, also after a restart");
    assert!(calls.claim(request("r2", 10)).await.leases.is_empty());
    let named = ClaimRequest { ids: vec![id("c1")], ..request("r3", 1) };
    assert!(calls.claim(named).await.leases.is_empty(), "limits hold by id, too");
    let waiting = {
        let coordinator = Arc::clone(&calls.0);
        let wait = ClaimRequest { wait: Duration::from_secs(50), ..request("r4", 10) };
        tokio::spawn(async move { coordinator.claim(wait).await })
    };
    tokio::task::yield_now().await;
    is(&calls.end(&held[0], Resolution::Completed).await, Verdict::Applied, State::Completed);
    let woken = tokio::time::timeout(Duration::from_secs(30), waiting).await.unwrap();
    assert_eq!(names(&woken.unwrap().unwrap().leases), ["c1"], "b is at its limit, c has its turn");
    configure(&calls, QueuePolicy::default()).await;
    assert_eq!(names(&calls.claim(request("r5", 10)).await.leases), ["a2", "b2"]);
    let nothing = QueuePolicy { max_leased: Some(0), ..QueuePolicy::default() };
    let refused = calls.0.control(Control::Configure(String::new(), nothing)).await;
    assert_eq!(code(refused), Code::InvalidArgument);
}

pub(super) async fn rule_12_rates_are_kept(harness: &dyn Harness) {
    let mut calls = Calls::new(harness).await;
    let rate = |per_second, burst| QueuePolicy {
        rate: Some(RateLimit { per_second, burst }),
        ..QueuePolicy::default()
    };
    calls.register((0..20).map(|n| spec(&format!("b{n}"))).collect()).await;
    if harness.is_time_still() {
        configure(&calls, rate(10.0, 3)).await;
        assert_eq!(calls.claim(request("r1", 10)).await.leases.len(), 3, "a burst");
        assert!(calls.claim(request("r2", 10)).await.leases.is_empty());
        harness.advance(Duration::from_millis(250)).await;
        if let Some(again) = harness.reopen().await {
            calls = Calls(again);
        }
        assert_eq!(calls.claim(request("r3", 10)).await.leases.len(), 2, "what came in since");
        let named = ClaimRequest { ids: vec![id("b19")], ..request("r4", 1) };
        assert!(calls.claim(named).await.leases.is_empty(), "rates hold by id, too");
        harness.advance(Duration::from_millis(100)).await;
        let unused = calls.one(request("r5", 1)).await;
        calls.end(&unused, Resolution::Released).await;
        let used = ClaimRequest { start: true, ..request("r6", 1) };
        let used = calls.one(used).await;
        calls.end(&used, Resolution::Released).await;
        let none = calls.claim(request("r7", 1)).await.leases;
        assert!(none.is_empty(), "what was given back untouched took nothing from the rate");
    }
    configure(&calls, rate(5.0, 1)).await;
    for n in 0..3 {
        let coordinator = Arc::clone(&calls.0);
        let wait = Duration::from_secs(50);
        let claim = ClaimRequest { wait, ..request(&format!("w{n}"), 1) };
        let waiting = tokio::spawn(async move { coordinator.claim(claim).await });
        tokio::task::yield_now().await;
        harness.advance(Duration::from_millis(200)).await;
        let woken = tokio::time::timeout(Duration::from_secs(30), waiting).await.unwrap();
        assert_eq!(woken.unwrap().unwrap().leases.len(), 1, "woken by a token");
    }
    let refused = calls.0.control(Control::Configure(String::new(), rate(0.0, 1))).await;
    assert_eq!(code(refused), Code::InvalidArgument);
}

pub(super) async fn rule_12_bytes_are_bounded(harness: &dyn Harness) {
    let calls = Calls::new(harness).await;
    let policy = QueuePolicy { max_live_bytes: Some(250), ..QueuePolicy::default() };
    configure(&calls, policy).await;
    calls.register(vec![spec("a"), spec("b")]).await;
    assert_eq!(code(calls.0.register(vec![spec("c")]).await), Code::Overloaded);
    assert!(calls.get("c").await.is_none());
    let huge = BatchSpec { bytes: 300, ..spec("huge") };
    assert_eq!(code(calls.0.register(vec![huge]).await), Code::LimitExceeded, "it never fits");
    let again = calls.0.register(vec![spec("a")]).await.unwrap();
    assert!(!again[0].created, "what is there takes no room");
    calls.register(vec![BatchSpec { queue: "other".to_owned(), ..spec("o") }]).await;
    let lease = calls.one(request("r", 1)).await;
    let mut done = outcome(&lease, Resolution::Completed);
    done.outputs = vec![spec("out1"), spec("out2")];
    let reply = calls.settle(vec![done]).await;
    is(&reply.outcomes[0], Verdict::Applied, State::Completed);
    assert_eq!(code(calls.0.register(vec![spec("c")]).await), Code::Overloaded);
    calls.0.control(Control::Cancel(vec![id("out1"), id("out2")])).await.unwrap();
    calls.register(vec![spec("c")]).await;
}
