//! How this process calls others.

use std::sync::PoisonError;
use std::time::Duration;

use sheaf_exchange::shuffle::{ExchangeClient, ExchangeOptions, Governor};
use sheaf_flight::{ChannelPool, ClientConfig, Error, Target};
use sheaf_retry::{RetryPolicy, SharedClock};
use sheaf_rpc::{RpcCoordinator, RpcOptions};
use sheaf_telemetry::SharedRegistry;

use super::protect;
use crate::config::{Config, Mode, Remote};

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

/// The coordinator at an address, or at one of several; nothing is connected yet.
pub(super) fn coordinator(
    config: &Config,
    remote: &Remote,
    clock: &SharedClock,
) -> Result<RpcCoordinator, Error> {
    let targets = remote.addresses().iter().map(|address| address.uri().parse::<Target>());
    let targets: Vec<Target> = targets.collect::<Result<_, _>>()?;
    // Each of several is asked, and a leader that is lost has a successor by then.
    let more = u32::try_from(targets.len().saturating_sub(1)).unwrap_or(0);
    let mut options = RpcOptions::default();
    options.retry.max_retries += 2 * more;
    RpcCoordinator::replicated(pool(config, clock), targets, options, clock.clone())
}
