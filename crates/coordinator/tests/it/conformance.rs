//! The suite, on a file and in memory.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sheaf_coordinator::Coordinator;
use sheaf_coordinator::conformance::{self, Harness};
use sheaf_coordinator::embedded::{Config, Durability, Embedded};
use sheaf_retry::{ManualClock, SystemClock, Timestamp};
use tokio::sync::Mutex;

struct Bench {
    clock: Arc<ManualClock>,
    home: tempfile::TempDir,
    durability: Durability,
    current: Mutex<(u32, Option<Arc<Embedded>>)>,
}

impl Bench {
    fn new(durability: Durability) -> Self {
        Bench {
            clock: ManualClock::new(Timestamp::from_millis(1_760_000_000_000)),
            home: super::directory(),
            durability,
            current: Mutex::default(),
        }
    }

    fn open(&self, number: u32) -> Arc<Embedded> {
        let path = self.home.path().join(format!("{number}.redb"));
        let config = Config { durability: self.durability, ..Config::disk(path) };
        Arc::new(Embedded::open(config, self.clock.clone()).unwrap())
    }
}

#[async_trait]
impl Harness for Bench {
    async fn fresh(&self) -> Arc<dyn Coordinator> {
        let mut current = self.current.lock().await;
        current.0 += 1;
        let opened = self.open(current.0);
        current.1 = Some(opened.clone());
        opened
    }

    async fn advance(&self, by: Duration) {
        self.clock.advance(by);
        if let Some(coordinator) = &self.current.lock().await.1 {
            // Each does a bounded part of what is due.
            for _ in 0..3 {
                coordinator.wake().await.unwrap();
            }
        }
    }

    async fn reopen(&self) -> Option<Arc<dyn Coordinator>> {
        let mut current = self.current.lock().await;
        current.1.take()?.close().await.unwrap();
        let opened = self.open(current.0);
        current.1 = Some(opened.clone());
        Some(opened)
    }

    fn is_time_still(&self) -> bool {
        true
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_file() {
    conformance::run(&Bench::new(Durability::Disk)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_memory_with_a_snapshot() {
    conformance::run(&Bench::new(Durability::Memory)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_calls_on_a_file() {
    for seed in 1..4 {
        conformance::random(&Bench::new(Durability::Disk), seed, 300).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_calls_in_memory() {
    for seed in 10..20 {
        conformance::random(&Bench::new(Durability::Memory), seed, 600).await;
    }
}

/// Many seeded runs against the model, on a file and in memory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn soak_model_agrees_in_process() {
    let (seeds, steps) = if sheaf_testkit::soak() { (500, 1_000) } else { (2, 150) };
    let first = SystemClock::shared().now().as_micros();
    for seed in first..first + seeds {
        eprintln!("seed {seed}");
        conformance::random(&Bench::new(Durability::Disk), seed, steps).await;
        conformance::random(&Bench::new(Durability::Memory), seed, steps).await;
    }
}

/// As a network backend runs it: time passes by itself.
struct RealTime;

#[async_trait]
impl Harness for RealTime {
    async fn fresh(&self) -> Arc<dyn Coordinator> {
        Arc::new(Embedded::open(Config::memory(), SystemClock::shared()).unwrap())
    }

    async fn advance(&self, by: Duration) {
        // sleep: this is the advance of real time, and 50 ms for what is then due.
        tokio::time::sleep(by + Duration::from_millis(50)).await;
    }

    async fn reopen(&self) -> Option<Arc<dyn Coordinator>> {
        None
    }

    fn is_time_still(&self) -> bool {
        false
    }

    fn lease(&self) -> Duration {
        Duration::from_millis(600)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_real_time() {
    conformance::run(&RealTime).await;
    conformance::random(&RealTime, 30, 300).await;
}
