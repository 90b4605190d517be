//! Clusters of three, each side's own.

use std::path::Path;
use std::time::Duration;

use sheaf_testkit::{EtcdCluster, Process, ProcessCommand, TempDir, free_port};

use crate::error::{Error, Result};
use crate::process::{Server, built, finish, load, number, temporary};

/// Nodes of every cluster.
pub(super) const SIZE: usize = 3;

/// Seconds in which another node has to lead.
const FAILOVER: &str = "12";
const START: Duration = Duration::from_secs(30);

/// Memory, for those who are measured without a disk.
const MEMORY: &str = "/dev/shm";

/// Whose cluster it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Ours,
    Etcd,
    Openraft,
}

impl Side {
    pub(super) const ALL: [Side; 3] = [Side::Ours, Side::Etcd, Side::Openraft];

    pub(super) fn name(self) -> &'static str {
        match self {
            Side::Ours => "ours",
            Side::Etcd => "etcd",
            Side::Openraft => "openraft",
        }
    }
}

/// What clients ask for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Requests {
    pub(super) puts: bool,
    /// Under way at once.
    pub(super) clients: u64,
    /// Bytes of a value.
    pub(super) bytes: u64,
}

/// Three nodes that run.
pub(super) struct Cluster {
    nodes: Nodes,
    _data: TempDir,
}

enum Nodes {
    Etcd(EtcdCluster),
    /// Ours, or those of openraft, with the addresses at which clients come.
    Own(Side, Vec<Server>),
}

impl Cluster {
    /// One whose log is on disk and synced, or in memory.
    pub(super) fn start(side: Side, is_synced: bool) -> Result<Self> {
        let data = if is_synced { temporary()? } else { in_memory()? };
        let nodes = match side {
            Side::Etcd => Nodes::Etcd(etcd(data.path())?),
            Side::Ours => Nodes::Own(side, ours(data.path())?),
            Side::Openraft => Nodes::Own(side, openraft(is_synced.then_some(data.path()))?),
        };
        Ok(Cluster { nodes, _data: data })
    }

    /// What a load of so many seconds told.
    pub(super) fn measure(
        &mut self,
        requests: Requests,
        seconds: f64,
    ) -> Result<serde_json::Value> {
        let what = if requests.puts { "put" } else { "get" };
        let numbers = [requests.clients.to_string(), requests.bytes.to_string()];
        let pids = self.pids().join(",");
        let leader = self.leader()?;
        let command = match &self.nodes {
            Nodes::Etcd(_) => peer()?.args(["etcd", what]),
            Nodes::Own(Side::Openraft, _) => peer()?.args(["load", what]),
            Nodes::Own(..) => load(&["cluster-client", what])?,
        };
        let command = command.args([&leader, &pids]).args(&numbers).arg(seconds.to_string());
        let mut processes = self.processes();
        let told = finish(&mut command.spawn()?, &mut processes)?.pop();
        told.ok_or_else(|| Error::Message("a load told nothing".into()))
    }

    /// Kills the leader of ours while one client puts; the longest time, in seconds, between
    /// two puts that were done.
    pub(super) fn fail_over(&mut self) -> Result<f64> {
        let Nodes::Own(Side::Ours, servers) = &mut self.nodes else {
            return Err(Error::Message("only ours is killed".into()));
        };
        let addresses = servers.iter().map(|server| server.address().trim_start_matches("grpc://"));
        let addresses = addresses.collect::<Vec<_>>().join(",");
        let mut client = load(&["cluster-gap", &addresses, FAILOVER])?.spawn()?;
        client.wait_for_line(START, |line| (line == "started").then_some(()))?;
        servers[0].process().kill9()?;
        let mut rest: Vec<&mut Process> = servers.iter_mut().map(Server::process).collect();
        let told = finish(&mut client, &mut rest)?.pop();
        number(&told.unwrap_or_default(), "gap_seconds")
    }

    fn processes(&mut self) -> Vec<&mut Process> {
        match &mut self.nodes {
            Nodes::Etcd(etcd) => etcd.processes().collect(),
            Nodes::Own(_, servers) => servers.iter_mut().map(Server::process).collect(),
        }
    }

    fn pids(&mut self) -> Vec<String> {
        self.processes().iter().map(|process| process.pid().to_string()).collect()
    }

    /// Where clients come to; of the other nodes some pass requests on and some do not.
    fn leader(&self) -> Result<String> {
        match &self.nodes {
            Nodes::Etcd(etcd) => {
                let leader =
                    etcd.leader().ok_or_else(|| Error::Message("etcd has no leader".into()))?;
                Ok(etcd.endpoints().swap_remove(leader))
            }
            // The one that made the cluster is the first to ask for votes.
            Nodes::Own(_, servers) => Ok(servers[0].address().to_owned()),
        }
    }
}

fn in_memory() -> Result<TempDir> {
    TempDir::new_in(MEMORY).map_err(Error::io(format!("make a folder in {MEMORY}")))
}

fn peer() -> Result<ProcessCommand> {
    built("raft", "raft-peer")
}

fn etcd(data: &Path) -> Result<EtcdCluster> {
    let missing = || Error::Message("no etcd: `cargo xtask services etcd` provides it".into());
    EtcdCluster::start_in(SIZE, data)?.ok_or_else(missing)
}

/// Free addresses for the nodes of a cluster, with commas between.
fn addresses() -> Result<String> {
    let ports = (0..SIZE).map(|_| Ok(free_port()?)).collect::<Result<Vec<_>>>()?;
    let addresses: Vec<String> = ports.into_iter().map(|port| port.release().to_string()).collect();
    Ok(addresses.join(","))
}

/// The first one, which makes the cluster, comes last.
fn started(command: impl Fn(&str) -> Result<ProcessCommand>) -> Result<Vec<Server>> {
    let ids = (1..=SIZE).rev().map(|id| id.to_string());
    let mut nodes: Vec<Server> =
        ids.map(|id| Server::start(command(&id)?, None)).collect::<Result<_>>()?;
    nodes.reverse();
    Ok(nodes)
}

fn openraft(folder: Option<&Path>) -> Result<Vec<Server>> {
    let addresses = addresses()?;
    started(|id| Ok(peer()?.args(["node", id, &addresses]).args(folder)))
}

fn ours(folder: &Path) -> Result<Vec<Server>> {
    let addresses = addresses()?;
    started(|id| Ok(load(&["cluster-node", id, &addresses])?.arg(folder)))
}
