//! Random senders, attempts, retries and deaths: every row once, or an error.

#![allow(clippy::cast_possible_truncation, reason = "small numbers")]

use std::collections::BTreeSet;

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray as _;
use arrow_cast::cast;
use arrow_schema::DataType;
use proptest::prelude::*;
use sheaf_flight::Message;
use sheaf_flight::ipc::{Bounds, Decoded, Decoder};
use sheaf_store::LocalDisk;

use super::super::chunk::crc32c_of;
use super::super::spill::{SpillDirectory, SpillFile};
use super::tests::{key, stream, table};
use super::*;

const SENDERS: u32 = 3;

/// What happens next.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// A sender sends its next chunk, or commits.
    Step(u32),
    /// It sends one again that it has sent.
    Again(u32, usize),
    /// It is started anew while the old one may go on.
    Restart(u32),
    /// The attempt before sends on.
    Old(u32),
    /// One of two readers asks for its next chunk.
    Read(usize),
    /// What one reader has read is not wanted any more.
    Consume,
    /// A sender is taken for dead.
    Idle(u32),
    /// Chunks of so many bytes move to disk, as far as there are.
    Spill(u64),
    /// They are written, and something else happens before that is known.
    SpillLate(u64, u32),
}

fn event() -> impl Strategy<Value = Event> {
    let sender = 0..SENDERS;
    prop_oneof![
        6 => sender.clone().prop_map(Event::Step),
        1 => (sender.clone(), any::<usize>()).prop_map(|(sender, at)| Event::Again(sender, at)),
        1 => sender.clone().prop_map(Event::Restart),
        1 => sender.prop_map(Event::Old),
        2 => (0..2_usize).prop_map(Event::Read),
        1 => Just(Event::Consume),
        1 => (0..SENDERS).prop_map(Event::Idle),
        1 => (1..4_000_u64).prop_map(Event::Spill),
        1 => (1..4_000_u64, 0..SENDERS).prop_map(|(bytes, who)| Event::SpillLate(bytes, who)),
    ]
}

/// One worker that sends: what it believes.
struct Worker {
    index: u32,
    attempt: u64,
    rows: usize,
    dictionary: bool,
    messages: Vec<Message>,
    sent: u64,
    committed: bool,
    /// Its last restart was refused: it is dead, and what it began stays.
    dead: bool,
}

impl Worker {
    fn new(table: &mut Table, index: u32, rows: usize, dictionary: bool) -> Self {
        let messages = Self::stream(index, 1, rows, dictionary);
        let worker = Worker {
            index,
            attempt: 1,
            rows,
            dictionary,
            messages,
            sent: 0,
            committed: false,
            dead: false,
        };
        table.begin(&key(), worker.sender(), &worker.messages[0]).unwrap();
        worker
    }

    /// Every attempt cuts its rows another way.
    fn stream(index: u32, attempt: u64, rows: usize, dictionary: bool) -> Vec<Message> {
        if rows == 0 {
            return vec![stream(index, 1, 1, dictionary)[0].clone()];
        }
        stream(index, rows, 1 + attempt as usize % 3, dictionary)
    }

    fn sender(&self) -> Sender {
        Sender { index: self.index, attempt: self.attempt, senders: SENDERS }
    }

    fn push(&self, table: &mut Table, sequence: u64) -> Result<bool, Error> {
        let message = &self.messages[sequence as usize + 1];
        table.push(&key(), self.sender(), sequence, crc32c_of(message), message.clone())
    }

    fn step(&mut self, table: &mut Table) {
        if self.dead || self.committed {
            return;
        }
        if (self.sent as usize) < self.messages.len() - 1 {
            assert!(self.push(table, self.sent).unwrap());
            self.sent += 1;
            return;
        }
        let totals = Totals { chunks: self.sent, rows: self.rows as u64 };
        match table.commit(&key(), self.sender(), totals) {
            Ok(()) => self.committed = true,
            // An attempt that had committed before was read meanwhile.
            Err(Error::AlreadyRead { .. }) => self.dead = true,
            Err(error) => panic!("{error}"),
        }
    }

