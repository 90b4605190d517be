//! The coordinator: what must still happen to every batch.

mod contract;
pub mod engine;
pub mod limits;
mod model;
mod request;
pub mod wire;

pub use contract::{Coordinator, Error};
pub use model::{
    Batch, BatchSpec, DEFAULT_QUEUE, Failure, Fence, Holder, OnParentFailure, Progress, Resolution,
    State,
};
pub use request::{
    Answer, Change, Claim, ClaimRequest, Control, ControlReply, Event, Extended, Extension, Lease,
    LeaseRef, ListFilter, Outcome, Page, PurgeFilter, Query, QueueStats, Recovered, Registered,
    SettleReply, SettleRequest, Settled, Standing, Verdict, WatchFilter,
};
