//! What a store counts.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// Counters of a store, all with the prefix `sheaf_store_`. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub(crate) puts: Counter,
    pub(crate) puts_repeated: Counter,
    pub(crate) puts_failed: Counter,
    pub(crate) put_bytes: Counter<u64, AtomicU64>,
    pub(crate) put_seconds: Histogram,
    pub(crate) reads: Counter,
    pub(crate) spilled_bytes: Counter<u64, AtomicU64>,
    pub(crate) dropped_cache_bytes: Counter<u64, AtomicU64>,
    pub(crate) refused: Counter,
    pub(crate) expired: Counter,
    pub(crate) deleted: Counter,
    pub(crate) corrupt: Counter,
    pub(crate) owner_failures: Counter,
    pub(crate) postponed: Counter,
    pub(crate) holds_lost: Counter,
    pub(crate) payloads: Gauge,
    pub(crate) memory_bytes: Gauge,
    pub(crate) disk_bytes: Gauge,
    pub(crate) holds: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics {
            puts: Counter::default(),
            puts_repeated: Counter::default(),
            puts_failed: Counter::default(),
            put_bytes: Counter::default(),
            put_seconds: Histogram::new(exponential_buckets(0.000_1, 4.0, 10)),
            reads: Counter::default(),
            spilled_bytes: Counter::default(),
            dropped_cache_bytes: Counter::default(),
            refused: Counter::default(),
            expired: Counter::default(),
            deleted: Counter::default(),
            corrupt: Counter::default(),
            owner_failures: Counter::default(),
            postponed: Counter::default(),
            holds_lost: Counter::default(),
            payloads: Gauge::default(),
            memory_bytes: Gauge::default(),
            disk_bytes: Gauge::default(),
            holds: Gauge::default(),
        }
    }
}

impl Metrics {
    /// Makes the counters part of a registry.
    pub fn register(&self, registry: &mut Registry) {
        let store = registry.sub_registry_with_prefix("sheaf_store");
        let counters = [
            ("puts", "Payloads stored", &self.puts),
            ("puts_repeated", "Puts of content that was there", &self.puts_repeated),
            ("puts_failed", "Puts that failed", &self.puts_failed),
            ("reads", "Payloads opened", &self.reads),
            ("refused", "Puts refused since memory was full", &self.refused),
            ("expired", "Payloads deleted after their time to live", &self.expired),
            ("deleted", "Payloads deleted by a call", &self.deleted),
            ("corrupt", "Files set aside as damaged", &self.corrupt),
            ("owner_failures", "Questions to the owner that failed", &self.owner_failures),
            ("postponed", "Deletions put off while payloads were held", &self.postponed),
            ("holds_lost", "Holds on payloads that nobody renewed", &self.holds_lost),
        ];
        for (name, help, counter) in counters {
            store.register(name, help, counter.clone());
        }
        let bytes = [
            ("put_bytes", "Bytes of payloads stored", &self.put_bytes),
            ("spilled_bytes", "Bytes written to make room in memory", &self.spilled_bytes),
            ("dropped_cache_bytes", "Bytes given up that disk has", &self.dropped_cache_bytes),
        ];
        for (name, help, counter) in bytes {
            store.register(name, help, counter.clone());
        }
        store.register("put_seconds", "Time of one put", self.put_seconds.clone());
        let gauges = [
            ("payloads", "Payloads there are", &self.payloads),
            ("memory_bytes", "Bytes of payloads in memory", &self.memory_bytes),
            ("disk_bytes", "Bytes of files", &self.disk_bytes),
            ("holds", "Who keeps every payload for now", &self.holds),
        ];
        for (name, help, gauge) in gauges {
            store.register(name, help, gauge.clone());
        }
    }
}
