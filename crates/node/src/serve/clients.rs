//! How this process calls others.

use std::time::Duration;

use sheaf_flight::{ChannelPool, ClientConfig, Error, Target};
use sheaf_retry::{RetryPolicy, SharedClock};
use sheaf_rpc::{RpcCoordinator, RpcOptions};

use super::protect;
use crate::config::{Config, HostPort, Mode};

/// A server that does not answer is given up soon: whoever reads a payload has
/// other addresses to try, and comes back.
const READS: RetryPolicy = RetryPolicy { max_retries: 1, base_ms: 100, ..RetryPolicy::TRANSFER };

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

/// The coordinator at an address; nothing is connected yet.
pub(super) fn coordinator(
    config: &Config,
    address: &HostPort,
    clock: &SharedClock,
) -> Result<RpcCoordinator, Error> {
    let target: Target = address.uri().parse()?;
    Ok(RpcCoordinator::new(pool(config, clock), target, RpcOptions::default(), clock.clone()))
}
