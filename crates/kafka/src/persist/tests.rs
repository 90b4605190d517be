//! Chunks on their way while another member was ahead.

use std::sync::Mutex;

use arrow_array::cast::AsArray as _;
use arrow_array::types::Int64Type;
use arrow_array::{Int64Array, RecordBatch};
use async_trait::async_trait;
use sheaf_flight::Budget;
use sheaf_retry::SystemClock;
use tokio::sync::watch;

use super::*;
use crate::messages::Messages;
use crate::sink::Portion;
use crate::stream::{StreamOptions, WhenFull};

/// Somebody else has stored what lies before the offset 250, which the first append
/// finds out.
#[derive(Debug, Default)]
struct Overtaken {
    is_claimed: Mutex<bool>,
    /// The offsets that were taken.
    taken: Mutex<Vec<i64>>,
}

const STORED: i64 = 250;

#[async_trait]
impl TopicSink for Overtaken {
    async fn claim(
        &self,
        partitions: &[TopicPartition],
        _committed: &BTreeMap<TopicPartition, i64>,
    ) -> Result<BTreeMap<TopicPartition, i64>, Error> {
        *self.is_claimed.lock().unwrap() = true;
        Ok(partitions.iter().map(|one| (one.clone(), STORED)).collect())
    }

    async fn begin(&self, _places: &[(TopicPartition, i64)]) -> Result<(), Error> {
        Ok(())
    }

    async fn append(&self, chunks: &[TopicRows]) -> Result<u64, Error> {
        if !*self.is_claimed.lock().unwrap() {
            return Err(Error::Fenced { of: "logs/0".to_owned(), offset: 100 });
        }
        let rows = chunks.iter().filter_map(|chunk| chunk.rows.as_ref());
        let offsets = rows.flat_map(|rows| {
            rows.column_by_name("_offset").unwrap().as_primitive::<Int64Type>().values().to_vec()
        });
        self.taken.lock().unwrap().extend(offsets);
        Ok(0)
    }

    fn needs_committed(&self) -> bool {
        false
    }

    fn portion(&self) -> Portion {
        // A chunk at a time.
        Portion { rows: 1, bytes: 1, linger: Duration::ZERO }
    }

    fn place_of(&self, stream: &str) -> Result<String, Error> {
        Ok(stream.to_owned())
    }
}

fn of() -> TopicPartition {
    TopicPartition { topic: "logs".into(), partition: 0 }
}

fn chunk(tracker: &Tracker, offsets: std::ops::Range<i64>) -> Converted {
    let column = Arc::new(Int64Array::from_iter_values(offsets.clone())) as _;
    let rows = Some(RecordBatch::try_from_iter([("_offset", column)]).unwrap());
    let span = tracker.begin(&of(), offsets.end).unwrap();
    let rows = TopicRows { of: of(), rows, dead_letters: None, end: offsets.end };
    Converted { span, rows, messages: Arc::new(Messages::default().into()), is_last: true }
}

fn writer(tracker: &Arc<Tracker>, sink: Arc<dyn TopicSink>) -> Writer {
    let (metrics, clock) = (Metrics::new(1 << 20), SystemClock::shared());
    let ttl = Duration::from_secs(60);
    let options = StreamOptions { limit_bytes: 1 << 20, ttl, when_full: WhenFull::Block };
    let streams = Streams::new(options, Budget::new(1 << 20), metrics.clone(), clock.clone());
    tracker.assign(of());
    let (turn, tracker) = (Turn::default(), Arc::clone(tracker));
    Writer { sink, turn, tracker, streams, metrics, clock }
}

#[tokio::test]
async fn what_another_member_has_stored_is_not_written_again_by_any_chunk() {
    let (tracker, sink) = (Arc::new(Tracker::default()), Arc::new(Overtaken::default()));
    let writer = writer(&tracker, sink.clone());
    let (persister, jobs) = Persister::channel();
    let ranges = [100..200, 200..240, 240..300, 300..310];
    for range in ranges {
        persister.write(chunk(&tracker, range)).await.unwrap();
    }
    drop(persister);
    writer.run(jobs).await;
    assert_eq!(*sink.taken.lock().unwrap(), (STORED..310).collect::<Vec<_>>());
    assert_eq!(tracker.take_committable(), [(of(), 310)]);
}

/// Takes all, and keeps what it is told to.
#[derive(Debug)]
struct Later {
    taken: watch::Sender<usize>,
    kept: watch::Receiver<u64>,
}

#[async_trait]
impl TopicSink for Later {
    async fn claim(
        &self,
        _partitions: &[TopicPartition],
        committed: &BTreeMap<TopicPartition, i64>,
    ) -> Result<BTreeMap<TopicPartition, i64>, Error> {
        Ok(committed.clone())
    }

    async fn begin(&self, _places: &[(TopicPartition, i64)]) -> Result<(), Error> {
        Ok(())
    }

    async fn append(&self, chunks: &[TopicRows]) -> Result<u64, Error> {
        self.taken.send_modify(|taken| *taken += chunks.len());
        Ok(0)
    }

    fn kept(&self) -> Option<watch::Receiver<u64>> {
        Some(self.kept.clone())
    }

    fn needs_committed(&self) -> bool {
        true
    }

    fn portion(&self) -> Portion {
        Portion { rows: 1, bytes: 1, linger: Duration::ZERO }
    }

    fn place_of(&self, stream: &str) -> Result<String, Error> {
        Ok(stream.to_owned())
    }
}

#[tokio::test]
async fn more_is_taken_while_none_is_kept_and_only_what_is_kept_is_committed() {
    let tracker = Arc::new(Tracker::default());
    let (tell, kept) = watch::channel(0);
    let (taken, mut so_far) = watch::channel(0);
    let writer = writer(&tracker, Arc::new(Later { taken, kept }));
    let (persister, jobs) = Persister::channel();
    for range in [0..10, 10..20, 20..30, 30..40] {
        let mut chunk = chunk(&tracker, range.clone());
        // Messages that are no rows are done with those before them.
        if range.start == 10 {
            chunk.rows.rows = None;
        }
        persister.write(chunk).await.unwrap();
    }
    drop(persister);
    let running = tokio::spawn(writer.run(jobs));
    so_far.wait_for(|taken| *taken == 4).await.unwrap();
    assert_eq!(tracker.take_committable(), []);
    for (count, end) in [(1, 20), (2, 30)] {
        tell.send_replace(count);
        let committable = async {
            loop {
                match tracker.take_committable() {
                    none if none.is_empty() => tokio::task::yield_now().await,
                    some => return some,
                }
            }
        };
        assert_eq!(committable.await, [(of(), end)]);
    }
    assert!(!running.is_finished(), "the last is not kept yet");
    drop(tell);
    running.await.unwrap();
    assert_eq!(tracker.take_committable(), []);
}
