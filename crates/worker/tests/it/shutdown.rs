//! Orderly ends.

use std::time::Duration;

use sheaf_coordinator::{Control, State};
use sheaf_retry::RetryPolicy;
use sheaf_worker::{Config, Job, PassThrough};
use tokio::sync::Semaphore;

use crate::support::{DEADLINE, Each, Scene, id, quick};

/// Holds every job until permits are given.
fn gate() -> &'static Semaphore {
    Box::leak(Box::new(Semaphore::new(0)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_runs_may_finish_and_what_waits_is_given_back() {
    let scene = Scene::new().await;
    let (begun, gate) = (gate(), gate());
    for name in ["a", "b", "c"] {
        scene.add(name, &[1], RetryPolicy::none()).await;
    }
    let mut config = Config::new("pool").with_worker_count(1);
    config.prefetch = 5;
    let worker = scene.worker(
        config,
        Each(move |job: Job| async move {
            begun.add_permits(1);
            gate.acquire().await.unwrap().forget();
            job.into_rows().await
        }),
    );
    scene.counts(State::Processing, 3).await;
    // Under lease is not yet begun: then all three would be given back.
    begun.acquire().await.unwrap().forget();
    let stopping = tokio::spawn(async move { worker.shutdown().await });
    scene.counts(State::Pending, 2).await;
    gate.add_permits(1);
    let summary = stopping.await.unwrap();
    assert_eq!((summary.completed, summary.released, summary.unsettled), (1, 2, 0));
    for name in ["b", "c"] {
        let batch = scene.batch(name).await;
        assert_eq!((batch.attempts, batch.state), (0, State::Pending));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_outlasts_the_grace_is_given_back_uncharged() {
    let scene = Scene::new().await;
    scene.add("slow", &[1], RetryPolicy::none()).await;
    let gate = gate();
    let mut config = Config::new("pool");
    config.grace = Duration::from_millis(50);
    let worker = scene.worker(
        config,
        Each(move |job: Job| async move {
            gate.acquire().await.unwrap().forget();
            job.into_rows().await
        }),
    );
    scene.counts(State::Processing, 1).await;
    let summary = worker.shutdown().await;
    assert_eq!((summary.completed, summary.released, summary.unsettled), (0, 1, 0));
    let batch = scene.batch("slow").await;
    assert_eq!((batch.attempts, batch.state), (0, State::Pending));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_on_their_way_at_the_stop_are_given_back() {
    let scene = Scene::new().await;
    let worker = scene.worker(Config::new("pool"), PassThrough);
    for round in 0..50 {
        scene.add(&format!("b{round}"), &[1], RetryPolicy::none()).await;
    }
    worker.shutdown().await;
    assert_eq!(scene.count(State::Processing).await, 0, "nothing waits for its lease to run out");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_batch_stops_its_work() {
    let scene = Scene::new().await;
    scene.add("b", &[1], RetryPolicy::none()).await;
    let stopped = std::sync::Arc::new(Semaphore::new(0));
    let told = stopped.clone();
    let coordinator = scene.coordinator.clone();
    let worker = scene.worker_with(
        quick("pool"),
        Each(move |job: Job| {
            let told = told.clone();
            async move {
                // Dropped with the job, when the pool stops it.
                let _tell = Tell(told);
                std::future::pending::<()>().await;
                job.into_rows().await
            }
        }),
        Some(scene.sink().await),
        coordinator,
    );
    scene.counts(State::Processing, 1).await;
    scene.coordinator.control(Control::Cancel(vec![id("b")])).await.unwrap();
    tokio::time::timeout(DEADLINE, stopped.acquire()).await.unwrap().unwrap().forget();
    assert_eq!(scene.batch("b").await.state, State::Cancelled);
    worker.shutdown().await;
    assert_eq!(scene.results().await, Vec::<i64>::new());
}

struct Tell(std::sync::Arc<Semaphore>);

impl Drop for Tell {
    fn drop(&mut self) {
        self.0.add_permits(1);
    }
}
