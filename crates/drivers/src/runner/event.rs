//! What a run is made of, what happens to it, and what is to be done.

use std::collections::BTreeSet;
use std::time::Duration;

use sheaf_pipeline::health::RestartPolicy;
use sheaf_pipeline::registry::PipelineState;

/// An instance, as the plan has it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Planned {
    pub(super) place: String,
    pub(super) component: String,
    pub(super) drain: Duration,
    pub(super) policy: RestartPolicy,
    /// The last attempt of an earlier run; 0 where there was none.
    pub(super) attempt: u64,
    /// Which stop group it belongs to: sources are in the first.
    pub(super) depth: usize,
    /// The places of those that send to it.
    pub(super) senders: Vec<String>,
    /// Those of them that get rid of nothing without it: over edges that are not durable.
    pub(super) direct: Vec<String>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
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
    /// It has deregistered, since nobody takes any more what it writes, and why.
    Closed(String, String),
    /// It is silent, or says that it is not well.
    Unhealthy(String, String),
    /// The run is to end.
    Stop { at_once: bool, reason: String },
    /// What all instances need cannot be had.
    Fail(String),
    /// A component, or one of its instances, is to be started again.
    Restart(String),
    /// Another plan is to take the place of this one: these places are to be empty for that.
    Reload { leaving: BTreeSet<String>, can_go_back: bool },
    /// It has. Of the places that were left, the holders of these have come to their end.
    Replanned { next: Vec<Planned>, done: BTreeSet<String> },
    /// It cannot: the one before goes on.
    NotReplanned,
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
    /// Those in these places are told to end, to be started again: whoever looks after the
    /// run next has to know.
    Hand(Vec<String>),
    /// Nobody is left in the places that were to be empty; who was told to end for that.
    Replan(BTreeSet<String>),
    /// What another plan needs runs; or why not.
    Reloaded(Result<(), String>),
    /// What another plan needs cannot be had: the one before is to come back.
    GoBack(String),
    /// For people.
    Note {
        place: String,
        text: String,
    },
}
