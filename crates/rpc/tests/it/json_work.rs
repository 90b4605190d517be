//! The life of batches through the actions alone, as a Python worker sees it.

use serde_json::{Value, json};
use sheaf_retry::{Code, Retryable as _};

use crate::actions::{actions, ok, wrong};

fn batch(id: &str) -> Value {
    json!({"batch_id": id, "location": "grpc://127.0.0.1:1", "rows": 10, "bytes": 80})
}

#[tokio::test]
async fn register_claim_extend_settle_get() {
    let actions = actions().await;
    let mut reply = ok(&actions, "RegisterBatch", batch("a")).await;
    let position = reply.as_object_mut().unwrap().remove("position").unwrap();
    assert_eq!(reply, json!({"batch_id": "a", "state": "pending", "created": true}));
    let info = ok(&actions, "CoordinatorInfo", json!({})).await;
    assert_eq!(info["runs"], json!([{"run": position["run"], "end": 2}]));
    let again = ok(&actions, "RegisterBatch", batch("a")).await;
    assert_eq!(again["created"], false);

    let claim = json!({"worker": "py-1", "request_id": "r1", "lease_ms": 60_000});
    let reply = ok(&actions, "Claim", claim.clone()).await;
    let lease = reply["leases"][0].clone();
    assert_eq!(lease["batch_id"], "a");
    assert_eq!(lease["location"], "grpc://127.0.0.1:1");
    assert_eq!(lease["ticket"], "batches/a");
    assert_eq!((&lease["rows"], &lease["bytes"]), (&json!(10), &json!(80)));
    assert_eq!((&lease["attempt"], &lease["queue"]), (&json!(1), &json!("default")));
    let fence = lease["fence"].as_str().unwrap().to_owned();
    assert!(lease["deadline"].as_str().unwrap().ends_with('Z'), "{lease}");
    // Sent again under its name it is the same lease.
    assert_eq!(ok(&actions, "Claim", claim).await["leases"][0], lease);

    let record = ok(&actions, "GetBatch", json!({"batch_id": "a"})).await;
    assert_eq!((&record["state"], &record["attempts"]), (&json!("processing"), &json!(1)));
    assert_eq!(record["lease"]["worker"], "py-1");
    assert_eq!(record["lease"]["fence"], fence.as_str());
    assert_eq!(record["lease"]["started"], true);

    let progress = json!({"rows_done": 5, "rows_total": 10});
    let extend = json!({"leases": [{"batch_id": "a", "fence": fence, "progress": progress}]});
    let reply = ok(&actions, "Extend", extend).await;
    assert_eq!(reply["leases"][0]["verdict"], "applied");
    assert_eq!(reply["leases"][0]["cancelled"], false);

    let output =
        json!({"batch_id": "a.out", "locations": [], "rows": 1, "bytes": 8, "queue": "next"});
    let outcome =
        json!({"batch_id": "a", "fence": fence, "result": "completed", "outputs": [output]});
    let settle = json!({"outcomes": [outcome]});
    let reply = ok(&actions, "Settle", settle.clone()).await;
    let expected = json!({"batch_id": "a", "verdict": "applied", "state": "completed"});
    assert_eq!(reply, json!({"outcomes": [expected], "started": [], "claim": null}));
    let reply = ok(&actions, "Settle", settle).await;
    assert_eq!(reply["outcomes"][0]["verdict"], "already_done");

    let record = ok(&actions, "GetBatch", json!({"batch_id": "a"})).await;
    assert_eq!(record["state"], "completed");
    assert_eq!(record["lease"], Value::Null);
    assert_eq!(record["outputs"], json!(["a.out"]));
    assert_eq!(record["settled"], json!({"fence": fence, "result": "completed"}));
    let recovery = json!({"leases": [{"batch_id": "a", "fence": fence}]});
    let reply = ok(&actions, "Recovery", recovery).await;
    assert_eq!(reply["leases"][0]["standing"], "settled");
    let stats = ok(&actions, "Stats", json!({"queue": "next"})).await;
    assert_eq!(stats["counts"]["pending"], 1);
    assert_eq!(stats["counts"].as_object().unwrap().len(), 8, "zeros included: {stats}");
}

