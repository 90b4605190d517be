//! Makes a topic and fills it.

use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use serde_json::json;

use super::{Values, rows};
use crate::error::{Error, Result};

/// How long the broker may take to have what is on its way.
const PATIENCE: Duration = Duration::from_secs(60);

/// Keys, so that messages have some.
const KEYS: u64 = 1_000;

/// Sends all messages, to one partition after the other; all have arrived at
/// the end.
pub(super) fn run(
    (broker, topic): (&str, &str),
    partitions: i32,
    values: &Values,
    count: u64,
) -> Result<()> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", broker);
    create(&config, topic, partitions)?;
    config
        .set("linger.ms", "50")
        .set("batch.size", "1000000")
        .set("queue.buffering.max.messages", "100000")
        .set("queue.buffering.max.kbytes", "65536");
    let producer: BaseProducer = config.create()?;
    let start = Instant::now();
    let mut value = Vec::new();
    let (mut partition, mut bytes) = (0, 0);
    for id in 0..count {
        value.clear();
        rows::value(&mut value, values, id);
        bytes += value.len();
        let key = (id % KEYS).to_string();
        let mut record = BaseRecord::to(topic).partition(partition).key(&key).payload(&value);
        while let Err((error, again)) = producer.send(record) {
            if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                return Err(error.into());
            }
            producer.poll(Duration::from_millis(10));
            record = again;
        }
        partition = (partition + 1) % partitions;
    }
    producer.flush(PATIENCE)?;
    let seconds = start.elapsed().as_secs_f64();
    println!("{}", json!({ "messages": count, "bytes": bytes, "seconds": seconds }));
    Ok(())
}

fn create(config: &ClientConfig, topic: &str, partitions: i32) -> Result<()> {
    let admin: AdminClient<DefaultClientContext> = config.create()?;
    let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(Error::io("start the runtime"))?;
    let options = AdminOptions::new().request_timeout(Some(PATIENCE));
    let created = runtime.block_on(admin.create_topics([&new], &options))?;
    for one in created {
        one.map_err(|(_, code)| KafkaError::AdminOp(code))?;
    }
    Ok(())
}
