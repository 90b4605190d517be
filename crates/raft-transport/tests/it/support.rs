//! Nodes whose engine answers with what it got.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arrow_array::{Int64Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema};
use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use sheaf_flight::MessageStream;
use sheaf_raft_transport::{
    Config, Engine, Error, FlightTransport, NodeId, Packet, PacketStream, RaftTransport as _,
};
use sheaf_retry::{Code, RetryPolicy, SystemClock};
use tokio::sync::Semaphore;

pub(crate) const CLUSTER: &str = "test";
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Answers with what it got; `held` answers nothing before it has a permit.
#[derive(Debug)]
pub(crate) struct Echo {
    pub(crate) permits: Semaphore,
    pub(crate) bulk_messages: AtomicU64,
    /// Requests of streams that were taken.
    pub(crate) taken: Arc<AtomicU64>,
}

impl Echo {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Echo {
            permits: Semaphore::new(0),
            bulk_messages: AtomicU64::new(0),
            taken: Arc::default(),
        })
    }

    async fn permit(&self) {
        self.permits.acquire().await.expect("is not closed").forget();
    }
}

/// An engine that tests can look into.
#[derive(Clone, Debug)]
pub(crate) struct Shared(pub(crate) Arc<Echo>);

#[async_trait]
impl Engine for Shared {
    fn actions(&self) -> Vec<(&'static str, &'static str)> {
        vec![
            ("raft.vote.v1", "Echo"),
            ("raft.held.v1", "Echo, later"),
            ("raft.fail.v1", "No"),
            ("raft.long.v1", "Much"),
        ]
    }

    async fn call(&self, from: NodeId, kind: &str, packet: Packet) -> Result<Packet, Error> {
        match kind {
            "fail" => return Err(Error::engine(Code::StaleFence, format!("not you, {from}"))),
            "held" => self.0.permit().await,
            "long" => return Ok(self::packet(1, 20_000)),
            _ => {}
        }
        Ok(packet)
    }

    async fn stream(
        &self,
        from: NodeId,
        kind: &str,
        requests: PacketStream,
    ) -> Result<PacketStream, Error> {
        let echo = Arc::clone(&self.0);
        match kind {
            "echo" => Ok(requests
                .inspect_ok(move |_| {
                    echo.taken.fetch_add(1, Ordering::Relaxed);
                })
                .boxed()),
            "held" => Ok(requests
                .then(move |request| {
                    let echo = Arc::clone(&echo);
                    async move {
                        echo.taken.fetch_add(1, Ordering::Relaxed);
                        echo.permit().await;
                        request
                    }
                })
                .boxed()),
            // An engine that takes no notice of errors.
            "deaf" => Ok(requests.filter_map(|one| async { one.ok().map(Ok) }).boxed()),
            "twice" => Ok(requests
                .flat_map(|one| {
                    let again = one.as_ref().ok().cloned().map(Ok);
                    futures::stream::iter([Some(one), again].into_iter().flatten())
                })
                .boxed()),
            _ => Err(Error::engine(Code::NotFound, format!("no {kind} for {from}"))),
        }
    }

    async fn bulk(
        &self,
        from: NodeId,
        kind: &str,
        meta: Bytes,
        messages: MessageStream,
    ) -> Result<Bytes, Error> {
        if kind == "held" {
            self.0.permit().await;
        }
        let count = messages
            .try_fold(0_u64, |count, message| async move {
                Ok(count + u64::from(message.app_metadata == "own"))
            })
            .await?;
        self.0.bulk_messages.fetch_add(count, Ordering::Relaxed);
        Ok(format!("{from} {} {count}", String::from_utf8_lossy(&meta)).into())
    }
}

pub(crate) fn config(node: NodeId) -> Config {
    let reconnect = RetryPolicy { base_ms: 10, cap_ms: 50, ..Config::RECONNECT };
    Config { reconnect, ..Config::new(CLUSTER, node) }
}

/// A node that listens.
pub(crate) struct Node {
    pub(crate) transport: FlightTransport,
    pub(crate) echo: Arc<Echo>,
}

impl Node {
    pub(crate) async fn start(config: Config) -> Self {
        Self::start_at(config, "127.0.0.1:0").await
    }

    pub(crate) async fn start_at(config: Config, endpoint: &str) -> Self {
        let transport = FlightTransport::try_new(config, SystemClock::shared()).unwrap();
        let echo = Echo::new();
        transport.listen(endpoint, Arc::new(Shared(Arc::clone(&echo)))).await.unwrap();
        Node { transport, echo }
    }

    pub(crate) fn endpoint(&self) -> String {
        self.transport.local_addr().unwrap().to_string()
    }

    pub(crate) fn counter(&self, name: &str) -> u64 {
        self.transport.metrics().counter(name).unwrap()
    }
}

/// Nodes 1 and 2, of which 1 knows 2.
pub(crate) async fn pair() -> (Node, Node) {
    pair_of(config(1), config(2)).await
}

pub(crate) async fn pair_of(one: Config, two: Config) -> (Node, Node) {
    let (one, two) = (Node::start(one).await, Node::start(two).await);
    one.transport.add_peer(2, vec![two.endpoint()]).unwrap();
    (one, two)
}

pub(crate) fn packet(number: u64, bytes: usize) -> Packet {
    let payload = Bytes::from(vec![number.to_le_bytes()[0]; bytes]);
    Packet { meta: Bytes::copy_from_slice(&number.to_le_bytes()), payloads: vec![payload] }
}

/// A schema and record batches, each with `own` as its metadata.
pub(crate) fn arrow_messages(batches: usize) -> Vec<sheaf_flight::Message> {
    let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
    let column = Arc::new(Int64Array::from_iter_values(0..10_000));
    let batch = RecordBatch::try_new(schema.clone(), vec![column]).unwrap();
    let batches = vec![batch; batches];
    let mut messages = sheaf_flight::ipc::encode_batches(schema, &batches).unwrap();
    for message in &mut messages {
        message.app_metadata = Bytes::from_static(b"own");
    }
    messages
}