    fn restart(&mut self, table: &mut Table) {
        if self.dead {
            return;
        }
        let next = Worker {
            attempt: self.attempt + 1,
            messages: Self::stream(self.index, self.attempt + 1, self.rows, self.dictionary),
            sent: 0,
            committed: false,
            ..*self
        };
        match table.begin(&key(), next.sender(), &next.messages[0]) {
            Ok(sequence) => {
                assert_eq!(sequence, 0);
                *self = next;
            }
            Err(Error::AlreadyRead { .. }) => self.dead = true,
            Err(error) => panic!("{error}"),
        }
    }

    /// Nothing of it came for long. If that costs it what it sent, it begins anew.
    fn idle(&mut self, table: &mut Table) {
        let (open, now) = (!self.dead && !self.committed, Duration::from_secs(60));
        for other in (0..SENDERS).filter(|other| *other != self.index) {
            table.touch_sender(&key(), other, now);
        }
        table.touch_sender(&key(), self.index, Duration::ZERO);
        let ended = table.end_idle(now, now);
        if ended == 0 || !open {
            return;
        }
        // Whatever it does, it is told.
        let error = match self.messages.get(1) {
            Some(_) if self.sent == 0 => self.push(table, 0).unwrap_err(),
            _ => table.commit(&key(), self.sender(), Totals::default()).unwrap_err(),
        };
        assert!(error.to_string().contains("begin another attempt"), "{error}");
        self.restart(table);
    }

    /// The attempt before sends its first chunk, and its commit.
    fn old(&self, table: &mut Table) {
        if self.attempt == 1 {
            return;
        }
        let sender = Sender { attempt: self.attempt - 1, ..self.sender() };
        let error = table.commit(&key(), sender, Totals::default()).unwrap_err();
        assert!(matches!(error, Error::Stale { .. }), "{error}");
        let old = Self::stream(self.index, sender.attempt, self.rows, self.dictionary);
        if let Some(first) = old.get(1) {
            let pushed = table.push(&key(), sender, 0, crc32c_of(first), first.clone());
            assert!(matches!(pushed.unwrap_err(), Error::Stale { .. }));
        }
    }
}

/// One reader, which decodes what it gets.
struct Watcher {
    mode: Mode,
    position: u64,
    decoder: Decoder,
    rows: Vec<String>,
    at_end: bool,
    is_late: bool,
}

impl Watcher {
    fn new(table: &Table, mode: Mode) -> Self {
        let mut decoder = Decoder::new(Bounds::default());
        decoder.push(&table.schema(&key()).unwrap().0).unwrap();
        Watcher { mode, position: 0, decoder, rows: Vec::new(), at_end: false, is_late: false }
    }

