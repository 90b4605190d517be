//! Who waits, and for how long, by a clock that stands still.

use arrow_array::{ArrayRef, Int64Array, RecordBatch};
use sheaf_flight::ipc::encode_batches;
use sheaf_retry::{ManualClock, Timestamp};
use tokio::task::JoinHandle;

use super::*;

mod end;
mod room;

const WAIT: Duration = Duration::from_secs(30);

struct World {
    exchange: Exchange,
    clock: Arc<ManualClock>,
    messages: Vec<Message>,
}

fn key() -> PartitionKey {
    PartitionKey::try_new("q", 0, 0).unwrap()
}

impl World {
    fn new() -> Self {
        let clock = ManualClock::new(Timestamp::EPOCH);
        let exchange = Exchange::new(Budget::new(1 << 20), clock.clone());
        let column = Arc::new(Int64Array::from(vec![1, 2, 3])) as ArrayRef;
        let batch = RecordBatch::try_from_iter([("n", column)]).unwrap();
        let messages = encode_batches(batch.schema(), &[batch]).unwrap();
        World { exchange, clock, messages }
    }

    fn begin(&self) {
        self.exchange.begin(&key(), Sender::only(), &self.messages[0]).unwrap();
    }

    fn push(&self) {
        self.exchange.push(&key(), Sender::only(), 0, None, self.messages[1].clone()).unwrap();
    }

    fn commit(&self) {
        let totals = Totals { chunks: 1, rows: 3 };
        self.exchange.commit(&key(), Sender::only(), totals).unwrap();
    }

    /// A reader of everything, which waits; the chunks that it got.
    async fn reader(&self, pipelined: bool) -> JoinHandle<Result<u64, Error>> {
        let task = self.start_reader(pipelined);
        self.waits().await;
        task
    }

    /// One that need not wait.
    fn reader_of_all(&self) -> JoinHandle<Result<u64, Error>> {
        self.start_reader(false)
    }

    fn start_reader(&self, pipelined: bool) -> JoinHandle<Result<u64, Error>> {
        let exchange = self.exchange.clone();
        let options = ReadOptions { pipelined, wait: WAIT, ..ReadOptions::default() };
        tokio::spawn(async move {
            let mut reader = exchange.read(key(), options).await?;
            let mut chunks = 0;
            while let Item::Chunk { .. } = reader.next().await? {
                chunks += 1;
            }
            Ok(chunks)
        })
    }

    /// Until the reader has nothing to do.
    async fn waits(&self) {
        let waits = || async { self.clock.sleepers() > 0 };
        sheaf_testkit::wait_until_async(WAIT, "the reader to wait", waits).await.unwrap();
    }

    /// Until what the reader waited for has woken it, and it waits again.
    async fn goes_on(&self) {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        self.waits().await;
    }
}

async fn end(task: JoinHandle<Result<u64, Error>>) -> Result<u64, Error> {
    tokio::time::timeout(WAIT, task).await.expect("the reader was not woken").unwrap()
}

#[tokio::test]
async fn each_change_wakes_who_waits_for_it() {
    for pipelined in [false, true] {
        let world = World::new();
        let task = world.reader(pipelined).await;
        world.begin();
        world.goes_on().await;
        world.push();
        world.goes_on().await;
        assert!(!task.is_finished());
        world.commit();
        assert_eq!(end(task).await.unwrap(), 1);
        assert!(world.exchange.state().waiting.is_empty());
    }
}

#[tokio::test]
async fn a_clean_up_ends_who_waits() {
    let world = World::new();
    world.begin();
    world.push();
    let task = world.reader(true).await;
    assert_eq!(world.exchange.cleanup_query_data("q").unwrap(), 1);
    let error = end(task).await.unwrap_err();
    assert!(matches!(error, Error::CleanedUp { .. }), "{error}");
    assert_eq!(world.exchange.budget().used(), 0);
}

#[tokio::test]
async fn who_has_waited_for_long_enough_is_told_for_whom() {
    let world = World::new();
    let task = world.reader(false).await;
    world.clock.advance(WAIT);
    assert!(matches!(end(task).await.unwrap_err(), Error::NotFound { .. }));
    world.begin();
    world.push();
    let task = world.reader(false).await;
    world.clock.advance(WAIT);
    assert!(matches!(end(task).await.unwrap_err(), Error::NotReady { missing: 0, .. }));
    let task = world.reader(true).await;
    world.clock.advance(WAIT);
    let error = end(task).await.unwrap_err();
    assert!(matches!(error, Error::Stalled { waited_ms: 30_000, missing: 0, .. }), "{error}");
}

#[tokio::test]
async fn readers_that_left_are_forgotten() {
    let world = World::new();
    let options = ReadOptions { wait: WAIT, ..ReadOptions::default() };
    for partition in 0..3 * MANY_WAITING {
        let key = PartitionKey::try_new("q", 1, u32::try_from(partition).unwrap()).unwrap();
        let mut leaving = Box::pin(world.exchange.read(key, options));
        assert!(futures::poll!(&mut leaving).is_pending());
    }
    assert!(world.exchange.state().waiting.len() <= MANY_WAITING + 1);
}

#[tokio::test]
async fn two_exchanges_at_the_same_time_have_other_incarnations() {
    let clock = ManualClock::new(Timestamp::EPOCH);
    let incarnation = async |options: ReceiverOptions| {
        let exchange = Exchange::open(options).await.unwrap();
        exchange.begin(&key(), Sender::only(), &World::new().messages[0]).unwrap();
        exchange.read(key(), ReadOptions::default()).await.unwrap().incarnation()
    };
    let options = || ReceiverOptions::new(Budget::new(1 << 20), clock.clone());
    // As after a restart with a clock that was set back.
    let (first, second) = (incarnation(options()).await, incarnation(options()).await);
    assert!(first != second && first > 0 && second > 0, "{first} and {second}");
    assert!(first < 1 << 54, "{first}");
    assert_eq!(incarnation(options().with_seed(7 << 11)).await, 7);
}
