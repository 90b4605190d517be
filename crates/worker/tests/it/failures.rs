//! Work that fails.

use std::sync::Arc;

use sheaf_coordinator::{BatchSpec, State};
use sheaf_retry::{Code, RetryPolicy};
use sheaf_worker::{Config, Job, PassThrough, ProcessError};

use crate::support::{Calls, Each, Scene, eager, id};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transient_failure_is_tried_again_as_often_as_the_policy_says() {
    let scene = Scene::new().await;
    scene.add("b", &[1], eager(3)).await;
    let calls = Calls::default();
    let counter = calls.clone();
    let worker = scene.worker(
        Config::new("pool"),
        Each(move |job: Job| {
            let call = counter.next();
            async move {
                assert_eq!(job.attempt as usize, call);
                if call < 4 {
                    Err(ProcessError::transient("not yet"))
                } else {
                    job.into_rows().await
                }
            }
        }),
    );
    let batch = scene.reaches("b", State::Completed).await;
    assert_eq!((batch.attempts, calls.get()), (4, 4));
    worker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_failure_ends_in_the_dead_letters_with_its_error() {
    let scene = Scene::new().await;
    scene.add("b", &[1], eager(2)).await;
    let worker = scene.worker(
        Config::new("pool"),
        Each(|_job: Job| async { Err(ProcessError::transient("the oven is cold")) }),
    );
    let batch = scene.reaches("b", State::Failed).await;
    assert_eq!(batch.attempts, 3);
    assert_eq!(batch.error.unwrap().message, "the oven is cold");
    worker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_permanent_failure_is_not_tried_again() {
    let scene = Scene::new().await;
    scene.add("b", &[1], eager(9)).await;
    let worker = scene.worker(
        Config::new("pool"),
        Each(|_job: Job| async { Err(ProcessError::permanent("no such column")) }),
    );
    let batch = scene.reaches("b", State::Failed).await;
    assert_eq!((batch.attempts, batch.error.unwrap().permanent), (1, true));
    worker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_fails_its_attempt_and_nothing_else() {
    let scene = Scene::new().await;
    scene.add("bad", &[1], eager(1)).await;
    let worker = scene.worker(
        Config::new("pool"),
        Each(|job: Job| async move {
            assert!(job.spec.id.as_str() != "bad", "row 7 is upside down");
            job.into_rows().await
        }),
    );
    let batch = scene.reaches("bad", State::Failed).await;
    let message = batch.error.unwrap().message;
    assert!(message.contains("row 7 is upside down"), "{message}");
    assert_eq!(batch.attempts, 2);
    scene.add("good", &[1], RetryPolicy::none()).await;
    scene.reaches("good", State::Completed).await;
    worker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registered_batch_without_its_payload_is_payload_lost() {
    let scene = Scene::new().await;
    let mut spec = BatchSpec::new(id("ghost"));
    spec.retry = Some(eager(9));
    scene.coordinator.register(vec![spec]).await.unwrap();
    let worker = scene.worker(Config::new("pool"), PassThrough);
    let batch = scene.reaches("ghost", State::Failed).await;
    assert_eq!(batch.error.unwrap().code, Code::PayloadLost);
    worker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outputs_that_are_refused_fail_their_batch_and_nothing_else() {
    let scene = Scene::new().await;
    let mut taken = BatchSpec::new(id("child"));
    taken.queue = "elsewhere".to_owned();
    scene.coordinator.register(vec![taken]).await.unwrap();
    for name in ["bad", "good", "fruitful"] {
        scene.add(name, &[1], eager(9)).await;
    }
    let worker = scene.worker(
        Config::new("pool"),
        Each(|job: Job| async move {
            let name = job.spec.id.as_str().to_owned();
            let mut output = job.into_rows().await?;
            match name.as_str() {
                "bad" => output.batches.push(BatchSpec::new(id("child"))),
                "fruitful" => {
                    let mut spec = BatchSpec::new(id("grandchild"));
                    spec.queue = "elsewhere".to_owned();
                    output.batches.push(spec);
                }
                _ => {}
            }
            Ok(output)
        }),
    );
    let bad = scene.reaches("bad", State::Failed).await;
    let error = bad.error.unwrap();
    assert_eq!((bad.attempts, error.code), (1, Code::AlreadyExists), "{}", error.message);
    assert!(error.message.contains("child is registered with another queue"), "{}", error.message);
    scene.reaches("good", State::Completed).await;
    scene.reaches("fruitful", State::Completed).await;
    scene.reaches("grandchild", State::Pending).await;
    let summary = worker.shutdown().await;
    assert_eq!((summary.unsettled, summary.lost), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_an_attempt_that_died_are_adopted_with_the_batches_made_from_them() {
    let scene = Scene::new().await;
    scene.add("parent", &[5], eager(3)).await;
    // The first attempt dies between its commit and its settle.
    let lease = scene.claim_as("dead", std::time::Duration::from_millis(200)).await;
    scene.commit(&lease, &[5]).await;
    let coordinator = scene.coordinator.clone();
    let worker = scene.worker_with(
        Config::new("pool"),
        Each(|job: Job| async move {
            let mut output = job.into_rows().await?;
            let mut spec = BatchSpec::new(id("child"));
            spec.queue = "elsewhere".to_owned();
            output.batches.push(spec);
            Ok(output)
        }),
        Some(scene.sink().await),
        coordinator,
    );
    let parent = scene.reaches("parent", State::Completed).await;
    assert_eq!((parent.attempts, parent.outputs), (2, vec![id("child")]));
    scene.reaches("child", State::Pending).await;
    worker.shutdown().await;
    assert_eq!(scene.results().await, vec![5], "the rows are there once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_processor_that_makes_no_batches_does_not_run_for_rows_that_are_committed() {
    let scene = Scene::new().await;
    scene.add("b", &[5], eager(3)).await;
    let lease = scene.claim_as("dead", std::time::Duration::from_millis(200)).await;
    scene.commit(&lease, &[5]).await;
    scene.shelf.remove("b");
    let (sink, coordinator) = (scene.sink().await, Arc::clone(&scene.coordinator));
    let worker = scene.worker_with(Config::new("pool"), PassThrough, Some(sink), coordinator);
    scene.reaches("b", State::Completed).await;
    worker.shutdown().await;
    assert_eq!(scene.results().await, vec![5]);
}
