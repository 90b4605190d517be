//! Who is there: components and workers, and the pipelines that they belong to.
//!
//! [`Registry`] is a function of (state, event, now): no I/O, no clock, no
//! tokio. What keeps it on disk and serves it is [`control`](crate::control).
//!
//! # What holds
//! 1. A source, processor or sink registers only in a place of a plan, with the
//!    token of that place and as the kind that the plan says.
//! 2. A place has one holder. Another incarnation takes it only once the holder
//!    has deregistered, was said to have ended, or is silent for longer than
//!    [`Timing::unhealthy_after`].
//! 3. Each incarnation that takes a place gets a fence, higher than any given out
//!    before, also before a restart of the control plane.
//! 4. The same incarnation may register again and changes nothing by it but what
//!    it says of itself. It is no sign of life: a helper may say it for a
//!    component that hangs.
//! 5. What comes of an incarnation that is not the holder is refused with
//!    [`Error::Stale`] and changes nothing.
//! 6. A beat counts if the component's own loop has come round since the one
//!    before. Who beats without that becomes unhealthy as who is silent does.
//! 7. Who was loaded from disk has from then on the time that everybody has:
//!    that the control plane was away is nobody's silence.
//! 8. Everything is bounded by [`Limits`]; what is refused changes nothing.

mod error;
mod events;
pub(crate) mod limits;
mod members;
mod model;
mod name;
mod pipeline;
mod plans;
mod schema;
mod token;
mod undo;
mod watched;
pub(crate) mod wire;

#[cfg(test)]
mod random_tests;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;

pub use error::Error;
pub(crate) use error::invalid;
pub use events::Event;
pub(crate) use events::Watchers;
pub use limits::{Limits, reason};
pub use members::Polled;
pub use model::{
    Beat, Change, Component, Connections, Counted, Filter, Kind, Load, Metadata, Now, PortSchema,
    Registered, Registration, RunTotals, Status, Totals,
};
pub use name::{CERTIFICATE_HOST, CONTROL_NAME, OPERATOR_NAME, certificate_name};
pub use pipeline::{
    Generation, MAX_GENERATIONS, Pipeline, PipelineState, Place, PlaceHealth, Plan, Run,
};
pub use schema::port_schema;
pub use token::{Token, TokenDigest, incarnation};
pub(crate) use undo::{Key, Touched};
pub use watched::{Pace, Watched};

use crate::health::Timing;

/// Bits of a fence below those of the epoch.
const FENCE_BITS: u32 = 32;

/// See the module.
#[derive(Debug)]
pub struct Registry {
    limits: Limits,
    timing: Timing,
    worker_token: Option<TokenDigest>,
    run: u64,
    last_fence: u64,
    components: BTreeMap<String, Arc<Component>>,
    pipelines: BTreeMap<String, Arc<Pipeline>>,
    /// Which place of which pipeline an id is.
    places: HashMap<String, (String, usize)>,
    /// What all of them weigh.
    bytes: usize,
    touched: Touched,
    changes: Vec<Change>,
}

/// A part of all components.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// In the order of their ids.
    pub components: Vec<Arc<Component>>,
    /// Whether there are more behind the last of them.
    pub more: bool,
}

impl Registry {
    /// An empty one. `epoch` is higher than that of any registry before whose
    /// fences may still be shown somewhere; `run` tells one process from another.
    pub fn new(limits: Limits, timing: Timing, epoch: u32, run: u64) -> Self {
        Registry {
            limits,
            timing,
            worker_token: None,
            run,
            last_fence: u64::from(epoch) << FENCE_BITS,
            components: BTreeMap::new(),
            pipelines: BTreeMap::new(),
            places: HashMap::new(),
            bytes: 0,
            touched: Touched::default(),
            changes: Vec::new(),
        }
    }

    /// Takes workers only that show this token.
    #[must_use]
    pub fn with_worker_token(mut self, token: Option<TokenDigest>) -> Self {
        self.worker_token = token;
        self
    }

    /// Which run of the control plane this is.
    pub fn run(&self) -> u64 {
        self.run
    }

    /// How health is told.
    pub fn timing(&self) -> &Timing {
        &self.timing
    }

    /// One component.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn component(&self, id: &str) -> Result<&Arc<Component>, Error> {
        let found = self.components.get(id);
        found.ok_or_else(|| Error::NotFound { what: "component", id: id.to_owned() })
    }

    /// At most `most` of the components that `filter` selects, behind the id `after`.
    pub fn page(&self, filter: &Filter, after: &str, most: usize) -> Page {
        let from = if after.is_empty() { Bound::Unbounded } else { Bound::Excluded(after) };
        let range = self.components.range::<str, _>((from, Bound::Unbounded));
        let mut selected = range.filter(|(_, component)| filter.selects(component));
        let components = selected.by_ref().take(most).map(|(_, found)| Arc::clone(found)).collect();
        Page { components, more: selected.next().is_some() }
    }

    /// All components that `filter` selects.
    pub fn select<'a>(&'a self, filter: &'a Filter) -> impl Iterator<Item = &'a Arc<Component>> {
        self.components.values().filter(|component| filter.selects(component))
    }

    /// One pipeline.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn pipeline(&self, id: &str) -> Result<&Arc<Pipeline>, Error> {
        let found = self.pipelines.get(id);
        found.ok_or_else(|| Error::NotFound { what: "pipeline", id: id.to_owned() })
    }

    /// All pipelines, in the order of their ids.
    pub fn pipelines(&self) -> impl Iterator<Item = &Arc<Pipeline>> {
        self.pipelines.values()
    }

    /// Components and places by kind and status.
    pub fn counts(&self) -> BTreeMap<(Kind, Status), u64> {
        let mut counts = BTreeMap::new();
        for component in self.components.values() {
            *counts.entry((component.kind, component.status)).or_insert(0) += 1;
        }
        counts
    }

    /// Bytes that count against [`Limits::bytes`].
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What has changed since it was asked last.
    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// Which records were changed since it was asked last, and what they were before.
    pub(crate) fn take_touched(&mut self) -> Touched {
        std::mem::take(&mut self.touched)
    }

    fn change(&mut self, component: &Arc<Component>, before: Option<Status>, now: Now) {
        let component = Arc::clone(component);
        self.changes.push(Change { component, before, at: now.wall, removed: false });
    }

    fn next_fence(&mut self) -> u64 {
        self.last_fence = self.last_fence.saturating_add(1);
        self.last_fence
    }
}
