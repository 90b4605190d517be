//! Which server a command talks to.

use sheaf_coordinator::{Batch, CoordinatorExt as _};
use sheaf_flight::{ChannelPool, FlightConnection, Target};
use sheaf_proto::BatchId;
use sheaf_retry::{Code, RetryPolicy, Retryable, SharedClock};
use sheaf_rpc::{RpcCoordinator, RpcOptions};
use sheaf_store::FlightClient;
use sheaf_terminal::{Console, Failure, SecurityArgs};

/// The server, and how to answer.
#[derive(Clone, Debug, clap::Args)]
pub struct ServerArgs {
    /// Address of the server, as its ready line shows it
    #[arg(
        long,
        env = "SHEAF_SERVER",
        value_name = "URL",
        default_value = "grpc://localhost:8080",
        global = true,
        hide_env_values = true
    )]
    pub server: String,
    /// Answer with JSON, for programs; errors on standard error are JSON too
    #[arg(long, global = true)]
    pub json: bool,
    /// Certificates and token.
    #[command(flatten)]
    pub security: SecurityArgs,
}

impl ServerArgs {
    fn target(&self) -> Result<Target, Failure> {
        self.server
            .parse()
            .map_err(|error| Failure::from_error::<sheaf_flight::Error>(&error).of("--server"))
    }
}

/// One command's way to its server, and to its terminal.
#[derive(Debug)]
pub struct Session {
    /// Its coordinator.
    pub coordinator: RpcCoordinator,
    /// Whether programs read the answer.
    pub json: bool,
    /// Its Flight service.
    pub flight: FlightConnection,
    /// Payloads, wherever the server knows them to be.
    pub payloads: FlightClient,
    /// Time.
    pub clock: SharedClock,
    /// Where to write.
    pub console: Console,
}

impl Session {
    /// Prepares the way; nothing is connected yet.
    ///
    /// # Errors
    /// `invalid_argument` for an address that is none.
    pub fn try_new(
        server: &ServerArgs,
        clock: SharedClock,
        console: Console,
    ) -> Result<Self, Failure> {
        let target = server.target()?;
        let pool = ChannelPool::new(server.security.config()?, clock.clone());
        let flight = pool.connection(&target.to_string());
        let flight = flight.map_err(|error| Failure::from_error(&error))?;
        let (retry, time) = (RetryPolicy::none(), clock.clone());
        let payloads = FlightClient::with_pool(pool.clone(), &target.to_string(), retry, time);
        let payloads = payloads.map_err(|error| Failure::from_error(&error))?;
        let coordinator = RpcCoordinator::new(pool, target, rpc_options(), clock.clone());
        Ok(Session { coordinator, json: server.json, flight, payloads, clock, console })
    }

    /// The server, `grpc://HOST:PORT`.
    pub fn target(&self) -> &Target {
        self.flight.target()
    }

    /// A failure of a call to the server, with advice on how to reach it.
    pub fn failed<E: Retryable + std::error::Error>(&self, error: &E) -> Failure {
        let failure = match unreached(error) {
            Some(why) => {
                let message = format!("cannot reach the server at {}: {why}", self.target());
                Failure::new(error.code(), message).because(error)
            }
            None => Failure::from_error(error),
        };
        match failure.code() {
            Code::Unavailable | Code::DeadlineExceeded => failure.help(format!(
                "check that a server runs at {} (`sheaf serve`), or name another with --server",
                self.target()
            )),
            _ => failure,
        }
    }

    /// All that is known of one batch.
    ///
    /// # Errors
    /// `not_found` where there is none of that name.
    pub async fn batch(&self, id: &BatchId) -> Result<Batch, Failure> {
        let found = self.coordinator.get(id).await.map_err(|error| self.failed(&error))?;
        found.ok_or_else(|| {
            Failure::new(Code::NotFound, format!("no batch {id} is registered"))
                .help("`sheaf batches list` shows those that are")
        })
    }
}

/// Why there was no connection at all, in a few words; `None` where there was
/// one. The layers below hand this on as a text.
fn unreached(error: &dyn std::error::Error) -> Option<String> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let text = error.to_string();
        if text.contains("tcp connect error") || text.contains("dns error") {
            let last = text.rsplit(": ").next().unwrap_or(&text);
            let words = last.split(" (os error").next().unwrap_or(last);
            return Some(words.to_lowercase());
        }
        cause = error.source();
    }
    None
}

/// A person waits: a server that is not there is to be told within a second.
fn rpc_options() -> RpcOptions {
    let retry = RetryPolicy { max_retries: 2, base_ms: 100, ..RpcOptions::default().retry };
    RpcOptions { retry, ..RpcOptions::default() }
}

/// Reads an identifier from the command line.
pub(super) fn parse_id(text: &str) -> Result<BatchId, String> {
    BatchId::try_new(text).map_err(|error| error.to_string())
}
