//! What the receiving side counts.

use std::ops::{AddAssign, SubAssign};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Counters of an [`Exchange`](super::Exchange), all with the prefix
/// `sheaf_exchange_`. Cheap to clone.
///
/// None has a label: queries and stages have no end, and a series never goes.
/// Their numbers are in [`Exchange::stats`](super::Exchange::stats).
#[derive(Clone, Debug, Default)]
pub struct ReceiverMetrics {
    pub(super) chunks: Counter,
    pub(super) bytes: Counter,
    pub(super) duplicates: Counter,
    pub(super) checksum_failures: Counter,
    pub(super) refused: Counter,
    pub(super) idled_out: Counter,
    pub(super) attempts_idled_out: Counter,
    pub(super) spilled_bytes: Counter,
    pub(super) spill_read_bytes: Counter,
    pub(super) spill_failures: Counter,
    pub(super) spill_corrupt: Counter,
    pub(super) spill_bytes: Gauge,
    pub(super) readers_waiting: Gauge,
    pub(super) counts: Counts,
}

/// What the table counts by itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    pub(super) rows: Counter,
    pub(super) attempts_replaced: Counter,
    pub(super) attempts_open: Gauge,
    pub(super) partitions: Gauge,
    pub(super) queries: Gauge,
    pub(super) memory_bytes: Gauge,
    /// Of this exchange: what it decides by, metrics or not.
    pub(super) own: Arc<Own>,
}

/// What one exchange has.
#[derive(Debug, Default)]
pub(super) struct Own {
    /// Bytes of chunks in memory.
    resident: AtomicU64,
    /// Attempts that have begun and not ended.
    open: AtomicUsize,
    /// Calls that send.
    calls: AtomicUsize,
    /// When something of a sender came or a call of one ended, in microseconds.
    heard: AtomicU64,
}

impl Own {
    pub(super) fn resident(&self) -> u64 {
        self.resident.load(Ordering::Relaxed)
    }

    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    pub(super) fn calls(&self) -> &AtomicUsize {
        &self.calls
    }

    pub(super) fn heard(&self) -> Duration {
        Duration::from_micros(self.heard.load(Ordering::Relaxed))
    }

    pub(super) fn hear(&self, now: Duration) {
        let now = u64::try_from(now.as_micros()).unwrap_or(u64::MAX);
        self.heard.fetch_max(now, Ordering::Relaxed);
    }
}

/// An attempt that is open, for as long as this lives.
#[derive(Debug)]
pub(super) struct CountedOpen {
    _shown: Counted,
    own: Arc<Own>,
}

impl CountedOpen {
    pub(super) fn new(counts: &Counts) -> Self {
        let own = Arc::clone(&counts.own);
        own.open.fetch_add(1, Ordering::Relaxed);
        CountedOpen { _shown: Counted::new(&counts.attempts_open), own }
    }
}

impl Drop for CountedOpen {
    fn drop(&mut self) {
        self.own.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One more of something, for as long as this lives.
#[derive(Debug)]
pub(super) struct Counted(Gauge);

impl Counted {
    pub(super) fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Counted(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Bytes in memory that are part of a sum too, for as long as this lives.
#[derive(Debug)]
pub(super) struct Gauged {
    bytes: u64,
    gauge: Gauge,
    own: Arc<Own>,
}

impl Gauged {
    /// None so far.
    pub(super) fn new(counts: &Counts) -> Self {
        Gauged { bytes: 0, gauge: counts.memory_bytes.clone(), own: Arc::clone(&counts.own) }
    }

    pub(super) fn get(&self) -> u64 {
        self.bytes
    }
}

impl AddAssign<u64> for Gauged {
    fn add_assign(&mut self, bytes: u64) {
        self.bytes += bytes;
        self.own.resident.fetch_add(bytes, Ordering::Relaxed);
        self.gauge.inc_by(bytes.cast_signed());
    }
}

impl SubAssign<u64> for Gauged {
    fn sub_assign(&mut self, bytes: u64) {
        self.bytes -= bytes;
        self.own.resident.fetch_sub(bytes, Ordering::Relaxed);
        self.gauge.dec_by(bytes.cast_signed());
    }
}

impl Drop for Gauged {
    fn drop(&mut self) {
        self.own.resident.fetch_sub(self.bytes, Ordering::Relaxed);
        self.gauge.dec_by(self.bytes.cast_signed());
    }
}

impl ReceiverMetrics {
    /// Makes the counters part of a registry.
    pub fn register(&self, registry: &mut Registry) {
        let exchange = registry.sub_registry_with_prefix("sheaf_exchange");
        let counts = &self.counts;
        let counters = [
            ("received_chunks", "Chunks taken from senders", &self.chunks),
            ("received_rows", "Rows taken from senders", &counts.rows),
            ("received_bytes", "Bytes of chunks taken from senders", &self.bytes),
            ("duplicates", "Chunks that came again and changed nothing", &self.duplicates),
            ("attempts_replaced", "Attempts that began after another", &counts.attempts_replaced),
            ("checksum_failures", "Chunks that came damaged", &self.checksum_failures),
            ("refused", "Calls of senders refused since memory was full", &self.refused),
            ("idled_out", "Queries dropped since nobody used them", &self.idled_out),
            ("attempts_idled_out", "Attempts of dead senders dropped", &self.attempts_idled_out),
            ("spilled_bytes", "Bytes of chunks moved to disk", &self.spilled_bytes),
            ("spill_read_bytes", "Bytes of chunks read back", &self.spill_read_bytes),
            ("spill_failures", "Times that chunks could not be moved", &self.spill_failures),
            ("spill_corrupt", "Chunks that were damaged on disk", &self.spill_corrupt),
        ];
        for (name, help, counter) in counters {
            exchange.register(name, help, counter.clone());
        }
        let gauges = [
            ("memory_bytes", "Bytes of chunks in memory", &counts.memory_bytes),
            ("spill_bytes", "Bytes of files of chunks", &self.spill_bytes),
            ("readers_waiting", "Readers that wait for senders", &self.readers_waiting),
            ("attempts_open", "Attempts that have begun and not ended", &counts.attempts_open),
            ("partitions", "Partitions there are", &counts.partitions),
            ("queries", "Queries there are", &counts.queries),
        ];
        for (name, help, gauge) in gauges {
            exchange.register(name, help, gauge.clone());
        }
    }
}
