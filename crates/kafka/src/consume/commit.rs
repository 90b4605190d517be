//! Commits whose outcome is told, without end where Kafka does not answer.
#![allow(unsafe_code, reason = "rdkafka has no commit that tells what came of it without waiting")]

use std::ptr;
use std::time::Duration;

use rdkafka::bindings::{
    rd_kafka_commit_queue, rd_kafka_event_destroy, rd_kafka_event_error, rd_kafka_queue_destroy,
    rd_kafka_queue_get_consumer, rd_kafka_queue_new, rd_kafka_queue_poll,
};
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{IsError as _, KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::topic_partition_list::TopicPartitionList;

/// Has offsets committed. What comes of it is told to the context's
/// `commit_callback` by a later poll; `CommitMode::Async` tells nobody.
pub(super) fn commit<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    offsets: &TopicPartitionList,
) -> KafkaResult<()> {
    let client = consumer.client().native_ptr();
    // SAFETY: `client` and `offsets` are what their owners, borrowed here, hold
    // alive; the list is copied by the call. The queue is a reference of our own,
    // given back once: the commit holds another one until it has answered. The
    // answer has no callback and no pointer of ours.
    let error = unsafe {
        let queue = rd_kafka_queue_get_consumer(client);
        if queue.is_null() {
            return Err(KafkaError::ClientCreation("it is in no consumer group".to_owned()));
        }
        let error = rd_kafka_commit_queue(client, offsets.ptr(), queue, None, ptr::null_mut());
        rd_kafka_queue_destroy(queue);
        error
    };
    match error.is_error() {
        true => Err(KafkaError::ConsumerCommit(error.into())),
        false => Ok(()),
    }
}

/// Has offsets committed and waits so long at most for what comes of it;
/// `CommitMode::Sync` waits for as long as Kafka is away.
pub(super) fn commit_within<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    offsets: &TopicPartitionList,
    limit: Duration,
) -> KafkaResult<()> {
    let client = consumer.client().native_ptr();
    let limit = i32::try_from(limit.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: as above, but that the queue is a new one. An answer that comes when
    // it is given back is thrown away by librdkafka. The event is ours until it is
    // destroyed, once.
    let error = unsafe {
        let queue = rd_kafka_queue_new(client);
        let mut error = rd_kafka_commit_queue(client, offsets.ptr(), queue, None, ptr::null_mut());
        if !error.is_error() {
            let event = rd_kafka_queue_poll(queue, limit);
            if event.is_null() {
                rd_kafka_queue_destroy(queue);
                return Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::OperationTimedOut));
            }
            error = rd_kafka_event_error(event);
            rd_kafka_event_destroy(event);
        }
        rd_kafka_queue_destroy(queue);
        error
    };
    match error.is_error() {
        true => Err(KafkaError::ConsumerCommit(error.into())),
        false => Ok(()),
    }
}
