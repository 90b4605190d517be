//! A cluster of six real servers.

use std::net::SocketAddr;
use std::time::Duration;

use super::options::password;
use super::slots::{self, Range};
use super::{Flavour, Valkey, with_output};
use crate::{Error, Process, wait_for, wait_until};

const PRIMARIES: u16 = 3;
/// How long the nodes may take to find together.
const FORM_TIMEOUT: Duration = Duration::from_secs(60);

/// Three primaries, each with one replica, on free ports of 127.0.0.1.
///
/// A node counts as gone after 1 s; about a second later its replica has taken
/// over. Nothing is written to disk but what each node knows of the cluster,
/// unless the arguments say so.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Valkey>,
}

impl Cluster {
    /// Starts six nodes, all with these arguments too, and waits until every
    /// one of them knows all six, has the same slots in mind and says that the
    /// cluster is well, and every replica has the data of its primary. `None`,
    /// after a `SKIP` line, where the flavour is not installed.
    ///
    /// # Errors
    /// - [`Error::Ended`] with its output when a node does not start.
    /// - [`Error::TimedOut`] with the nodes' output when they do not find
    ///   together within 60 s.
    ///
    /// # Panics
    /// As [`ValkeyOptions::start`](super::ValkeyOptions::start).
    pub fn start(flavour: Flavour, args: &[&str]) -> Result<Option<Cluster>, Error> {
        let mut nodes = Vec::new();
        for _ in 0..2 * PRIMARIES {
            let mut options = Valkey::options(flavour).cluster().args(&[
                "--cluster-node-timeout",
                "1000",
                "--cluster-announce-ip",
                "127.0.0.1",
            ]);
            if let Some(password) = password(args) {
                options = options.args(&["--masterauth", &password]);
            }
            let Some(node) = options.args(args).start()? else { return Ok(None) };
            nodes.push(node);
        }
        let mut cluster = Cluster { nodes };
        cluster.form()?;
        Ok(Some(cluster))
    }