#[tokio::test]
async fn failures_keep_their_reason_in_every_form() {
    let actions = actions().await;
    let retry = json!({"max_retries": 0});
    let cases = [
        (json!("boom"), json!({"code": "processor_failed", "message": "boom", "permanent": false})),
        (
            json!({"message": "bad", "code": "malformed_data", "permanent": true}),
            json!({"code": "malformed_data", "message": "bad", "permanent": true}),
        ),
        (
            json!({"message": "plain"}),
            json!({"code": "processor_failed", "message": "plain", "permanent": false}),
        ),
    ];
    for (index, (error, expected)) in cases.into_iter().enumerate() {
        let id = format!("f{index}");
        let mut spec = batch(&id);
        spec["retry"] = retry.clone();
        ok(&actions, "RegisterBatch", spec).await;
        let lease = ok(&actions, "Claim", json!({"worker": "w"})).await["leases"][0].clone();
        assert_eq!(lease["batch_id"], id.as_str());
        let fence = &lease["fence"];
        let outcome = json!({"batch_id": id, "fence": fence, "result": "failed", "error": error});
        let reply = ok(&actions, "Settle", json!({"outcomes": [outcome]})).await;
        assert_eq!(reply["outcomes"][0]["state"], "failed", "{reply}");
        let mut record = ok(&actions, "GetBatch", json!({"batch_id": id})).await;
        assert!(record["error"].as_object_mut().unwrap().remove("at").is_some());
        assert_eq!(record["error"], expected);
    }
    let reply = ok(&actions, "RequeueBatch", json!({"queue": "default"})).await;
    assert_eq!(reply["count"], 3);
}

#[tokio::test]
async fn a_permanent_failure_needs_no_text_and_is_not_tried_again() {
    let actions = actions().await;
    ok(&actions, "RegisterBatch", batch("a")).await;
    let lease = ok(&actions, "Claim", json!({"worker": "w"})).await["leases"][0].clone();
    let outcome = json!({
        "batch_id": "a", "fence": lease["fence"], "result": "failed", "permanent": true,
    });
    let reply = ok(&actions, "Settle", json!({"outcomes": [outcome]})).await;
    assert_eq!(reply["outcomes"][0]["state"], "failed");
    let requeued = ok(&actions, "RequeueBatch", json!({"batch_id": "a"})).await;
    assert_eq!(requeued["batches"][0]["state"], "pending");
    assert_eq!(requeued["count"], 1);
}

#[tokio::test]
async fn one_call_settles_and_claims_the_next() {
    let actions = actions().await;
    let list = json!({"batches": [batch("a"), batch("b")]});
    let reply = ok(&actions, "RegisterBatch", list).await;
    assert_eq!(reply["batches"].as_array().unwrap().len(), 2);
    let first = ok(&actions, "Claim", json!({"worker": "w", "start": false})).await;
    let lease = &first["leases"][0];
    let named = json!({"batch_id": lease["batch_id"], "fence": lease["fence"]});
    let reply = ok(&actions, "Settle", json!({"started": [named]})).await;
    assert_eq!(reply["started"][0]["verdict"], "applied");
    let outcome = json!({
        "batch_id": lease["batch_id"], "fence": lease["fence"], "result": "completed",
    });
    let settle = json!({"outcomes": [outcome], "claim": {"worker": "w", "max": 5}});
    let reply = ok(&actions, "Settle", settle).await;
    assert_eq!(reply["outcomes"][0]["verdict"], "applied");
    assert_eq!(reply["claim"]["leases"][0]["batch_id"], "b");
    let error = wrong(&actions, "CancelBatch", json!({"batch_id": lease["batch_id"]})).await;
    assert_eq!(error.code(), Code::FailedPrecondition, "{error}");
    assert!(error.message().contains("is completed"), "{error}");
    let released = json!({
        "batch_id": "b", "fence": reply["claim"]["leases"][0]["fence"], "result": "released",
    });
    let reply = ok(&actions, "Settle", json!({"outcomes": [released]})).await;
    assert_eq!(reply["outcomes"][0]["state"], "pending");
}

#[tokio::test]
async fn queues_are_paused_drained_resumed() {
    let actions = actions().await;
    ok(&actions, "RegisterBatch", batch("a")).await;
    ok(&actions, "PauseQueue", json!({})).await;
    let paused = ok(&actions, "Stats", json!({})).await;
    assert_eq!(paused["queues"][0]["paused"], true);
    let reply = ok(&actions, "Claim", json!({"worker": "w"})).await;
    assert_eq!(reply["leases"], json!([]));
    ok(&actions, "ResumeQueue", json!({"queue": "default"})).await;
    ok(&actions, "DrainQueue", json!({"queue": "default"})).await;
    let error = wrong(&actions, "RegisterBatch", batch("b")).await;
    assert_eq!(error.code(), Code::FailedPrecondition, "{error}");
    ok(&actions, "ResumeQueue", json!({})).await;
    ok(&actions, "RegisterBatch", batch("b")).await;
}

