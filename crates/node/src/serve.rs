//! `sheaf serve`: binds, opens, serves, and ends in good order.
//!
//! What has to hold:
//! - Ports are bound before anything is opened, so that two servers of one
//!   configuration fail on the port and not half-way.
//! - The ready line is printed when calls are answered, and not before.
//! - SIGTERM and SIGINT drain within the grace period: work is settled or
//!   given back, streams end. A second signal ends the process at once.

mod backup;
mod census;
mod clients;
mod directory;
mod elsewhere;
mod error;
mod failures;
mod info;
mod locations;
mod parts;
mod ports;
mod protect;
mod pulse;
mod raft;
mod reconcile;
mod retire;
mod server;
mod signals;
mod valkey;
mod workers;

use sheaf_proto::SharedTracer;
use sheaf_retry::{Code, SharedClock};
use sheaf_terminal::{Console, Failure};

use crate::config::{Config, Mode};
pub use directory::StoreDirectory;
pub use error::Error;
use error::RAFT_ADVICE;
pub(crate) use error::{COORDINATOR_ADVICE, FORMAT_ADVICE, VALKEY_ADVICE, VALKEY_USER_ADVICE};
pub(crate) use info::SERVER_INFO;
pub use info::ServerInfo;
pub use server::Server;
use signals::Signals;
pub use signals::die_with_parent;
pub(crate) use valkey::builder as valkey_builder;
pub use workers::RemoteWorkers;

/// Where a token may have rights.
pub(crate) const NAMESPACES: [&str; 5] = [
    sheaf_store::NAMESPACE,
    sheaf_rpc::CoordinatorService::NAMESPACE,
    crate::backup::wire::NAMESPACE,
    info::NAMESPACE,
    protect::NAMESPACE,
];

/// Serves until a signal ends it, then drains.
///
/// Prints one line on standard output when it is up; logs and spans go wherever
/// the binary sends them.
///
/// # Errors
/// What kept it from starting: a port in use, a data directory that cannot be
/// used. `cancelled` when a second signal cut the drain short.
pub async fn serve(
    config: Config,
    clock: SharedClock,
    tracer: Option<SharedTracer>,
    mut console: Console,
) -> Result<(), Failure> {
    let mut signals = Signals::listen().map_err(|error| {
        Failure::new(Code::Io, "signals of this process cannot be received").because(error)
    })?;
    let grace = config.grace();
    // Opening a large state takes seconds: a signal ends that too.
    let running = tokio::select! {
        running = Running::start(config, clock, tracer) => running.map_err(|error| explained(&error))?,
        signal = signals.next() => return Err(interrupted(signal)),
    };
    let line = running.ready_line();
    if console.data(&format!("{line}\n")).is_err() {
        // Nobody reads standard output: no reason not to serve.
        tracing::warn!(line, "the ready line could not be printed");
    }
    let signal = signals.next().await;
    tracing::info!(signal, ?grace, "draining; a second signal ends at once");
    tokio::select! {
        () = running.drain() => {
            tracing::info!("drained");
            Ok(())
        }
        signal = signals.next() => Err(interrupted(signal)),
    }
}

/// With the advice that the code alone does not give.
fn explained(error: &Error) -> Failure {
    let failure = Failure::from_error(error);
    match error {
        Error::Store(sheaf_store::Error::FormatUnreadable { .. }) => failure.help(FORMAT_ADVICE),
        Error::Coordinator { .. } if failure.code() == Code::Corrupt => {
            failure.help(COORDINATOR_ADVICE)
        }
        Error::Raft { .. } if failure.code() == Code::Corrupt => failure.help(RAFT_ADVICE),
        Error::Valkey { .. } => match failure.code() {
            Code::Unavailable => failure.help(VALKEY_ADVICE),
            Code::Unauthenticated | Code::PermissionDenied => failure.help(VALKEY_USER_ADVICE),
            Code::FailedPrecondition => {
                failure.help("change Valkey's configuration as said, then start again")
            }
            _ => failure,
        },
        _ => failure,
    }
}

fn interrupted(signal: &str) -> Failure {
    Failure::new(Code::Cancelled, format!("ended at once by {signal}"))
        .help("work under way is taken up again when its lease ends")
}

enum Running {
    Server(Box<Server>),
    Workers(Box<RemoteWorkers>),
}

impl Running {
    async fn start(
        config: Config,
        clock: SharedClock,
        tracer: Option<SharedTracer>,
    ) -> Result<Self, Error> {
        Ok(match config.mode() {
            Mode::Worker => Running::Workers(Box::new(
                RemoteWorkers::start_traced(config, clock, tracer).await?,
            )),
            Mode::All | Mode::Flight | Mode::Coordinator => {
                Running::Server(Box::new(Server::start_traced(config, clock, tracer).await?))
            }
        })
    }

    fn ready_line(&self) -> String {
        match self {
            Running::Server(server) => server.ready_line(),
            Running::Workers(workers) => workers.ready_line(),
        }
    }

    async fn drain(self) {
        match self {
            Running::Server(server) => server.drain().await,
            Running::Workers(workers) => workers.drain().await,
        }
    }
}
