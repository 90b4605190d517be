//! A copy of the whole state at one point, read in parts while work goes on.
//!
//! Nothing is held still: a batch that changes before the copy came to it is
//! put aside first, in the form that it had at that point.

use std::collections::BTreeSet;

use sheaf_proto::storage::v1::CoordinatorMeta;

use super::Engine;

/// Batches that one part of a copy looks at.
pub const COPY_PER_CALL: usize = 1_024;

/// How far a copy is.
#[derive(Debug, Default)]
pub(super) struct Copying {
    /// Batches from here to `end` are still to be read.
    next: u64,
    end: u64,
    /// Of those, the ones that were put aside.
    kept: BTreeSet<u64>,
    aside: Vec<(u64, Vec<u8>)>,
    scratch: Vec<u8>,
}

/// What stands at the head of a copy.
#[derive(Debug)]
pub struct CopyHead {
    /// As of the point of the copy; its epoch is that of this engine.
    pub meta: CoordinatorMeta,
    /// The stored form of every queue, by name.
    pub queues: Vec<(String, Vec<u8>)>,
    /// How many batches will follow.
    pub batches: u64,
}

/// Some batches of a copy.
#[derive(Debug, Default)]
pub struct CopyPart {
    /// Sequence numbers and stored forms, in no order, each once.
    pub batches: Vec<(u64, Vec<u8>)>,
    /// This was the last part.
    pub is_last: bool,
}

impl Engine {
    /// Begins a copy of the state as it is now; `None` while another is made.
    pub fn begin_copy(&mut self) -> Option<CopyHead> {
        if self.copying.is_some() {
            return None;
        }
        let queues = self.queue_names().filter_map(|name| {
            let value = self.encode_queue(&name)?;
            Some((name, value))
        });
        let head = CopyHead {
            meta: self.meta(self.fences.epoch()),
            queues: queues.collect(),
            batches: self.len() as u64,
        };
        self.copying = Some(Box::new(Copying { end: self.next_sequence, ..Copying::default() }));
        Some(head)
    }

    /// The next part of the copy; `None` where none is being made.
    pub fn copy_part(&mut self) -> Option<CopyPart> {
        let mut copying = self.copying.take()?;
        let mut batches = std::mem::take(&mut copying.aside);
        let range = self.order.range(copying.next..copying.end);
        let seen: Vec<u64> = range.take(COPY_PER_CALL).map(|(sequence, _)| *sequence).collect();
        for sequence in &seen {
            if copying.kept.contains(sequence) {
                continue;
            }
            let mut out = Vec::new();
            if self.encode(*sequence, &mut copying.scratch, &mut out) {
                batches.push((*sequence, out));
            }
        }
        let is_last = seen.len() < COPY_PER_CALL;
        if let Some(last) = seen.last() {
            copying.next = last + 1;
            copying.kept = copying.kept.split_off(&copying.next);
        }
        if !is_last {
            self.copying = Some(copying);
        }
        Some(CopyPart { batches, is_last })
    }

    /// Gives up the copy that is being made.
    pub fn end_copy(&mut self) {
        self.copying = None;
    }

    /// Puts a batch aside that is about to change and is not yet copied.
    pub(super) fn keep(&mut self, slot: u32) {
        let Some(mut copying) = self.copying.take() else { return };
        let sequence = self.slab.get(slot).sequence;
        if (copying.next..copying.end).contains(&sequence) && copying.kept.insert(sequence) {
            let mut out = Vec::new();
            if self.encode(sequence, &mut copying.scratch, &mut out) {
                copying.aside.push((sequence, out));
            }
        }
        self.copying = Some(copying);
    }
}
