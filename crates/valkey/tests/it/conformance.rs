//! The suite and the random runs beside the model.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use sheaf_coordinator::Coordinator;
use sheaf_coordinator::conformance::{self, Harness};
use sheaf_retry::SystemClock;
use sheaf_testkit::Valkey;
use sheaf_valkey::ValkeyCoordinator;

/// One server; each coordinator in a namespace of its own.
struct Bench {
    server: Mutex<Valkey>,
    number: AtomicU32,
}

const DURABLE: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];

impl Bench {
    fn start() -> Option<Self> {
        let server = Valkey::start(&DURABLE).unwrap()?;
        Some(Bench { server: Mutex::new(server), number: AtomicU32::new(0) })
    }

    async fn connect(&self) -> Arc<dyn Coordinator> {
        let addr = self.server.lock().unwrap().addr().to_string();
        let namespace = format!("test{}", self.number.load(Ordering::Relaxed));
        let builder = ValkeyCoordinator::builder(&addr).unwrap().namespace(namespace);
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
async fn random_calls_agree_with_the_model() {
    let Some(bench) = Bench::start() else { return };
    for seed in 40..43 {
        conformance::random(&bench, seed, 150).await;
    }
}
