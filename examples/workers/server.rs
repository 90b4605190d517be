//! The exchange of a worker, its port, and its client.

use sheaf_exchange::PartitionerOptions;
use sheaf_exchange::shuffle::{
    Exchange, ExchangeClient, ExchangeOptions, Governor, ShuffleHandler,
};
use sheaf_flight::{
    Budget, ChannelPool, ClientConfig, Error, Exposure, FlightRouter, Listener, Server,
    ServerHandle,
};
use sheaf_retry::{RetryPolicy, SystemClock};

use super::Arguments;

/// Bytes on their way to other workers.
const IN_FLIGHT: usize = 64 << 20;

pub(crate) async fn start(arguments: &Arguments) -> Result<(ServerHandle, ExchangeClient), Error> {
    let clock = SystemClock::shared();
    let exchange = Exchange::new(Budget::new(arguments.memory.0), clock.clone());
    let router = ShuffleHandler::new(exchange.clone()).serve(FlightRouter::builder()).build()?;
    let listener = Listener::bind("127.0.0.1:0", "--flight-addr", Exposure::Loopback)?;
    let server = Server::new(router).serve(listener).await?;
    let chunk_bytes = usize::try_from(arguments.chunk_bytes.0).unwrap_or(usize::MAX);
    let partitioner = PartitionerOptions { chunk_bytes, ..PartitionerOptions::default() };
    // A worker that was killed does not come back at its address: do not wait long for it.
    let retry = RetryPolicy { base_ms: 50, cap_ms: 200, ..RetryPolicy::transfer() };
    let segment_bytes = chunk_bytes.saturating_mul(2);
    let options = ExchangeOptions { partitioner, retry, segment_bytes, ..Default::default() };
    let pool = ChannelPool::new(ClientConfig::default(), clock.clone());
    let client = ExchangeClient::new(pool, clock, Governor::new(IN_FLIGHT), options);
    let client = client.with_local(server.uri(), exchange);
    Ok((server, client))
}
