//! What was read and waits for room, and the topics that are paused meanwhile.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::topic_partition_list::TopicPartitionList;

use super::buffers::Read;
use super::context::GroupContext;
use crate::tracker::TopicPartition;

/// Chunks of a topic that may wait before it is paused.
const MOST_WAITING: usize = 32;
/// Bytes of them.
const MOST_BYTES: usize = 8 << 20;

/// librdkafka keeps a partition paused that went, also when it comes anew, and
/// older ones read messages twice where what is not paused is resumed: so what it
/// has been told to pause is known here, and it is told to resume just that.
#[derive(Default)]
pub(super) struct Pausing {
    waiting: BTreeMap<Arc<str>, VecDeque<Read>>,
    /// Partitions that are paused, of topics that are, whosever they are now.
    paused: BTreeMap<Arc<str>, BTreeSet<i32>>,
}

impl Pausing {
    /// Whether anything waits for room.
    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether anything of this topic waits.
    pub(super) fn has(&self, topic: &Arc<str>) -> bool {
        self.waiting.contains_key(topic)
    }

    /// Whether anything is paused.
    pub(super) fn has_paused(&self) -> bool {
        !self.paused.is_empty()
    }

    pub(super) fn is_paused(&self, topic: &Arc<str>) -> bool {
        self.paused.contains_key(topic)
    }

    pub(super) fn push(&mut self, read: Read) {
        let topic = Arc::clone(&read.partition.topic);
        self.waiting.entry(topic).or_default().push_back(read);
    }

    /// Forgets what was read of other partitions.
    pub(super) fn keep(&mut self, is_kept: impl Fn(&TopicPartition) -> bool) {
        for waiting in self.waiting.values_mut() {
            waiting.retain(|read| is_kept(&read.partition));
        }
        self.waiting.retain(|_, waiting| !waiting.is_empty());
    }

    /// Sends what waits, as far as it is taken; the topics of which much is left.
    pub(super) fn send(
        &mut self,
        mut send: impl FnMut(&Arc<str>, Read) -> Result<(), Read>,
    ) -> Vec<Arc<str>> {
        for (topic, waiting) in &mut self.waiting {
            while let Some(read) = waiting.pop_front() {
                if let Err(read) = send(topic, read) {
                    waiting.push_front(read);
                    break;
                }
            }
        }
        self.waiting.retain(|_, waiting| !waiting.is_empty());
        // Each pause throws away what was fetched ahead: a little may wait.
        let is_much = |waiting: &VecDeque<Read>| {
            let bytes: usize = waiting.iter().map(|read| read.messages.size_bytes()).sum();
            waiting.len() >= MOST_WAITING || bytes >= MOST_BYTES
        };
        let much = self.waiting.iter().filter(|(_, waiting)| is_much(waiting));
        much.map(|(topic, _)| Arc::clone(topic)).collect()
    }

    pub(super) fn pause(
        &mut self,
        consumer: &BaseConsumer<GroupContext>,
        topic: &Arc<str>,
        assigned: &[TopicPartition],
    ) {
        if self.paused.contains_key(topic) {
            return;
        }
        let partitions = of_topic(topic, assigned);
        match consumer.pause(&list(topic, &partitions)) {
            Ok(()) => {
                tracing::debug!(%topic, "paused: its stream is full");
                self.paused.insert(Arc::clone(topic), partitions);
            }
            Err(error) => tracing::warn!(%error, %topic, "cannot be paused"),
        }
    }

    /// Pauses everything, at the end.
    pub(super) fn pause_all(
        &mut self,
        consumer: &BaseConsumer<GroupContext>,
        assigned: &[TopicPartition],
    ) {
        let topics: BTreeSet<_> = assigned.iter().map(|one| Arc::clone(&one.topic)).collect();
        for topic in topics {
            self.pause(consumer, &topic, assigned);
        }
    }

    /// Topics that are paused and of which little waits.
    pub(super) fn ready(&self) -> Vec<Arc<str>> {
        let is_ready = |topic: &&Arc<str>| {
            self.waiting.get(*topic).is_none_or(|waiting| waiting.len() <= MOST_WAITING / 8)
        };
        self.paused.keys().filter(is_ready).cloned().collect()
    }

    pub(super) fn resume(&mut self, consumer: &BaseConsumer<GroupContext>, topic: &Arc<str>) {
        let Some(partitions) = self.paused.get(topic) else { return };
        match consumer.resume(&list(topic, partitions)) {
            Ok(()) => {
                tracing::debug!(%topic, "resumed");
                self.paused.remove(topic);
            }
            Err(error) => tracing::warn!(%error, %topic, "cannot be resumed"),
        }
    }

    /// Pauses of paused topics what came.
    pub(super) fn apply_again(
        &mut self,
        consumer: &BaseConsumer<GroupContext>,
        assigned: &[TopicPartition],
    ) {
        for (topic, paused) in &mut self.paused {
            let partitions = of_topic(topic, assigned);
            match consumer.pause(&list(topic, &partitions)) {
                Ok(()) => paused.extend(partitions),
                Err(error) => tracing::warn!(%error, %topic, "cannot be paused"),
            }
        }
    }
}

fn of_topic(topic: &Arc<str>, assigned: &[TopicPartition]) -> BTreeSet<i32> {
    let of_topic = assigned.iter().filter(|one| one.topic == *topic);
    of_topic.map(|one| one.partition).collect()
}

fn list(topic: &Arc<str>, partitions: &BTreeSet<i32>) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for partition in partitions {
        list.add_partition(topic, *partition);
    }
    list
}
