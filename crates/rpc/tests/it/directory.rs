//! Registration of what the Flight server holds.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use serde_json::json;
use sheaf_coordinator::{
    BatchSpec, Control, Coordinator as _, LeaseRef, Outcome, Registered, Resolution, SettleRequest,
    Verdict,
};
use sheaf_flight::{Exposure, FlightRouter, Listener, Server, ServerHandle};
use sheaf_proto::BatchId;
use sheaf_retry::{Code, RetryPolicy, Retryable as _, SystemClock};
use sheaf_rpc::{
    CoordinatorActions, CoordinatorService, PayloadDirectory, PayloadFacts, RpcCoordinator,
};

use crate::actions::{ok, wrong};
use crate::harness::{batch, claim, embedded, id, once, rpc, spec};

#[derive(Default)]
struct Held(Mutex<HashMap<BatchId, PayloadFacts>>, Mutex<Vec<BatchId>>, Mutex<Vec<BatchSpec>>);

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

    /// What was said to be registered since this was asked last.
    fn registered_now(&self) -> Vec<String> {
        let specs = std::mem::take(&mut *self.2.lock().unwrap());
        specs.into_iter().map(|spec| spec.id.to_string()).collect()
    }

    /// What was looked up since this was asked last: that is a use.
    fn used(&self) -> Vec<BatchId> {
        std::mem::take(&mut self.1.lock().unwrap())
    }
}

#[async_trait]
impl PayloadDirectory for Held {
    async fn lookup(&self, ids: &[BatchId]) -> Vec<Option<PayloadFacts>> {
        self.1.lock().unwrap().extend_from_slice(ids);
        let held = self.0.lock().unwrap();
        ids.iter().map(|id| held.get(id).cloned()).collect()
    }

    async fn registered(&self, batches: Vec<(BatchSpec, Registered)>) {
        let live = batches.into_iter().filter(|(_, answer)| !answer.state.is_terminal());
        self.2.lock().unwrap().extend(live.map(|(spec, _)| spec));
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

async fn over_grpc() -> (RpcCoordinator, Arc<Held>, ServerHandle) {
    let held = Arc::new(Held::default());
    let service = CoordinatorService::new(embedded().await)
        .with_directory(Arc::clone(&held) as Arc<dyn PayloadDirectory>);
    let listener = Listener::bind("127.0.0.1:0", "--flight-addr", Exposure::Loopback).unwrap();
    let server = Server::new(FlightRouter::builder().build().unwrap())
        .add_service(service.into_server())
        .serve(listener)
        .await
        .unwrap();
    (rpc(&server.uri(), once()), held, server)
}

#[tokio::test]
async fn a_typed_registration_is_completed_checked_and_a_use() {
    let (client, held, _server) = over_grpc().await;
    held.put("a");
    client.register(vec![BatchSpec::new(id("a"))]).await.unwrap();
    let known = batch(&client, "a").await.spec;
    assert_eq!(known.locations, ["grpc://127.0.0.1:9"]);
    assert_eq!((known.rows, known.bytes), (6, 480));
    assert_eq!((known.checksum.as_str(), known.schema_fingerprint.as_str()), ("c0ffee", "beef"));
    assert_eq!(held.used(), [id("a")]);
    assert_eq!(held.registered_now(), ["a"]);

    held.put("b");
    let wrong = client.register(vec![BatchSpec { rows: 5, ..BatchSpec::new(id("b")) }]).await;
    let wrong = wrong.unwrap_err();
    assert_eq!(wrong.code(), Code::InvalidArgument, "{wrong}");
    assert!(format!("{wrong:?}").contains("batches[0].rows: 5"), "{wrong:?}");
    // One that nobody holds takes the others of the call with it.
    let nowhere = client.register(vec![BatchSpec::new(id("b")), spec("c")]).await.unwrap_err();
    assert_eq!(nowhere.code(), Code::NotFound, "{nowhere}");
    client.register(vec![BatchSpec::new(id("b"))]).await.unwrap();
    let elsewhere = vec!["grpc://h:1".to_owned()];
    client.register(vec![BatchSpec { locations: elsewhere.clone(), ..spec("c") }]).await.unwrap();
    assert_eq!(batch(&client, "c").await.spec.locations, elsewhere);
    // Sent again when the payload is gone: answered as before.
    held.0.lock().unwrap().clear();
    let again = client.register(vec![BatchSpec::new(id("a"))]).await.unwrap();
    assert!(!again[0].created);
    assert_eq!(held.registered_now(), ["b", "c", "a"]);
    client.control(Control::Cancel(vec![id("a")])).await.unwrap();
    client.register(vec![BatchSpec::new(id("a"))]).await.unwrap();
    assert!(held.registered_now().is_empty(), "no work is to come");
}

#[tokio::test]
async fn outputs_and_what_starts_anew_count_as_used() {
    let (client, held, _server) = over_grpc().await;
    let actions_held = {
        let (actions, held) = with_directory().await;
        held.put("x");
        ok(&actions, "RegisterBatch", json!({"batch_id": "x"})).await;
        ok(&actions, "CancelBatch", json!({"batch_id": "x"})).await;
        held.used();
        ok(&actions, "RequeueBatch", json!({"batch_id": "x"})).await;
        held
    };
    assert_eq!(actions_held.used(), [id("x")]);

    for name in ["a", "b", "a.out"] {
        held.put(name);
    }
    let once = |name| BatchSpec { retry: Some(RetryPolicy::none()), ..BatchSpec::new(id(name)) };
    client.register(["a", "b"].map(once).into()).await.unwrap();
    held.used();
    let leases = client.claim(claim("one", 2)).await.unwrap().leases;
    let outcome = |index: usize, resolution, outputs| Outcome {
        lease: LeaseRef { id: leases[index].spec.id.clone(), fence: leases[index].fence },
        resolution,
        error: None,
        outputs,
        delay: std::time::Duration::ZERO,
    };
    let output = BatchSpec { rows: 6, bytes: 480, ..BatchSpec::new(id("a.out")) };
    let outcomes = vec![
        outcome(0, Resolution::Completed, vec![output]),
        outcome(1, Resolution::Failed, Vec::new()),
    ];
    let settle = SettleRequest { outcomes, ..SettleRequest::default() };
    let reply = client.settle(settle).await.unwrap();
    assert!(reply.outcomes.iter().all(|settled| settled.verdict == Verdict::Applied), "{reply:?}");
    assert!(held.registered_now().contains(&"a.out".to_owned()), "an output is registered, too");
    assert_eq!(held.used(), [id("a.out")]);

    client.control(Control::Requeue(vec![id("a")])).await.unwrap();
    assert_eq!(held.used(), [id("a")]);
    let failed = client.control(Control::RequeueFailed("default".to_owned())).await.unwrap();
    assert_eq!(failed.count, 1);
    assert_eq!(held.used(), [id("b")]);
}
