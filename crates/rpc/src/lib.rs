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

mod actions;
mod call;
mod client;
mod directory;
pub mod json;
mod json_client;
mod restore;
mod service;
mod waits;

pub use actions::{CoordinatorActions, DEFAULT_LEASE};
pub use call::RpcOptions;
pub use client::{ClaimStream, RpcCoordinator};
pub use directory::{PayloadDirectory, PayloadFacts};
pub use json_client::JsonCoordinator;
pub use service::CoordinatorService;
pub use waits::Waits;
