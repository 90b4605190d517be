//! Real etcd servers, alone or as a cluster.

mod gateway;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use tempfile::TempDir;

use crate::port::again_if_taken;
use crate::services::etcd_binary;
use crate::{Error, Process, free_port, wait_for};

/// How long a cluster may take to be up.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// More than this is no cluster that etcd is meant for.
const MAX_NODES: usize = 9;

/// etcd on free ports of 127.0.0.1, gone when dropped: one server, or several that
/// replicate. It writes and syncs its log as it does in production, below a folder of
/// the caller's or a temporary one; a folder in memory makes it a server without sync.
#[derive(Debug)]
pub struct EtcdCluster {
    binary: PathBuf,
    nodes: Vec<Node>,
    _data: Option<TempDir>,
}

#[derive(Debug)]
struct Node {
    process: Process,
    addr: SocketAddr,
    args: Vec<String>,
}

impl EtcdCluster {
    /// Starts so many servers and waits until each answers; `None`, after a `SKIP` line,
    /// where etcd is not installed.
    ///
    /// # Errors
    /// - [`Error::Ended`] with its output when one does not start.
    /// - [`Error::TimedOut`] when one does not answer within a minute.
    /// - [`Error::Io`] when a folder cannot be made.
    ///
    /// # Panics
    /// Where it is not installed and `SHEAF_REQUIRE_SERVERS` is `1`, and for more than
    /// nine servers or none.
    pub fn start(size: usize) -> Result<Option<EtcdCluster>, Error> {
        let data = TempDir::new().map_err(Error::io("make a temporary folder"))?;
        let mut cluster = Self::start_in(size, data.path())?;
        if let Some(cluster) = &mut cluster {
            cluster._data = Some(data);
        }
        Ok(cluster)
    }

    /// [`EtcdCluster::start`] with its data below this folder, which has none of etcd's.
    ///
    /// # Errors
    /// As [`EtcdCluster::start`].
    ///
    /// # Panics
    /// As [`EtcdCluster::start`].
    pub fn start_in(size: usize, folder: &Path) -> Result<Option<EtcdCluster>, Error> {
        assert!((1..=MAX_NODES).contains(&size), "{size} servers, of 1 to {MAX_NODES}");
        let Some(binary) = etcd_binary() else { return Ok(None) };
        again_if_taken(|| {
            // A try before may have left something.
            let data = TempDir::new_in(folder).map_err(Error::io("make a folder for etcd"))?.keep();
            let all = arguments(size, &data)?;
            let launch = |(addr, args): (SocketAddr, Vec<String>)| {
                let process = Process::command(&binary).args(&args).spawn()?;
                Ok(Node { process, addr, args })
            };
            let mut nodes = all.into_iter().map(launch).collect::<Result<Vec<_>, Error>>()?;
            nodes.iter_mut().try_for_each(Node::wait_until_healthy)?;
            Ok(Some(EtcdCluster { binary: binary.clone(), nodes, _data: None }))
        })
    }

    /// Where clients come to, in the order of the servers.
    pub fn endpoints(&self) -> Vec<String> {
        self.nodes.iter().map(|node| format!("http://{}", node.addr)).collect()
    }

    /// The process of a server, to pause or to read the output of.
    ///
    /// # Panics
    /// Where there is no such server; so do all that take one.
    pub fn process(&mut self, node: usize) -> &mut Process {
        &mut self.nodes[node].process
    }

    /// The processes of all servers.
    pub fn processes(&mut self) -> impl Iterator<Item = &mut Process> {
        self.nodes.iter_mut().map(|node| &mut node.process)
    }

    /// Kills a server as a crash would; its folder and ports stay its own.
    ///
    /// # Errors
    /// As [`Process::kill9`].
    pub fn kill9(&mut self, node: usize) -> Result<ExitStatus, Error> {
        self.nodes[node].process.kill9()
    }

