//! What a stream is offered as.

use std::sync::Arc;

use arrow_schema::Schema;
use sheaf_flight::{EndpointEntry, Error, FlightEntry, RawDescriptor, invalid};

use crate::stream::{PartitionState, TopicStream};
use crate::ticket::Ticket;

/// The tickets of a topic, of each of its partitions, or of one.
pub(super) fn tickets(stream: &TopicStream, partition: Option<&str>) -> Result<Vec<Ticket>, Error> {
    let topic = stream.topic().to_string();
    let whole = Ticket::whole(topic.as_str());
    match partition {
        None => Ok(vec![whole]),
        Some("*") => {
            let partitions = stream.partitions().into_keys();
            Ok(partitions.map(|partition| whole.clone().of_partition(partition)).collect())
        }
        Some(text) => {
            let partition = text.parse::<i32>().ok().filter(|number| *number >= 0);
            let partition = partition.ok_or_else(|| {
                invalid(format!("{text:?} is no partition of topic {topic}: a number, or \"*\""))
            })?;
            Ok(vec![whole.of_partition(partition)])
        }
    }
}

/// The entry of a path, whose rows are had by these tickets.
pub(super) fn entry(stream: &TopicStream, path: Vec<String>, tickets: &[Ticket]) -> FlightEntry {
    let schema = stream.schema().map_or_else(|| Arc::new(Schema::empty()), |(schema, _)| schema);
    let partitions = stream.partitions();
    let wanted = |partition: i32| {
        tickets.iter().any(|ticket| ticket.selection.partition.is_none_or(|one| one == partition))
    };
    let known = partitions.iter().filter(|(partition, _)| wanted(**partition));
    let sum = |of: fn(&PartitionState) -> u64| {
        let all: u64 = known.clone().map(|(_, state)| of(state)).sum();
        i64::try_from(all).unwrap_or(i64::MAX)
    };
    let (rows, bytes) = (sum(|state| state.rows), sum(|state| state.bytes));
    let mut entry = FlightEntry::new(RawDescriptor::Path(path), &schema);
    entry.total_records = rows;
    entry.total_bytes = bytes;
    entry.endpoints = tickets.iter().map(|ticket| EndpointEntry::new(ticket.to_string())).collect();
    entry
}
