//! The suite and the random runs beside the model.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use sheaf_coordinator::Coordinator;
use sheaf_coordinator::conformance::{self, Harness};
use sheaf_retry::SystemClock;
use sheaf_testkit::Valkey;
use sheaf_valkey::ValkeyCoordinator;

/// One server; each coordinator in a namespace of its own.
pub(super) struct Bench {
    server: Mutex<Valkey>,
    number: AtomicU32,
    /// A text of the scripts, what stands in its place, and whether it was there.
    pub(super) edit: Option<(&'static str, &'static str, Arc<AtomicBool>)>,
    /// Batches from which on they are a block.
    pub(super) blocks: Option<usize>,
}

const DURABLE: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];

impl Bench {
    pub(super) fn start() -> Option<Self> {
        let server = Valkey::start(&DURABLE).unwrap()?;
        Some(Bench {
            server: Mutex::new(server),
            number: AtomicU32::new(0),
            edit: None,
            blocks: None,
        })
    }

    /// Two batches are a block.
    pub(super) fn of_blocks() -> Option<Self> {
        Some(Bench { blocks: Some(2), ..Bench::start()? })
    }

    async fn connect(&self) -> Arc<dyn Coordinator> {
        let addr = self.server.lock().unwrap().addr().to_string();
        let namespace = format!("test{}", self.number.load(Ordering::Relaxed));
        let mut builder = ValkeyCoordinator::builder(&addr).unwrap().namespace(namespace);
        if let Some(blocks) = self.blocks {
            builder = builder.smallest_block(blocks);
        }
        builder = builder.edit_scripts(|part| {
            let part = match self.blocks {
                Some(blocks) => part.replace("--# BLOCK_MIN 8", &format!("--# BLOCK_MIN {blocks}")),
                None => part.to_owned(),
            };
            let Some((before, after, changed)) = &self.edit else { return part };
            changed.fetch_or(part.contains(before), Ordering::Relaxed);
            part.replace(before, after)
        });
        Arc::new(builder.connect(SystemClock::shared()).await.unwrap())
    }
}

#[async_trait]
impl Harness for Bench {
    async fn fresh(&self) -> Arc<dyn Coordinator> {
        self.number.fetch_add(1, Ordering::Relaxed);
        self.connect().await
    }

    async fn advance(&self, by: Duration) {
        // sleep: the server's time passes by itself, and 50 ms for what is then due.
        tokio::time::sleep(by + Duration::from_millis(50)).await;
    }

    async fn reopen(&self) -> Option<Arc<dyn Coordinator>> {
        self.server.lock().unwrap().restart().unwrap();
        Some(self.connect().await)
    }

    fn is_time_still(&self) -> bool {
        false
    }

    fn lease(&self) -> Duration {
        Duration::from_millis(600)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_suite_passes() {
    let Some(bench) = Bench::start() else { return };
    conformance::run(&bench).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_suite_passes_in_blocks() {
    let Some(bench) = Bench::of_blocks() else { return };
    conformance::run(&bench).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_calls_agree_with_the_model_in_blocks() {
    let Some(bench) = Bench::of_blocks() else { return };
    for seed in 40..46 {
        conformance::random(&bench, seed, 150).await;
        conformance::random_alike(&bench, seed, 150).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_calls_agree_with_the_model() {
    let Some(bench) = Bench::start() else { return };
    for seed in 40..46 {
        conformance::random(&bench, seed, 200).await;
    }
}

/// Many seeded runs against the model.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn soak_model_agrees_on_valkey() {
    let Some(bench) = Bench::start() else { return };
    let (seeds, steps) = if sheaf_testkit::soak() { (60, 1_000) } else { (1, 150) };
    let first = SystemClock::shared().now().as_micros();
    let Some(blocks) = Bench::of_blocks() else { return };
    for seed in first..first + seeds {
        eprintln!("seed {seed}");
        conformance::random(&bench, seed, steps).await;
        conformance::random_alike(&blocks, seed, steps).await;
    }
}
