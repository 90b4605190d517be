//! Work that goes well.

use std::time::Duration;

use sheaf_coordinator::{BatchSpec, State};
use sheaf_retry::RetryPolicy;
use sheaf_worker::{Config, PassThrough, Verify};

use crate::support::{Each, Scene, id};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_row_reaches_the_sink_once() {
    let scene = Scene::new().await;
    for index in 0..200_i64 {
        let numbers: Vec<i64> = (index * 10..index * 10 + 10).collect();
        scene.add(&format!("b{index}"), &numbers, RetryPolicy::none()).await;
    }
    let config = Config::new("pool").with_worker_count(4);
    let coordinator = scene.coordinator.clone();
    let worker = scene.worker_with(config, PassThrough, Some(scene.sink().await), coordinator);
    scene.counts(State::Completed, 200).await;
    let summary = worker.shutdown().await;
    assert_eq!((summary.completed, summary.failed, summary.lost), (200, 0, 0));
    assert_eq!(scene.results().await, (0..2_000).collect::<Vec<_>>());
    let batch = scene.batch("b7").await;
    assert_eq!((batch.attempts, batch.state), (1, State::Completed));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_wakes_a_pool_that_would_poll_much_later() {
    let scene = Scene::new().await;
    // Longer than the test may take: only a wake-up can bring the work in time.
    let config = Config::new("pool").with_poll_interval(Duration::from_secs(60));
    let worker = scene.worker(config, PassThrough);
    for round in 0..20 {
        let name = format!("b{round}");
        scene.add(&name, &[1], RetryPolicy::none()).await;
        scene.reaches(&name, State::Completed).await;
    }
    worker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outputs_are_registered_with_the_completion() {
    let scene = Scene::new().await;
    scene.shelf.put("child", &[2]);
    scene.add("parent", &[1], RetryPolicy::none()).await;
    let worker = scene.worker(
        Config::new("pool"),
        Each(|job: sheaf_worker::Job| async move {
            let parent = job.spec.id.clone();
            let mut output = job.into_rows().await?;
            if parent.as_str() == "parent" {
                let mut spec = BatchSpec::new(id("child"));
                spec.parents = vec![parent];
                output.batches.push(spec);
            }
            Ok(output)
        }),
    );
    let child = scene.reaches("child", State::Completed).await;
    assert_eq!(child.spec.parents, vec![id("parent")]);
    assert_eq!(scene.batch("parent").await.outputs, vec![id("child")]);
    worker.shutdown().await;
}
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verify_accepts_what_was_registered_and_refuses_anything_else() {
    let scene = Scene::new().await;
    scene.shelf.put("short", &[1, 2, 3]);
    let mut spec = BatchSpec::new(id("short"));
    spec.rows = 4;
    spec.retry = Some(crate::support::eager(5));
    scene.coordinator.register(vec![spec]).await.unwrap();
    let coordinator = scene.coordinator.clone();
    let worker =
        scene.worker_with(Config::new("pool"), Verify, Some(scene.sink().await), coordinator);
    let batch = scene.reaches("short", State::Failed).await;
    let error = batch.error.unwrap();
    assert_eq!(error.code, sheaf_retry::Code::Corrupt);
    assert!(error.message.contains("3 rows, registered are 4"), "{}", error.message);
    assert_eq!(batch.attempts, 1, "a mismatch is permanent");
    assert_eq!(scene.results().await, Vec::<i64>::new(), "nothing of it was committed");
    worker.shutdown().await;
}
