//! The coordinator's suite through gRPC and through the JSON actions.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sheaf_coordinator::Coordinator;
use sheaf_coordinator::conformance::{self, Harness};
use sheaf_coordinator::embedded::{Config, Durability, Embedded};
use sheaf_flight::ServerHandle;
use sheaf_retry::{ManualClock, SystemClock, Timestamp};
use tokio::sync::Mutex;

use crate::harness::{json, once, rpc, serve};

#[derive(Clone, Copy)]
enum Way {
    Grpc,
    Json,
}

type Running = (Arc<Embedded>, ServerHandle);

/// An embedded coordinator whose time stands still, behind a real port.
struct Bench {
    way: Way,
    clock: Arc<ManualClock>,
    home: tempfile::TempDir,
    current: Mutex<(u32, Option<Running>)>,
}

impl Bench {
    fn new(way: Way) -> Self {
        Bench {
            way,
            clock: ManualClock::new(Timestamp::from_millis(1_760_000_000_000)),
            home: tempfile::tempdir().unwrap(),
            current: Mutex::default(),
        }
    }

    async fn open(&self, number: u32) -> (Arc<Embedded>, ServerHandle, Arc<dyn Coordinator>) {
        let path = self.home.path().join(format!("{number}.redb"));
        let config = Config { durability: Durability::Memory, ..Config::disk(path) };
        let embedded = Arc::new(Embedded::open(config, self.clock.clone()).unwrap());
        let server = serve(embedded.clone()).await;
        let client: Arc<dyn Coordinator> = match self.way {
            Way::Grpc => Arc::new(rpc(&server.uri(), once())),
            Way::Json => Arc::new(json(&server.uri(), once())),
        };
        (embedded, server, client)
    }
}

#[async_trait]
impl Harness for Bench {
    async fn fresh(&self) -> Arc<dyn Coordinator> {
        let mut current = self.current.lock().await;
        current.0 += 1;
        let (embedded, server, client) = self.open(current.0).await;
        current.1 = Some((embedded, server));
        client
    }

    async fn advance(&self, by: Duration) {
        self.clock.advance(by);
        if let Some((embedded, _)) = &self.current.lock().await.1 {
            // Each does a bounded part of what is due.
            for _ in 0..3 {
                embedded.wake().await.unwrap();
            }
        }
    }

    async fn reopen(&self) -> Option<Arc<dyn Coordinator>> {
        let mut current = self.current.lock().await;
        let (embedded, server) = current.1.take()?;
        server.drain(Duration::ZERO).await;
        embedded.close().await.unwrap();
        let (embedded, server, client) = self.open(current.0).await;
        current.1 = Some((embedded, server));
        Some(client)
    }

    fn is_time_still(&self) -> bool {
        true
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn through_grpc() {
    conformance::run(&Bench::new(Way::Grpc)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn through_json_actions() {
    conformance::run(&Bench::new(Way::Json)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_calls_through_grpc() {
    conformance::random(&Bench::new(Way::Grpc), 21, 200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_calls_through_json_actions() {
    conformance::random(&Bench::new(Way::Json), 22, 200).await;
}

/// Many seeded runs against the model, embedded behind gRPC and behind JSON actions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn soak_model_agrees_over_the_wire() {
    let (seeds, steps) = if sheaf_testkit::soak() { (300, 600) } else { (2, 100) };
    let first = SystemClock::shared().now().as_micros();
    for seed in first..first + seeds {
        eprintln!("seed {seed}");
        conformance::random(&Bench::new(Way::Grpc), seed, steps).await;
        conformance::random(&Bench::new(Way::Json), seed, steps).await;
    }
}
