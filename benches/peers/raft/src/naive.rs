//! A cluster on openraft as it is first written: its default way to send, one unary gRPC
//! call after the other to each follower, and entries in a vector.

mod log;
mod machine;
mod network;
mod service;

use std::sync::Arc;
use std::time::Duration;

use openraft::{BasicNode, Config, Raft, ReadPolicy, SnapshotPolicy};
use serde::{Deserialize, Serialize};

use crate::{Load, Result, key, measure};
use log::Log;
use machine::Machine;
use network::{Client, Network};

openraft::declare_raft_types!(
    pub TypeConfig:
        D = Put,
        R = u64,
        LeaderId = openraft::impls::leader_id_std::LeaderId<Self::Term, Self::NodeId>,
        AsyncRuntime = openraft_rt_tokio::TokioRuntime,
);

type Node = Raft<TypeConfig, Machine>;

/// Sets a key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Put {
    key: String,
    value: String,
}

impl std::fmt::Display for Put {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "put {}", self.key)
    }
}

/// Serves one node of those at the addresses, of which this is number `id` from 1. The
/// first one makes them a cluster.
pub async fn serve(id: u64, addresses: &str, folder: Option<&str>) -> Result<()> {
    let all: Vec<&str> = addresses.split(',').collect();
    let index = usize::try_from(id)?.checked_sub(1).ok_or("nodes are numbered from 1")?;
    let own = *all.get(index).ok_or("no address for this node")?;
    let config = Config {
        heartbeat_interval: 300,
        election_timeout_min: 1_500,
        election_timeout_max: 3_000,
        snapshot_policy: SnapshotPolicy::Never,
        ..Config::default()
    };
    let log = Log::open(folder.map(|folder| format!("{folder}/{id}.log")).as_deref())?;
    let machine = Machine::default();
    let node = Raft::new(id, Arc::new(config.validate()?), Network, log, machine.clone()).await?;
    let serving = tokio::spawn(service::serve(own.to_owned(), node.clone(), machine));
    if id == 1 {
        let nodes = (1..).zip(&all).map(|(id, address)| (id, BasicNode::new(*address)));
        node.initialize(nodes.collect::<std::collections::BTreeMap<u64, _>>()).await?;
    }
    println!("ready flight=grpc://{own}");
    serving.await?
}

/// What is asked of a node that is not of openraft's own.
#[derive(Debug, Serialize, Deserialize)]
pub enum Asked {
    Put(Put),
    Get(String),
}

async fn answer(node: &Node, machine: &Machine, asked: Asked) -> Result<bool> {
    match asked {
        Asked::Put(put) => {
            node.client_write(put).await?;
            Ok(true)
        }
        Asked::Get(key) => {
            node.ensure_linearizable(ReadPolicy::ReadIndex).await?;
            Ok(machine.has(&key))
        }
    }
}

/// What each request needs.
type Shared = (Client, Arc<str>);

pub async fn load(load: &Load) -> Result<()> {
    let value: Arc<str> = "v".repeat(load.size).into();
    let client = Client::to(load.endpoint.trim_start_matches("grpc://"))?;
    let shared = (client, value);
    // A new cluster has no leader yet.
    let start = std::time::Instant::now();
    while let Err(error) = put(shared.clone(), 0).await {
        if start.elapsed() > Duration::from_secs(15) {
            return Err(format!("this node takes no puts: {error}").into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    if load.puts {
        return measure::drive(load, shared, put).await;
    }
    let puts = (0..1_000).map(|number| put(shared.clone(), number));
    futures::future::try_join_all(puts).await?;
    measure::drive(load, shared, get).await
}

async fn put((client, value): Shared, number: u64) -> Result<()> {
    client.ask(&Asked::Put(Put { key: key(number), value: value.to_string() })).await.map(drop)
}

async fn get((client, _): Shared, number: u64) -> Result<()> {
    let found = client.ask(&Asked::Get(key(number % 1_000))).await?;
    if found { Ok(()) } else { Err("a key that was put is not there".into()) }
}
