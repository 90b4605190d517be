//! The flags of the hand-over to a store and a coordinator.

use std::path::PathBuf;
use std::sync::Arc;

use sheaf_flight::{ChannelPool, ClientConfig, ClientSecurity, Target, TokenSource};
use sheaf_kafka::{BatchSink, BatchSinkOptions, SharedTracer};
use sheaf_retry::{RetryPolicy, SharedClock};
use sheaf_rpc::{RpcCoordinator, RpcOptions};
use sheaf_store::FlightClient;
use sheaf_terminal::Failure;

/// To whom batches are handed over.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct RegisterArgs {
    /// Put each record batch into a store and register it, so that workers process it
    #[arg(long, requires = "store", conflicts_with_all = ["persist", "persist_to"])]
    register: bool,
    /// Flight store for --register, as its ready line shows it: grpc://HOST:PORT
    #[arg(long, value_name = "URL", requires = "register")]
    store: Option<Target>,
    /// Coordinator for --register, where it is not the store's own: grpc://HOST:PORT
    #[arg(long, value_name = "URL", requires = "register")]
    coordinator: Option<Target>,
    /// Queue to register in; dead letters go to the queue NAME.dead-letters
    #[arg(long, value_name = "NAME", default_value = "default", requires = "register")]
    queue: String,
    /// File with the token for store and coordinator
    #[arg(long, value_name = "FILE", env = "SHEAF_STORE_TOKEN_FILE", requires = "register")]
    store_token_file: Option<PathBuf>,
    /// CA certificates (PEM) to check them by, where they are grpc+tls://
    #[arg(long, value_name = "FILE", requires = "register")]
    store_ca: Option<PathBuf>,
}

impl RegisterArgs {
    /// The sink, where one is asked for. Nothing is called yet.
    pub(super) fn open(
        &self,
        group: &str,
        insecure: bool,
        (clock, tracer): (&SharedClock, Option<SharedTracer>),
    ) -> Result<Option<Arc<BatchSink>>, Failure> {
        let (true, Some(store)) = (self.register, &self.store) else { return Ok(None) };
        let token = self.store_token_file.clone().map_or(TokenSource::None, TokenSource::File);
        let security =
            ClientSecurity { ca: self.store_ca.clone(), identity: None, token, insecure };
        let config = ClientConfig { security, ..ClientConfig::default() };
        let pool = ChannelPool::new(config, Arc::clone(clock));
        let (retry, time) = (RetryPolicy::TRANSFER, Arc::clone(clock));
        let address = store.to_string();
        let payloads = FlightClient::with_pool(pool.clone(), &address, retry, time);
        let payloads = payloads.map_err(|error| Failure::from_error(&error).of("--store"))?;
        let mut options = BatchSinkOptions::new(group);
        options.queue.clone_from(&self.queue);
        options.tracer = tracer;
        let at = match &self.coordinator {
            Some(other) if other != store => {
                // Whoever works has to find the store.
                options.locations.push(address);
                other.clone()
            }
            _ => store.clone(),
        };
        let coordinator = RpcCoordinator::new(pool, at, RpcOptions::default(), Arc::clone(clock));
        Ok(Some(Arc::new(BatchSink::new(payloads, Arc::new(coordinator), options))))
    }
}
