//! A replicated state machine over Arrow Flight, and the coordinator as one.
//!
//! ```
//! use std::sync::Arc;
//!
//! use sheaf_coordinator::{BatchSpec, Coordinator as _, CoordinatorExt as _, State};
//! use sheaf_flight::ClientConfig;
//! use sheaf_raft::config::RaftClusterConfig;
//! use sheaf_raft::coordinator::{Config, EngineMachine, RaftCoordinator, RpcForward};
//! use sheaf_raft::node::RaftServer;
//! use sheaf_retry::SystemClock;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let directory = tempfile::tempdir()?;
//! let address = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
//! // One node; others have a line each, and are started alike elsewhere.
//! let config = RaftClusterConfig::new("orders", 1).node(1, address.to_string());
//!
//! let mut server = RaftServer::new(EngineMachine::new(), directory.path());
//! server.initialize(config)?;
//! let node = server.start().await?;
//!
//! let clock = SystemClock::shared();
//! let forward = Arc::new(RpcForward::new(ClientConfig::default(), clock.clone()));
//! let coordinator = RaftCoordinator::start(Arc::new(node), Config::new(1), forward, clock);
//! let id = "flights:1".parse()?;
//! coordinator.register(vec![BatchSpec::new(id)]).await?;
//! let batch = coordinator.get(&"flights:1".parse()?).await?;
//! assert_eq!(batch.map(|batch| batch.state), Some(State::Pending));
//! coordinator.close().await;
//! server.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! # Parts
//!
//! | question | answer |
//! |---|---|
//! | How is a cluster run? | [`guide`] |
//! | What can be replicated? | [`machine::StateMachine`]: five rules |
//! | How is a node started? | [`node::RaftServer`] with a port of its own, [`node::RaftNode`] on one that others serve |
//! | What can be asked of it? | [`replica::Replica`]: propose, read, who leads; [`node::RaftNode`] changes the members |
//! | What is it told? | [`config::RaftClusterConfig`] |
//! | How do people ask it? | [`admin::RaftActions`] |
//! | What is on disk? | [`log`], [`snapshot`] |
//! | How do nodes talk? | [`network`], over `sheaf-raft-transport` or anything else |
//! | The coordinator? | [`coordinator`] |

pub mod admin;
pub mod apply;
mod blocking;
pub mod config;
pub mod coordinator;
pub mod guide {
    #![doc = include_str!("guide.md")]
}
pub mod log;
pub mod machine;
pub mod network;
pub mod node;
pub mod replica;
pub mod snapshot;
mod stored;
#[cfg(test)]
mod testing;
pub mod types;
