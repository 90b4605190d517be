//! Batches that are handed over to a store and its coordinator, each once.

use std::collections::BTreeMap;

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray as _;
use arrow_array::types::Int64Type;
use sheaf_coordinator::{Batch, CoordinatorExt as _, ListFilter, State};
use sheaf_flight::{ChannelPool, ClientConfig};
use sheaf_node::config::{Machine, Origin, RawConfig};
use sheaf_node::serve::Server;
use sheaf_retry::SystemClock;
use sheaf_rpc::{RpcCoordinator, RpcOptions};
use sheaf_store::FlightClient;
use sheaf_testkit::{TempDir, soak, wait_for_async};

use crate::harness::{Kafka, PATIENCE, run};
use crate::orders::{is_poison, kill_over};

/// A store with its coordinator and workers, in this process.
struct Site {
    server: Server,
    coordinator: RpcCoordinator,
    _folder: TempDir,
}

impl Site {
    async fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let mut raw = RawConfig::default();
        raw.set("flight-addr", "127.0.0.1:0", Origin::Flag);
        raw.set("data-dir", folder.path().to_str().unwrap(), Origin::Flag);
        let clock = SystemClock::shared();
        let config = raw.validate(&Machine::this()).unwrap();
        let server = Server::start(config, clock.clone()).await.unwrap();
        let pool = ChannelPool::new(ClientConfig::default(), clock.clone());
        let target = server.uri().parse().unwrap();
        let coordinator = RpcCoordinator::new(pool, target, RpcOptions::default(), clock);
        Site { server, coordinator, _folder: folder }
    }

    async fn batches(&self, queue: &str) -> Vec<Batch> {
        let mut filter = ListFilter { queue: Some(queue.to_owned()), ..ListFilter::default() };
        let mut all = Vec::new();
        loop {
            let page = self.coordinator.list(filter.clone()).await.unwrap();
            all.extend(page.batches);
            if page.next_cursor.is_empty() {
                return all;
            }
            filter.cursor = page.next_cursor;
        }
    }

    /// The rows of a batch.
    async fn payload(&self, batch: &Batch) -> RecordBatch {
        let store = FlightClient::connect(&self.server.uri(), SystemClock::shared()).unwrap();
        store.get_batch(&batch.spec.id).await.unwrap()
    }

    /// How often each offset is in the batches of a queue.
    async fn offsets(&self, queue: &str) -> BTreeMap<(i32, i64), usize> {
        let mut seen = BTreeMap::new();
        for batch in self.batches(queue).await {
            let rows = self.payload(&batch).await;
            let partitions = rows.column_by_name("_partition").unwrap().as_primitive::<Int32>();
            let offsets = rows.column_by_name("_offset").unwrap().as_primitive::<Int64Type>();
            for (partition, offset) in partitions.iter().zip(offsets) {
                *seen.entry((partition.unwrap(), offset.unwrap())).or_default() += 1;
            }
        }
        seen
    }
}

type Int32 = arrow_array::types::Int32Type;

/// Killed at any moment: each message is in one batch, and workers process it.
#[tokio::test(flavor = "multi_thread")]
async fn soak_killed_gateways_register_every_message_once() {
    let Some(kafka) = Kafka::start() else { return };
    let site = Site::start().await;
    let (kills, each) = (if soak() { 50 } else { 5 }, 2_000_i64);
    kafka.create("orders", 4).await;
    let store = site.server.uri();
    let start = || {
        let register = ["--register", "--store", &store, "--batch-size", "100"];
        kafka.gateway("orders", &register)
    };
    let produced = kill_over(&kafka, kills, each, start).await;

    let expected = |wanted: bool| {
        let numbers = (0..produced + 4).filter(|n| (is_poison(*n) && *n < produced) == wanted);
        let place = |n: i64| (i32::try_from(n % 4).unwrap(), n / 4);
        numbers.map(|n| (place(n), 1)).collect::<BTreeMap<_, usize>>()
    };
    assert!(site.offsets("default").await == expected(false), "rows are missing or doubled");
    assert_eq!(site.offsets("default.dead-letters").await, expected(true));
    let are_done = || async {
        let batches = site.batches("default").await;
        let is_done = |batch: &Batch| batch.state == State::Completed;
        (!batches.is_empty() && batches.iter().all(is_done)).then_some(())
    };
    wait_for_async(PATIENCE, "workers to process them", are_done).await.unwrap();
    site.server.drain().await;
}

#[test]
fn flags_of_the_hand_over_need_each_other() {
    let serve = ["serve", "--topics", "orders", "--port", "0"];
    let fails = |more: &[&str], word: &str| {
        let (code, _, error) = run(&[&serve[..], more].concat());
        assert_eq!(code, Some(2), "{error}");
        assert!(error.contains(word), "{error}");
    };
    fails(&["--register"], "--store");
    fails(&["--store", "grpc://localhost:1"], "--register");
    fails(&["--register", "--store", "localhost"], "--store");
    let register = ["--register", "--store", "grpc://localhost:1"];
    fails(&[&register[..], &["--persist"]].concat(), "--persist");
    fails(&[&register[..], &["--group", "a group"]].concat(), "--group");
}
