//! Wrong JSON, action by action.

use bytes::Bytes;
use serde_json::{Value, json};
use sheaf_flight::{ActionHandler as _, CallContext, Error};
use sheaf_retry::{Code, Retryable as _, SystemClock};
use sheaf_rpc::CoordinatorActions;

use crate::harness::{embedded, pool, serve};

pub(crate) async fn actions() -> CoordinatorActions {
    CoordinatorActions::new(embedded().await, SystemClock::shared())
}

pub(crate) async fn run(
    actions: &CoordinatorActions,
    action: &str,
    body: impl Into<Bytes>,
) -> Result<Value, Error> {
    let results = actions.call(&CallContext::default(), action, body.into()).await?;
    assert_eq!(results.len(), 1, "{action}");
    Ok(serde_json::from_slice(&results[0]).unwrap())
}

pub(crate) async fn ok(actions: &CoordinatorActions, action: &str, body: Value) -> Value {
    run(actions, action, body.to_string()).await.unwrap_or_else(|error| panic!("{action}: {error}"))
}

pub(crate) async fn wrong(actions: &CoordinatorActions, action: &str, body: Value) -> Error {
    let answer = run(actions, action, body.to_string()).await;
    answer.map(|answer| panic!("{action} {body}: {answer}")).unwrap_err()
}

type Case = (&'static str, Value, &'static str);

/// Something is missing.
fn missing() -> Vec<Case> {
    vec![
        ("RegisterBatch", json!({}), "missing field `batch_id`"),
        ("RegisterBatch", json!({"batch_id": "a"}), "location, rows, bytes: required"),
        (
            "RegisterBatch",
            json!({"batch_id": "a", "location": "grpc://h:1"}),
            "rows, bytes: required",
        ),
        ("RegisterBatch", json!({"batches": [{}]}), "batches[0]: missing field `batch_id`"),
        ("RegisterBatch", json!({"batches": [{"batch_id": "a"}]}), "batches[0].location, rows"),
        ("GetBatch", json!({}), "missing field `batch_id`"),
        ("RequeueBatch", json!({}), "missing field `batch_id`"),
        ("CancelBatch", json!({}), "missing field `batch_id`"),
        ("ExpireBatches", json!({}), "missing field `older_than_ms`"),
        ("Claim", json!({}), "missing field `worker`"),
        ("Extend", json!({}), "missing field `leases`"),
        ("Extend", json!({"leases": [{"batch_id": "a"}]}), "leases[0]: missing field `fence`"),
        (
            "Settle",
            json!({"outcomes": [{"batch_id": "a", "fence": "1"}]}),
            "missing field `result`",
        ),
        ("Recovery", json!({}), "missing field `leases`"),
    ]
}

/// A batch with this policy.
fn retried(retry: Value) -> Value {
    json!({"batch_id": "a", "rows": 1, "bytes": 1, "locations": ["grpc://h:1"], "retry": retry})
}

/// A value is of the wrong type.
fn of_the_wrong_type() -> Vec<Case> {
    vec![
        ("RegisterBatch", json!({"batch_id": 7}), "batch_id: invalid type"),
        ("RegisterBatch", json!({"batch_id": "a", "rows": -1}), "rows: invalid value"),
        (
            "RegisterBatch",
            json!({"batch_id": "a", "retry": {"max_retries": "x"}}),
            "retry.max_retries",
        ),
        ("GetBatch", json!({"batch_ids": "a"}), "batch_ids: invalid type"),
        ("ListBatches", json!({"state": "done"}), "state: unknown variant `done`"),
        ("ListBatches", json!({"limit": "all"}), "limit: invalid type"),
        ("Stats", json!({"queue": 1}), "queue: invalid type"),
        ("RequeueBatch", json!({"queue": []}), "queue: invalid type"),
        ("CancelBatch", json!({"batch_id": []}), "batch_id: invalid type"),
        ("PurgeBatches", json!({"finished_before_ms": "1h"}), "finished_before_ms: invalid type"),
        ("ExpireBatches", json!({"older_than_ms": 1.5}), "older_than_ms: invalid type"),
        ("PauseQueue", json!({"queue": {}}), "queue: invalid type"),
        ("ResumeQueue", json!({"queue": 1}), "queue: invalid type"),
        ("DrainQueue", json!({"queue": null}), "queue: invalid type"),
        ("Claim", json!({"worker": "w", "max": "1"}), "max: invalid type"),
        (
            "Extend",
            json!({"leases": [{"batch_id": "a", "fence": "x"}]}),
            "leases[0].fence: invalid value",
        ),
        (
            "Settle",
            json!({"outcomes": [{"batch_id": "a", "fence": "1", "result": "ok"}]}),
            "outcomes[0].result",
        ),
        ("Settle", json!({"claim": {"worker": 1}}), "claim.worker: invalid type"),
        ("Recovery", json!({"leases": [1]}), "leases[0]: invalid type"),
        ("WatchEvents", json!({"wait_ms": "1s"}), "wait_ms: invalid type"),
    ]
}

