//! A server and a connection to it.

use std::sync::Arc;
use std::time::Duration;

use arrow_array::{Int64Array, RecordBatch};
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_schema::{DataType, Field, Schema};
use futures::StreamExt as _;
use futures::stream;
use prometheus_client::registry::Registry;
use sheaf_flight::ipc::encode_batches;
use sheaf_flight::{
    Budget, ChannelPool, ClientConfig, Error, Exposure, FlightConnection, FlightRouter, Limits,
    Listener, LocalListener, Message, MessageStream, RouterBuilder, Server, ServerHandle,
};
use sheaf_retry::{RetryPolicy, SharedClock, SystemClock};
use tonic::transport::Channel;

use crate::memory::{Echo, Memory};

pub(crate) struct World {
    pub(crate) memory: Arc<Memory>,
    pub(crate) echo: Arc<Echo>,
    pub(crate) handle: ServerHandle,
    pub(crate) connection: FlightConnection,
    registry: Registry,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(Limits::default()).await
    }

    pub(crate) async fn with(limits: Limits) -> Self {
        Self::at(SystemClock::shared(), limits).await
    }

    /// A server whose time is the test's; the client's is the machine's.
    pub(crate) async fn at(clock: SharedClock, limits: Limits) -> Self {
        Self::serving(clock, limits, |server| server).await
    }

    /// The same, with memory that is counted.
    pub(crate) async fn within(clock: SharedClock, budget: Arc<Budget>) -> Self {
        Self::build(clock, Limits::default(), |router| router.memory(budget), |server| server).await
    }

    /// A server that has gRPC's own codec do everything.
    pub(crate) async fn plain() -> Self {
        Self::serving(SystemClock::shared(), Limits::default(), Server::plain).await
    }

    /// A server with a socket in the file system beside its port.
    pub(crate) async fn local(listener: LocalListener) -> Self {
        let with = |server: Server| server.local(listener);
        Self::serving(SystemClock::shared(), Limits::default(), with).await
    }

    async fn serving(
        clock: SharedClock,
        limits: Limits,
        with: impl FnOnce(Server) -> Server,
    ) -> Self {
        Self::build(clock, limits, |router| router, with).await
    }

    pub(crate) async fn build(
        clock: SharedClock,
        limits: Limits,
        more: impl FnOnce(RouterBuilder) -> RouterBuilder,
        with: impl FnOnce(Server) -> Server,
    ) -> Self {
        let (memory, echo) = (Memory::new("batches"), Arc::new(Echo::default()));
        let mut registry = Registry::default();
        let router = FlightRouter::builder()
            .handler("batches", memory.clone())
            .handler_with_limit("small", Memory::new("small"), 100)
            .actions(echo.clone())
            .limits(limits)
            .clock(clock)
            .metrics(&mut registry);
        let router = more(router).build().unwrap();
        let listener = Listener::bind("127.0.0.1:0", "--flight-addr", Exposure::Loopback).unwrap();
        let handle = with(Server::new(router)).serve(listener).await.unwrap();
        let connection = connect(&handle.uri());
        World { memory, echo, handle, connection, registry }
    }

    /// A client without any of our own code.
    pub(crate) async fn raw(&self) -> FlightServiceClient<Channel> {
        FlightServiceClient::new(self.channel().await)
    }

    pub(crate) async fn channel(&self) -> Channel {
        let uri = format!("http://{}", self.handle.local_addr());
        Channel::from_shared(uri).unwrap().connect().await.unwrap()
    }

    /// The value of one line of the metrics, 0 where there is none.
    pub(crate) fn metric(&self, line: &str) -> u64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        let value = text.lines().find_map(|found| found.strip_prefix(line)?.trim().parse().ok());
        value.unwrap_or(0)
    }
}

pub(crate) fn connect(uri: &str) -> FlightConnection {
    let retry = RetryPolicy { base_ms: 1, cap_ms: 5, ..RetryPolicy::transfer() };
    let config = ClientConfig { retry, ..ClientConfig::default() };
    ChannelPool::new(config, SystemClock::shared()).connection(uri).unwrap()
}

/// The messages of `batches` record batches of `rows` rows.
pub(crate) fn messages(batches: usize, rows: i64) -> Vec<Message> {
    let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
    let batch = |_| {
        let column = Arc::new(Int64Array::from_iter_values(0..rows));
        RecordBatch::try_new(schema.clone(), vec![column]).unwrap()
    };
    let batches: Vec<_> = (0..batches).map(batch).collect();
    encode_batches(schema.clone(), &batches).unwrap()
}

pub(crate) fn stream_of(messages: Vec<Message>) -> MessageStream {
    stream::iter(messages.into_iter().map(Ok::<_, Error>)).boxed()
}

/// Polls until it holds; a test that waits longer than this has failed.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(20), async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    });
    assert!(waited.await.is_ok(), "still waiting until {what}");
}
