//! What a store counts.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use sheaf_retry::{Code, Retryable as _};

use crate::error::Error;

/// Puts that failed with one of these failed for a reason of this machine: they
/// are logged, and counted from 0 on, so that an alert sees the first.
const OURS: [Code; 4] = [Code::DiskFull, Code::Io, Code::Corrupt, Code::Internal];

/// Bytes of payloads by the name of the token that they were put with.
pub(crate) type OwnerBytes = Family<[(&'static str, String); 1], Gauge>;

/// Counters of a store, all with the prefix `sheaf_store_`. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub(crate) puts: Counter,
    pub(crate) puts_repeated: Counter,
    puts_failed: Family<[(&'static str, &'static str); 1], Counter>,
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
    pub(crate) shared: Counter,
    pub(crate) payloads: Gauge,
    pub(crate) memory_bytes: Gauge,
    pub(crate) disk_bytes: Gauge,
    pub(crate) holds: Gauge,
    pub(crate) shared_now: Gauge,
    pub(crate) owner_bytes: OwnerBytes,
}

impl Default for Metrics {
    fn default() -> Self {
        let puts_failed = Family::<[(&'static str, &'static str); 1], Counter>::default();
        for code in OURS {
            drop(puts_failed.get_or_create(&[("code", code.as_str())]));
        }
        Metrics {
            puts: Counter::default(),
            puts_repeated: Counter::default(),
            puts_failed,
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
            shared: Counter::default(),
            payloads: Gauge::default(),
            memory_bytes: Gauge::default(),
            disk_bytes: Gauge::default(),
            holds: Gauge::default(),
            shared_now: Gauge::default(),
            owner_bytes: OwnerBytes::default(),
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
            ("reads", "Payloads opened", &self.reads),
            ("refused", "Puts refused since memory was full", &self.refused),
            ("expired", "Payloads deleted after their time to live", &self.expired),
            ("deleted", "Payloads deleted by a call", &self.deleted),
            ("corrupt", "Files set aside as damaged", &self.corrupt),
            ("owner_failures", "Questions to the owner that failed", &self.owner_failures),
            ("postponed", "Deletions put off while payloads were held", &self.postponed),
            ("holds_lost", "Holds on payloads that nobody renewed", &self.holds_lost),
            ("shared", "Payloads handed over as shared memory", &self.shared),
        ];
        for (name, help, counter) in counters {
            store.register(name, help, counter.clone());
        }
        store.register("puts_failed", "Puts that failed, by code", self.puts_failed.clone());
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
            ("shared_leases", "Clients that have a payload as shared memory", &self.shared_now),
        ];
        for (name, help, gauge) in gauges {
            store.register(name, help, gauge.clone());
        }
        let help = "Bytes of payloads, those on their way in too, by the name of their token";
        store.register("owner_bytes", help, self.owner_bytes.clone());
    }

    /// Counts a put that failed.
    pub(crate) fn put_failed(&self, error: &Error) {
        let code = put_code(error).as_str();
        self.puts_failed.get_or_create(&[("code", code)]).inc();
    }
}

/// The code by which a put that failed is counted.
fn put_code(error: &Error) -> Code {
    match (error, error.code()) {
        // Whatever broke a client's stream, it was nothing of this store.
        (Error::Stream(_), code) if OURS.contains(&code) => Code::Unavailable,
        (_, code) => code,
    }
}

/// Whether a put failed for a reason of this machine.
pub(crate) fn is_ours(error: &Error) -> bool {
    OURS.contains(&put_code(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_of_clients_and_faults_of_this_machine_are_told_apart() {
        let (metrics, mut registry) = (Metrics::default(), Registry::default());
        metrics.register(&mut registry);
        let shown = || {
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
            text
        };
        let line = |code: &str, count: u32| {
            format!("sheaf_store_puts_failed_total{{code=\"{code}\"}} {count}\n")
        };
        let before = shown();
        for code in ["disk_full", "io", "corrupt", "internal"] {
            assert!(before.contains(&line(code, 0)), "{code} in {before}");
        }
        let broken = |code| Error::Stream(sheaf_flight::Error::new(code, "the stream broke"));
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        for (error, ours) in [
            (broken(Code::Internal), false),
            (broken(Code::MalformedData), false),
            (Error::NoDirectory, false),
            (Error::TaskLost, true),
            (Error::DiskFull { path: "x".into(), source: full }, true),
        ] {
            metrics.put_failed(&error);
            assert_eq!(is_ours(&error), ours, "{error}");
        }
        let after = shown();
        for (code, count) in [
            ("unavailable", 1),
            ("malformed_data", 1),
            ("failed_precondition", 1),
            ("internal", 1),
            ("disk_full", 1),
            ("io", 0),
        ] {
            assert!(after.contains(&line(code, count)), "{code} in {after}");
        }
    }
}