/// An identifier is none.
fn no_identifiers() -> Vec<Case> {
    vec![
        ("RegisterBatch", json!({"batch_id": "a b"}), "not ' '"),
        ("GetBatch", json!({"batch_id": "a/b"}), "batch_id: a batch id is made of"),
        ("GetBatch", json!({"batch_ids": ["a", ""]}), "batch_ids[1]: a batch id has 1 to 200"),
        (
            "CancelBatch",
            json!({"batch_id": "x".repeat(201)}),
            "at most 200 characters, this one has 201",
        ),
        ("Claim", json!({"worker": "w", "batch_id": ["a", "b c"]}), "batch_id"),
        (
            "Settle",
            json!({"outcomes": [{"batch_id": "é", "fence": "1", "result": "failed"}]}),
            "outcomes[0].batch_id",
        ),
    ]
}

/// Two things exclude each other, or a value is out of range.
fn at_odds() -> Vec<Case> {
    vec![
        ("RegisterBatch", json!({"batch_id": "a", "location": "x", "locations": []}), "not both"),
        ("GetBatch", json!({"batch_id": "a", "batch_ids": []}), "not both"),
        ("GetBatch", json!({"queue": "q"}), "queue: GetBatch goes by"),
        ("CancelBatch", json!({"queue": "q"}), "queue: CancelBatch goes by"),
        ("RequeueBatch", json!({"queue": "q", "batch_id": "a"}), "not both"),
        ("WatchEvents", json!({"wait_ms": 60_001}), "60001 is over the limit of 60000"),
        ("WatchEvents", json!({"max": 10_001}), "10001 is over the limit of 10000"),
        ("WatchEvents", json!({"session": "s", "queue": "q"}), "session keeps the filter"),
        ("Claim", json!({"worker": "w", "request_id": ""}), "request_id: leave it out"),
        ("PurgeBatches", json!({"state": "pending"}), "states"),
        ("PurgeBatches", json!({}), "all: true"),
        ("PurgeBatches", json!({"state": []}), "all: true"),
        ("PurgeBatches", json!({"all": false}), "all: true"),
        ("PurgeBatches", json!({"all": true, "queue": "default"}), "all: true alone"),
        ("RegisterBatch", retried(json!({"jitter": 7})), "retry.jitter: 7 is not between"),
        ("RegisterBatch", retried(json!({"factor": 1e308})), "retry.factor: "),
        ("RegisterBatch", retried(json!({"factor": 0.1})), "retry.factor: 0.1 is not between"),
        ("RegisterBatch", retried(json!({"base_ms": 600_000})), "retry.base_ms: "),
    ]
}

#[tokio::test]
async fn each_action_says_what_is_wrong_with_its_body() {
    let actions = actions().await;
    let cases = [missing(), of_the_wrong_type(), no_identifiers(), at_odds()].concat();
    for (action, body, expected) in cases {
        let error = wrong(&actions, action, body.clone()).await;
        assert!(error.message().contains(expected), "{action} {body}: {error}");
        assert_eq!(error.code(), Code::InvalidArgument, "{action} {body}: {error}");
    }
}

