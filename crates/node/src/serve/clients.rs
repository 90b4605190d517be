//! How this process calls others.

use std::sync::PoisonError;
use std::time::Duration;

use sheaf_exchange::shuffle::{ExchangeClient, ExchangeOptions, Governor};
use sheaf_flight::{ChannelPool, ClientConfig, Error, Target};
use sheaf_retry::{RetryPolicy, SharedClock};
use sheaf_rpc::{RpcCoordinator, RpcOptions};
use sheaf_telemetry::SharedRegistry;

use super::protect;
use crate::config::{Config, HostPort, Mode};

/// A server that does not answer is given up soon: whoever reads a payload has
/// other addresses to try, and comes back.
const READS: RetryPolicy = RetryPolicy { max_retries: 1, base_ms: 100, ..RetryPolicy::TRANSFER };

/// Bytes of partitions that a process sends at once, at most.
const MAX_IN_FLIGHT: usize = 256 << 20;

/// Connections to coordinators: a server that passes on what it is asked says so.
fn pool(config: &Config, clock: &SharedClock) -> ChannelPool {
    let is_forwarding = config.mode() != Mode::Worker;
    let config = ClientConfig { is_forwarding, ..protect::client(config) };
    ChannelPool::new(config, clock.clone())
}

/// Connections to servers with payloads.
pub(super) fn payload_pool(config: &Config, clock: &SharedClock) -> ChannelPool {
    let connect_timeout = Duration::from_secs(2);
    let deadline = Some(Duration::from_secs(10));
    let client = protect::client(config);
    let config = ClientConfig { connect_timeout, deadline, retry: READS, ..client };
    ChannelPool::new(config, clock.clone())
}

/// Sends partitions to servers and reads them: a quarter of the memory may be
/// on its way.
pub(super) fn exchange(
    config: &Config,
    clock: &SharedClock,
    registry: &SharedRegistry,
) -> ExchangeClient {
    let in_flight = usize::try_from(config.memory_limit() / 4).unwrap_or(usize::MAX);
    let governor = Governor::new(in_flight.min(MAX_IN_FLIGHT));
    let pool = payload_pool(config, clock);
    let client = ExchangeClient::new(pool, clock.clone(), governor, ExchangeOptions::default());
    client.register_metrics(&mut registry.lock().unwrap_or_else(PoisonError::into_inner));
    client
}

/// The coordinator at an address; nothing is connected yet.
pub(super) fn coordinator(
    config: &Config,
    address: &HostPort,
    clock: &SharedClock,
) -> Result<RpcCoordinator, Error> {
    let target: Target = address.uri().parse()?;
    Ok(RpcCoordinator::new(pool(config, clock), target, RpcOptions::default(), clock.clone()))
}
