//! What a control plane counts.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry as MetricsRegistry;
use sheaf_retry::Retryable as _;

use crate::registry::{Change, Counted, Error, Kind, PipelineState, Polled, Registry, Status};

type Label = [(&'static str, &'static str); 1];
type Labels = [(&'static str, &'static str); 2];

/// Cheap to clone; all clones count the same.
#[derive(Clone, Debug)]
pub(super) struct Metrics {
    components: Family<Labels, Gauge>,
    pipelines: Family<Label, Gauge>,
    changes: Family<Labels, Counter>,
    registrations: Family<Label, Counter>,
    beats: Family<Label, Counter>,
    polls: Family<Label, Counter>,
    refused: Family<Label, Counter>,
    failures: Counter,
    damaged: Gauge,
    watchers: Gauge,
    bytes: Gauge,
}

impl Metrics {
    pub(super) fn new() -> Self {
        Metrics {
            components: Family::default(),
            pipelines: Family::default(),
            changes: Family::default(),
            registrations: Family::default(),
            beats: Family::default(),
            polls: Family::default(),
            refused: Family::default(),
            failures: Counter::default(),
            damaged: Gauge::default(),
            watchers: Gauge::default(),
            bytes: Gauge::default(),
        }
    }

    pub(super) fn register(&self, registry: &mut MetricsRegistry) {
        let registry = registry.sub_registry_with_prefix("sheaf_control");
        let components = self.components.clone();
        registry.register("components", "Components and places by type and status", components);
        registry.register("pipelines", "Pipelines by state", self.pipelines.clone());
        let changes = self.changes.clone();
        registry.register("changes", "Components that went into a status", changes);
        let registrations = self.registrations.clone();
        registry.register("registrations", "Registrations, new ones and repeated", registrations);
        registry.register("beats", "Beats, by what became of them", self.beats.clone());
        registry.register("polls", "Looks at health endpoints", self.polls.clone());
        registry.register("refused", "Calls that were refused, by code", self.refused.clone());
        let failures = self.failures.clone();
        registry.register("commit_failures", "Writes of the state file that failed", failures);
        let damaged = self.damaged.clone();
        registry.register("damaged_records", "Records left out when it was opened", damaged);
        registry.register("watchers", "Readers of events", self.watchers.clone());
        registry.register(
            "held_bytes",
            "What counts against the limit of bytes",
            self.bytes.clone(),
        );
    }

    pub(super) fn opened(&self, damaged: usize) {
        self.damaged.set(i64::try_from(damaged).unwrap_or(i64::MAX));
    }

    pub(super) fn changed(&self, change: &Change) {
        let kind = change.component.kind.as_str();
        let to = if change.removed { "removed" } else { change.component.status.as_str() };
        self.changes.get_or_create(&[("type", kind), ("to", to)]).inc();
    }

    pub(super) fn registered(&self, created: bool) {
        let created = if created { "true" } else { "false" };
        self.registrations.get_or_create(&[("created", created)]).inc();
    }

    pub(super) fn beat(&self, counted: Counted) {
        let outcome = match counted {
            Counted::Yes => "counted",
            Counted::Stalled => "stalled",
            Counted::Repeated => "repeated",
        };
        self.beats.get_or_create(&[("outcome", outcome)]).inc();
    }

    pub(super) fn polled(&self, polled: &Polled) {
        let outcome = if *polled == Polled::Well { "well" } else { "failed" };
        self.polls.get_or_create(&[("outcome", outcome)]).inc();
    }

    pub(super) fn refused(&self, error: &Error) {
        self.refused.get_or_create(&[("code", error.code().as_str())]).inc();
    }

    pub(super) fn failed(&self) {
        self.failures.inc();
    }

    /// After every group of calls.
    pub(super) fn count(&self, registry: &Registry, watchers: usize) {
        let gauge = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        let counts = registry.counts();
        for kind in Kind::ALL {
            for status in Status::ALL {
                let count = counts.get(&(kind, status)).copied().unwrap_or(0);
                let labels = [("type", kind.as_str()), ("status", status.as_str())];
                let count = i64::try_from(count).unwrap_or(i64::MAX);
                self.components.get_or_create(&labels).set(count);
            }
        }
        for state in PipelineState::ALL {
            let count = registry.pipelines().filter(|pipeline| pipeline.state == state).count();
            self.pipelines.get_or_create(&[("state", state.as_str())]).set(gauge(count));
        }
        self.watchers.set(gauge(watchers));
        self.bytes.set(gauge(registry.bytes()));
    }
}
