//! What one stream holds: everything that its reader has not acknowledged.

use std::collections::VecDeque;

use arrow_array::RecordBatch;
use sheaf_proto::TraceContext;
use sheaf_retry::Code;

use super::disk::Record;
use crate::error::ComponentError;

/// A batch that is held.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) sequence: u64,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    pub(crate) place: Place,
    /// What it goes on with.
    pub(crate) trace: Option<TraceContext>,
}

/// Where it is.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    Memory(RecordBatch),
    Disk(Record),
}

impl Place {
    /// The batch, from wherever it is.
    pub(crate) async fn read(self) -> Result<RecordBatch, ComponentError> {
        match self {
            Place::Memory(batch) => Ok(batch),
            Place::Disk(record) => {
                let read = tokio::task::spawn_blocking(move || record.read()).await;
                read.map_err(|error| {
                    let text = "a thread that reads ended badly";
                    ComponentError::new(Code::Internal, text).because(error)
                })?
            }
        }
    }

    fn bytes_on_disk(&self) -> u64 {
        match self {
            Place::Memory(_) => 0,
            Place::Disk(record) => record.size_bytes(),
        }
    }
}

/// Batches in the order of their sequences: those that were sent and are not acknowledged, then
/// those that wait.
///
/// 1. A batch leaves it when it was acknowledged, or dropped before it was sent.
/// 2. After [`Queue::rewind`] all that the reader lacks waits again.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    entries: VecDeque<Entry>,
    /// How many of them were sent.
    sent: usize,
    last: u64,
    highest_sent: u64,
    memory_bytes: u64,
    disk_bytes: u64,
    ended: bool,
    end_acknowledged: bool,
}

impl Queue {
    /// Adds a batch, and gives its sequence.
    pub(crate) fn push(
        &mut self,
        rows: u64,
        bytes: u64,
        place: Place,
        trace: Option<TraceContext>,
    ) -> u64 {
        self.last += 1;
        let entry = Entry { sequence: self.last, rows, bytes, place, trace };
        self.count(&entry, true);
        self.entries.push_back(entry);
        self.last
    }

    /// Takes the next sequence for a batch that is dropped before it was ever held.
    pub(crate) fn skip(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Drops the oldest one that was not sent.
    pub(crate) fn drop_oldest(&mut self) -> Option<Entry> {
        let dropped = self.entries.remove(self.sent)?;
        self.count(&dropped, false);
        Some(dropped)
    }

    /// The next one to be sent, which counts as sent from now on.
    pub(crate) fn send_next(&mut self) -> Option<Entry> {
        let entry = self.entries.get(self.sent)?.clone();
        self.sent += 1;
        self.highest_sent = self.highest_sent.max(entry.sequence);
        Some(entry)
    }

    /// The sequence of the end mark, where that is the next to be sent.
    pub(crate) fn send_end(&mut self) -> Option<u64> {
        if !self.ended || self.sent < self.entries.len() {
            return None;
        }
        let end = self.last + 1;
        self.highest_sent = self.highest_sent.max(end);
        Some(end)
    }

    /// The reader has all up to this sequence, and lacks the rest.
    pub(crate) fn rewind(&mut self, has: u64) {
        self.sent = self.entries.partition_point(|entry| entry.sequence <= has);
    }

    /// All up to this sequence is done with; `false` where so much was never sent.
    pub(crate) fn acknowledge(&mut self, through: u64) -> bool {
        if through > self.highest_sent {
            return false;
        }
        while let Some(first) = self.entries.front()
            && first.sequence <= through
            && let Some(gone) = self.entries.pop_front()
        {
            self.count(&gone, false);
            self.sent = self.sent.saturating_sub(1);
        }
        self.end_acknowledged |= self.ended && through > self.last;
        true
    }

    /// No more batches come.
    pub(crate) fn end(&mut self) {
        self.ended = true;
    }

    /// The last sequence that was given.
    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    /// All up to this sequence is done with, or was dropped.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.entries.front().map_or(self.last, |first| first.sequence - 1)
    }

