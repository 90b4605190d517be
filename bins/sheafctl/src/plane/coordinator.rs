//! Where the batches of durable edges are.

use std::sync::Arc;
use std::time::Duration;

use sheaf_console::Coordinators;
use sheaf_flight::{ChannelPool, ClientConfig, ClientSecurity, Target, TokenSource};
use sheaf_retry::{RetryPolicy, SharedClock};
use sheaf_rpc::{RpcCoordinator, RpcOptions};
use sheaf_terminal::Failure;

use crate::args::ConsoleArgs;

/// Who looks at a page is told soon that nobody answers.
const PATIENCE: Duration = Duration::from_secs(5);

/// The coordinator of each pipeline: that of `--coordinator`.
pub(super) fn coordinators(
    args: &ConsoleArgs,
    clock: &SharedClock,
) -> Result<Coordinators, Failure> {
    let Some(address) = &args.coordinator else { return Ok(Coordinators::none()) };
    let target: Target = address.parse().map_err(|error: sheaf_flight::Error| {
        Failure::from_error(&error).of("--coordinator").help("write it as grpc://HOST:PORT")
    })?;
    let token = args.coordinator_token_file.clone().map_or(TokenSource::None, TokenSource::File);
    let ca = args.coordinator_tls_ca.clone();
    let security = ClientSecurity { ca, identity: None, token, insecure: false };
    let config = ClientConfig { security, ..ClientConfig::default() };
    let retry = RetryPolicy { max_retries: 1, base_ms: 100, ..RetryPolicy::TRANSFER };
    let options = RpcOptions { deadline: PATIENCE, retry };
    let pool = ChannelPool::new(config, clock.clone());
    let client = RpcCoordinator::new(pool, target, options, clock.clone());
    Ok(Coordinators::one(Arc::new(client)))
}
