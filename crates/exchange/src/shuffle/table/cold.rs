//! Which chunks leave memory first: those that will be read last.

use std::cmp::Reverse;
use std::sync::Arc;

use super::super::chunk::{Chunk, Entry, Place};
use super::super::key::PartitionKey;
use super::super::spill::SpillFile;
use super::cells::Cell;
use super::{Partition, Table};

/// Chunks of one partition that are to leave memory.
#[derive(Debug)]
pub(in super::super) struct Cold {
    key: PartitionKey,
    incarnation: u64,
    chunks: Vec<ColdChunk>,
}

#[derive(Debug)]
struct ColdChunk {
    sender: u32,
    attempt: u32,
    sequence: usize,
    bytes: u32,
    chunk: Arc<Chunk>,
}

impl Cold {
    /// The chunks, in the order in which they lie in the file.
    pub(in super::super) fn chunks(&self) -> impl Iterator<Item = &Arc<Chunk>> + Clone {
        self.chunks.iter().map(|one| &one.chunk)
    }

    /// Bytes of them.
    pub(in super::super) fn bytes(&self) -> u64 {
        self.chunks.iter().map(|one| u64::from(one.bytes)).sum()
    }
}

impl Table {
    /// Chunks of so many bytes, as far as there are, that are needed last; all of
    /// one query, for what goes with it goes with their file.
    ///
    /// Partitions that nobody reads yet come first, the largest of them first.
    pub(in super::super) fn coldest(&self, wanted: u64) -> Vec<Cold> {
        let mut ranked = Vec::new();
        for (name, query) in &self.queries {
            for (at, partition) in &query.partitions {
                if partition.resident > 0 {
                    let rank = (!partition.order.is_empty(), Reverse(partition.resident));
                    ranked.push((rank, name, *at, partition));
                }
            }
        }
        ranked
            .sort_unstable_by(|one, other| (one.0, one.1, one.2).cmp(&(other.0, other.1, other.2)));
        let Some((_, first, ..)) = ranked.first().copied() else { return Vec::new() };
        let mut all = Vec::new();
        let mut bytes = 0;
        for (_, name, (stage, number), partition) in ranked {
            if bytes >= wanted {
                break;
            }
            let Ok(key) = PartitionKey::try_new(name, stage, number) else { continue };
            if name != first {
                continue;
            }
            let chunks = partition.coldest(wanted - bytes);
            let cold = Cold { key, incarnation: partition.incarnation, chunks };
            bytes += cold.bytes();
            all.push(cold);
        }
        all
    }

    /// Chunks lie in a file now, each where `starts` says; what leaves memory.
    /// What was replaced or consumed meanwhile stays so.
    pub(in super::super) fn spilled(
        &mut self,
        cold: &[Cold],
        file: &Arc<SpillFile>,
        starts: &[u32],
    ) -> Vec<Arc<Chunk>> {
        let mut freed = Vec::new();
        let mut starts = starts.iter();
        for Cold { key, incarnation, chunks } in cold {
            let starts = starts.by_ref().take(chunks.len());
            let Ok(partition) = self.found(key) else {
                starts.for_each(drop);
                continue;
            };
            if partition.incarnation != *incarnation {
                starts.for_each(drop);
                continue;
            }
            for (one, at) in chunks.iter().zip(starts) {
                freed.extend(partition.move_to(one, file, *at));
            }
        }
        freed
    }
}

impl Partition {
    /// Chunks of so many bytes, in the order in which they are read.
    fn coldest(&self, wanted: u64) -> Vec<ColdChunk> {
        let mut found = Found { wanted, bytes: 0, chunks: Vec::new() };
        for (sender, cell) in self.cells.iter() {
            // Nobody sees these before they commit.
            if cell.committed.is_some()
                && let Some(open) = &cell.open
            {
                let chunks = open.attempt.chunks.iter().enumerate().rev();
                found.take(sender, open.attempt.number, chunks);
            }
        }
        // Those that were read: another reader may come, or not.
        for (sender, sequence) in &self.order[self.consumed..] {
            if let Some(attempt) = self.cells.get(*sender).and_then(Cell::seen) {
                let at = *sequence as usize;
                found.take(*sender, attempt.number, attempt.chunks.get(at).map(|one| (at, one)));
            }
        }
        let next = self.order.last().map_or(0, |(sender, _)| *sender);
        let before = self.cells.iter().take_while(|(sender, _)| *sender < next);
        let round: Vec<_> = self.cells.from(next).chain(before).collect();
        for (sender, cell) in round.into_iter().rev() {
            if let Some(attempt) = cell.seen() {
                let chunks = attempt.chunks.iter().enumerate().skip(cell.read as usize).rev();
                found.take(sender, attempt.number, chunks);
            }
        }
        found.chunks.reverse();
        found.chunks
    }

    fn move_to(&mut self, one: &ColdChunk, file: &Arc<SpillFile>, at: u32) -> Option<Arc<Chunk>> {
        let cell = self.cells.get_mut(one.sender)?;
        let attempt = cell.attempts_mut().find(|attempt| attempt.number == one.attempt)?;
        let entry = attempt.chunks.get_mut(one.sequence)?;
        match &entry.place {
            Place::Memory(chunk) if Arc::ptr_eq(chunk, &one.chunk) => {}
            _ => return None,
        }
        self.resident -= entry.resident();
        match std::mem::replace(&mut entry.place, Place::Disk { file: Arc::clone(file), at }) {
            Place::Memory(chunk) => Some(chunk),
            Place::Gone | Place::Disk { .. } => None,
        }
    }
}

/// What was found so far.
struct Found {
    wanted: u64,
    bytes: u64,
    chunks: Vec<ColdChunk>,
}

impl Found {
    fn take<'a>(
        &mut self,
        sender: u32,
        attempt: u32,
        entries: impl IntoIterator<Item = (usize, &'a Entry)>,
    ) {
        for (sequence, entry) in entries {
            if self.bytes >= self.wanted {
                return;
            }
            if let Place::Memory(chunk) = &entry.place {
                let (bytes, chunk) = (entry.bytes, Arc::clone(chunk));
                self.bytes += u64::from(bytes);
                self.chunks.push(ColdChunk { sender, attempt, sequence, bytes, chunk });
            }
        }
    }
}
