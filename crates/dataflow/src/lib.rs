//! Components of pipelines: what they implement, and how batches go from one to the next.
//!
//! A component is a process of its own that speaks Arrow Flight. It implements [`Source`],
//! [`Processor`] or [`Sink`], and is told by its [`Assignment`] which place of the pipeline
//! it takes, whom it reads and who reads it.

mod assignment;
mod component;
mod durable;
mod error;
mod host;
mod inlet;
mod ledger;
mod look;
mod offset;
mod options;
mod outlet;
mod own;
mod pace;
mod resident;
mod secure;
mod spans;
mod stats;
mod wire;

pub use assignment::{
    ASSIGNMENT_VARIABLE, Assignment, DurableAssignment, InputAssignment, OutputAssignment, Peer,
    TlsAssignment,
};
pub use component::{
    AnyComponent, BatchLease, Made, Outcome, Processor, Received, Sink, Source, Start,
};
pub use durable::{ReplayFrom, Replayed, replay};
pub use error::{ComponentError, exit_code};
pub use host::{CLOSED, DONE, Host, UNDRAINED, done_reason, run};
pub use look::{Glimpse, Look};
pub use options::Options;
pub use own::Component;
pub use sheaf_proto::SharedTracer;
