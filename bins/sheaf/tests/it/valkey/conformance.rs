//! The coordinator's suite and the random runs over the network, in front of a
//! real Valkey.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sheaf_coordinator::Coordinator;
use sheaf_coordinator::conformance::{self, Harness};
use sheaf_flight::{
    ChannelPool, ClientConfig, Exposure, FlightRouter, Listener, Server, ServerHandle,
};
use sheaf_retry::{RetryPolicy, SystemClock};
use sheaf_rpc::{
    CoordinatorActions, CoordinatorService, JsonCoordinator, RpcCoordinator, RpcOptions,
};
use sheaf_testkit::Valkey;
use sheaf_valkey::ValkeyCoordinator;
use tokio::sync::Mutex;

use crate::backend::DURABLE;

/// How calls come to the server.
#[derive(Clone, Copy)]
enum Way {
    Grpc,
    Json,
}

/// One Valkey; each coordinator is a port of its own before a namespace of its own.
struct Bench {
    way: Way,
    current: Mutex<Current>,
}

struct Current {
    running: Option<(Arc<ValkeyCoordinator>, ServerHandle)>,
    valkey: Valkey,
    number: u32,
}

impl Bench {
    fn start(way: Way) -> Option<Self> {
        let valkey = Valkey::start(&DURABLE).unwrap()?;
        let current = Mutex::new(Current { running: None, valkey, number: 0 });
        Some(Bench { way, current })
    }
}

impl Current {
    /// A server before the namespace of now, and a client that tries nothing
    /// twice: what comes back is what the server said.
    async fn serve(&mut self, way: Way) -> Arc<dyn Coordinator> {
        let clock = SystemClock::shared();
        let builder = ValkeyCoordinator::builder(&self.valkey.addr().to_string()).unwrap();
        let builder = builder.namespace(format!("n{}", self.number));
        let coordinator = Arc::new(builder.connect(clock.clone()).await.unwrap());
        let actions = CoordinatorActions::new(coordinator.clone(), clock.clone());
        let router = FlightRouter::builder().actions(Arc::new(actions)).build().unwrap();
        let listener = Listener::bind("127.0.0.1:0", "--flight-addr", Exposure::Loopback).unwrap();
        let service = CoordinatorService::new(coordinator.clone()).into_server();
        let server = Server::new(router).add_service(service).serve(listener).await.unwrap();
        let uri = server.uri();
        self.running = Some((coordinator, server));
        let pool = ChannelPool::new(ClientConfig::default(), clock.clone());
        let options = RpcOptions { retry: RetryPolicy::none(), ..RpcOptions::default() };
        match way {
            Way::Grpc => Arc::new(RpcCoordinator::new(pool, uri.parse().unwrap(), options, clock)),
            Way::Json => {
                let connection = pool.connection(&uri).unwrap();
                Arc::new(JsonCoordinator::new(connection, options, clock))
            }
        }
    }

    async fn stop(&mut self) -> Option<()> {
        let (coordinator, server) = self.running.take()?;
        server.drain(Duration::ZERO).await;
        coordinator.close().await;
        Some(())
    }
}

#[async_trait]
impl Harness for Bench {
    async fn fresh(&self) -> Arc<dyn Coordinator> {
        let mut current = self.current.lock().await;
        current.stop().await;
        current.number += 1;
        current.serve(self.way).await
    }

    async fn advance(&self, by: Duration) {
        // sleep: the Valkey's time passes by itself, and 50 ms for what is then due.
        tokio::time::sleep(by + Duration::from_millis(50)).await;
    }

    async fn reopen(&self) -> Option<Arc<dyn Coordinator>> {
        let mut current = self.current.lock().await;
        current.stop().await?;
        current.valkey.restart().unwrap();
        Some(current.serve(self.way).await)
    }

    fn is_time_still(&self) -> bool {
        false
    }

    fn lease(&self) -> Duration {
        Duration::from_millis(600)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_suite_passes_through_grpc() {
    let Some(bench) = Bench::start(Way::Grpc) else { return };
    conformance::run(&bench).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_suite_passes_through_json_actions() {
    let Some(bench) = Bench::start(Way::Json) else { return };
    conformance::run(&bench).await;
}

/// Many seeded runs against the model, over the network in front of a Valkey.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn soak_valkey_model_agrees_over_the_wire() {
    let (seeds, steps) = if sheaf_testkit::soak() { (100, 600) } else { (2, 150) };
    let first = SystemClock::shared().now().as_micros();
    for way in [Way::Grpc, Way::Json] {
        let Some(bench) = Bench::start(way) else { return };
        for seed in first..first + seeds {
            eprintln!("seed {seed}");
            conformance::random(&bench, seed, steps).await;
        }
    }
}
