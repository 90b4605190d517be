//! What happens when a limit of the embedded coordinator is met, and metrics.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use prometheus_client::registry::Registry;
use sheaf_coordinator::embedded::{Config, Embedded};
use sheaf_coordinator::{
    BatchSpec, ClaimRequest, Control, Coordinator, Event, LeaseRef, Outcome, QueuePolicy,
    RateLimit, Resolution, SettleRequest, State, WatchFilter, engine,
};
use sheaf_retry::{Code, Retryable as _, SystemClock};

fn open(change: impl FnOnce(&mut Config)) -> Arc<Embedded> {
    let mut config = Config::memory();
    change(&mut config);
    Arc::new(Embedded::open(config, SystemClock::shared()).unwrap())
}

fn metrics(coordinator: &Embedded) -> String {
    let mut registry = Registry::default();
    coordinator.register_metrics(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    text
}

/// Waits until a line of the metrics is there.
async fn until(coordinator: &Embedded, line: &str) {
    let wait = async {
        while !metrics(coordinator).contains(line) {
            coordinator.wake().await.unwrap();
        }
    };
    let done = tokio::time::timeout(Duration::from_secs(30), wait).await;
    assert!(done.is_ok(), "{line} is not in\n{}", metrics(coordinator));
}

fn waiting(name: &str) -> ClaimRequest {
    ClaimRequest { wait: Duration::from_secs(60), ..super::claim(name, 1) }
}

#[tokio::test]
async fn claims_that_wait_are_limited_and_dropped_ones_get_nothing() {
    let coordinator = open(|config| config.max_waiting = 1);
    let other = coordinator.clone();
    let first = tokio::spawn(async move { other.claim(waiting("r1")).await });
    until(&coordinator, "sheaf_coordinator_waiting_claims 1").await;
    let refused = coordinator.claim(waiting("r2")).await.unwrap_err();
    assert_eq!(refused.code(), Code::Overloaded);
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    coordinator.register(vec![super::spec("a")]).await.unwrap();
    let lease = coordinator.claim(super::claim("r3", 1)).await.unwrap().leases;
    assert_eq!(lease.len(), 1, "the dropped claim took nothing");
}

#[tokio::test]
async fn live_batches_are_limited() {
    let config = engine::Config { max_live: 2, ..engine::Config::default() };
    let coordinator = open(|all| all.engine = config);
    coordinator.register(vec![super::spec("a"), super::spec("b")]).await.unwrap();
    let error = coordinator.register(vec![super::spec("c")]).await.unwrap_err();
    assert_eq!(error.code(), Code::Overloaded);
    assert!(error.to_string().contains("3 live batches, over its limit of 2"), "{error}");
    coordinator.control(Control::Cancel(vec!["a".parse().unwrap()])).await.unwrap();
    coordinator.register(vec![super::spec("c")]).await.unwrap();
}

/// A claim that waits already is woken, by the end of a lease and by a token.
#[tokio::test]
async fn claims_that_wait_for_a_limit_are_woken() {
    let rate = RateLimit { per_second: 5.0, burst: 1 };
    let rate = QueuePolicy { rate: Some(rate), ..QueuePolicy::default() };
    let cap = QueuePolicy { max_leased: Some(1), ..QueuePolicy::default() };
    for policy in [cap, rate] {
        let coordinator = open(|_| ());
        coordinator.register(vec![super::spec("a"), super::spec("b")]).await.unwrap();
        let is_capped = policy.max_leased.is_some();
        coordinator.control(Control::Configure("default".to_owned(), policy)).await.unwrap();
        let lease = coordinator.claim(super::claim("r1", 2)).await.unwrap().leases.remove(0);
        let other = coordinator.clone();
        let waits = tokio::spawn(async move { other.claim(waiting("r2")).await });
        if is_capped {
            until(&coordinator, "sheaf_coordinator_waiting_claims 1").await;
            let outcome = Outcome {
                lease: LeaseRef { id: lease.spec.id, fence: lease.fence },
                resolution: Resolution::Completed,
                error: None,
                outputs: vec![],
                delay: std::time::Duration::ZERO,
            };
            let settle = SettleRequest { outcomes: vec![outcome], ..SettleRequest::default() };
            coordinator.settle(settle).await.unwrap();
        }
        let woken = tokio::time::timeout(Duration::from_secs(30), waits).await.unwrap();
        assert_eq!(woken.unwrap().unwrap().leases.len(), 1);
    }
}

#[tokio::test]
async fn stored_bytes_are_limited_and_the_refusal_says_when_to_come_back() {
    let config = engine::Config { max_live_bytes: 250, ..engine::Config::default() };
    let coordinator = open(|all| all.engine = config);
    coordinator.register(vec![super::spec("a"), super::spec("b")]).await.unwrap();
    let error = coordinator.register(vec![super::spec("c")]).await.unwrap_err();
    assert_eq!(error.code(), Code::Overloaded);
    assert_eq!(error.retry_after(), Some(Duration::from_secs(1)));
    let text =
        "the coordinator holds 200 bytes of live batches; 100 more are over its limit of 250";
    assert!(error.to_string().starts_with(text), "{error}");
    coordinator.control(Control::Cancel(vec!["a".parse().unwrap()])).await.unwrap();
    coordinator.register(vec![super::spec("c")]).await.unwrap();
}

#[tokio::test]
async fn keys_and_dependencies_are_limited() {
    let config = engine::Config { max_keys: 1, max_dependencies: 1, ..engine::Config::default() };
    let coordinator = open(|all| all.engine = config);
    let keyed = |name: &str| BatchSpec {
        dedup_key: name.to_owned(),
        dedup_window: Duration::from_secs(3_600),
        ..super::spec(name)
    };
    coordinator.register(vec![keyed("a")]).await.unwrap();
    let error = coordinator.register(vec![keyed("b")]).await.unwrap_err();
    assert_eq!(error.code(), Code::Overloaded, "{error}");
    let after =
        |name: &str| BatchSpec { depends_on: vec!["a".parse().unwrap()], ..super::spec(name) };
    coordinator.register(vec![after("c")]).await.unwrap();
    let error = coordinator.register(vec![after("d")]).await.unwrap_err();
    assert_eq!(error.code(), Code::Overloaded, "{error}");
    coordinator.control(Control::Cancel(vec!["a".parse().unwrap()])).await.unwrap();
    coordinator.register(vec![super::spec("e")]).await.unwrap();
}

#[tokio::test]
async fn readers_of_some_states_see_only_those() {
    let coordinator = open(|_| ());
    let filter = WatchFilter { states: vec![State::Cancelled], ..WatchFilter::default() };
    let mut events = coordinator.watch(filter).await.unwrap();
    coordinator.register(vec![super::spec("a"), super::spec("b")]).await.unwrap();
    coordinator.control(Control::Cancel(vec!["b".parse().unwrap()])).await.unwrap();
    let event = tokio::time::timeout(Duration::from_secs(30), events.next()).await.unwrap();
    let Some(Event::Changed(change)) = event else { panic!("{event:?}") };
    assert_eq!((change.id.as_str(), change.to), ("b", Some(State::Cancelled)));
}

#[tokio::test]
async fn a_slow_reader_is_told_what_it_missed() {
    let coordinator = open(|config| config.watch_buffer = 2);
    let mut events = coordinator.watch(WatchFilter::default()).await.unwrap();
    for n in 0..10 {
        coordinator.register(vec![super::spec(&format!("b{n}"))]).await.unwrap();
    }
    let mut seen = 0;
    let mut missed = 0;
    while seen + missed < 10 {
        coordinator.wake().await.unwrap();
        let event = tokio::time::timeout(Duration::from_secs(30), events.next()).await.unwrap();
        match event.unwrap() {
            Event::Changed(_) => seen += 1,
            Event::Missed(count) => missed += count,
        }
    }
    assert_eq!((seen, missed), (2, 8));
    coordinator.close().await.unwrap();
    assert!(events.next().await.is_none(), "events end with the coordinator");
    let closed = coordinator.register(vec![super::spec("z")]).await.unwrap_err();
    assert_eq!(closed.code(), Code::Draining);
}

#[tokio::test]
async fn sweeps_go_over_more_than_a_step() {
    let coordinator = open(|_| ());
    let specs: Vec<_> = (0..5_000).map(|n| super::spec(&format!("b{n}"))).collect();
    coordinator.register(specs).await.unwrap();
    let expired = coordinator.control(Control::Expire(Duration::ZERO)).await.unwrap();
    assert_eq!(expired.count, 5_000);
    let purged = coordinator.control(Control::Purge(Default::default())).await.unwrap();
    assert_eq!(purged.count, 5_000);
    until(&coordinator, "sheaf_coordinator_purged_total 5000").await;
}

#[tokio::test]
async fn metrics_tell_what_happened() {
    let home = super::directory();
    let config = Config::disk(super::file(home.path()));
    let coordinator = Embedded::open(config, SystemClock::shared()).unwrap();
    coordinator.register(vec![super::spec("a")]).await.unwrap();
    let lease = coordinator.claim(super::claim("r", 1)).await.unwrap().leases.remove(0);
    let outcome = Outcome {
        lease: LeaseRef { id: lease.spec.id, fence: lease.fence },
        resolution: Resolution::Completed,
        error: None,
        outputs: vec![],
        delay: Duration::ZERO,
    };
    let settle = SettleRequest { outcomes: vec![outcome], ..SettleRequest::default() };
    coordinator.settle(settle).await.unwrap();
    for state in [State::Pending, State::Processing, State::Completed] {
        let line = format!("sheaf_coordinator_transitions_total{{state=\"{state}\"}} 1");
        until(&coordinator, &line).await;
    }
    until(&coordinator, "sheaf_coordinator_batches{state=\"completed\"} 1").await;
    let text = metrics(&coordinator);
    for line in [
        "sheaf_coordinator_claims_total 1",
        "sheaf_coordinator_wait_seconds_count 1",
        "sheaf_coordinator_commit_seconds_count 3",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}