#[tokio::test]
async fn lists_go_page_by_page_and_purges_forget() {
    let actions = actions().await;
    let specs: Vec<Value> = (0..5).map(|n| batch(&format!("b{n}"))).collect();
    ok(&actions, "RegisterBatch", json!({"batches": specs})).await;
    let reply = ok(&actions, "CancelBatch", json!({"batch_ids": ["b0", "b1"]})).await;
    assert_eq!(reply["count"], 2);
    let reply = ok(&actions, "RequeueBatch", json!({"batch_id": "b2"})).await;
    assert_eq!(
        (&reply["batches"][0]["verdict"], &reply["count"]),
        (&json!("already_done"), &json!(0))
    );
    let (mut seen, mut cursor) = (Vec::new(), Value::Null);
    loop {
        let query = json!({"state": ["pending", "cancelled"], "limit": 2, "cursor": cursor});
        let page = ok(&actions, "ListBatches", query).await;
        let batches = page["batches"].as_array().unwrap();
        seen.extend(batches.iter().map(|batch| batch["batch_id"].as_str().unwrap().to_owned()));
        cursor = page["next_cursor"].clone();
        if cursor.is_null() {
            break;
        }
    }
    assert_eq!(seen, ["b0", "b1", "b2", "b3", "b4"]);
    let page = ok(&actions, "ListBatches", json!({"limit": 0})).await;
    assert_eq!(page["batches"].as_array().unwrap().len(), 5, "0 means 100");
    let one = ok(&actions, "ListBatches", json!({"state": "cancelled"})).await;
    assert_eq!(one["batches"].as_array().unwrap().len(), 2);
    let reply = ok(&actions, "PurgeBatches", json!({"state": "cancelled"})).await;
    assert_eq!(reply["count"], 2);
    let stats = ok(&actions, "Stats", json!({})).await;
    assert_eq!((&stats["purged"], &stats["counts"]["cancelled"]), (&json!(2), &json!(0)));
    let reply = ok(&actions, "PurgeBatches", json!({"all": true})).await;
    assert_eq!(reply["count"], 0, "what is not over stays");
    let some = ok(&actions, "GetBatch", json!({"batch_ids": ["b0", "b4"]})).await;
    assert_eq!(some["batches"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_reply_of_a_watch_that_was_lost_is_given_again() {
    let actions = actions().await;
    let begun = ok(&actions, "WatchEvents", json!({})).await;
    assert_eq!((&begun["number"], &begun["events"]), (&json!(1), &json!([])));
    let session = begun["session"].clone();
    ok(&actions, "RegisterBatch", batch("a")).await;
    let ask = json!({"session": session, "seen": 1, "wait_ms": 10_000});
    let first = ok(&actions, "WatchEvents", ask.clone()).await;
    assert_eq!(first["events"][0]["batch_id"], "a");
    assert_eq!(
        (&first["events"][0]["from"], &first["events"][0]["to"]),
        (&Value::Null, &json!("pending"))
    );
    assert_eq!(ok(&actions, "WatchEvents", ask).await, first);
    let next = ok(&actions, "WatchEvents", json!({"session": session, "seen": 2})).await;
    assert_eq!((&next["number"], &next["events"]), (&json!(3), &json!([])));
}

#[tokio::test]
async fn ended_waits_answer_at_once_and_leave_the_rest_alone() {
    let waits = sheaf_rpc::Waits::new();
    let actions = actions().await.with_waits(waits.clone());
    let claim = wrong(&actions, "Claim", json!({"worker": "w", "wait_ms": 60_000}));
    let watch = wrong(&actions, "WatchEvents", json!({"wait_ms": 60_000}));
    let (claim, watch, ()) = tokio::join!(claim, watch, async { waits.end() });
    assert_eq!((claim.code(), watch.code()), (Code::Draining, Code::Draining));
    ok(&actions, "RegisterBatch", batch("a")).await;
    let reply = ok(&actions, "Claim", json!({"worker": "w"})).await;
    assert_eq!(reply["leases"][0]["batch_id"], "a");
}
