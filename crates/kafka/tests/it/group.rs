//! Gateways of one group in this process, on librdkafka's own mock of a cluster,
//! with one DuckDB for all of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::cast::AsArray as _;
use arrow_array::types::Int64Type;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use sheaf_connectors::{AdbcDatabase, AdbcSpec, AdbcTables, DriverPaths};
use sheaf_flight::Budget;
use sheaf_kafka::{
    ConsumerOptions, DecoderOptions, Format, Gateway, GatewayOptions, Metrics, StreamOptions,
    TableSink, WhenFull,
};
use sheaf_retry::SystemClock;
use sheaf_testkit::{TempDir, libduckdb};

/// How long anything may take that happens at all.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const TOPIC: &str = "orders";
const GROUP: &str = "storm";

/// A cluster, a database, and what is needed to look at both.
pub(crate) struct Group {
    pub(crate) cluster: MockCluster<'static, DefaultProducerContext>,
    pub(crate) database: AdbcDatabase,
    partitions: i32,
    producer: BaseProducer,
    watcher: BaseConsumer,
    _folder: TempDir,
}

/// Numbers produced so far, and what they add up to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Produced {
    pub(crate) next: i64,
    pub(crate) hashes: i64,
}

/// What a number is accompanied by, to see that no row is of two messages.
fn hash(n: i64) -> i64 {
    n.wrapping_mul(2_654_435_761) % 1_000_003
}

impl Group {
    /// `None` where there is no DuckDB.
    pub(crate) async fn start(brokers: i32, partitions: i32) -> Option<Self> {
        let library = libduckdb()?;
        let cluster = MockCluster::new(brokers).unwrap();
        let replicas = i32::min(brokers, 3);
        cluster.create_topic(TOPIC, partitions, replicas).unwrap();
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", cluster.bootstrap_servers());
        let producer = config.clone().set("linger.ms", "5").create().unwrap();
        let watcher = config.set("group.id", GROUP).create().unwrap();
        let folder = TempDir::new().unwrap();
        let drivers = DriverPaths { flag: Some(library), ..DriverPaths::default() };
        let spec = AdbcSpec::duckdb(folder.path().join("x.duckdb"));
        let database = AdbcDatabase::open(&spec, &drivers).await.unwrap();
        Some(Group { cluster, database, partitions, producer, watcher, _folder: folder })
    }

    /// One more member; `property` is one of librdkafka.
    pub(crate) async fn member(&self, properties: &[(&str, &str)]) -> Gateway {
        let brokers = self.cluster.bootstrap_servers();
        let mut consumer = ConsumerOptions::new(brokers, vec![TOPIC.to_owned()], GROUP);
        let usual = [("session.timeout.ms", "6000"), ("heartbeat.interval.ms", "200")];
        let all = usual.iter().chain(properties);
        consumer.librdkafka =
            all.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        consumer.batch_size = 200;
        let stream = StreamOptions {
            limit_bytes: 1 << 20,
            ttl: Duration::from_secs(60),
            when_full: WhenFull::Block,
        };
        let options = GatewayOptions {
            consumer,
            decoder: DecoderOptions { format: Format::Json, ..DecoderOptions::default() },
            registry: None,
            stream,
            decoders: BTreeMap::new(),
            sink: Some(Arc::new(TableSink::open(&self.database, GROUP).await.unwrap())),
        };
        let (memory, metrics) = (Budget::new(64 << 20), Metrics::new(64 << 20));
        Gateway::start(options, memory, metrics, SystemClock::shared()).await.unwrap()
    }

    /// That many more messages, all there when it returns.
    pub(crate) fn produce(&self, produced: &mut Produced, count: i64) {
        let numbers = produced.next..produced.next + count;
        produced.hashes += numbers.clone().map(hash).sum::<i64>();
        produced.next += count;
        self.send(numbers.map(|n| format!(r#"{{"n":{n},"hash":{}}}"#, hash(n))));
    }

    /// These messages, to all partitions in turn.
    pub(crate) fn send(&self, values: impl IntoIterator<Item = String>) {
        for (value, partition) in values.into_iter().zip((0..self.partitions).cycle()) {
            let record = BaseRecord::<(), _>::to(TOPIC).partition(partition).payload(&value);
            self.producer.send(record).map_err(|(error, _)| error).unwrap();
        }
        self.producer.flush(PATIENCE).unwrap();
    }

    /// What the group has committed; `None` where the cluster does not say.
    pub(crate) fn committed(&self) -> Option<BTreeMap<i32, i64>> {
        let mut list = TopicPartitionList::new();
        for partition in 0..self.partitions {
            list.add_partition(TOPIC, partition);
        }
        let found = self.watcher.committed_offsets(list, Duration::from_secs(2)).ok()?;
        let offset = |partition| match found.find_partition(TOPIC, partition)?.offset() {
            Offset::Offset(offset) => Some((partition, offset)),
            _ => None,
        };
        Some((0..self.partitions).filter_map(offset).collect())
    }

    /// The tables of the group, to look at its positions.
    pub(crate) async fn tables(&self) -> AdbcTables {
        self.database.tables(GROUP).await.unwrap()
    }

    /// Numbers of one row that a query answers with; none where it cannot yet.
    pub(crate) async fn numbers(&self, sql: &str) -> Vec<i64> {
        let Ok(rows) = self.database.query(sql, 1_000).await else { return Vec::new() };
        let row = |batch: &arrow_array::RecordBatch| {
            let columns = batch.columns().iter();
            columns.map(|column| column.as_primitive::<Int64Type>().value(0)).collect()
        };
        rows.first().map(row).unwrap_or_default()
    }

    /// Rows that are in the table.
    pub(crate) async fn rows(&self) -> i64 {
        let count = self.numbers(&format!("SELECT count(*) FROM {TOPIC}")).await;
        count.first().copied().unwrap_or_default()
    }

    /// That the table has every message once, and nothing else.
    pub(crate) async fn check(&self, produced: &Produced) {
        let sql = format!(
            "SELECT count(*), count(DISTINCT n), count(DISTINCT (_partition, _offset)), \
             CAST(sum(n) AS BIGINT), CAST(sum(hash) AS BIGINT) FROM {TOPIC}"
        );
        let next = produced.next;
        let expected = vec![next, next, next, next * (next - 1) / 2, produced.hashes];
        assert_eq!(self.numbers(&sql).await, expected, "rows, numbers, places, sums");
    }
}
