//! Places as the connectors have them, and back.

use std::collections::BTreeMap;

use sheaf_connectors::Position;

use crate::tracker::TopicPartition;

/// Partitions by their names.
pub(super) fn named(partitions: &[TopicPartition]) -> Vec<(String, i32)> {
    partitions.iter().map(|one| (one.topic.to_string(), one.partition)).collect()
}

/// Where a partition goes on.
pub(super) fn position(of: &TopicPartition, next_offset: i64) -> Position {
    Position { topic: of.topic.to_string(), partition: of.partition, next_offset }
}

/// Where partitions go on.
pub(super) fn positions(places: &[(TopicPartition, i64)]) -> Vec<Position> {
    places.iter().map(|(of, next_offset)| position(of, *next_offset)).collect()
}

/// The same the other way round.
pub(super) fn places(positions: Vec<Position>) -> BTreeMap<TopicPartition, i64> {
    let place = |Position { topic, partition, next_offset }| {
        (TopicPartition { topic: topic.into(), partition }, next_offset)
    };
    positions.into_iter().map(place).collect()
}
