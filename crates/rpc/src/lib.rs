//! The coordinator over the network: the same contract, three ways to reach it.
//!
//! | what | speaks | for |
//! |---|---|---|
//! | [`CoordinatorService`] and [`RpcCoordinator`] | gRPC `sheaf.coordinator.v1` | workers and tools of Sheaf |
//! | [`CoordinatorActions`] | Flight actions with JSON ([`json`]) | any Flight client, pyarrow included |
//! | [`JsonCoordinator`] | the same actions, as their client | where only the Flight port is open |
//!
//! Both clients are a [`Coordinator`](sheaf_coordinator::Coordinator) as the
//! embedded one is, and pass the same conformance suite through the wire.
//! Calls have deadlines and are sent again after transient errors; the
//! contract makes every one of them idempotent. Errors keep code and text, and
//! their variant where it can be told.
//!
//! [`PayloadDirectory`] is what the actions ask about payloads, so that a
//! plain client registers a batch that it has just put by its name alone.
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! use sheaf_coordinator::embedded::{Config, Embedded};
//! use sheaf_coordinator::{BatchSpec, ClaimRequest, Coordinator};
//! use sheaf_flight::{ChannelPool, ClientConfig, Exposure, FlightRouter, Listener, Server};
//! use sheaf_retry::SystemClock;
//! use sheaf_rpc::{
//!     CoordinatorActions, CoordinatorService, JsonCoordinator, RpcCoordinator, RpcOptions,
//! };
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // The server: one port with the gRPC service and the actions.
//! let clock = SystemClock::shared();
//! let embedded: Arc<dyn Coordinator> =
//!     Arc::new(Embedded::open(Config::memory(), clock.clone())?);
//! let actions = CoordinatorActions::new(embedded.clone(), clock.clone());
//! let router = FlightRouter::builder().actions(Arc::new(actions)).build()?;
//! let server = Server::new(router)
//!     .add_service(CoordinatorService::new(embedded).into_server())
//!     .serve(Listener::bind("127.0.0.1:0", "--flight-addr", Exposure::Loopback)?)
//!     .await?;
//!
//! // A producer through the actions, a worker through gRPC.
//! let pool = ChannelPool::new(ClientConfig::default(), clock.clone());
//! let connection = pool.connection(&server.uri())?;
//! let producer = JsonCoordinator::new(connection, RpcOptions::default(), clock.clone());
//! producer.register(vec![BatchSpec::new("orders:1".parse()?)]).await?;
//!
//! let target = server.uri().parse()?;
//! let worker = RpcCoordinator::new(pool, target, RpcOptions::default(), clock);
//! let request = ClaimRequest::new("worker-1", "claim-1", 16, Duration::from_secs(30));
//! assert_eq!(worker.claim(request).await?.leases[0].spec.id.as_str(), "orders:1");
//! # Ok(())
//! # }
//! ```

mod actions;
mod call;
mod client;
mod directory;
pub mod json;
mod json_client;
mod payloads;
mod restore;
mod service;
mod waits;

pub use actions::{CoordinatorActions, DEFAULT_LEASE, NoCoordinator};
pub use call::RpcOptions;
pub use client::{ClaimStream, RpcCoordinator};
pub use directory::{PayloadDirectory, PayloadFacts};
pub use json_client::JsonCoordinator;
pub use service::CoordinatorService;
pub use waits::Waits;