    /// Starts a server again with what it has on disk, and kills it before if it runs. It
    /// answers when a majority does: [`EtcdCluster::wait_until_healthy`].
    ///
    /// # Errors
    /// As [`Process::kill9`] and those of starting.
    pub fn restart(&mut self, node: usize) -> Result<(), Error> {
        let node = &mut self.nodes[node];
        node.process.kill9()?;
        node.process = Process::command(&self.binary).args(&node.args).spawn()?;
        Ok(())
    }

    /// Waits until a server says that it is healthy, which takes a leader.
    ///
    /// # Errors
    /// As [`EtcdCluster::start`].
    pub fn wait_until_healthy(&mut self, node: usize) -> Result<(), Error> {
        self.nodes[node].wait_until_healthy()
    }

    /// Who leads, as one of the servers that answer knows it; `None` while none does.
    pub fn leader(&self) -> Option<usize> {
        let status = |node: &Node| gateway::status(node.addr).ok();
        let all: Vec<_> = self.nodes.iter().map(status).collect();
        let leader =
            all.iter().flatten().map(|status| status.leader).find(|leader| *leader != 0)?;
        all.iter().position(|status| status.as_ref().is_some_and(|status| status.member == leader))
    }

    /// Puts a key through a server's HTTP gateway.
    ///
    /// # Errors
    /// [`Error::Io`] when it does not answer within 10 s, or refuses.
    pub fn put(&self, node: usize, key: &str, value: &[u8]) -> Result<(), Error> {
        let addr = self.nodes[node].addr;
        gateway::put(addr, key, value).map_err(Error::io(format!("put {key} to {addr}")))
    }

    /// Gets a key, linearizably, through a server's HTTP gateway.
    ///
    /// # Errors
    /// As [`EtcdCluster::put`].
    pub fn get(&self, node: usize, key: &str) -> Result<Option<Vec<u8>>, Error> {
        let addr = self.nodes[node].addr;
        gateway::get(addr, key).map_err(Error::io(format!("get {key} from {addr}")))
    }
}

impl Node {
    fn wait_until_healthy(&mut self) -> Result<(), Error> {
        let Node { process, addr, .. } = self;
        let healthy = wait_for(START_TIMEOUT, "etcd to be healthy", || {
            match process.try_exit() {
                // Its output, as the error of a line that will not come.
                Ok(Some(_)) => Some(process.wait_for_stderr_line(START_TIMEOUT, |_| None::<()>)),
                Ok(None) => gateway::is_healthy(*addr).then_some(Ok(())),
                Err(error) => Some(Err(error)),
            }
        });
        healthy.and_then(|healthy| healthy)
    }
}

/// What each server listens on, and is started with.
fn arguments(size: usize, data: &Path) -> Result<Vec<(SocketAddr, Vec<String>)>, Error> {
    let reserve = || (0..size).map(|_| free_port()).collect::<Result<Vec<_>, Error>>();
    let (clients, peers) = (reserve()?, reserve()?);
    let peers: Vec<SocketAddr> = peers.into_iter().map(|port| port.release()).collect();
    let clients = clients.into_iter().map(|port| port.release());
    let named = |(index, peer): (usize, &SocketAddr)| format!("n{index}=http://{peer}");
    let cluster = peers.iter().enumerate().map(named).collect::<Vec<_>>().join(",");
    let node = |(index, addr): (usize, SocketAddr)| {
        let (client, peer) = (format!("http://{addr}"), format!("http://{}", peers[index]));
        let folder = data.join(format!("n{index}")).display().to_string();
        let name = format!("n{index}");
        let pairs = [
            ("--name", name.as_str()),
            ("--data-dir", &folder),
            ("--listen-client-urls", &client),
            ("--advertise-client-urls", &client),
            ("--listen-peer-urls", &peer),
            ("--initial-advertise-peer-urls", &peer),
            ("--initial-cluster", &cluster),
            ("--initial-cluster-state", "new"),
            ("--logger", "zap"),
            ("--log-outputs", "stderr"),
            ("--log-level", "warn"),
        ];
        (addr, pairs.iter().flat_map(|(name, value)| [*name, *value]).map(str::to_owned).collect())
    };
    Ok(clients.enumerate().map(node).collect())
}
