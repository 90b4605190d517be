//! What a client counts.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use sheaf_retry::Retryable as _;

use crate::shuffle::error::Error;
use crate::shuffle::governor::Governor;

/// A stable code of an error: there are few.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByCode {
    code: &'static str,
}

/// Counters of a client and its clones.
#[derive(Clone, Debug, Default)]
pub(super) struct Metrics {
    sent_bytes: Counter,
    sent_chunks: Counter,
    committed_rows: Counter,
    committed_partitions: Counter,
    local_chunks: Counter,
    pub(super) retries: Counter,
    pub(super) memory_refusals: Counter,
    send_failures: Family<ByCode, Counter>,
    fetch_failures: Family<ByCode, Counter>,
}

impl Metrics {
    /// Has them show up as `sheaf_exchange_client_*`.
    pub(super) fn register(&self, governor: &Governor, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("sheaf_exchange_client");
        let counters = [
            ("sent_bytes", "Bytes of chunks that went out, again included", &self.sent_bytes),
            ("sent_chunks", "Chunks that went out, again included", &self.sent_chunks),
            ("committed_rows", "Rows of partitions that were committed", &self.committed_rows),
            ("committed_partitions", "Partitions committed", &self.committed_partitions),
            ("local_chunks", "Chunks handed over within the process", &self.local_chunks),
            ("retries", "Calls made again after a failure", &self.retries),
            ("memory_refusals", "Times that a worker had no memory", &self.memory_refusals),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
        let failures = "Partitions that could not be sent, by cause";
        registry.register("send_failures", failures, self.send_failures.clone());
        let failures = "Partitions that could not be read, by cause";
        registry.register("fetch_failures", failures, self.fetch_failures.clone());
        let gauge = governor.gauge();
        registry.register("in_flight_bytes", "Bytes sent and not taken yet, of the process", gauge);
    }

    pub(super) fn sent(&self, chunks: usize, bytes: usize) {
        self.sent_chunks.inc_by(chunks as u64);
        self.sent_bytes.inc_by(bytes as u64);
    }

    pub(super) fn handed_over(&self, chunks: usize) {
        self.local_chunks.inc_by(chunks as u64);
    }

    pub(super) fn committed(&self, rows: u64) {
        self.committed_partitions.inc();
        self.committed_rows.inc_by(rows);
    }

    pub(super) fn send_failed(&self, cause: &Error) {
        self.send_failures.get_or_create(&ByCode { code: cause.code().as_str() }).inc();
    }

    pub(super) fn fetch_failed(&self, cause: &Error) {
        self.fetch_failures.get_or_create(&ByCode { code: cause.code().as_str() }).inc();
    }
}
