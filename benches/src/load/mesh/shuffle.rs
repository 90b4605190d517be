//! Our exchange: rows are partitioned by the hash of a key and sent, and read
//! while they come.

use arrow_array::RecordBatch;
use futures::stream;
use serde_json::{Value, json};
use sheaf_bench::shuffled::{Shape, stock};
use sheaf_exchange::shuffle::{
    self, Exchange, ExchangeClient, ExchangeOptions, Governor, PartitionKey, ReadOptions, Sender,
    ShuffleHandler, ShufflePlan,
};
use sheaf_flight::{
    Budget, ChannelPool, ClientConfig, Exposure, FlightRouter, Listener, Server, ServerHandle,
};
use sheaf_retry::SystemClock;

use super::{Command, Control};
use crate::error::{Error, Result};

/// Of what is received and not read yet.
const MEMORY: u64 = 256 << 20;

/// Of what is on its way.
const IN_FLIGHT: usize = 64 << 20;

struct Node {
    exchange: Exchange,
    client: ExchangeClient,
    server: ServerHandle,
    stock: Vec<RecordBatch>,
}

pub(in crate::load) async fn run() -> Result<()> {
    let node = Node::start().await?;
    let mut control = Control::accept(&node.server.uri())?;
    while let Some(command) = control.next()? {
        let answer = node.round(&command).await.map_err(failed)?;
        control.answer(&answer)?;
    }
    Ok(())
}

fn failed(error: shuffle::Error) -> Error {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(next) = cause {
        text.push_str(&format!(": {next}"));
        cause = next.source();
    }
    Error::Message(format!("the shuffle: {text}"))
}

impl Node {
    async fn start() -> Result<Self> {
        let clock = SystemClock::shared();
        let exchange = Exchange::new(Budget::new(MEMORY), clock.clone());
        let router = ShuffleHandler::new(exchange.clone()).serve(FlightRouter::builder());
        let listener = Listener::bind("127.0.0.1:0", "--flight-addr", Exposure::Loopback)?;
        let server = Server::new(router.build()?).serve(listener).await?;
        let pool = ChannelPool::new(ClientConfig::default(), clock.clone());
        let (governor, options) = (Governor::new(IN_FLIGHT), ExchangeOptions::default());
        let client = ExchangeClient::new(pool, clock, governor, options);
        let client = client.with_local(server.uri(), exchange.clone());
        let failed = |error| Error::Message(format!("batches cannot be made: {error}"));
        let stock = stock(Shape::Ints).map_err(failed)?;
        Ok(Node { exchange, client, server, stock })
    }

    async fn round(&self, command: &Command) -> Result<Value, shuffle::Error> {
        let query = |round| format!("round-{round}");
        // All have read that one; of this one something may be here already.
        self.exchange.cleanup_query_data(&query(command.round - 1))?;
        let query = query(command.round);
        let (index, senders) = (number(command.index), number(command.peers.len()));
        let plan = ShufflePlan {
            query: query.clone(),
            stage: 0,
            sender: Sender { index, attempt: 1, senders },
            workers: command.peers.clone(),
            partitions: senders,
        };
        let key = PartitionKey::try_new(&query, 0, index)?;
        let reading = tokio::spawn(read(self.client.clone(), self.server.uri(), key));
        let batches = usize::try_from(command.size).unwrap_or(usize::MAX);
        let rows = self.stock.clone().into_iter().cycle().take(batches).map(Ok);
        let schema = self.stock[0].schema();
        let sent =
            self.client.perform_hash_shuffle(&plan, ["key"], schema, stream::iter(rows)).await?;
        let lost = |error| shuffle::Error::Protocol(format!("the reader is gone: {error}"));
        let rows = reading.await.map_err(lost)??;
        // What stays here goes over no wire.
        let away = sent.iter().filter(|one| one.peer != self.server.uri());
        let bytes: u64 = away.map(|one| one.bytes).sum();
        Ok(json!({ "bytes": bytes, "rows": rows }))
    }
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Rows of a partition, read while it grows and let go.
async fn read(
    client: ExchangeClient,
    uri: String,
    key: PartitionKey,
) -> Result<usize, shuffle::Error> {
    let options = ReadOptions {
        pipelined: true,
        consume: true,
        wait: shuffle::MAX_WAIT,
        ..ReadOptions::default()
    };
    let mut reader = client.request_data_from_worker(&uri, &key, None, options).await?;
    let mut rows = 0;
    while let Some(batch) = reader.next().await? {
        rows += std::hint::black_box(batch).num_rows();
    }
    Ok(rows)
}
