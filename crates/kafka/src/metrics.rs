//! What the gateway counts.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// The prefix of all names where no other is asked for.
pub const NAMESPACE: &str = "sheaf";

type ByTopic<M> = Family<[(&'static str, String); 1], M>;
type Count = Counter<u64, AtomicU64>;
type Share = Gauge<f64, AtomicU64>;

/// Counters of a gateway, by topic. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    messages: ByTopic<Count>,
    batches: ByTopic<Count>,
    processed: ByTopic<Count>,
    dropped: ByTopic<Count>,
    expired: ByTopic<Count>,
    dead_letters: ByTopic<Count>,
    rows_served: ByTopic<Count>,
    bytes_served: ByTopic<Count>,
    memory_bytes: ByTopic<Gauge>,
    memory_percent: ByTopic<Share>,
    utilization: ByTopic<Share>,
    readers: ByTopic<Gauge>,
    lag: ByTopic<Gauge>,
    paused: ByTopic<Gauge>,
    streams: Gauge,
    commits: Count,
    commits_failed: Count,
    commit_age: Share,
    recreated: Count,
    persisted: Count,
    persist_failures: Count,
    memory_limit: u64,
}

impl Metrics {
    /// All of them at 0; percentages of memory are of this limit in bytes.
    pub fn new(memory_limit: u64) -> Self {
        Metrics { memory_limit, ..Metrics::default() }
    }

    /// Shows them under names that begin with `namespace` and an underscore.
    pub fn register(&self, registry: &mut Registry, namespace: &str) {
        let registry = registry.sub_registry_with_prefix(namespace);
        let by_topic = [
            ("kafka_messages", "Messages read from Kafka", &self.messages),
            ("record_batches_created", "Record batches made of messages", &self.batches),
            ("stream_records_processed", "Rows that streams took in", &self.processed),
            ("stream_records_dropped", "Rows that went unread for want of room", &self.dropped),
            ("stream_records_expired", "Rows that went after the time to live", &self.expired),
            ("dead_letters", "Messages that could not be read as rows", &self.dead_letters),
            ("stream_rows_served", "Rows sent to Flight clients", &self.rows_served),
            ("stream_bytes_served", "Bytes of rows sent to Flight clients", &self.bytes_served),
        ];
        for (name, help, family) in by_topic {
            registry.register(name, help, family.clone());
        }
        let now = [
            ("stream_memory_bytes", "Bytes of rows in memory", &self.memory_bytes),
            ("stream_readers", "Flight clients that read the stream now", &self.readers),
            ("kafka_lag", "Messages in Kafka that are not read yet", &self.lag),
            ("kafka_paused_partitions", "Partitions that are not read for now", &self.paused),
        ];
        for (name, help, family) in now {
            registry.register(name, help, family.clone());
        }
        let shares = [
            ("stream_memory_percent", "Part of the memory limit in use", &self.memory_percent),
            ("stream_buffer_utilization", "Part of the buffer limit in use", &self.utilization),
        ];
        for (name, help, family) in shares {
            registry.register(name, help, family.clone());
        }
        registry.register("active_streams", "Streams that have rows", self.streams.clone());
        registry.register("kafka_commits", "Commits of offsets", self.commits.clone());
        let help = "Commits of offsets that failed";
        registry.register("kafka_commits_failed", help, self.commits_failed.clone());
        let help = "Seconds since offsets wait for Kafka to take them, 0 where none do";
        registry.register("kafka_commit_age_seconds", help, self.commit_age.clone());
        let help = "Rows that are in the database";
        registry.register("persisted_rows", help, self.persisted.clone());
        let help = "Transactions of the database that failed";
        registry.register("persist_failures", help, self.persist_failures.clone());
        let help = "Partitions that were taken up anew because nothing came of them";
        registry.register("kafka_partitions_recreated", help, self.recreated.clone());
    }

    /// Those of one topic.
    pub fn stream(&self, topic: &Arc<str>) -> StreamMetrics {
        let label = [("topic", topic.to_string())];
        let count = |family: &ByTopic<Count>| family.get_or_create(&label).clone();
        let share = |family: &ByTopic<Share>| family.get_or_create(&label).clone();
        let gauge = |family: &ByTopic<Gauge>| family.get_or_create(&label).clone();
        StreamMetrics {
            messages: count(&self.messages),
            batches: count(&self.batches),
            processed: count(&self.processed),
            dropped: count(&self.dropped),
            expired: count(&self.expired),
            dead_letters: count(&self.dead_letters),
            rows_served: count(&self.rows_served),
            bytes_served: count(&self.bytes_served),
            memory_bytes: gauge(&self.memory_bytes),
            memory_percent: share(&self.memory_percent),
            utilization: share(&self.utilization),
            readers: gauge(&self.readers),
            lag: gauge(&self.lag),
            paused: gauge(&self.paused),
            memory_limit: self.memory_limit,
        }
    }

    /// Streams that have rows.
    pub(crate) fn show_streams(&self, count: usize) {
        self.streams.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Offsets were committed, or could not be.
    pub(crate) fn committed(&self, is_ok: bool) {
        let counter = if is_ok { &self.commits } else { &self.commits_failed };
        counter.inc();
    }

    /// How long offsets have waited for Kafka to take them.
    pub(crate) fn show_commit_age(&self, seconds: f64) {
        self.commit_age.set(seconds);
    }

    /// Rows are in the database.
    pub(crate) fn persisted(&self, rows: u64) {
        self.persisted.inc_by(rows);
    }

    /// The database did not take rows.
    pub(crate) fn persist_failed(&self) {
        self.persist_failures.inc();
    }

    /// A partition was taken up anew.
    pub(crate) fn recreated(&self) {
        self.recreated.inc();
    }
}

/// Counters of one stream.
#[derive(Clone, Debug, Default)]
pub struct StreamMetrics {
    pub(crate) messages: Count,
    pub(crate) batches: Count,
    pub(crate) processed: Count,
    pub(crate) dropped: Count,
    pub(crate) expired: Count,
    pub(crate) dead_letters: Count,
    pub(crate) rows_served: Count,
    pub(crate) bytes_served: Count,
    memory_bytes: Gauge,
    memory_percent: Share,
    utilization: Share,
    readers: Gauge,
    pub(crate) lag: Gauge,
    pub(crate) paused: Gauge,
    memory_limit: u64,
}

impl StreamMetrics {
    pub(crate) fn show(&self, used: u64, limit: u64, readers: usize) {
        self.memory_bytes.set(i64::try_from(used).unwrap_or(i64::MAX));
        self.memory_percent.set(percent(used, self.memory_limit));
        self.utilization.set(percent(used, limit));
        self.readers.set(i64::try_from(readers).unwrap_or(i64::MAX));
    }
}

/// How far a gateway is, all topics together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Messages that were read.
    pub messages: u64,
    /// Messages that are no rows.
    pub dead_letters: u64,
    /// Bytes in memory.
    pub memory_bytes: u64,
    /// Messages that are in Kafka and were not read yet, as it was some seconds ago.
    pub lag: u64,
}

impl Figures {
    pub(crate) fn add(&mut self, of: &StreamMetrics) {
        let whole = |gauge: &Gauge| u64::try_from(gauge.get()).unwrap_or(0);
        self.messages += of.messages.get();
        self.dead_letters += of.dead_letters.get();
        self.memory_bytes += whole(&of.memory_bytes);
        self.lag += whole(&of.lag);
    }
}

fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        return 0.0;
    }
    #[allow(clippy::cast_precision_loss, reason = "a percentage need not be exact")]
    let (part, whole) = (part as f64, whole as f64);
    100.0 * part / whole
}
