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
    attempt: u64,
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
                if partition.resident.get() > 0 {
                    let rank = (!partition.order.is_empty(), Reverse(partition.resident.get()));
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
        let on_disk = Place::Disk { file: Arc::clone(file), at };
        let was = std::mem::replace(&mut entry.place, on_disk);
        self.spilled += entry.spilled();
        match was {
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
        attempt: u64,
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

#[cfg(test)]
mod tests {
    use super::super::tests::{send_all_to, stream};
    use super::super::{Mode, Sender, Step, Totals};
    use super::*;
    use crate::shuffle::chunk::crc32c_of;
    use crate::shuffle::spill::SpillDirectory;
    use sheaf_flight::Budget;

    fn key(partition: u32) -> PartitionKey {
        PartitionKey::try_new("q", 1, partition).unwrap()
    }

    /// Partition and sequence of each of the chunks that go first.
    fn coldest(table: &Table, wanted: u64) -> Vec<(u32, usize)> {
        let cold = table.coldest(wanted);
        let of = |cold: &Cold| {
            let number = cold.key.partition();
            cold.chunks.iter().map(move |one| (number, one.sequence)).collect::<Vec<_>>()
        };
        cold.iter().flat_map(of).collect()
    }

    #[test]
    fn what_is_read_last_goes_first() {
        let mut table = Table::new(Budget::new(64 << 20), 1);
        // The largest of them is being read.
        for (partition, rows) in [(0, 12), (1, 2), (2, 8)] {
            send_all_to(&mut table, &key(partition), &stream(0, rows, 2, false));
        }
        for position in 0..2 {
            let step = table.next(&key(0), position, Mode::Complete).unwrap();
            assert!(matches!(step, Step::Chunk(..)));
        }
        assert_eq!(coldest(&table, 1), [(2, 3)]);
        let of = |number: u32| {
            let (_, partition) =
                table.partitions("q").find(|((_, its), _)| *its == number).unwrap();
            partition.resident.get()
        };
        let unread = of(1) + of(2);
        assert_eq!(coldest(&table, of(2)), [(2, 0), (2, 1), (2, 2), (2, 3)]);
        assert_eq!(coldest(&table, unread).last(), Some(&(1, 0)));
        // Of the one that is being read: what was read, then from its end on.
        let expected = [(0, 5), (0, 1), (0, 0)];
        for (count, expected) in (1..).zip([&[(0, 0)][..], &[(0, 1), (0, 0)], &expected]) {
            let one = of(0) / 6;
            let found = coldest(&table, unread + count * one - one / 2);
            let found: Vec<_> = found.into_iter().filter(|(number, _)| *number == 0).collect();
            assert_eq!(found, expected);
        }
        // The one that is read next stays to the last.
        let all = coldest(&table, u64::MAX);
        let read: Vec<usize> =
            all.iter().filter(|(number, _)| *number == 0).map(|(_, at)| *at).collect();
        assert_eq!(read, [2, 3, 4, 5, 1, 0]);
    }

    #[test]
    fn what_an_attempt_had_on_disk_goes_with_it_and_what_is_consumed_too() {
        let path = tempfile::tempdir().unwrap();
        let disk = Arc::new(sheaf_store::LocalDisk);
        let directory = SpillDirectory::open(path.path(), 1 << 30, disk).unwrap();
        let mut table = Table::new(Budget::new(64 << 20), 1);
        let messages = stream(0, 8, 2, false);
        let spill = |table: &mut Table| {
            let cold = table.coldest(u64::MAX);
            let chunks = cold.iter().flat_map(|cold| cold.chunks());
            let messages = chunks.map(|chunk| chunk.message());
            let (file, starts) = SpillFile::write(&directory, messages).unwrap();
            assert_eq!(table.spilled(&cold, &file, &starts).len(), starts.len());
            starts.len()
        };
        send_all_to(&mut table, &key(0), &messages);
        assert_eq!(spill(&mut table), 4);
        // A second attempt, of which a part is on disk, and a third.
        for attempt in [2, 3] {
            let sender = Sender { attempt, ..Sender::only() };
            table.begin(&key(0), sender, &messages[0]).unwrap();
            for (sequence, message) in (0..).zip(&messages[1..]) {
                let crc = crc32c_of(message);
                table.push(&key(0), sender, sequence, crc, message.clone()).unwrap();
            }
            let before = directory.used();
            assert_eq!(spill(&mut table), 4);
            // What the second one had went when the third began.
            assert_eq!(directory.used(), 2 * before);
        }
        let both = directory.used();
        let totals = Totals { chunks: 4, rows: 8 };
        table.commit(&key(0), Sender { attempt: 3, ..Sender::only() }, totals).unwrap();
        assert_eq!(directory.used(), both / 2);
        for position in 0..4 {
            assert!(directory.used() > 0);
            drop(table.next(&key(0), position, Mode::Complete).unwrap());
            drop(table.consume(&key(0), position + 1).unwrap());
        }
        assert_eq!(directory.used(), 0);
    }

    #[test]
    fn chunks_of_one_query_lie_in_one_file() {
        let mut table = Table::new(Budget::new(64 << 20), 1);
        for (query, rows) in [("a", 4), ("b", 8), ("a", 6)] {
            let key = PartitionKey::try_new(query, 1, rows).unwrap();
            send_all_to(&mut table, &key, &stream(0, rows as usize, 2, false));
        }
        let queries =
            |cold: Vec<Cold>| cold.iter().map(|one| one.key.query().to_owned()).collect::<Vec<_>>();
        assert_eq!(queries(table.coldest(u64::MAX)), ["b"]);
        drop(table.clean_up("b", super::super::Gone::Asked));
        assert_eq!(queries(table.coldest(u64::MAX)), ["a", "a"]);
    }
}
