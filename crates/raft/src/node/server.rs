//! A node with its disk and its port.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use openraft_rt_tokio::TokioRuntime;
use sheaf_flight::{ClientSecurity, Exposure, Security};
use sheaf_raft_transport::FlightTransport;
use sheaf_retry::{Code, Retryable, SharedClock, SystemClock};
use tokio::task::JoinHandle;

use super::{ChangeError, LOG_BYTES, Parts, RaftNode, StartError};
use crate::apply::Machine;
use crate::config::{Problem, Problems, RaftClusterConfig};
use crate::log::{self, Identity, LogStore};
use crate::machine::StateMachine;
use crate::network::flight;
use crate::replica::Error;
use crate::snapshot::{self, Snapshots};

/// How long what is under way has when a server stops.
const GRACE: Duration = Duration::from_secs(2);

/// A node of a cluster that keeps its log in a directory and listens on a port of its own.
///
/// ```
/// use std::sync::Arc;
///
/// use arrow_array::RecordBatch;
/// use arrow_schema::{Schema, SchemaRef};
/// use bytes::Bytes;
/// use sheaf_raft::config::RaftClusterConfig;
/// use sheaf_raft::machine::{Applied, MachineError, StateMachine};
/// use sheaf_raft::node::RaftServer;
/// use sheaf_raft::replica::Replica as _;
///
/// /// Counts commands, and has no state that a restart would need.
/// struct Count(u64);
///
/// impl StateMachine for Count {
///     fn apply(&mut self, _: Applied<'_>) -> Bytes {
///         self.0 += 1;
///         self.0.to_string().into()
///     }
///     fn schema(&self) -> SchemaRef { Arc::new(Schema::empty()) }
///     fn begin_snapshot(&mut self) -> Result<(), MachineError> { Err("it has none".into()) }
///     fn snapshot_part(&mut self) -> Result<Option<RecordBatch>, MachineError> { Ok(None) }
///     fn restore(
///         &mut self,
///         _: &mut dyn Iterator<Item = Result<RecordBatch, MachineError>>,
///     ) -> Result<(), MachineError> {
///         Err("it has none".into())
///     }
///     fn digest(&mut self) -> u64 { self.0 }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let directory = tempfile::tempdir()?;
/// let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
/// let config = RaftClusterConfig::new("demo", 1).node(1, port.to_string());
///
/// let mut server = RaftServer::new(Count(0), directory.path());
/// server.initialize(config)?;
/// let node = server.start().await?;
/// node.wait_for_leader().await?;
/// assert_eq!(node.propose(Bytes::from_static(b"one")).await?, "1");
/// server.shutdown().await;
/// # Ok(())
/// # }
/// ```
pub struct RaftServer<M: StateMachine> {
    machine: Option<M>,
    directory: PathBuf,
    config: Option<RaftClusterConfig>,
    security: Option<(Security, ClientSecurity)>,
    exposure: Exposure,
    clock: SharedClock,
    running: Option<Running<M>>,
}

struct Running<M: StateMachine> {
    node: RaftNode<M>,
    transport: FlightTransport,
    /// Has the log until the node has stopped.
    keeping: JoinHandle<()>,
}

