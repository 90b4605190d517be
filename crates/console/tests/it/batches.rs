//! Batches as the coordinator of a pipeline has them.

use serde_json::json;
use sheaf_coordinator::{CoordinatorExt as _, State};

use crate::world::{FILE, HOSTILE, World};

#[tokio::test]
async fn failed_batches_are_shown_and_start_anew() {
    let world = World::start().await;
    world.plan("shop", FILE).await;
    world.fail(&["b:1", "b:2", "b:3"], "orders", HOSTILE).await;
    world.fail(&["c:1"], "late", "no").await;
    let shown = world.get_with("/api/batches?pipeline=shop").await;
    assert!(shown.head.contains("content-type: application/json"), "{}", shown.head);
    let shown = shown.json();
    assert_eq!((&shown["counts"]["failed"], &shown["counts"]["pending"]), (&4.into(), &0.into()));
    let first = &shown["batches"][0];
    assert_eq!((&first["id"], &first["queue"]), (&"b:1".into(), &"orders".into()));
    assert_eq!(
        first["error"],
        json!({
            "code": "malformed_data", "message": HOSTILE, "permanent": true,
            "at_ms": first["error"]["at_ms"],
        })
    );
    assert_eq!((&first["rows"], &first["state"]), (&7.into(), &"failed".into()));

    let answer = world.requeue(&["b:2", "no:1"]).await.json();
    assert_eq!(answer["count"], 1);
    assert_eq!(answer["batches"][0]["verdict"], "applied");
    assert_eq!(
        (&answer["batches"][0]["state"], &answer["batches"][1]["verdict"]),
        (&"pending".into(), &"not_found".into())
    );
    let batch = world.coordinator.get(&"b:2".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(batch.state, State::Pending);
    // Once more, and it is not failed any more.
    assert_eq!(world.requeue(&["b:2"]).await.json()["count"], 0);

    let body = json!({"pipeline": "shop", "queue": "orders"});
    assert_eq!(world.post("/api/requeue", &body).await.json()["count"], 2);
    let left = world.get_with("/api/batches?pipeline=shop&state=failed").await.json();
    assert_eq!((&left["counts"]["failed"], &left["batches"][0]["id"]), (&1.into(), &"c:1".into()));
    let pending =
        world.get_with("/api/batches?pipeline=shop&state=pending&queue=orders").await.json();
    assert_eq!(pending["batches"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn many_batches_come_in_pages() {
    let world = World::start().await;
    world.plan("shop", FILE).await;
    let specs =
        (0..250).map(|n| sheaf_coordinator::BatchSpec::new(format!("b:{n}").parse().unwrap()));
    world.coordinator.register(specs.collect()).await.unwrap();
    let (mut cursor, mut pages) = (String::new(), Vec::new());
    loop {
        let path = format!("/api/batches?pipeline=shop&state=pending&cursor={cursor}");
        let page = world.get_with(&path).await.json();
        pages.push(page["batches"].as_array().unwrap().len());
        cursor = page["next_cursor"].as_str().unwrap().to_owned();
        if cursor.is_empty() {
            break;
        }
    }
    assert_eq!(pages, [100, 100, 50]);
}
