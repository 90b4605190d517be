//! Memory that gets short, with a disk and without one.

use std::sync::atomic::{AtomicU64, Ordering};

use sheaf_retry::Retryable as _;

use super::*;
use crate::shuffle::spill::tests::FullDisk;

const MEMORY: u64 = 64 << 10;
const CHUNK_ROWS: i64 = 1_000;

struct Spilling {
    exchange: Exchange,
    clock: Arc<ManualClock>,
    disk: Arc<FullDisk>,
    directory: tempfile::TempDir,
    metrics: ReceiverMetrics,
    sent: u64,
}

fn messages(of: u64) -> Vec<Message> {
    let from = i64::try_from(of).unwrap() * CHUNK_ROWS;
    let column = Arc::new(Int64Array::from_iter_values(from..from + CHUNK_ROWS)) as ArrayRef;
    let batch = RecordBatch::try_from_iter([("n", column)]).unwrap();
    encode_batches(batch.schema(), &[batch]).unwrap()
}

/// Memory of somebody else that can be let go of.
struct Cache {
    budget: Arc<Budget>,
    held: AtomicU64,
}

impl Cache {
    fn new(budget: &Arc<Budget>, bytes: u64) -> Arc<Self> {
        budget.hold(&[], bytes).unwrap();
        Arc::new(Cache { budget: Arc::clone(budget), held: AtomicU64::new(bytes) })
    }
}

#[async_trait::async_trait]
impl MemoryBudget for Cache {
    fn spare(&self) -> u64 {
        self.budget.spare()
    }

    fn try_take(&self, bytes: u64) -> bool {
        self.budget.try_take(bytes)
    }

    fn give(&self, bytes: u64) {
        self.budget.give(bytes);
    }

    fn becomes(&self, piece: sheaf_flight::Piece) {
        self.budget.becomes(piece);
    }

    fn give_piece(&self, piece: sheaf_flight::Piece) {
        self.budget.give_piece(piece);
    }

    fn when_taken(&self, told: sheaf_flight::Told) {
        self.budget.when_taken(told);
    }