impl<M: StateMachine> fmt::Debug for RaftServer<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RaftServer")
            .field("directory", &self.directory)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl<M: StateMachine> RaftServer<M> {
    /// A server of this state machine, as it is before the first command; log and snapshots go
    /// into the directory.
    pub fn new(machine: M, directory: impl Into<PathBuf>) -> Self {
        RaftServer {
            machine: Some(machine),
            directory: directory.into(),
            config: None,
            security: None,
            exposure: Exposure::Loopback,
            clock: SystemClock::shared(),
            running: None,
        }
    }

    /// Certificates and tokens of the port, and those that are shown to the other nodes; they
    /// go with `enable_ssl`. Each node's certificate names it.
    #[must_use]
    pub fn security(mut self, server: Security, client: ClientSecurity) -> Self {
        self.security = Some((server, client));
        self
    }

    /// Who may reach the port: only this machine, unless it is told otherwise.
    #[must_use]
    pub fn exposure(mut self, exposure: Exposure) -> Self {
        self.exposure = exposure;
        self
    }

    /// Tells the server what it is part of.
    ///
    /// # Errors
    /// All that is wrong, at once.
    pub fn initialize(&mut self, config: RaftClusterConfig) -> Result<(), Problems> {
        let config = config.validate()?;
        let mut problems = Vec::new();
        if config.node_endpoints.is_empty() {
            let message = "it is empty; name every node's address".to_owned();
            problems.push(Problem { field: "node_endpoints", message });
        }
        let message = match (config.enable_ssl, &self.security) {
            (true, None) => Some("it is on and there are no certificates; call `security`"),
            (false, Some(_)) => Some("it is off and there are certificates; set it to true"),
            _ => None,
        };
        problems.extend(message.map(|message| {
            let message = message.to_owned();
            Problem { field: "enable_ssl", message }
        }));
        if !problems.is_empty() {
            return Err(Problems(problems));
        }
        self.config = Some(config);
        Ok(())
    }

    /// Opens the disk, listens, and founds the cluster unless it exists: all nodes of a new
    /// cluster may do so, at once or one after the other. Where not all of them are there yet,
    /// it goes on trying after it returned, until the node stops.
    ///
    /// # Errors
    /// `Config` before `initialize`, where the port cannot be used, or where another node would
    /// found a cluster of other members; `Stopped` where the disk cannot be used.
    pub async fn start(&mut self) -> Result<RaftNode<M>, StartError> {
        let node = self.join().await?;
        match node.bootstrap(node.config().members()).await {
            Ok(()) => Ok(node),
            Err(ChangeError::Waiting { .. }) => {
                let (founding, clock) = (node.clone(), Arc::clone(&self.clock));
                drop(tokio::spawn(async move {
                    if let Err(error) = founding.found(clock).await {
                        let node = founding.id();
                        tracing::error!(target: "raft", node, %error, "founds no cluster");
                    }
                }));
                Ok(node)
            }
            Err(ChangeError::Replica(error)) => Err(StartError::Stopped(error)),
            Err(error) => Err(wrong("node_endpoints", error.to_string())),
        }
    }

    /// Opens the disk, listens, and waits to be taken in: for a node that is added to a cluster
    /// (`add_learner` on its leader).
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn join(&mut self) -> Result<RaftNode<M>, StartError> {
        if let Some(running) = &self.running {
            return Ok(running.node.clone());
        }
        let Some(config) = self.config.clone() else {
            return Err(wrong("config", "it is not there; call `initialize` first".to_owned()));
        };
        let transport = self.transport(&config)?;
        let Some(machine) = self.machine.take() else {
            let message = "it was started before; make a new server of a new state machine";
            return Err(wrong("config", message.to_owned()));
        };
        let parts = open(&self.directory, &config, machine).await?;
        let links = flight::links(transport.clone());
        let log = parts.log.clone();
        let node = RaftNode::start(config.clone(), parts, links).await?;
        let bytes = move || log.status().disk_bytes;
        let keeping = tokio::spawn(node.clone().keep_log_small(bytes, LOG_BYTES));
        let running = Running { node: node.clone(), transport: transport.clone(), keeping };
        self.running = Some(running);
        let address = config.node_endpoints.get(&config.node_id).and_then(|known| known.first());
        let address = address.map(|address| host_and_port(address).to_owned()).unwrap_or_default();
        let listening = transport.listen(&address, flight::engine(node.service())).await;
        if let Err(error) = listening {
            self.shutdown().await;
            return Err(wrong("node_endpoints", format!("{address}: {error}")));
        }
        Ok(node)
    }

    fn transport(&self, config: &RaftClusterConfig) -> Result<FlightTransport, StartError> {
        let mut settings = flight::transport_config(config);
        settings.exposure = self.exposure;
        if let Some((server, client)) = &self.security {
            settings.server_security = server.clone();
            settings.security = client.clone();
            settings.needs_certificates = true;
        }
        let transport = FlightTransport::try_new(settings, Arc::clone(&self.clock));
        transport.map_err(|error| wrong("config", error.to_string()))
    }

    /// The node, while it runs.
    pub fn node(&self) -> Option<&RaftNode<M>> {
        self.running.as_ref().map(|running| &running.node)
    }

    /// The transport, while it runs: its health and its counters.
    pub fn transport_of(&self) -> Option<&FlightTransport> {
        self.running.as_ref().map(|running| &running.transport)
    }

    /// Ends the node, then its port.
    pub async fn shutdown(&mut self) {
        if let Some(running) = self.running.take() {
            running.node.shutdown().await;
            if let Err(error) = running.keeping.await {
                tracing::error!(target: "raft", %error, "what keeps the log small failed");
            }
            running.transport.shutdown(GRACE).await;
        }
    }
}

fn wrong(field: &'static str, message: String) -> StartError {
    StartError::Config(Problems(vec![Problem { field, message }]))
}

/// The part of an address that can be listened on.
fn host_and_port(address: &str) -> &str {
    address.split_once("://").map_or(address, |(_, rest)| rest)
}

/// Opens log, snapshots and state machine in a directory, which reads them all.
///
/// # Errors
/// `Stopped` with what is wrong with the disk, or with what is on it.
pub async fn open<M: StateMachine>(
    directory: &Path,
    config: &RaftClusterConfig,
    machine: M,
) -> Result<Parts<LogStore<TokioRuntime>, Machine<M>>, StartError> {
    let identity = Identity { cluster: config.cluster_id.clone(), node: config.node_id };
    let directory = directory.to_path_buf();
    let opening = tokio::task::spawn_blocking(move || {
        let log = LogStore::open(&directory.join("log"), &identity, log::Options::default());
        let log = log.map_err(|error| stopped(&error, error.code()))?;
        let path = directory.join("snapshots");
        let snapshots = Snapshots::open(&path, &identity.cluster, snapshot::Options::default());
        let snapshots = snapshots.map_err(|error| stopped(&error, error.code()))?;
        let driver = Machine::new(machine, snapshots, &log);
        let driver = driver.map_err(|error| stopped(&error, error.code()))?;
        let incarnation = log.incarnation();
        Ok(Parts { log, driver, incarnation })
    });
    opening.await.map_err(|error| stopped(&error, Code::Internal))?
}

fn stopped(error: &dyn std::error::Error, code: Code) -> StartError {
    StartError::Stopped(Error::Stopped { problem: error.to_string(), code })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_listened_on_without_its_scheme() {
        assert_eq!(host_and_port("https://a:5001"), "a:5001");
        assert_eq!(host_and_port("[::1]:5001"), "[::1]:5001");
    }
}
