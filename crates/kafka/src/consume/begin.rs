//! Where partitions begin of which nothing was read.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::context::GroupContext;
use super::options::From;
use super::refused;
use crate::error::Error;
use crate::tracker::TopicPartition;

/// How long a question to Kafka may take while partitions are given out.
const ASK: Duration = Duration::from_secs(10);

/// What the group committed of these partitions.
pub(super) fn committed(
    consumer: &BaseConsumer<GroupContext>,
    list: &TopicPartitionList,
) -> Result<BTreeMap<TopicPartition, i64>, Error> {
    let committed = consumer
        .committed_offsets(list.clone(), ASK)
        .map_err(|source| refused("ask for the offsets of the group".to_owned(), source))?;
    Ok(numbers(&committed))
}

/// Where they begin, as numbers: with the oldest message, with the first of the
/// time that is asked for, else behind the last there is.
pub(super) fn offsets(
    consumer: &BaseConsumer<GroupContext>,
    partitions: &[TopicPartition],
    start: From,
) -> Result<Vec<(TopicPartition, i64)>, Error> {
    let mut times = BTreeMap::new();
    if let From::Time(millis) = start
        && !partitions.is_empty()
    {
        times = at_time(consumer, partitions, millis)?;
    }
    let begin = |one: &TopicPartition| {
        if let Some(offset) = times.get(one) {
            return Ok((one.clone(), *offset));
        }
        let ends = consumer.fetch_watermarks(&one.topic, one.partition, ASK);
        let (low, high) =
            ends.map_err(|source| refused(format!("ask for the ends of {one}"), source))?;
        Ok((one.clone(), if start == From::Earliest { low } else { high }))
    };
    partitions.iter().map(begin).collect()
}

/// The first offset of each that is of this time or later, where there is one.
fn at_time(
    consumer: &BaseConsumer<GroupContext>,
    partitions: &[TopicPartition],
    millis: i64,
) -> Result<BTreeMap<TopicPartition, i64>, Error> {
    let asking = "ask for the offsets of the time to start at";
    let mut times = TopicPartitionList::with_capacity(partitions.len());
    for TopicPartition { topic, partition } in partitions {
        times
            .add_partition_offset(topic, *partition, Offset::Offset(millis))
            .map_err(|source| refused(asking.to_owned(), source))?;
    }
    let found = consumer
        .offsets_for_times(times, ASK)
        .map_err(|source| refused(asking.to_owned(), source))?;
    Ok(numbers(&found))
}

/// Offsets that are numbers, not words such as the end.
fn numbers(list: &TopicPartitionList) -> BTreeMap<TopicPartition, i64> {
    let known = list.to_topic_map().into_iter().filter_map(|((topic, partition), offset)| {
        let Offset::Offset(offset) = offset else { return None };
        Some((TopicPartition { topic: topic.into(), partition }, offset))
    });
    known.collect()
}
