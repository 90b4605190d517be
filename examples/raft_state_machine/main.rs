//! A state machine of one's own, replicated: names with values, which are set only if
//! they are what was expected. A snapshot of it is an Arrow stream, which any reader of
//! Arrow takes, and any node is read with all that was acknowledged before.
//!
//! ```text
//! cargo run -p sheaf-examples --example raft_state_machine
//! ```

#![allow(clippy::print_stdout, reason = "an example shows what happens")]

mod registers;

use std::error::Error;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use futures::future::{join_all, select_all};
use sheaf_raft::config::RaftClusterConfig;
use sheaf_raft::node::{RaftNode, RaftServer};
use sheaf_raft::replica::Replica as _;
use sheaf_raft::types::Member;

use registers::{Registers, swap};

type Server = RaftServer<Registers>;
type Failure = Box<dyn Error>;

/// A node that passes commands on to the leader, and takes a snapshot each hundred entries.
async fn start(cluster: &RaftClusterConfig, id: u64, folder: &Path) -> Result<Server, Failure> {
    let mut server = RaftServer::new(Registers::default(), folder.join(id.to_string()));
    server.initialize(RaftClusterConfig { node_id: id, ..cluster.clone() })?;
    server.start().await?;
    Ok(server)
}

/// What a node has under a name, with everything that any node acknowledged before.
async fn read(node: &RaftNode<Registers>, name: &str) -> Result<Option<i64>, Failure> {
    node.read_barrier().await?;
    let mut value = None;
    node.with_machine(&mut |registers| value = registers.get(name));
    Ok(value)
}

/// Splits the nodes: one that leads, and one that follows it.
async fn roles(servers: &[Server]) -> Result<[RaftNode<Registers>; 2], Failure> {
    let nodes: Vec<_> = servers.iter().filter_map(|server| server.node().cloned()).collect();
    let waits = nodes.iter().map(|node| {
        Box::pin(async { node.leadership().wait_for(|known| known.is_ready).await.map(drop) })
    });
    let (outcome, place, _) = select_all(waits).await;
    outcome?;
    let follower = nodes[(place + 1) % nodes.len()].clone();
    follower.wait_for_leader().await?;
    Ok([nodes[place].clone(), follower])
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let mut cluster = RaftClusterConfig::new("registers", 1);
    cluster.forward_proposals = true;
    cluster.snapshot_distance = 100;
    cluster.kept_entries = 10;
    let free = [1, 2, 3].map(|_| TcpListener::bind("127.0.0.1:0"));
    for (id, listener) in (1..).zip(free) {
        cluster = cluster.node(id, listener?.local_addr()?.to_string());
    }
    let starts = join_all((1..=3).map(|id| start(&cluster, id, folder.path()))).await;
    let mut servers = starts.into_iter().collect::<Result<Vec<_>, _>>()?;
    let [leader, follower] = roles(&servers).await?;
    println!("new: {:?}", follower.propose(swap("orders", None, 1)).await?);
    println!("late: {:?}", leader.propose(swap("orders", None, 7)).await?);
    println!("no command: {:?}", leader.propose("?".into()).await?);
    for number in 1..500 {
        leader.propose(swap("orders", Some(number), number + 1)).await?;
    }
    println!("read on a follower: {:?}", read(&follower, "orders").await?);

    // The leader forgets entries that a snapshot has: a new node can only begin with that.
    while leader.status().purged.is_none() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let new = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    let config = RaftClusterConfig { node_id: 4, ..cluster.clone() }.node(4, &new);
    let mut server = RaftServer::new(Registers::default(), folder.path().join("4"));
    server.initialize(config)?;
    let joined = server.join().await?;
    leader.add_learner(4, Member::new(vec![new])).await?;
    let known = leader.status().applied.unwrap_or(0);
    joined.applied().wait_for(|applied| *applied >= known).await?;
    println!("read on a new node: {:?}", read(&joined, "orders").await?);
    println!("it began with a snapshot: {}", joined.status().snapshot.is_some());
    println!("equal: {}", joined.digest() == leader.digest());
    servers.push(server);
    for mut server in servers {
        server.shutdown().await;
    }
    Ok(())
}