    /// Whether the reader has said that it is done with everything, and that there was an end.
    pub(crate) fn is_finished(&self) -> bool {
        self.end_acknowledged
    }

    /// The reader needs nothing more: it has left for good.
    pub(crate) fn finish(&mut self) {
        self.entries.clear();
        (self.sent, self.memory_bytes, self.disk_bytes) = (0, 0, 0);
        (self.ended, self.end_acknowledged) = (true, true);
    }

    /// Batches that wait to be sent.
    pub(crate) fn waiting(&self) -> usize {
        self.entries.len() - self.sent
    }

    /// Batches that are held.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes of batches that are held in memory.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }

    /// Bytes that are held on disk.
    pub(crate) fn disk_bytes(&self) -> u64 {
        self.disk_bytes
    }

    fn count(&mut self, entry: &Entry, comes: bool) {
        let disk = entry.place.bytes_on_disk();
        let memory = if disk == 0 { entry.bytes } else { 0 };
        if comes {
            self.memory_bytes += memory;
            self.disk_bytes += disk;
        } else {
            self.memory_bytes = self.memory_bytes.saturating_sub(memory);
            self.disk_bytes = self.disk_bytes.saturating_sub(disk);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_schema::Schema;

    use super::*;

    fn queue(batches: u64) -> Queue {
        let mut queue = Queue::default();
        for _ in 0..batches {
            queue.push(1, 10, batch(), None);
        }
        queue
    }

    fn batch() -> Place {
        Place::Memory(RecordBatch::new_empty(Arc::new(Schema::empty())))
    }

    fn send(queue: &mut Queue) -> Vec<u64> {
        std::iter::from_fn(|| queue.send_next()).map(|entry| entry.sequence).collect()
    }

    #[test]
    fn what_is_not_acknowledged_is_sent_again_and_nothing_else() {
        let mut queue = queue(5);
        assert_eq!(send(&mut queue), [1, 2, 3, 4, 5]);
        assert!(queue.acknowledge(2));
        assert_eq!((queue.acknowledged(), queue.len(), queue.memory_bytes()), (2, 3, 30));
        // It had 4 before the break.
        queue.rewind(4);
        assert_eq!(send(&mut queue), [5]);
        // Another process has nothing.
        queue.rewind(0);
        assert_eq!(send(&mut queue), [3, 4, 5]);
    }

    #[test]
    fn what_was_never_sent_cannot_be_acknowledged() {
        let mut queue = queue(3);
        queue.send_next();
        assert!(!queue.acknowledge(2));
        assert_eq!((queue.acknowledged(), queue.len()), (0, 3));
        assert!(queue.acknowledge(1));
    }

    #[test]
    fn the_oldest_that_was_not_sent_is_dropped() {
        let mut queue = queue(3);
        queue.send_next();
        assert_eq!(queue.drop_oldest().unwrap().sequence, 2);
        assert_eq!(queue.acknowledged(), 0, "the first one is still on its way");
        assert_eq!(send(&mut queue), [3]);
        assert!(queue.drop_oldest().is_none());
        assert!(queue.acknowledge(1));
        assert_eq!(queue.acknowledged(), 2, "a dropped one holds up nothing");
        queue.acknowledge(3);
        queue.skip();
        assert_eq!((queue.acknowledged(), queue.memory_bytes()), (4, 0));
    }

    #[test]
    fn the_end_comes_last_and_is_acknowledged_by_itself() {
        let mut queue = queue(1);
        queue.end();
        assert_eq!(queue.send_end(), None);
        send(&mut queue);
        assert_eq!(queue.send_end(), Some(2));
        assert!(queue.acknowledge(1) && !queue.is_finished());
        assert!(queue.acknowledge(2) && queue.is_finished());
        assert_eq!(queue.acknowledged(), 1);
    }
}
