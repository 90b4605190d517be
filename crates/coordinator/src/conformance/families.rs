//! Rule 13 and lineage: batches that have to do with others.

use super::*;
use crate::model::OnParentFailure;
use crate::request::{Control, Direction, Lineage, LineageQuery, PurgeFilter};

const HOUR: Duration = Duration::from_secs(3_600);

fn keyed(name: &str, key: &str, window: Duration) -> BatchSpec {
    BatchSpec { dedup_key: key.to_owned(), dedup_window: window, ..spec(name) }
}

fn after(name: &str, parents: &[&str], on: OnParentFailure) -> BatchSpec {
    let depends_on = parents.iter().map(|parent| id(parent)).collect();
    BatchSpec { depends_on, on_parent_failure: on, ..spec(name) }
}

pub(super) async fn rule_13_keys_are_registered_once(harness: &dyn Harness) {
    let mut calls = Calls::new(harness).await;
    calls.register(vec![keyed("a", "k", HOUR)]).await;
    let both = vec![keyed("b", "k", HOUR), keyed("c", "l", HOUR), keyed("d", "l", HOUR)];
    let answers = calls.0.register(both).await.unwrap();
    let answers: Vec<_> = answers.iter().map(|one| (one.id.as_str(), one.created)).collect();
    assert_eq!(answers, [("a", false), ("c", true), ("c", false)]);
    assert!(calls.get("b").await.is_none(), "it is not there");
    let elsewhere = BatchSpec { queue: "q".to_owned(), ..keyed("e", "k", HOUR) };
    let other = BatchSpec { tenant: "t".to_owned(), ..keyed("f", "k", HOUR) };
    calls.register(vec![elsewhere, other]).await;
    let lease = calls.one(request("r", 1)).await;
    calls.end(&lease, Resolution::Completed).await;
    if let Some(again) = harness.reopen().await {
        calls = Calls(again);
    }
    let answer = calls.0.register(vec![keyed("g", "k", HOUR)]).await.unwrap().remove(0);
    assert_eq!((answer.id.as_str(), answer.state), ("a", State::Completed), "also after a restart");
    let short = Duration::from_millis(300);
    calls.register(vec![keyed("s1", "s", short)]).await;
    harness.advance(short * 2).await;
    calls.register(vec![keyed("s2", "s", short)]).await;
    calls.0.control(Control::Purge(PurgeFilter::default())).await.unwrap();
    calls.register(vec![keyed("h", "k", HOUR)]).await;
    let bare = BatchSpec { dedup_key: "k".to_owned(), ..spec("bare") };
    assert_eq!(code(calls.0.register(vec![bare]).await), Code::InvalidArgument);
}

pub(super) async fn rule_13_batches_wait_for_others(harness: &dyn Harness) {
    let calls = Calls::new(harness).await;
    let fail = OnParentFailure::Fail;
    let unknown = calls.0.register(vec![after("x", &["nobody"], fail)]).await;
    assert_eq!(code(unknown), Code::FailedPrecondition);
    let circle = vec![after("x", &["y"], fail), after("y", &["z"], fail), after("z", &["x"], fail)];
    assert_eq!(code(calls.0.register(circle).await), Code::InvalidArgument);
    assert!(calls.get("x").await.is_none());
    let late = BatchSpec { delay: HOUR, ..after("late", &["a"], fail) };
    let family = vec![after("child", &["a", "b", "a"], fail), spec("a"), spec("b"), late];
    let made = calls.0.register(family.clone()).await.unwrap();
    assert_eq!((made[0].state, made[1].state), (State::Waiting, State::Pending));
    assert_eq!(calls.get("child").await.unwrap().spec, family[0], "kept as registered");
    let leases = calls.claim(request("r1", 10)).await.leases;
    assert_eq!(names(&leases), ["a", "b"]);
    calls.end(&leases[0], Resolution::Completed).await;
    assert_eq!(calls.state("child").await, State::Waiting, "one of two");
    assert_eq!(calls.state("late").await, State::Scheduled, "its delay is not over");
    let outcomes = vec![outcome(&leases[1], Resolution::Completed)];
    let settle = SettleRequest { outcomes, started: vec![], claim: Some(request("r2", 10)) };
    let reply = calls.0.settle(settle).await.unwrap();
    assert_eq!(names(&reply.claim.unwrap().leases), ["child"], "in the same step");
    let made = calls.0.register(vec![after("new", &["a"], fail)]).await.unwrap();
    assert_eq!(made[0].state, State::Pending, "a is done");
}

