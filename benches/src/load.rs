//! The loads that comparisons put on servers, each a process of its own.
//!
//! Each prints its result as JSON at the end. Times that two processes compare
//! are nanoseconds of the system's clock, which they share.

mod claims;
mod cluster;
mod echo;
mod flight;
mod jobs;
#[cfg(feature = "kafka")]
mod kafka;
mod mesh;
mod partition;
mod pick_up;
mod rows;
pub(crate) mod socket;
pub(crate) mod stage;
mod stock;
mod transitions;

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Subcommand;
use sheaf_flight::{ChannelPool, ClientConfig};
use sheaf_retry::SystemClock;
use sheaf_rpc::{RpcCoordinator, RpcOptions};

use crate::error::{Error, Result};

/// One load.
#[derive(Debug, Subcommand)]
pub(crate) enum Load {
    /// The embedded coordinator in this process, 64 callers, with fsync.
    Transitions {
        /// Where its database goes.
        folder: PathBuf,
        /// How many batches live their lives.
        batches: u64,
    },
    /// From a registration to the waiting worker's lease, over gRPC.
    PickUp {
        /// A server without workers.
        server: String,
        /// How often.
        count: u32,
    },
    /// A worker pool whose work is nothing: claims and settles until `jobs` are done.
    Worker {
        /// The server.
        server: String,
        /// How many.
        jobs: u64,
    },
    /// Registers jobs, one in each call, and waits until all are completed.
    Client {
        /// The server.
        server: String,
        /// How many.
        jobs: u64,
        /// Calls at once.
        callers: u32,
        /// Each job is a payload of one row, put and registered in one call.
        #[arg(long)]
        stored: bool,
    },
    /// Registers a job to an idle worker again and again.
    Trickle {
        /// The server.
        server: String,
        /// How many.
        jobs: u64,
        /// Between one and the next.
        pause_ms: u64,
    },
    /// A Flight client that does what it is told over a connection of its own.
    Flight(flight::Flight),
    /// A Flight server of arrow-flight as it comes, which keeps batches in memory.
    Stock,
    /// Our side of the comparison on Valkey: registers, claims or settles there.
    Claims(claims::Claims),
    /// Topics: to fill, to read and do nothing with, or to decode without Kafka.
    #[cfg(feature = "kafka")]
    #[command(subcommand)]
    Kafka(kafka::Kafka),
    /// Partitions batches in this process.
    Partition(partition::Partition),
    /// Serves and takes bytes over raw TCP: as many as each connection says.
    Socket,
    /// Answers messages with the same bytes.
    EchoServer(echo::EchoServer),
    /// Sends messages to such a server, so many at a time.
    EchoClient(echo::EchoClient),
    /// One node of a cluster of ours, with keys and values.
    ClusterNode(cluster::ClusterNode),
    /// Clients of such a cluster.
    ClusterClient(cluster::ClusterClient),
    /// One client of such a cluster, and how long it waited at the most.
    ClusterGap(cluster::ClusterGap),
    /// One of several processes that send messages to each other.
    MeshMessages(echo::Mesh),
    /// One of several processes that shuffle rows among themselves.
    MeshShuffle,
    /// One of several processes that send bytes to each other over raw TCP.
    MeshSocket,
    /// The source of a pipeline, at the place that its environment says.
    StageSource(stage::StageSource),
    /// The sink of a pipeline.
    StageSink(stage::StageSink),
}

/// Runs one load to its end.
pub(crate) fn run(load: Load) -> Result<()> {
    if matches!(load, Load::Socket) {
        return socket::serve();
    }
    #[cfg(feature = "kafka")]
    if let Load::Kafka(load) = load {
        return kafka::run(&load);
    }
    if matches!(load, Load::MeshSocket) {
        return mesh::socket::run();
    }
    match &load {
        Load::EchoServer(load) => return echo::serve(load),
        Load::EchoClient(load) => return echo::client(load),
        Load::MeshMessages(load) => return echo::mesh(load),
        _ => {}
    }
    if let Load::Partition(load) = &load {
        return partition::run(load);
    }
    if let Load::Claims(load) = load {
        // One thread, as the peers have: a core is the server's.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        return runtime.map_err(Error::io("start the runtime"))?.block_on(claims::run(load));
    }
    let runtime = tokio::runtime::Runtime::new().map_err(Error::io("start the runtime"))?;
    runtime.block_on(async {
        match load {
            Load::Transitions { folder, batches } => transitions::run(&folder, batches).await,
            Load::PickUp { server, count } => pick_up::run(&server, count).await,
            Load::Worker { server, jobs } => jobs::worker(&server, jobs).await,
            Load::Client { server, jobs, callers, stored } => {
                jobs::client(&server, jobs, callers, stored).await
            }
            Load::Trickle { server, jobs, pause_ms } => {
                jobs::trickle(&server, jobs, pause_ms).await
            }
            Load::Flight(load) => flight::run(load).await,
            Load::Stock => stock::serve().await,
            #[cfg(feature = "kafka")]
            Load::Kafka(_) => Ok(()),
            Load::ClusterNode(load) => cluster::serve(&load).await,
            Load::ClusterClient(load) => cluster::client(&load).await,
            Load::ClusterGap(load) => cluster::gap(&load).await,
            Load::StageSource(load) => stage::source(&load).await,
            Load::StageSink(load) => stage::sink(&load).await,
            Load::MeshShuffle => mesh::shuffle::run().await,
            // Above, without a runtime or with one of their own.
            Load::Claims(_)
            | Load::Partition(_)
            | Load::Socket
            | Load::MeshSocket
            | Load::EchoServer(_)
            | Load::EchoClient(_)
            | Load::MeshMessages(_) => Ok(()),
        }
    })
}

/// A client of the coordinator at `server` with a connection of its own.
fn coordinator(server: &str) -> Result<RpcCoordinator> {
    let clock = SystemClock::shared();
    let pool = ChannelPool::new(ClientConfig::default(), clock.clone());
    let target = server.parse()?;
    Ok(RpcCoordinator::new(pool, target, RpcOptions::default(), clock))
}

fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
