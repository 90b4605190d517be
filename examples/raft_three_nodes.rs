//! Three nodes of a Raft cluster in one process: a leader is found, takes commands and stops,
//! and the other two go on without it.
//!
//! ```text
//! cargo run -p sheaf-examples --example raft_three_nodes
//! ```
#![allow(clippy::print_stdout, reason = "an example shows what happens")]

use std::error::Error;
use std::net::TcpListener;
use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::UInt64Type;
use arrow_array::{RecordBatch, UInt64Array};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use bytes::Bytes;
use sheaf_raft::config::RaftClusterConfig;
use sheaf_raft::machine::{Applied, MachineError, StateMachine};
use sheaf_raft::node::{RaftNode, RaftServer};
use sheaf_raft::replica::Replica as _;

/// What is replicated: the length of all commands together.
#[derive(Default)]
struct Sum {
    bytes: u64,
    snapshot: Option<u64>,
}

impl StateMachine for Sum {
    fn apply(&mut self, entry: Applied<'_>) -> Bytes {
        self.bytes += entry.command.len() as u64;
        self.bytes.to_string().into()
    }

    fn schema(&self) -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new("bytes", DataType::UInt64, false)]))
    }

    fn begin_snapshot(&mut self) -> Result<(), MachineError> {
        self.snapshot = Some(self.bytes);
        Ok(())
    }

    fn snapshot_part(&mut self) -> Result<Option<RecordBatch>, MachineError> {
        let Some(bytes) = self.snapshot.take() else { return Ok(None) };
        let column = Arc::new(UInt64Array::from(vec![bytes]));
        Ok(Some(RecordBatch::try_new(self.schema(), vec![column])?))
    }

    fn restore(
        &mut self,
        batches: &mut dyn Iterator<Item = Result<RecordBatch, MachineError>>,
    ) -> Result<(), MachineError> {
        let batch = batches.next().ok_or("the snapshot is empty")??;
        let column = batch.column(0).as_primitive_opt::<UInt64Type>();
        self.bytes = *column.and_then(|column| column.values().first()).ok_or("no number")?;
        Ok(())
    }

    fn digest(&mut self) -> u64 {
        self.bytes
    }
}

/// Waits until one of these nodes leads and has the whole state.
async fn leader(servers: &[RaftServer<Sum>]) -> Result<RaftNode<Sum>, Box<dyn Error>> {
    let nodes = servers.iter().filter_map(RaftServer::node);
    let waits = nodes.map(|node| async move {
        node.leadership().wait_for(|known| known.is_ready).await.map(|_| node.clone())
    });
    Ok(futures::future::select_all(waits.map(Box::pin)).await.0?)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let free = [1, 2, 3].map(|_| TcpListener::bind("127.0.0.1:0"));
    let mut cluster = RaftClusterConfig::new("demo-cluster", 1);
    for (id, listener) in (1..).zip(free) {
        cluster = cluster.node(id, listener?.local_addr()?.to_string());
    }
    let mut servers = Vec::new();
    for id in 1..=3 {
        let mut server = RaftServer::new(Sum::default(), folder.path().join(id.to_string()));
        server.initialize(RaftClusterConfig { node_id: id, ..cluster.clone() })?;
        server.start().await?;
        servers.push(server);
    }
    let first = leader(&servers).await?;
    println!("a leader of 3: {:?} bytes", first.propose("hello".into()).await?);
    servers.remove(usize::try_from(first.id() - 1)?).shutdown().await;
    let next = leader(&servers).await?;
    println!("another leader: {}", next.id() != first.id());
    println!("a leader of 2: {:?} bytes", next.propose(", again".into()).await?);
    for mut server in servers {
        server.shutdown().await;
    }
    Ok(())
}
