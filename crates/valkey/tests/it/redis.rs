//! The suite on Redis.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use sheaf_coordinator::Coordinator;
use sheaf_coordinator::conformance::{self, Harness};
use sheaf_testkit::{Flavour, Valkey};

use crate::kit::{DURABLE, builder, connect, pass};

struct Bench {
    server: Mutex<Valkey>,
    number: AtomicU32,
}

impl Bench {
    async fn connect(&self) -> Arc<dyn Coordinator> {
        let addr = self.server.lock().unwrap().addr();
        let namespace = format!("test{}", self.number.load(Ordering::Relaxed));
        connect(builder(addr).namespace(namespace)).await
    }
}

#[async_trait]
impl Harness for Bench {
    async fn fresh(&self) -> Arc<dyn Coordinator> {
        self.number.fetch_add(1, Ordering::Relaxed);
        self.connect().await
    }

    async fn advance(&self, by: Duration) {
        // What is due then has happened 50 ms later.
        pass(by + Duration::from_millis(50)).await;
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

fn start() -> Option<Bench> {
    let server = Valkey::options(Flavour::Redis).args(&DURABLE).start().unwrap()?;
    Some(Bench { server: Mutex::new(server), number: AtomicU32::new(0) })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_suite_passes_on_redis() {
    let Some(bench) = start() else { return };
    conformance::run(&bench).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_calls_agree_with_the_model_on_redis() {
    let Some(bench) = start() else { return };
    conformance::random(&bench, 77, 150).await;
}
