//! What a run is made of, what happens to it, and what is to be done.

use std::time::Duration;

use sheaf_pipeline::health::RestartPolicy;
use sheaf_pipeline::registry::PipelineState;

/// An instance, as the plan has it.
#[derive(Clone, Debug)]
pub(super) struct Planned {
    pub(super) place: String,
    pub(super) component: String,
    pub(super) drain: Duration,
    pub(super) policy: RestartPolicy,
    /// The last attempt of an earlier run; 0 where there was none.
    pub(super) attempt: u64,
    /// Which stop group it belongs to: sources are in the first.
    pub(super) depth: usize,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// The run begins.
    Begin,
    /// The driver has taken a start on.
    Started(String, u64),
    /// It has not.
    NotStarted(String, u64, String),
    /// An instance has ended: whether with success, for good, and why.
    Ended { place: String, attempt: u64, success: bool, final_: bool, why: String },
    /// It has registered.
    Registered(String),
    /// It has deregistered.
    Left(String),
    /// It is silent, or says that it is not well.
    Unhealthy(String, String),
    /// The run is to end.
    Stop { at_once: bool, reason: String },
    /// What all instances need cannot be had.
    Fail(String),
    /// A component, or one of its instances, is to be started again.
    Restart(String),
    /// Time has passed.
    Tick,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Start {
        place: String,
        attempt: u64,
    },
    Stop {
        place: String,
        attempt: u64,
        drain: Duration,
    },
    /// Nobody holds the place any more.
    Vacate {
        place: String,
        reason: String,
    },
    State(PipelineState, String),
    /// For people.
    Note {
        place: String,
        text: String,
    },
}
