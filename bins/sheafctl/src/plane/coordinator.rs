//! Where the batches of durable edges are.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sheaf_console::Coordinators;
use sheaf_dataflow::DurableAssignment;
use sheaf_drivers::runner::store_of;
use sheaf_flight::{ChannelPool, ClientConfig, ClientSecurity, Secret, Target, TokenSource};
use sheaf_retry::{RetryPolicy, SharedClock};
use sheaf_rpc::{RpcCoordinator, RpcOptions};
use sheaf_terminal::Failure;

use crate::args::ConsoleArgs;

/// Who looks at a page is told soon that nobody answers.
const PATIENCE: Duration = Duration::from_secs(5);

/// The coordinator of each pipeline: that of `--coordinator`, else that of its last run, as the
/// folder of all pipelines has it.
pub(super) fn coordinators(
    args: &ConsoleArgs,
    pipelines: PathBuf,
    clock: &SharedClock,
) -> Result<Coordinators, Failure> {
    let Some(address) = &args.coordinator else {
        let known = Known { pipelines, clock: clock.clone(), clients: Mutex::default() };
        return Ok(Coordinators::by(move |pipeline| Some(known.of(pipeline)? as _)));
    };
    let target: Target = address.parse().map_err(|error: sheaf_flight::Error| {
        Failure::from_error(&error).of("--coordinator").help("write it as grpc://HOST:PORT")
    })?;
    let token = args.coordinator_token_file.clone().map_or(TokenSource::None, TokenSource::File);
    let ca = args.coordinator_tls_ca.clone();
    let security = ClientSecurity { ca, identity: None, token, insecure: false };
    Ok(Coordinators::one(Arc::new(client(target, security, clock))))
}

fn client(target: Target, security: ClientSecurity, clock: &SharedClock) -> RpcCoordinator {
    let config = ClientConfig { security, ..ClientConfig::default() };
    let retry = RetryPolicy { max_retries: 1, base_ms: 100, ..RetryPolicy::TRANSFER };
    let options = RpcOptions { deadline: PATIENCE, retry };
    let pool = ChannelPool::new(config, clock.clone());
    RpcCoordinator::new(pool, target, options, clock.clone())
}

/// Coordinators of runs.
struct Known {
    pipelines: PathBuf,
    clock: SharedClock,
    /// One for each pipeline, as long as its run says the same.
    clients: Mutex<HashMap<String, (DurableAssignment, Arc<RpcCoordinator>)>>,
}

impl Known {
    fn of(&self, pipeline: &str) -> Option<Arc<RpcCoordinator>> {
        let found = store_of(&self.pipelines, pipeline);
        let found = found.inspect_err(|error| {
            tracing::warn!(pipeline, %error, "it is not known where its batches are");
        });
        let store = found.ok().flatten()?;
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((before, client)) = clients.get(pipeline)
            && *before == store
        {
            return Some(Arc::clone(client));
        }
        let target: Target = store.coordinator.parse().ok()?;
        let token = store.token.as_deref().map(Secret::new);
        let token = token.map_or(TokenSource::None, TokenSource::Fixed);
        let insecure = store.insecure;
        let security = ClientSecurity { ca: None, identity: None, token, insecure };
        let client = Arc::new(client(target, security, &self.clock));
        clients.insert(pipeline.to_owned(), (store, Arc::clone(&client)));
        Some(client)
    }
}
