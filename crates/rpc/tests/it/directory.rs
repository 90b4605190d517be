//! Registration of what the Flight server holds.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use serde_json::json;
use sheaf_proto::BatchId;
use sheaf_retry::{Code, Retryable as _, SystemClock};
use sheaf_rpc::{CoordinatorActions, PayloadDirectory, PayloadFacts};

use crate::actions::{ok, wrong};
use crate::harness::{embedded, id};

#[derive(Default)]
struct Held(Mutex<HashMap<BatchId, PayloadFacts>>);

impl Held {
    fn put(&self, name: &str) {
        let facts = PayloadFacts {
            locations: vec!["grpc://127.0.0.1:9".to_owned()],
            rows: 6,
            bytes: 480,
            checksum: "c0ffee".to_owned(),
            schema_fingerprint: "beef".to_owned(),
        };
        self.0.lock().unwrap().insert(id(name), facts);
    }
}

#[async_trait]
impl PayloadDirectory for Held {
    async fn lookup(&self, ids: &[BatchId]) -> Vec<Option<PayloadFacts>> {
        let held = self.0.lock().unwrap();
        ids.iter().map(|id| held.get(id).cloned()).collect()
    }
}

async fn with_directory() -> (CoordinatorActions, Arc<Held>) {
    let held = Arc::new(Held::default());
    let actions = CoordinatorActions::new(embedded().await, SystemClock::shared());
    (actions.with_directory(Arc::clone(&held) as Arc<dyn PayloadDirectory>), held)
}

#[tokio::test]
async fn the_name_of_a_payload_is_enough() {
    let (actions, held) = with_directory().await;
    held.put("a");
    let reply = ok(&actions, "RegisterBatch", json!({"batch_id": "a"})).await;
    assert_eq!(reply["created"], true);
    let record = ok(&actions, "GetBatch", json!({"batch_id": "a"})).await;
    assert_eq!(record["location"], "grpc://127.0.0.1:9");
    assert_eq!((&record["rows"], &record["bytes"]), (&json!(6), &json!(480)));
    assert_eq!((&record["checksum"], &record["fingerprint"]), (&json!("c0ffee"), &json!("beef")));
    // What a typed client leaves at 0 is filled in as well.
    held.put("b");
    let typed = json!({"batch_id": "b", "locations": [], "rows": 0, "bytes": 0, "checksum": ""});
    ok(&actions, "RegisterBatch", typed).await;
    let record = ok(&actions, "GetBatch", json!({"batch_id": "b"})).await;
    assert_eq!((&record["rows"], &record["location"]), (&json!(6), &json!("grpc://127.0.0.1:9")));
}

#[tokio::test]
async fn what_is_said_of_a_payload_has_to_be_so() {
    let (actions, held) = with_directory().await;
    held.put("a");
    for (field, value) in [
        ("rows", json!(5)),
        ("bytes", json!(1)),
        ("checksum", json!("x")),
        ("fingerprint", json!("x")),
    ] {
        let mut body = json!({"batch_id": "a"});
        body[field] = value;
        let error = wrong(&actions, "RegisterBatch", body).await;
        assert_eq!(error.code(), Code::InvalidArgument, "{error}");
        assert!(error.message().contains(&format!("{field}: ")), "{error}");
    }
    ok(&actions, "RegisterBatch", json!({"batch_id": "a", "rows": 6, "bytes": 480})).await;
}

#[tokio::test]
async fn a_payload_that_is_nowhere_has_to_be_put_first() {
    let (actions, _) = with_directory().await;
    for body in [json!({"batch_id": "a"}), json!({"batch_id": "a", "locations": [], "rows": 1})] {
        let error = wrong(&actions, "RegisterBatch", body).await;
        assert_eq!(error.code(), Code::NotFound, "{error}");
        assert!(
            error.message().contains("put it first (DoPut to [\"batches\", \"a\"])"),
            "{error}"
        );
    }
    let error =
        wrong(&actions, "RegisterBatch", json!({"batch_id": "a", "location": "grpc://h:1"})).await;
    assert!(error.message().contains("rows, bytes: required"), "{error}");
    let elsewhere = json!({"batch_id": "a", "location": "grpc://h:1", "rows": 1, "bytes": 8});
    ok(&actions, "RegisterBatch", elsewhere).await;
}

#[tokio::test]
async fn a_registration_sent_again_is_answered_when_the_payload_is_gone() {
    let (actions, held) = with_directory().await;
    held.put("a");
    ok(&actions, "RegisterBatch", json!({"batch_id": "a"})).await;
    held.0.lock().unwrap().clear();
    let again = ok(&actions, "RegisterBatch", json!({"batch_id": "a"})).await;
    assert_eq!(again["created"], false);
}

#[tokio::test]
async fn outputs_are_named_and_a_settle_may_be_sent_again() {
    let (actions, held) = with_directory().await;
    held.put("a");
    held.put("a.out");
    ok(&actions, "RegisterBatch", json!({"batch_id": "a"})).await;
    let lease = ok(&actions, "Claim", json!({"worker": "w"})).await["leases"][0].clone();
    let settle = |outputs: serde_json::Value| {
        json!({"outcomes": [{
            "batch_id": "a", "fence": lease["fence"], "result": "completed", "outputs": outputs,
        }]})
    };
    let error = wrong(&actions, "Settle", settle(json!(["nowhere"]))).await;
    assert_eq!(error.code(), Code::NotFound, "{error}");
    let reply = ok(&actions, "Settle", settle(json!(["a.out"]))).await;
    assert_eq!(reply["outcomes"][0]["verdict"], "applied");
    let output = ok(&actions, "GetBatch", json!({"batch_id": "a.out"})).await;
    assert_eq!((&output["rows"], &output["state"]), (&json!(6), &json!("pending")));
    // The output was worked off and forgotten, then the settle comes again.
    held.0.lock().unwrap().clear();
    ok(&actions, "CancelBatch", json!({"batch_id": "a.out"})).await;
    ok(&actions, "PurgeBatches", json!({"state": "cancelled"})).await;
    let reply = ok(&actions, "Settle", settle(json!(["a.out"]))).await;
    assert_eq!(reply["outcomes"][0]["verdict"], "already_done");
}