pub(super) async fn rule_13_failures_reach_those_that_wait(harness: &dyn Harness) {
    let mut calls = Calls::new(harness).await;
    let (fail, wait, cancel) =
        (OnParentFailure::Fail, OnParentFailure::Wait, OnParentFailure::Cancel);
    let family = vec![
        spec("p"),
        after("f", &["p"], fail),
        after("w", &["p"], wait),
        after("c", &["p"], cancel),
        after("g", &["f"], fail),
        after("gw", &["w", "c"], cancel),
    ];
    calls.register(family).await;
    let lease = calls.one(request("r1", 10)).await;
    let mut failed = outcome(&lease, Resolution::Failed);
    failed.error = Some(failure(true));
    calls.settle(vec![failed]).await;
    let expected = [
        ("f", State::Failed),
        ("w", State::Waiting),
        ("c", State::Cancelled),
        ("g", State::Failed),
        ("gw", State::Cancelled),
    ];
    for (name, state) in expected {
        assert_eq!(calls.state(name).await, state, "{name}");
    }
    let error = calls.get("g").await.unwrap().error.unwrap();
    assert!(error.message.contains("depends on batch f, which is failed"), "{}", error.message);
    calls.0.control(Control::Purge(PurgeFilter::default())).await.unwrap();
    assert_eq!(calls.state("p").await, State::Failed, "w waits for it");
    assert!(calls.get("f").await.is_none());
    if let Some(again) = harness.reopen().await {
        calls = Calls(again);
    }
    assert_eq!(calls.state("w").await, State::Waiting);
    calls.0.control(Control::Requeue(vec![id("p")])).await.unwrap();
    let lease = calls.one(request("r2", 10)).await;
    calls.end(&lease, Resolution::Completed).await;
    let lease = calls.one(request("r3", 10)).await;
    assert_eq!(lease.spec.id, id("w"));
    let late = calls.0.register(vec![after("d", &["w"], fail)]).await.unwrap();
    assert_eq!(late[0].state, State::Waiting);
    calls.0.control(Control::Cancel(vec![id("w")])).await.unwrap();
    assert_eq!(calls.state("d").await, State::Failed);
    calls.0.control(Control::Requeue(vec![id("d"), id("w")])).await.unwrap();
    assert_eq!(calls.state("d").await, State::Waiting, "both start anew");
}

async fn trace(calls: &Calls, query: LineageQuery) -> Lineage {
    match calls.0.query(Query::Lineage(query)).await.unwrap() {
        Answer::Lineage(lineage) => lineage,
        other => panic!("a question for lineage answers with lineage, not {other:?}"),
    }
}

pub(super) async fn lineage_goes_over_parents_and_outputs(harness: &dyn Harness) {
    let mut calls = Calls::new(harness).await;
    let from = |name: &str, parents: &[&str]| BatchSpec {
        parents: parents.iter().map(|parent| id(parent)).collect(),
        ..spec(name)
    };
    calls.register(vec![from("b", &["outside"]), from("c", &["b"])]).await;
    let lease = calls.one(ClaimRequest { ids: vec![id("c")], ..request("r", 1) }).await;
    let mut done = outcome(&lease, Resolution::Completed);
    done.outputs = vec![spec("d"), from("e", &["c", "b"])];
    calls.settle(vec![done]).await;
    if let Some(again) = harness.reopen().await {
        calls = Calls(again);
    }
    let query = |name: &str, direction, depth, limit| LineageQuery {
        id: id(name),
        direction,
        depth,
        limit,
    };
    let told = |lineage: &Lineage| -> Vec<(String, u32)> {
        lineage.nodes.iter().map(|node| (node.id.to_string(), node.depth)).collect()
    };
    let up = trace(&calls, query("e", Direction::Ancestors, 0, 0)).await;
    let expected = [("b", 1), ("c", 1), ("outside", 2)].map(|(name, n)| (name.to_owned(), n));
    assert_eq!((told(&up), up.truncated), (expected.to_vec(), false));
    assert_eq!(up.nodes[1].state, Some(State::Completed));
    assert_eq!((up.nodes[2].state, up.nodes[2].queue.as_deref()), (None, None), "only named");
    assert_eq!(up.links.len(), 4, "{:?}", up.links);
    let down = trace(&calls, query("outside", Direction::Descendants, 0, 0)).await;
    let expected = [("b", 1), ("c", 2), ("e", 2), ("d", 3)].map(|(name, n)| (name.to_owned(), n));
    assert_eq!((told(&down), down.truncated), (expected.to_vec(), false));
    let near = trace(&calls, query("outside", Direction::Descendants, 2, 0)).await;
    assert_eq!((near.nodes.len(), near.truncated), (3, true), "d is further away");
    let few = trace(&calls, query("outside", Direction::Descendants, 0, 2)).await;
    assert_eq!((few.nodes.len(), few.truncated), (2, true));
    let all = calls.0.query(Query::Lineage(query("e", Direction::Ancestors, 0, 1_001))).await;
    assert_eq!(code(all), Code::LimitExceeded);
}