    /// What `valkey-cli --cluster create` does.
    fn form(&mut self) -> Result<(), Error> {
        for (number, node) in (0..).zip(&self.nodes) {
            let epoch = (number + 1).to_string();
            node.command(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch])?;
            if number < PRIMARIES {
                let (first, last) = slots::share(number, PRIMARIES);
                let (first, last) = (first.to_string(), last.to_string());
                node.command(&["CLUSTER", "ADDSLOTSRANGE", &first, &last])?;
            }
        }
        let (first, others) = self.nodes.split_at(1);
        for other in others {
            let (ip, port) = (other.addr.ip().to_string(), other.addr.port().to_string());
            let bus = other.bus_addr.map(|addr| addr.port().to_string()).unwrap_or_default();
            first[0].command(&["CLUSTER", "MEET", &ip, &port, &bus])?;
        }
        let (primaries, replicas) = self.nodes.split_at(PRIMARIES.into());
        for (primary, replica) in primaries.iter().zip(replicas) {
            let id = primary.command(&["CLUSTER", "MYID"])?;
            let id = id.text().unwrap_or_default();
            // Refused until the replica has heard of that node.
            let what = format!("{} to know {}", replica.addr, primary.addr);
            wait_until(FORM_TIMEOUT, &what, || {
                replica.command(&["CLUSTER", "REPLICATE", id]).is_ok()
            })
            .map_err(|error| self.explain(error))?;
        }
        self.wait_until_ok(FORM_TIMEOUT)
    }

    /// Where the nodes listen.
    pub fn addrs(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(Valkey::addr).collect()
    }

    /// The nodes, those that were killed too.
    pub fn nodes(&self) -> &[Valkey] {
        &self.nodes
    }

    /// The node at an address, to pause or to read the output of.
    pub fn node(&mut self, addr: SocketAddr) -> Option<&mut Valkey> {
        self.nodes.iter_mut().find(|node| node.addr == addr)
    }

    /// The slot of a key.
    ///
    /// # Errors
    /// As [`Cluster::primary_of_slot`].
    pub fn slot_of(&mut self, key: &str) -> Result<u16, Error> {
        let running = self.running()?;
        let slot = |node: &Valkey| {
            let reply = node.ask(&["CLUSTER", "KEYSLOT", key])?;
            u16::try_from(reply.integer()?).ok()
        };
        let what = format!("a node to know the slot of {key}");
        let look = || running.iter().find_map(|number| slot(&self.nodes[*number]));
        wait_for(FORM_TIMEOUT, &what, look).map_err(|error| self.explain(error))
    }

    /// The running primary that has a slot, as a running node has it.
    ///
    /// # Errors
    /// [`Error::TimedOut`] with the nodes' output when there is none for 60 s.
    pub fn primary_of_slot(&mut self, slot: u16) -> Result<SocketAddr, Error> {
        self.primary_but(slot, None, FORM_TIMEOUT)
    }

    /// Waits until another node than `from` has a slot, and gives its address.
    ///
    /// # Errors
    /// [`Error::TimedOut`] with the nodes' output.
    pub fn wait_for_failover(
        &mut self,
        slot: u16,
        from: SocketAddr,
        timeout: Duration,
    ) -> Result<SocketAddr, Error> {
        self.primary_but(slot, Some(from), timeout)
    }

    /// Kills the primary of a slot as a crash would, and gives its address.
    ///
    /// # Errors
    /// As [`Cluster::primary_of_slot`] and [`Valkey::kill9`].
    pub fn kill_primary_of_slot(&mut self, slot: u16) -> Result<SocketAddr, Error> {
        let primary = self.primary_of_slot(slot)?;
        self.node(primary).map(Valkey::kill9).transpose()?;
        Ok(primary)
    }

    /// Starts a node again, on the same port and folder; kills it before if it
    /// runs. It comes back as what it was and learns what has become of it.
    ///
    /// # Errors
    /// As [`Valkey::restart`]; [`Error::Io`] when no node has this address.
    pub fn restart(&mut self, addr: SocketAddr) -> Result<(), Error> {
        let missing = || Error::io(format!("restart {addr}"))(std::io::ErrorKind::NotFound.into());
        self.node(addr).ok_or_else(missing)?.restart()
    }

    /// Waits until all running nodes say that the cluster is well, and agree on
    /// who has which slots; all slots are with running primaries, every other
    /// running node follows one and has its data.
    ///
    /// # Errors
    /// [`Error::TimedOut`] with the nodes' output.
    pub fn wait_until_ok(&mut self, timeout: Duration) -> Result<(), Error> {
        let running = self.running()?;
        let is_ok = || {
            let nodes: Vec<&Valkey> = running.iter().map(|number| &self.nodes[*number]).collect();
            is_ok(&nodes, self.nodes.len())
        };
        let waited = wait_until(timeout, "the cluster to be well", is_ok);
        waited.map_err(|error| self.explain(error))
    }

    fn primary_but(
        &mut self,
        slot: u16,
        not: Option<SocketAddr>,
        timeout: Duration,
    ) -> Result<SocketAddr, Error> {
        let running = self.running()?;
        let addrs: Vec<SocketAddr> =
            running.iter().map(|number| self.nodes[*number].addr).collect();
        let look = || {
            running.iter().find_map(|number| {
                let ranges = view(&self.nodes[*number])?;
                let range = ranges.iter().find(|r| (r.first..=r.last).contains(&slot))?;
                let primary = Some(range.primary).filter(|primary| addrs.contains(primary))?;
                (Some(primary) != not).then_some(primary)
            })
        };
        let found = wait_for(timeout, &format!("a primary of slot {slot}"), look);
        found.map_err(|error| self.explain(error))
    }

    fn running(&mut self) -> Result<Vec<usize>, Error> {
        let mut running = Vec::new();
        for (number, node) in self.nodes.iter_mut().enumerate() {
            if node.is_running()? {
                running.push(number);
            }
        }
        Ok(running)
    }

    fn explain(&self, error: Error) -> Error {
        let processes: Vec<&Process> = self.nodes.iter().map(|node| &node.process).collect();
        with_output(error, processes)
    }
}

/// The slots as a node has them.
fn view(node: &Valkey) -> Option<Vec<Range>> {
    slots::parse(&node.ask(&["CLUSTER", "SLOTS"])?)
}

fn is_ok(running: &[&Valkey], all: usize) -> bool {
    let Some(first) = running.first().and_then(|node| view(node)) else { return false };
    let known = format!("cluster_known_nodes:{all}");
    let agrees = |node: &&Valkey| {
        let info = node.ask(&["CLUSTER", "INFO"]);
        let info = info.as_ref().and_then(|info| info.text()).unwrap_or_default();
        let says = |wanted: &str| info.lines().any(|line| line.trim_end() == wanted);
        says("cluster_state:ok") && says(&known) && view(node).as_ref() == Some(&first)
    };
    let in_place = |node: &&Valkey| {
        first.iter().any(|range| {
            range.primary == node.addr
                || range.replicas.contains(&node.addr) && node.follows() == Some(range.primary)
        })
    };
    let has = |addr: SocketAddr| running.iter().any(|node| node.addr == addr);
    slots::are_all(&first)
        && first.iter().all(|range| has(range.primary))
        && running.iter().all(in_place)
        && running.iter().all(agrees)
}
