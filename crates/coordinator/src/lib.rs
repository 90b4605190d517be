//! The coordinator: what must still happen to every batch.
//!
//! [`Coordinator`] is the contract; [`embedded::Embedded`] keeps it in this
//! process, on a file, and [`engine::Engine`] is the part without input and
//! output that other backends share. [`wire`] turns the model into messages.
//! [`CoordinatorExt`] asks and waits over any of them.
//!
//! ```
//! use std::time::Duration;
//!
//! use sheaf_coordinator::embedded::{Config, Embedded};
//! use sheaf_coordinator::{
//!     BatchSpec, ClaimRequest, Coordinator, LeaseRef, Outcome, Resolution, SettleRequest, Verdict,
//! };
//! use sheaf_retry::SystemClock;
//!
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! let coordinator = Embedded::open(Config::memory(), SystemClock::shared())?;
//! coordinator.register(vec![BatchSpec::new("orders:1".parse()?)]).await?;
//!
//! let request = ClaimRequest::new("worker-1", "claim-1", 16, Duration::from_secs(30));
//! let claim = coordinator.claim(request).await?;
//! let lease = &claim.leases[0];
//!
//! let done = Outcome {
//!     lease: LeaseRef { id: lease.spec.id.clone(), fence: lease.fence },
//!     resolution: Resolution::Completed,
//!     error: None,
//!     outputs: Vec::new(),
//!     delay: Duration::ZERO,
//! };
//! let request = SettleRequest { outcomes: vec![done], ..SettleRequest::default() };
//! let reply = coordinator.settle(request).await?;
//! assert_eq!(reply.outcomes[0].verdict, Verdict::Applied);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod backend;
#[cfg(feature = "conformance")]
pub mod conformance;
mod contract;
mod difference;
pub mod embedded;
pub mod engine;
mod ext;
pub mod limits;
pub mod migration;
mod model;
mod policy;
mod request;
mod tracker;
pub mod wire;

pub use contract::{Coordinator, Error};
pub use ext::CoordinatorExt;
pub use model::{
    Batch, BatchSpec, DEFAULT_QUEUE, Failure, Fence, Holder, OnParentFailure, Progress, Resolution,
    State,
};
pub use policy::{QueuePolicy, RateLimit};
pub use request::{
    Answer, Change, Claim, ClaimRequest, Control, ControlReply, Direction, Event, Extended,
    Extension, History, Lease, LeaseRef, Lineage, LineageLink, LineageNode, LineageQuery,
    ListFilter, Outcome, Page, Position, PurgeFilter, Query, QueueStats, Recovered, Registered,
    Run, SettleReply, SettleRequest, Settled, Standing, Verdict, WatchFilter,
};
pub use tracker::{BatchTracker, MAX_TRACKED};
