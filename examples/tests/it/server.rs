//! A server in this process: store, coordinator and their actions on one port.

use std::sync::Arc;
use std::time::Duration;

use arrow_array::RecordBatch;
use async_trait::async_trait;
use sheaf_connectors::Sink;
use sheaf_coordinator::embedded::{Config, Embedded};
use sheaf_coordinator::{BatchSpec, Coordinator};
use sheaf_flight::{Error, Exposure, FlightRouter, Listener, ServerHandle};
use sheaf_proto::BatchId;
use sheaf_retry::SystemClock;
use sheaf_rpc::{CoordinatorActions, CoordinatorService, PayloadDirectory, PayloadFacts};
use sheaf_store::{
    ClientPut, Durability, FlightClient, NAMESPACE, Options, PayloadInfo, PayloadOwner, Standing,
    Store, StoreActions, StoreHandler,
};
use sheaf_worker::{LocalPayloads, Metrics, Parts, Processor, Worker};

pub(crate) struct Server {
    pub(crate) coordinator: Arc<Embedded>,
    store: Arc<Store>,
    handle: ServerHandle,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let clock = SystemClock::shared();
        let coordinator = Arc::new(Embedded::open(Config::memory(), clock.clone()).unwrap());
        let owner = Arc::new(Owner(coordinator.clone()));
        let options = Options::new(clock.clone()).with_owner(owner);
        let store = Store::open(options).await.unwrap();
        let actions = CoordinatorActions::new(coordinator.clone(), clock)
            .with_directory(Arc::new(Directory(store.clone())));
        let handler = StoreHandler::new(store.clone(), Durability::Memory);
        let router = FlightRouter::builder()
            .handler(NAMESPACE, Arc::new(handler))
            .actions(Arc::new(StoreActions::new(store.clone())))
            .actions(Arc::new(actions))
            .build()
            .unwrap();
        let service = CoordinatorService::new(coordinator.clone());
        let handle = sheaf_flight::Server::new(router)
            .add_service(service.into_server())
            .serve(Listener::bind("127.0.0.1:0", "--flight-addr", Exposure::Loopback).unwrap())
            .await
            .unwrap();
        Server { coordinator, store: Arc::new(store), handle }
    }

    pub(crate) fn uri(&self) -> String {
        self.handle.uri()
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
        let parts = Parts {
            coordinator: self.coordinator.clone(),
            payloads: Arc::new(LocalPayloads::new(self.store.clone())),
            processor: Arc::new(processor),
            sink,
            clock: SystemClock::shared(),
            metrics: Metrics::default(),
        };
        let worker = Worker::new(config, parts).unwrap();
        worker.start().unwrap();
        worker
    }

    pub(crate) async fn stop(self) {
        self.handle.drain(Duration::from_secs(5)).await;
        self.store.close().await;
    }
}

struct Owner(Arc<Embedded>);

#[async_trait]
impl PayloadOwner for Owner {
    async fn standings(&self, ids: &[BatchId]) -> Result<Vec<Standing>, Error> {
        Ok(vec![Standing::Live; ids.len()])
    }

    async fn register(&self, payload: &PayloadInfo) -> Result<(), Error> {
        let (rows, bytes) = (payload.rows, payload.bytes);
        let spec = BatchSpec { rows, bytes, ..BatchSpec::new(payload.id.clone()) };
        self.0.register(vec![spec]).await.map(drop).map_err(Error::from_error)
    }
}

struct Directory(Store);

#[async_trait]
impl PayloadDirectory for Directory {
    async fn lookup(&self, ids: &[BatchId]) -> Vec<Option<PayloadFacts>> {
        let facts = |id| {
            let info = self.0.info(id).ok()?;
            let (rows, bytes) = (info.rows, info.bytes);
            Some(PayloadFacts { rows, bytes, ..PayloadFacts::default() })
        };
        ids.iter().map(facts).collect()
    }
}
