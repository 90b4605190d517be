//! How Kafka is called, and that it answers.

use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use sheaf_retry::Code;

use super::context::GroupContext;
use super::options::ConsumerOptions;
use crate::error::Error;

/// Events that are looked at for why Kafka does not answer.
const EVENTS: usize = 32;

/// The settings of a member of the group.
pub(super) fn client(options: &ConsumerOptions) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &options.brokers)
        .set("group.id", &options.group)
        .set("client.id", "sheaf-gateway")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("enable.partition.eof", "false")
        .set("allow.auto.create.topics", "false")
        // Places are given where a partition begins: this is for one that Kafka has no
        // more, whose oldest messages are the next then.
        .set("auto.offset.reset", "earliest")
        .set("statistics.interval.ms", "5000")
        // In memory besides what the streams have.
        .set("queued.max.messages.kbytes", "16384")
        .set("fetch.message.max.bytes", "4194304")
        // It asks for no more for a second where it has enough: too long for
        // messages that are converted meanwhile.
        .set("fetch.queue.backoff.ms", "50")
        // Whatever a broker has, though a single message is more than one asks for:
        // an answer that is not received is asked for again without end.
        .set("receive.message.max.bytes", "2147483647")
        // Kafka's own, which a regular expression could mean.
        .set("topic.blacklist", "^__,.*[.]dead-letters$");
    for (name, value) in &options.librdkafka {
        config.set(name, value);
    }
    config
}

/// That Kafka answers, and has the topics that are named.
pub(super) fn look(
    consumer: &BaseConsumer<GroupContext>,
    options: &ConsumerOptions,
) -> Result<(), Error> {
    let brokers = &options.brokers;
    let metadata = consumer.fetch_metadata(None, options.patience).map_err(|source| {
        // What it complained about comes as events, one with each poll.
        for _ in 0..EVENTS {
            drop(consumer.poll(Duration::from_millis(1)));
        }
        let operation = format!("ask Kafka at {brokers} for its topics");
        match consumer.context().last_error() {
            Some((cause, detail)) => refused(format!("{operation} ({detail})"), cause),
            None => refused(operation, source),
        }
    })?;
    let known: Vec<&str> = metadata.topics().iter().map(|topic| topic.name()).collect();
    for topic in options.topics.iter().filter(|topic| !topic.starts_with('^')) {
        if !known.contains(&topic.as_str()) {
            let source = KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopicOrPartition);
            let operation =
                format!("find topic {topic} at {brokers}; create it, or correct --topics");
            return Err(refused(operation, source));
        }
    }
    Ok(())
}

pub(crate) fn refused(operation: String, source: KafkaError) -> Error {
    let code = match source.rdkafka_error_code() {
        Some(
            RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::UnknownPartition,
        ) => Code::NotFound,
        Some(
            RDKafkaErrorCode::SaslAuthenticationFailed
            | RDKafkaErrorCode::Authentication
            | RDKafkaErrorCode::SSL,
        ) => Code::Unauthenticated,
        Some(
            RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::GroupAuthorizationFailed
            | RDKafkaErrorCode::ClusterAuthorizationFailed,
        ) => Code::PermissionDenied,
        Some(RDKafkaErrorCode::InvalidArgument | RDKafkaErrorCode::InvalidConfig) => {
            Code::InvalidArgument
        }
        _ if matches!(source, KafkaError::ClientConfig(..) | KafkaError::ClientCreation(_)) => {
            Code::InvalidArgument
        }
        _ => Code::Unavailable,
    };
    Error::Kafka { operation, code, source }
}
