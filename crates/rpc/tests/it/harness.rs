//! A coordinator behind a real port, and what stands in between.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use sheaf_coordinator::embedded::{Config, Embedded};
use sheaf_coordinator::{
    Answer, Batch, BatchSpec, Claim, ClaimRequest, Control, ControlReply, Coordinator, Error,
    Event, Extended, Extension, Query, Registered, SettleReply, SettleRequest, WatchFilter,
};
use sheaf_flight::{
    ChannelPool, ClientConfig, Exposure, FlightRouter, Listener, Server, ServerHandle,
};
use sheaf_proto::BatchId;
use sheaf_retry::{RetryPolicy, SystemClock};
use sheaf_rpc::{
    CoordinatorActions, CoordinatorService, JsonCoordinator, RpcCoordinator, RpcOptions,
};

pub(crate) async fn embedded() -> Arc<dyn Coordinator> {
    embedded_with(Config::memory()).await
}

pub(crate) async fn embedded_with(config: Config) -> Arc<dyn Coordinator> {
    Arc::new(Embedded::open(config, SystemClock::shared()).unwrap())
}

/// Serves `coordinator` on a free port, with the gRPC service and the actions.
pub(crate) async fn serve(coordinator: Arc<dyn Coordinator>) -> ServerHandle {
    serve_on("127.0.0.1:0", coordinator).await
}

pub(crate) async fn serve_on(address: &str, coordinator: Arc<dyn Coordinator>) -> ServerHandle {
    let actions = CoordinatorActions::new(Arc::clone(&coordinator), SystemClock::shared());
    let router = FlightRouter::builder().actions(Arc::new(actions)).build().unwrap();
    let listener = Listener::bind(address, "--flight-addr", Exposure::Loopback).unwrap();
    Server::new(router)
        .add_service(CoordinatorService::new(coordinator).into_server())
        .serve(listener)
        .await
        .unwrap()
}

pub(crate) fn pool() -> ChannelPool {
    ChannelPool::new(ClientConfig::default(), SystemClock::shared())
}

pub(crate) fn rpc(uri: &str, options: RpcOptions) -> RpcCoordinator {
    RpcCoordinator::new(pool(), uri.parse().unwrap(), options, SystemClock::shared())
}

pub(crate) fn json(uri: &str, options: RpcOptions) -> JsonCoordinator {
    let connection = pool().connection(uri).unwrap();
    JsonCoordinator::new(connection, options, SystemClock::shared())
}

/// No retries: what comes back is what the server said.
pub(crate) fn once() -> RpcOptions {
    RpcOptions { retry: RetryPolicy::none(), ..RpcOptions::default() }
}

/// Many short retries, and a deadline that a test can wait for.
pub(crate) fn patient() -> RpcOptions {
    RpcOptions {
        deadline: Duration::from_millis(500),
        retry: RetryPolicy {
            max_retries: 200,
            base_ms: 10,
            factor: 1.0,
            cap_ms: 10,
            jitter: 0.0,
            deadline_ms: None,
        },
    }
}

pub(crate) fn id(text: &str) -> BatchId {
    text.parse().unwrap()
}

pub(crate) fn spec(text: &str) -> BatchSpec {
    BatchSpec { rows: 1, bytes: 8, ..BatchSpec::new(id(text)) }
}

pub(crate) fn claim(request_id: &str, max: u32) -> ClaimRequest {
    let lease = Duration::from_secs(60);
    ClaimRequest { start: true, ..ClaimRequest::new("w", request_id, max, lease) }
}

pub(crate) async fn batch(coordinator: &dyn Coordinator, text: &str) -> Batch {
    match coordinator.query(Query::Get(vec![id(text)])).await.unwrap() {
        Answer::Batches(mut page) => page.batches.remove(0),
        other => panic!("{other:?}"),
    }
}

/// Waits until `condition` holds, at most 20 s.
pub(crate) async fn eventually<F, Fut>(what: &str, condition: F)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = bool>,
{
    sheaf_testkit::wait_until_async(Duration::from_secs(20), what, condition).await.unwrap();
}

/// A coordinator that counts the claims under way.
pub(crate) struct Spy {
    inner: Arc<dyn Coordinator>,
    claims: Arc<AtomicUsize>,
}

struct Under(Arc<AtomicUsize>);

impl Drop for Under {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Spy {
    pub(crate) fn new(inner: Arc<dyn Coordinator>) -> Self {
        Spy { inner, claims: Arc::default() }
    }

    pub(crate) fn claims(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.claims)
    }
}

#[async_trait]
impl Coordinator for Spy {
    async fn register(&self, specs: Vec<BatchSpec>) -> Result<Vec<Registered>, Error> {
        self.inner.register(specs).await
    }
    async fn claim(&self, request: ClaimRequest) -> Result<Claim, Error> {
        self.claims.fetch_add(1, Ordering::SeqCst);
        let _under = Under(Arc::clone(&self.claims));
        self.inner.claim(request).await
    }
    async fn settle(&self, request: SettleRequest) -> Result<SettleReply, Error> {
        self.inner.settle(request).await
    }
    async fn extend(&self, leases: Vec<Extension>) -> Result<Vec<Extended>, Error> {
        self.inner.extend(leases).await
    }
    async fn query(&self, query: Query) -> Result<Answer, Error> {
        self.inner.query(query).await
    }
    async fn control(&self, control: Control) -> Result<ControlReply, Error> {
        self.inner.control(control).await
    }
    async fn watch(&self, filter: WatchFilter) -> Result<BoxStream<'static, Event>, Error> {
        self.inner.watch(filter).await
    }
}
