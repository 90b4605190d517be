//! What an embedded coordinator counts.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::engine::Effects;
use crate::model::State;

type Label = [(&'static str, &'static str); 1];

fn label(state: State) -> Label {
    [("state", state.as_str())]
}

/// What a coordinator counts, by the names `sheaf_coordinator_*`. Cheap to clone; all
/// clones count the same.
#[derive(Clone, Debug)]
pub struct Metrics {
    transitions: Family<Label, Counter>,
    purged: Counter,
    batches: Family<Label, Gauge>,
    /// Claims answered with work.
    pub claims: Counter,
    /// Batches given under lease.
    pub claimed: Counter,
    /// Claims that wait for work.
    pub waiting: Gauge,
    /// Commits that failed.
    pub failures: Counter,
    wait: Histogram,
    commit: Histogram,
    group: Histogram,
    next_count: std::sync::Arc<AtomicU64>,
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics::new()
    }
}

impl Metrics {
    /// Nothing is counted yet.
    pub fn new() -> Self {
        Metrics {
            transitions: Family::default(),
            purged: Counter::default(),
            batches: Family::default(),
            claims: Counter::default(),
            claimed: Counter::default(),
            waiting: Gauge::default(),
            failures: Counter::default(),
            wait: Histogram::new(exponential_buckets(0.000_25, 4.0, 12)),
            commit: Histogram::new(exponential_buckets(0.000_1, 2.0, 14)),
            group: Histogram::new(exponential_buckets(1.0, 4.0, 8)),
            next_count: std::sync::Arc::default(),
        }
    }

    /// Adds them to a registry.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("sheaf_coordinator");
        registry.register(
            "transitions",
            "Batches that went into a state",
            self.transitions.clone(),
        );
        registry.register("purged", "Terminal batches that were removed", self.purged.clone());
        registry.register("batches", "Batches in a state", self.batches.clone());
        registry.register("claims", "Claims answered with work", self.claims.clone());
        registry.register("claimed", "Batches given under lease", self.claimed.clone());
        registry.register("waiting_claims", "Claims that wait for work", self.waiting.clone());
        registry.register("commit_failures", "Commits that failed", self.failures.clone());
        registry.register_with_unit(
            "wait",
            "How long a batch was pending before it was claimed",
            Unit::Seconds,
            self.wait.clone(),
        );
        registry.register_with_unit(
            "commit",
            "Duration of a commit, fsync included",
            Unit::Seconds,
            self.commit.clone(),
        );
        registry.register("commit_records", "Records of one commit", self.group.clone());
    }

    /// Counts what a group of calls did, and how long it took where it was stored.
    pub fn committed(&self, effects: &Effects, took: Option<Duration>) {
        for (state, count) in State::ALL.into_iter().zip(effects.transitions) {
            if count > 0 {
                self.transitions.get_or_create(&label(state)).inc_by(count);
            }
        }
        self.purged.inc_by(effects.removed.len() as u64);
        effects.waited.iter().for_each(|waited| self.wait.observe(waited.as_secs_f64()));
        if let Some(took) = took {
            self.stored(took, effects.written.len() + effects.removed.len());
        }
    }

    /// Counts a commit of so many records, or calls.
    pub fn stored(&self, took: Duration, count: usize) {
        self.commit.observe(took.as_secs_f64());
        self.group.observe(count as f64);
    }

    /// Takes down how many batches are in each state, at most ten times a second:
    /// counting all queues costs something.
    pub fn count(&self, elapsed: Duration, totals: impl FnOnce() -> [u64; State::ALL.len()]) {
        use std::sync::atomic::Ordering::Relaxed;
        let millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        if millis < self.next_count.load(Relaxed) {
            return;
        }
        self.next_count.store(millis.saturating_add(100), Relaxed);
        for (state, count) in State::ALL.into_iter().zip(totals()) {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.batches.get_or_create(&label(state)).set(count);
        }
    }
}
