//! Messages on their way into chunks, by partition.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use sheaf_retry::SharedClock;

use super::options::ConsumerOptions;
use super::pool::{Pool, Pooled};
use crate::messages::Messages;
use crate::tracker::TopicPartition;

/// Messages that were read and are not handed on yet.
pub(super) struct Buffers {
    batch_size: usize,
    batch_bytes: usize,
    linger: Duration,
    buffers: HashMap<TopicPartition, Buffer>,
    /// That of the last message, which is not above: many come of one partition
    /// before one of another.
    current: Option<(TopicPartition, Buffer)>,
    pool: Arc<Pool>,
    full: Vec<Read>,
}

/// Messages of one partition that were read one after the other.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) partition: TopicPartition,
    pub(super) messages: Pooled,
    /// The offset behind the last one.
    pub(super) end: i64,
}

struct Buffer {
    messages: Pooled,
    /// The offset behind the last message.
    end: i64,
    since: Duration,
}

impl From<(TopicPartition, Buffer)> for Read {
    fn from((partition, buffer): (TopicPartition, Buffer)) -> Self {
        Read { partition, messages: buffer.messages, end: buffer.end }
    }
}

impl Buffers {
    pub(super) fn new(options: &ConsumerOptions) -> Self {
        Buffers {
            batch_size: options.batch_size.max(1),
            batch_bytes: options.batch_bytes,
            linger: options.linger,
            buffers: HashMap::new(),
            current: None,
            pool: Arc::default(),
            full: Vec::new(),
        }
    }

    /// Has a message written where it belongs.
    pub(super) fn push(
        &mut self,
        (topic, partition, offset): (&str, i32, i64),
        clock: &SharedClock,
        write: impl FnOnce(&mut Messages),
    ) {
        let is_current = |(one, _): &(TopicPartition, Buffer)| {
            one.partition == partition && *one.topic == *topic
        };
        let (one, mut buffer) = match self.current.take() {
            Some(current) if is_current(&current) => current,
            other => self.switch(other, (topic, partition), || clock.elapsed()),
        };
        write(&mut buffer.messages);
        buffer.end = offset + 1;
        let is_full = buffer.messages.len() >= self.batch_size
            || buffer.messages.size_bytes() >= self.batch_bytes;
        if is_full {
            self.full.push(Read::from((one, buffer)));
        } else {
            self.current = Some((one, buffer));
        }
    }

    /// The buffer of a partition in place of another one, which is put away.
    fn switch(
        &mut self,
        other: Option<(TopicPartition, Buffer)>,
        (topic, partition): (&str, i32),
        now: impl FnOnce() -> Duration,
    ) -> (TopicPartition, Buffer) {
        if let Some((one, buffer)) = other {
            self.buffers.insert(one, buffer);
        }
        let one = TopicPartition { topic: Arc::from(topic), partition };
        let buffer = self.buffers.remove(&one);
        let new = || Buffer { messages: self.pool.take(), end: 0, since: now() };
        (one, buffer.unwrap_or_else(new))
    }

    /// Waits no longer for those that have waited long enough.
    pub(super) fn seal_old(&mut self, now: Duration) {
        let linger = self.linger;
        self.seal_all_that(|buffer| now.saturating_sub(buffer.since) >= linger);
    }

    /// Waits for nothing.
    pub(super) fn seal_all(&mut self) {
        self.seal_all_that(|_| true);
    }

    fn seal_all_that(&mut self, is_due: impl Fn(&Buffer) -> bool) {
        let due = self.buffers.extract_if(|_, buffer| is_due(buffer));
        self.full.extend(due.map(Read::from));
        let current = self.current.take_if(|(_, buffer)| is_due(buffer));
        self.full.extend(current.map(Read::from));
    }

    /// Whether something can be handed on.
    pub(super) fn has_full(&self) -> bool {
        !self.full.is_empty()
    }

    /// Whether messages of this partition are here.
    pub(super) fn has(&self, one: &TopicPartition) -> bool {
        self.buffers.contains_key(one)
            || self.current.as_ref().is_some_and(|(current, _)| current == one)
    }

    /// What can be handed on.
    pub(super) fn take_full(&mut self) -> Vec<Read> {
        std::mem::take(&mut self.full)
    }

    /// Forgets the messages of other partitions.
    pub(super) fn keep(&mut self, is_kept: impl Fn(&TopicPartition) -> bool) {
        self.seal_all();
        self.full.retain(|read| is_kept(&read.partition));
    }
}

#[cfg(test)]
mod tests {
    use sheaf_retry::{Clock as _, ManualClock, Timestamp};

    use super::*;

    #[test]
    fn chunks_are_full_by_count_by_bytes_and_by_age() {
        let clock = ManualClock::new(Timestamp::EPOCH);
        let shared: SharedClock = clock.clone();
        let mut options = ConsumerOptions::new("", Vec::new(), "g");
        (options.batch_size, options.batch_bytes) = (3, 1_000);
        let mut buffers = Buffers::new(&options);
        let push = |buffers: &mut Buffers, partition, offset, value: &[u8]| {
            let place = ("logs", partition, offset);
            buffers.push(place, &shared, |messages| {
                messages.push(offset, None, None, Some(value), []);
            });
        };
        for offset in 0..3 {
            assert!(!buffers.has_full());
            push(&mut buffers, 0, offset, b"x");
        }
        push(&mut buffers, 1, 7, &[b'x'; 1_000]);
        push(&mut buffers, 2, 9, b"x");
        let full = buffers.take_full();
        let of = |read: &Read| (read.partition.partition, read.messages.len(), read.end);
        let ends: Vec<_> = full.iter().map(of).collect();
        assert_eq!(ends, [(0, 3, 3), (1, 1, 8)]);
        buffers.seal_old(clock.elapsed());
        assert!(!buffers.has_full());
        clock.advance(options.linger);
        buffers.seal_old(clock.elapsed());
        assert_eq!(buffers.take_full()[0].end, 10);
        push(&mut buffers, 3, 1, b"x");
        push(&mut buffers, 4, 1, b"x");
        buffers.keep(|partition| partition.partition == 4);
        assert_eq!(buffers.take_full().len(), 1);
    }
}