    async fn make_room(&self, bytes: u64) -> bool {
        let missing = bytes.saturating_sub(self.spare());
        let gone = missing.min(self.held.load(Ordering::SeqCst));
        self.held.fetch_sub(gone, Ordering::SeqCst);
        self.budget.give(gone);
        gone == missing
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_can_let_go_of_goes_before_chunks_do() {
    let budget = Budget::new(MEMORY);
    let cache = Cache::new(&budget, MEMORY - (8 << 10));
    let mut world = Spilling::beside(budget, 1 << 30, Some(cache.clone())).await;
    world.send(5).await.unwrap();
    assert_eq!(world.metrics.spilled_bytes.get(), 0, "chunks went to disk");
    assert!(cache.held.load(Ordering::SeqCst) < MEMORY / 2);
    world.send(30).await.unwrap();
    assert!(world.metrics.spilled_bytes.get() > 0);
    world.check().await;
    let left = cache.held.load(Ordering::SeqCst);
    world.exchange.budget().give(left);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_keep_sends_no_chunk_to_disk_that_has_room() {
    let budget = Budget::new(MEMORY);
    let others = MEMORY / 8 * 5;
    budget.hold(&[], others).unwrap();
    let mut world = Spilling::beside(Arc::clone(&budget), 1 << 30, None).await;
    world.send(1).await.unwrap();
    assert!(budget.used() > MEMORY / 4 * 3);
    let spill = world.exchange.shared.spill.as_ref().unwrap();
    assert!(!spill.is_running(), "chunks go to disk for memory of others");
    // Its part of the memory is full.
    world.send(20).await.unwrap();
    assert!(world.metrics.spilled_bytes.get() > 0);
    world.check().await;
    budget.release(&[], others);
    world.end().await;
}

impl Spilling {
    async fn new(disk_bytes: u64) -> Self {
        Self::beside(Budget::new(MEMORY), disk_bytes, None).await
    }

    async fn beside(
        budget: Arc<Budget>,
        disk_bytes: u64,
        other: Option<Arc<dyn MemoryBudget>>,
    ) -> Self {
        let clock = ManualClock::new(Timestamp::EPOCH);
        let (disk, directory) = (Arc::new(FullDisk::default()), tempfile::tempdir().unwrap());
        let metrics = ReceiverMetrics::default();
        let mut options = ReceiverOptions::new(budget, clock.clone())
            .with_spill(directory.path(), disk_bytes)
            .with_disk(disk.clone())
            .with_metrics(metrics.clone());
        if let Some(other) = other {
            options = options.with_beside(other);
        }
        let exchange = Exchange::open(options).await.unwrap();
        exchange.begin(&key(), Sender::only(), &messages(0)[0]).unwrap();
        Spilling { exchange, clock, disk, directory, metrics, sent: 0 }
    }

    /// Sends until there is no room, or so many chunks were taken.
    async fn send(&mut self, chunks: u64) -> Result<(), Error> {
        while self.sent < chunks {
            let message = messages(self.sent)[1].clone();
            self.exchange.make_room(message.len() as u64 + 1_024).await;
            self.exchange.push(&key(), Sender::only(), self.sent, None, message)?;
            self.sent += 1;
            assert!(self.exchange.budget().used() <= MEMORY);
        }
        Ok(())
    }

    /// Reads all that was sent.
    async fn check(&self) {
        let options = ReadOptions { pipelined: true, ..ReadOptions::default() };
        let mut reader = self.exchange.read(key(), options).await.unwrap();
        for expected in 0..self.sent {
            let Item::Chunk { message, .. } = reader.next().await.unwrap() else { panic!() };
            let sent = &messages(expected)[1];
            assert_eq!(message.header, sent.header);
            assert_eq!(message.contiguous_body(), sent.contiguous_body());
        }
    }

    async fn end(self) {
        self.exchange.cleanup_query_data("q").unwrap();
        let free = || async { self.exchange.budget().used() + self.exchange.spilled_bytes() == 0 };
        sheaf_testkit::wait_until_async(WAIT, "all to be free", free).await.unwrap();
        let left = std::fs::read_dir(self.directory.path()).unwrap();
        let left: Vec<_> = left.map(|one| one.unwrap().file_name()).collect();
        assert_eq!(left, ["spill.lock"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_cannot_be_written_refuses_senders_and_loses_nothing() {
    let mut world = Spilling::new(1 << 30).await;
    world.send(30).await.unwrap();
    assert!(world.exchange.spilled_bytes() > 0);
    world.disk.is_full.store(true, Ordering::SeqCst);
    let error = world.send(1_000).await.unwrap_err();
    assert_eq!(error.code(), Code::MemoryFull, "{error}");
    assert!(world.metrics.spill_failures.get() > 0 && world.metrics.refused.get() > 0);
    world.check().await;
    // It is tried again after a while, and then goes on where it was.
    world.disk.is_full.store(false, Ordering::SeqCst);
    assert!(world.send(1_000).await.is_err(), "it was tried again at once");
    world.clock.advance(Duration::from_secs(2));
    let sent = world.sent;
    world.send(sent + 50).await.unwrap();
    world.check().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_disk_and_memory_are_full_senders_are_refused_until_something_is_read() {
    let mut world = Spilling::new(200_000).await;
    let error = world.send(1_000).await.unwrap_err();
    assert_eq!(error.code(), Code::MemoryFull, "{error}");
    // Both were used, the disk but for a chunk or two.
    let spilled = world.exchange.spilled_bytes();
    assert!((160_000..=200_000).contains(&spilled), "{spilled} bytes");
    assert!(world.sent * 8_000 > spilled + MEMORY / 2, "{} chunks", world.sent);
    world.check().await;
    let consume = ReadOptions { from_sequence: world.sent, consume: true, ..Default::default() };
    drop(world.exchange.read(key(), consume).await.unwrap());
    world.clock.advance(Duration::from_secs(2));
    world.exchange.make_room(MEMORY / 2).await;
    let message = messages(world.sent)[1].clone();
    world.exchange.push(&key(), Sender::only(), world.sent, None, message).unwrap();
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_that_goes_while_it_is_moved_leaves_nothing() {
    for chunks in 1..40 {
        let mut world = Spilling::new(1 << 30).await;
        world.send(chunks).await.unwrap();
        world.exchange.relieve();
        world.end().await;
    }
}
