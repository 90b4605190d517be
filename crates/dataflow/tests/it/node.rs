//! A store and a coordinator in a process of their own, which can be killed.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sheaf_coordinator::embedded::{Config, Embedded};
use sheaf_coordinator::{Batch, Coordinator, CoordinatorExt as _, ListFilter, State};
use sheaf_dataflow::DurableAssignment;
use sheaf_flight::{ChannelPool, ClientConfig, Exposure, FlightRouter, Listener, Server};
use sheaf_retry::SystemClock;
use sheaf_rpc::{CoordinatorService, RpcCoordinator, RpcOptions};
use sheaf_store::{Durability, Options, Store, StoreHandler};
use sheaf_testkit::Process;
use sheaf_worker::CoordinatorOwner;

use crate::cases::{PATIENCE, eventually};

const FOLDER: &str = "SHEAF_TEST_NODE_FOLDER";
const ADDRESS: &str = "SHEAF_TEST_NODE_ADDRESS";

/// Runs in the child: a node, until it is killed.
#[test]
#[allow(clippy::disallowed_methods, reason = "the parent says so")]
fn child() {
    let (Ok(folder), Ok(address)) = (std::env::var(FOLDER), std::env::var(ADDRESS)) else { return };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(serve(Path::new(&folder), &address));
}

async fn serve(folder: &Path, address: &str) {
    // A port of its own, so that no two tests meet at one.
    let listener = Listener::bind(address, "address", Exposure::Loopback).unwrap();
    let clock = SystemClock::shared();
    let config = Config::disk(folder.join("coordinator.redb"));
    let coordinator = Arc::new(Embedded::open(config, clock.clone()).unwrap());
    let owner = CoordinatorOwner::new(Arc::clone(&coordinator) as _, clock.clone());
    let options = Options::new(clock).with_owner(Arc::new(owner));
    let store = Store::open(options.with_data_dir(folder.join("batches"))).await.unwrap();
    let handler = StoreHandler::new(store, Durability::Disk);
    let router = FlightRouter::builder().handler(sheaf_store::NAMESPACE, Arc::new(handler));
    let server = Server::new(router.build().unwrap())
        .add_service(CoordinatorService::new(coordinator).into_server())
        .serve(listener)
        .await
        .unwrap();
    let told = folder.join("address.new");
    std::fs::write(&told, server.local_addr().to_string()).unwrap();
    std::fs::rename(told, folder.join("address")).unwrap();
    std::future::pending::<()>().await;
}

pub(crate) struct Node {
    folder: tempfile::TempDir,
    address: String,
    process: Process,
}

impl Node {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let process = spawn(folder.path(), "127.0.0.1:0");
        let file = folder.path().join("address");
        sheaf_testkit::wait_until(PATIENCE, "the node is up", || file.exists()).unwrap();
        let address = std::fs::read_to_string(file).unwrap();
        Node { folder, address, process }
    }

    /// Kills it, and starts it again with what it had on disk.
    pub(crate) fn kill(&mut self) {
        self.process.kill9().unwrap();
        self.process = spawn(self.folder.path(), &self.address);
    }

    pub(crate) fn assignment(&self) -> DurableAssignment {
        let uri = format!("grpc://{}", self.address);
        DurableAssignment {
            store: uri.clone(),
            coordinator: uri,
            token: None,
            insecure: false,
            retention_ms: 60_000,
        }
    }

    pub(crate) fn coordinator(&self) -> RpcCoordinator {
        let clock = SystemClock::shared();
        let pool = ChannelPool::new(ClientConfig::default(), clock.clone());
        let target = format!("grpc://{}", self.address).parse().unwrap();
        RpcCoordinator::new(pool, target, RpcOptions::default(), clock)
    }

    /// How many batches of a queue are in a state.
    pub(crate) async fn count(&self, queue: &str, state: State) -> u64 {
        let stats = self.coordinator().stats(Some(queue)).await.unwrap();
        stats.iter().find(|one| one.queue == queue).map_or(0, |one| one.counts[&state])
    }

    /// The batches of a queue that are in a state.
    pub(crate) async fn batches(&self, queue: &str, state: State) -> Vec<Batch> {
        let (queue, states) = (Some(queue.to_owned()), vec![state]);
        let filter = ListFilter { queue, states, ..ListFilter::default() };
        self.coordinator().list(filter).await.unwrap().batches
    }

    /// Whether nothing is left to be done, journals apart.
    pub(crate) async fn is_empty(&self) -> bool {
        let stats = self.coordinator().stats(None).await.unwrap();
        let queues = stats.iter().filter(|one| !one.queue.ends_with(":journal"));
        let live =
            queues.flat_map(|one| one.counts.iter()).filter(|(state, _)| !state.is_terminal());
        live.map(|(_, count)| count).sum::<u64>() == 0
    }
}

fn spawn(folder: &Path, address: &str) -> Process {
    Process::command(std::env::current_exe().unwrap())
        .args(["--exact", "node::child", "--nocapture", "--test-threads=1"])
        .env(FOLDER, folder)
        .env(ADDRESS, address)
        .spawn()
        .unwrap()
}

/// Gives a node time to answer.
pub(crate) async fn answers(node: &Node) {
    let coordinator = node.coordinator();
    eventually("the node answers", || async {
        tokio::time::timeout(
            Duration::from_secs(1),
            coordinator.query(sheaf_coordinator::Query::History),
        )
        .await
        .is_ok_and(|answer| answer.is_ok())
    })
    .await;
}
