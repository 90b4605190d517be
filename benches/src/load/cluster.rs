//! A cluster of ours: nodes with keys and values, each a process, and their clients.

mod client;
mod gap;
mod machine;
mod service;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use sheaf_raft::apply::Machine;
use sheaf_raft::config::RaftClusterConfig;
use sheaf_raft::log::{Identity, LogStore, Options};
use sheaf_raft::network::flight;
use sheaf_raft::node::{ChangeError, Parts, RaftNode};
use sheaf_raft::replica::Replica as _;
use sheaf_raft::snapshot::{self, Snapshots};
use sheaf_raft::types::{Member, NodeId};
use sheaf_raft_transport::FlightTransport;
use sheaf_retry::SystemClock;

use crate::error::{Error, Result};
use machine::Values;

pub(super) use client::{ClusterClient, run as client};
pub(super) use gap::{ClusterGap, run as gap};

const CLUSTER: &str = "bench";

/// Entries between snapshots: as etcd has it.
const SNAPSHOT_DISTANCE: u64 = 100_000;

/// The node that clients come to.
const FIRST: NodeId = 1;

type Node = RaftNode<Values>;

/// One node of a cluster.
#[derive(Debug, Args)]
pub(crate) struct ClusterNode {
    /// Its number, from 1; the first makes the cluster.
    id: u64,
    /// Where all of them listen, with commas between.
    addresses: String,
    /// Where its log goes, in a folder of its own.
    folder: PathBuf,
}

/// Serves until it is killed.
pub(super) async fn serve(options: &ClusterNode) -> Result<()> {
    let ClusterNode { id, addresses, folder } = options;
    let addresses: Vec<&str> = addresses.split(',').collect();
    let own = usize::try_from(*id).ok().and_then(|id| addresses.get(id.checked_sub(1)?));
    let own = own.ok_or_else(|| Error::Message(format!("there is no address of node {id}")))?;
    let mut config = RaftClusterConfig::new(CLUSTER, *id);
    config.snapshot_distance = SNAPSHOT_DISTANCE;
    for (id, address) in (1..).zip(&addresses) {
        config = config.node(id, *address);
    }
    let members = config.members();
    let failed = |error: &dyn std::error::Error| Error::Message(format!("node {id}: {error}"));
    let folder = folder.join(id.to_string());
    let identity = Identity { cluster: CLUSTER.to_owned(), node: *id };
    let log = LogStore::open(&folder.join("log"), &identity, Options::default());
    let log = log.map_err(|error| failed(&error))?;
    let snapshots =
        Snapshots::open(&folder.join("snapshots"), CLUSTER, snapshot::Options::default());
    let snapshots = snapshots.map_err(|error| failed(&error))?;
    let driver =
        Machine::new(Values::default(), snapshots, &log).map_err(|error| failed(&error))?;
    let transport =
        FlightTransport::try_new(flight::transport_config(&config), SystemClock::shared())?;
    let links = flight::links(transport.clone());
    let incarnation = log.incarnation();
    let node: Node = RaftNode::start(config, Parts { log, driver, incarnation }, links)
        .await
        .map_err(|error| failed(&error))?;
    transport.listen(own, Arc::new(service::Answers::new(node.clone()))).await?;
    drop(tokio::spawn(found(node.clone(), members)));
    if *id == FIRST {
        lead(&node).await;
    }
    println!("ready flight=grpc://{own}");
    std::future::pending().await
}

/// Founds the cluster once all of it is there.
async fn found(node: Node, members: BTreeMap<NodeId, Member>) {
    while let Err(error) = node.bootstrap(members.clone()).await {
        if !matches!(error, ChangeError::Waiting { .. }) {
            eprintln!("node {}: {error}", node.id());
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // Any of them may become the leader; clients come to the first one.
    while node.status().leader != Some(FIRST) {
        if node.leadership().borrow().is_ready
            && let Err(error) = node.transfer_leader(FIRST).await
        {
            eprintln!("node {}: {error}", node.id());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Until this node leads.
async fn lead(node: &Node) {
    while !node.leadership().borrow().is_ready {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
