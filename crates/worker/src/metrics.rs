//! What a pool counts.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// How an attempt ended, as a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum Ending {
    Completed,
    Failed,
    Released,
    Lost,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct EndingLabel {
    result: Ending,
}

/// Counters of a pool, all with the prefix `sheaf_worker_`.
#[derive(Clone, Debug)]
pub struct Metrics {
    attempts: Family<EndingLabel, Counter>,
    pub(crate) rows: Counter,
    pub(crate) bytes: Counter,
    pub(crate) running: Gauge,
    pub(crate) prefetched: Gauge,
    pub(crate) seconds: Histogram,
    pub(crate) panics: Counter,
    pub(crate) call_failures: Counter<u64, AtomicU64>,
}

impl Default for Metrics {
    fn default() -> Self {
        let attempts = Family::<EndingLabel, Counter>::default();
        // From 0 on: an alert on their increase does not see a series that begins with 1.
        for result in [Ending::Completed, Ending::Failed, Ending::Released, Ending::Lost] {
            drop(attempts.get_or_create(&EndingLabel { result }));
        }
        Metrics {
            attempts,
            rows: Counter::default(),
            bytes: Counter::default(),
            running: Gauge::default(),
            prefetched: Gauge::default(),
            seconds: Histogram::new(exponential_buckets(0.000_5, 4.0, 12)),
            panics: Counter::default(),
            call_failures: Counter::default(),
        }
    }
}

impl Metrics {
    /// Counters that show up in `registry`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Metrics::default();
        let registry = registry.sub_registry_with_prefix("sheaf_worker");
        registry.register("attempts", "Attempts by how they ended", metrics.attempts.clone());
        registry.register("rows", "Rows of completed batches", metrics.rows.clone());
        registry.register("payload_bytes", "Bytes of completed batches", metrics.bytes.clone());
        registry.register("running", "Batches worked on now", metrics.running.clone());
        registry.register("prefetched", "Batches that wait here", metrics.prefetched.clone());
        registry.register("attempt_seconds", "Length of attempts", metrics.seconds.clone());
        registry.register("panics", "Attempts that panicked", metrics.panics.clone());
        registry.register(
            "coordinator_call_failures",
            "Calls to the coordinator that failed and were sent again",
            metrics.call_failures.clone(),
        );
        metrics
    }

    pub(crate) fn ended(&self, result: Ending) {
        self.attempts.get_or_create(&EndingLabel { result }).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_ending_is_counted_from_zero_on() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        metrics.ended(Ending::Lost);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for (result, count) in [("Completed", 0), ("Failed", 0), ("Released", 0), ("Lost", 1)] {
            let line = format!("sheaf_worker_attempts_total{{result=\"{result}\"}} {count}\n");
            assert!(text.contains(&line), "{line} in {text}");
        }
    }
}
