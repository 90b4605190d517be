//! A server in this process: store, coordinator and their actions on one port.

use std::sync::Arc;

use arrow_array::RecordBatch;
use sheaf_connectors::Sink;
use sheaf_coordinator::Coordinator;
use sheaf_node::config::{Machine, Origin, RawConfig};
use sheaf_proto::BatchId;
use sheaf_retry::SystemClock;
use sheaf_store::{ClientPut, FlightClient};
use sheaf_testkit::TempDir;
use sheaf_worker::{LocalPayloads, Parts, Processor, Worker};

pub(crate) struct Server {
    pub(crate) coordinator: Arc<dyn Coordinator>,
    server: sheaf_node::serve::Server,
    _data: TempDir,
}

impl Server {
    /// Without workers.
    pub(crate) async fn start() -> Self {
        let data = TempDir::new().unwrap();
        let mut raw = RawConfig::default();
        raw.set("flight-addr", "127.0.0.1:0", Origin::Flag);
        raw.set("data-dir", data.path().to_str().unwrap(), Origin::Flag);
        raw.set("durability", "memory", Origin::Flag);
        raw.set("workers", "0", Origin::Flag);
        let config = raw.validate(&Machine::of(1 << 30)).unwrap();
        let server = sheaf_node::serve::Server::start(config, SystemClock::shared()).await.unwrap();
        Server { coordinator: server.coordinator().expect("mode all has one"), server, _data: data }
    }

    pub(crate) fn uri(&self) -> String {
        self.server.uri()
    }

    /// Puts it over the network and registers it in the same call.
    pub(crate) async fn register(&self, rows: RecordBatch) -> BatchId {
        let client = FlightClient::connect(&self.uri(), SystemClock::shared()).unwrap();
        let put = client.put(None, rows.schema(), &[rows], ClientPut::REGISTERED).await.unwrap();
        put.batch_id
    }

    /// A started pool of one worker inside.
    pub(crate) fn worker(&self, processor: impl Processor, sink: Option<Arc<dyn Sink>>) -> Worker {
        let mut config = sheaf_worker::Config::new("rust").with_worker_count(1);
        config.prefetch = 0;
        let payloads =
            Arc::new(LocalPayloads::new(self.server.store().expect("mode all has one").clone()));
        let (coordinator, clock) = (self.coordinator.clone(), SystemClock::shared());
        let mut parts = Parts::new(coordinator, payloads, Arc::new(processor), clock);
        parts.sink = sink;
        let worker = Worker::new(config, parts).unwrap();
        worker.start().unwrap();
        worker
    }

    pub(crate) async fn stop(self) {
        self.server.drain().await;
    }
}
