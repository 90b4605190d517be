//! What a consumer is started with.

use std::time::Duration;

/// Where a group begins that has no committed offset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum From {
    /// With the oldest message.
    #[default]
    Earliest,
    /// With what comes after the start.
    Latest,
    /// With the first message of this time or later, milliseconds since 1970.
    Time(i64),
}

/// How Kafka is read.
#[derive(Clone, Debug)]
pub struct ConsumerOptions {
    /// Addresses to begin with, `HOST:PORT`, separated by commas.
    pub brokers: String,
    /// Topics by name, or as regular expressions that begin with `^`.
    pub topics: Vec<String>,
    /// The consumer group.
    pub group: String,
    /// Where a group begins that has no committed offset.
    pub start: From,
    /// Properties of librdkafka, as its documentation has them.
    pub librdkafka: Vec<(String, String)>,
    /// Messages of one chunk at most.
    pub batch_size: usize,
    /// Bytes of one chunk, beyond which it takes no further message.
    pub batch_bytes: usize,
    /// How long a chunk waits for more messages.
    pub linger: Duration,
    /// How long Kafka may take to answer at the start.
    pub patience: Duration,
    /// How long to wait, before partitions go, for what is under way of them.
    pub drain: Duration,
}

impl ConsumerOptions {
    /// These topics, with the defaults of the gateway.
    pub fn new(brokers: impl Into<String>, topics: Vec<String>, group: impl Into<String>) -> Self {
        ConsumerOptions {
            brokers: brokers.into(),
            topics,
            group: group.into(),
            start: From::default(),
            librdkafka: Vec::new(),
            batch_size: 1_024,
            batch_bytes: 4 << 20,
            linger: Duration::from_millis(50),
            patience: Duration::from_secs(10),
            drain: Duration::from_secs(5),
        }
    }
}