    fn step(&mut self, table: &mut Table) {
        match table.next(&key(), self.position, self.mode) {
            Ok(Step::Chunk(chunk, _)) => {
                assert!(!self.at_end, "a chunk after the end");
                self.position += 1;
                if let Decoded::Batch(batch) =
                    self.decoder.push(&chunk.read(&table.budget).unwrap()).unwrap()
                {
                    self.rows.extend(names(&batch));
                }
            }
            Ok(Step::End(totals)) => {
                self.at_end = true;
                assert_eq!(totals, Totals { chunks: self.position, rows: self.rows.len() as u64 });
            }
            Ok(Step::Wait(_)) => {}
            Err(Error::NotReady { .. }) if self.mode == Mode::Complete => {}
            // The other reader has consumed what this one has not read.
            Err(Error::Consumed { .. }) => self.is_late = true,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Writes what is coldest; who is told of it does so later.
fn spill(table: &Table, directory: &Arc<SpillDirectory>, bytes: u64) -> Option<Spilled> {
    let cold = table.coldest(bytes);
    let messages = cold.iter().flat_map(|cold| cold.chunks()).map(|chunk| chunk.message());
    messages.clone().next()?;
    let (file, starts) = SpillFile::write(directory, messages).unwrap();
    Some((cold, file, starts))
}

type Spilled = (Vec<cold::Cold>, Arc<SpillFile>, Vec<u32>);

fn moved(table: &mut Table, spilled: Option<Spilled>) {
    if let Some((cold, file, starts)) = spilled {
        drop(table.spilled(&cold, &file, &starts));
    }
}

/// The bytes that are said to be in memory and on disk are those that are.
fn check_places(table: &Table) {
    for (_, partition) in table.partitions("q") {
        let attempts = partition.cells.iter().flat_map(|(_, cell)| cell.attempts());
        let entries: Vec<_> = attempts.flat_map(|one| &one.chunks).collect();
        let open = partition.cells.iter().filter(|(_, cell)| cell.open.is_some()).count();
        assert_eq!(partition.open as usize, open);
        assert_eq!(partition.resident.get(), entries.iter().map(|one| one.resident()).sum::<u64>());
        assert_eq!(partition.spilled, entries.iter().map(|one| one.spilled()).sum::<u64>());
    }
}

fn names(batch: &RecordBatch) -> Vec<String> {
    let plain = cast(batch.column(0), &DataType::Utf8).unwrap();
    plain.as_string::<i32>().iter().map(|name| name.unwrap().to_owned()).collect()
}

fn run(events: &[Event], rows: &[usize], dictionary: bool, pipelined: bool) {
    let mut table = table();
    let path = tempfile::tempdir().unwrap();
    let directory = SpillDirectory::open(path.path(), 1 << 30, Arc::new(LocalDisk)).unwrap();
    let mut workers: Vec<Worker> = (0..SENDERS)
        .map(|index| Worker::new(&mut table, index, rows[index as usize], dictionary))
        .collect();
    let first = if pipelined { Mode::Pipelined } else { Mode::Complete };
    let mut readers = [Watcher::new(&table, first), Watcher::new(&table, Mode::Complete)];
    for event in events {
        match *event {
            Event::Step(sender) => workers[sender as usize].step(&mut table),
            Event::Again(sender, at) => {
                let worker = &workers[sender as usize];
                if worker.sent > 0 && !worker.dead {
                    assert!(!worker.push(&mut table, at as u64 % worker.sent).unwrap());
                }
            }
            Event::Restart(sender) => workers[sender as usize].restart(&mut table),
            Event::Old(sender) => workers[sender as usize].old(&mut table),
            Event::Read(reader) => readers[reader].step(&mut table),
            Event::Consume => drop(table.consume(&key(), readers[0].position).unwrap()),
            Event::Idle(sender) => workers[sender as usize].idle(&mut table),
            Event::Spill(bytes) => {
                let written = spill(&table, &directory, bytes);
                moved(&mut table, written);
            }
            Event::SpillLate(bytes, sender) => {
                let written = spill(&table, &directory, bytes);
                workers[sender as usize].restart(&mut table);
                workers[sender as usize].step(&mut table);
                readers[0].step(&mut table);
                drop(table.consume(&key(), readers[0].position).unwrap());
                moved(&mut table, written);
            }
        }
        check_places(&table);
    }
    for worker in &mut workers {
        for _ in 0..100 {
            worker.step(&mut table);
        }
    }
    for reader in &mut readers {
        for _ in 0..200 {
            reader.step(&mut table);
        }
    }
    let all: Vec<String> = (0..SENDERS)
        .flat_map(|sender| (0..rows[sender as usize]).map(move |row| format!("{sender}-{row}")))
        .collect();
    let is_whole = table.available("q", 1).unwrap().partitions[0].ready;
    assert!(is_whole || workers.iter().any(|worker| worker.dead));
    for reader in readers {
        assert_eq!(reader.at_end, is_whole && !reader.is_late);
        let unique: BTreeSet<&String> = reader.rows.iter().collect();
        assert_eq!(unique.len(), reader.rows.len(), "a row twice: {:?}", reader.rows);
        if reader.at_end {
            assert_eq!(unique, all.iter().collect());
        }
    }
    drop(table.clean_up("q", Gone::Asked));
    assert_eq!((table.budget.used(), directory.used()), (0, 0));
    let left = std::fs::read_dir(path.path()).unwrap().map(|one| one.unwrap().file_name());
    assert_eq!(left.collect::<Vec<_>>(), ["spill.lock"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_row_is_read_once_or_the_partition_is_not_complete(
        events in prop::collection::vec(event(), 0..80),
        rows in prop::collection::vec(0..12_usize, SENDERS as usize),
        dictionary in any::<bool>(),
        pipelined in any::<bool>(),
    ) {
        run(&events, &rows, dictionary, pipelined);
    }
}