#[tokio::test]
async fn no_action_takes_a_field_that_it_does_not_know() {
    let actions = actions().await;
    for (action, _) in actions.actions() {
        let error = wrong(&actions, action, json!({"surprise": 1})).await;
        assert_eq!(error.code(), Code::InvalidArgument, "{error}");
        assert!(error.message().starts_with(&format!("{action}: ")), "{error}");
        assert!(error.message().contains("unknown field `surprise`"), "{action}: {error}");
    }
}

#[tokio::test]
async fn no_action_takes_what_is_no_object() {
    let actions = actions().await;
    for (action, _) in actions.actions() {
        for body in ["[]", "7", "\"a\"", "{", "{}x", "\u{0}", "nonsense"] {
            let error = run(&actions, action, body).await.unwrap_err();
            assert_eq!(error.code(), Code::InvalidArgument, "{action} {body}: {error}");
        }
        let error = run(&actions, action, vec![0xff, 0xfe]).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{action}: {error}");
    }
}

#[tokio::test]
async fn lists_and_bodies_have_limits() {
    let actions = actions().await;
    let ids: Vec<String> = (0..10_001).map(|n| format!("b{n}")).collect();
    let leases: Vec<Value> = ids.iter().map(|id| json!({"batch_id": id, "fence": "1"})).collect();
    let batches: Vec<Value> = ids.iter().map(|id| json!({"batch_id": id})).collect();
    let outcomes: Vec<Value> =
        ids.iter().map(|id| json!({"batch_id": id, "fence": 1, "result": "completed"})).collect();
    for (action, body) in [
        ("RegisterBatch", json!({"batches": batches})),
        ("GetBatch", json!({"batch_ids": ids})),
        ("CancelBatch", json!({"batch_ids": ids})),
        ("RequeueBatch", json!({"batch_ids": ids})),
        ("Extend", json!({"leases": leases})),
        ("Settle", json!({"outcomes": outcomes})),
        ("Settle", json!({"started": leases})),
        ("Recovery", json!({"leases": leases})),
        ("Claim", json!({"worker": "w", "batch_id": ids})),
        ("WatchEvents", json!({"batch_ids": ids})),
    ] {
        let error = wrong(&actions, action, body).await;
        assert_eq!(error.code(), Code::LimitExceeded, "{action}: {error}");
        let expected = "10001 entries are over the limit of 10000";
        assert!(error.message().contains(expected), "{action}: {error}");
    }
    let error = run(&actions, "Stats", vec![b' '; (16 << 20) + 1]).await.unwrap_err();
    assert_eq!(error.code(), Code::LimitExceeded, "{error}");
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let actions = actions().await;
    for (action, body) in [
        ("GetBatch", json!({"batch_id": "none"})),
        ("CancelBatch", json!({"batch_id": "none"})),
        ("RequeueBatch", json!({"batch_id": "none"})),
        ("WatchEvents", json!({"session": "none"})),
        ("NoSuchAction", json!({})),
    ] {
        let error = wrong(&actions, action, body).await;
        assert_eq!(error.code(), Code::NotFound, "{action}: {error}");
    }
    let reply = ok(&actions, "CancelBatch", json!({"batch_ids": ["none"]})).await;
    assert_eq!(
        reply["batches"][0],
        json!({"batch_id": "none", "verdict": "not_found", "state": null})
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn over_the_wire_an_error_has_its_code_in_trailer_and_text() {
    let server = serve(embedded().await).await;
    let connection = pool().connection(&server.uri()).unwrap();
    let options = sheaf_flight::CallOptions::default();
    let body = Bytes::from_static(b"{\"batch_id\": \"none\"}");
    let error = connection.action("GetBatch", body, &options).await.unwrap_err();
    assert_eq!(error.code(), Code::NotFound);
    assert!(error.message().ends_with("GetBatch: no batch none"), "{error}");
    let listed = connection.actions(&options).await.unwrap();
    for (name, description) in actions().await.actions() {
        assert!(listed.contains(&(name.to_owned(), description.to_owned())), "{name}");
    }
}
