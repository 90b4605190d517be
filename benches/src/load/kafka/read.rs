//! librdkafka's consumer by itself: what nobody who reads through it exceeds.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::json;

use crate::error::{Error, Result};
use crate::process::cpu_seconds;

/// How long the broker may give nothing.
const PATIENCE: Duration = Duration::from_secs(30);

/// Reads all partitions from their beginning until it has `count` messages, and
/// looks at none but for its length.
pub(super) fn run(broker: &str, topic: &str, partitions: i32, count: u64) -> Result<()> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", broker)
        .set("group.id", "raw")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        // As the gateway has it.
        .set("queued.max.messages.kbytes", "16384")
        .set("fetch.message.max.bytes", "4194304")
        .create()?;
    let mut all = TopicPartitionList::new();
    for partition in 0..partitions {
        all.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&all)?;
    let own = [std::process::id().to_string()];
    let (mut messages, mut bytes) = (0, 0);
    let mut begun = None;
    while messages < count {
        let message = consumer.poll(PATIENCE).ok_or_else(|| {
            Error::Message(format!("{topic} gave {messages} messages of {count}, then none"))
        })??;
        if begun.is_none() {
            begun = Some((Instant::now(), cpu_seconds(&own)?));
        }
        bytes += message.payload_len();
        messages += 1;
    }
    let (seconds, cpu) = match begun {
        Some((start, before)) => (start.elapsed().as_secs_f64(), cpu_seconds(&own)? - before),
        None => (0.0, 0.0),
    };
    let (_, version) = rdkafka::util::get_rdkafka_version();
    let result = json!({
        "messages": messages, "bytes": bytes, "seconds": seconds, "cpu_seconds": cpu,
        "version": version,
    });
    println!("{result}");
    Ok(())
}
