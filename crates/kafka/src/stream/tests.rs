//! What streams keep, give and count.

use std::ops::Range;

use arrow_array::cast::AsArray as _;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, Int64Array, RecordBatch, TimestampMillisecondArray};
use futures::FutureExt as _;
use sheaf_retry::{Code, ManualClock, Retryable as _, Timestamp};

use super::*;
use crate::schema::{OFFSET, TIMESTAMP};

const TTL: Duration = Duration::from_secs(60);

/// Messages of one partition, each a second after the one before it.
fn part(partition: i32, offsets: Range<i64>) -> Part {
    part_of(partition, offsets, 1)
}

fn part_of(partition: i32, offsets: Range<i64>, version: u32) -> Part {
    let times = TimestampMillisecondArray::from_iter_values(offsets.clone().map(|at| at * 1_000));
    let mut columns: Vec<(&str, ArrayRef)> = vec![
        (OFFSET, Arc::new(Int64Array::from_iter_values(offsets.clone()))),
        (TIMESTAMP, Arc::new(times.with_timezone("UTC"))),
    ];
    for more in ["x", "y"].iter().take(version as usize - 1) {
        columns.push((more, Arc::new(Int64Array::from_iter_values(offsets.clone()))));
    }
    Part::new(partition, RecordBatch::try_from_iter(columns).unwrap(), version, offsets)
}

struct Under {
    stream: Arc<TopicStream>,
    clock: Arc<ManualClock>,
    memory: Arc<Budget>,
}

/// A stream with room for so many parts of ten messages.
fn stream(parts: u64, when_full: WhenFull) -> Under {
    let clock = ManualClock::new(Timestamp::EPOCH);
    let memory = Budget::new(1 << 30);
    let limit_bytes = parts * part(0, 0..10).size_bytes();
    let options = StreamOptions { limit_bytes, ttl: TTL, when_full };
    let metrics = StreamMetrics::default();
    let stream =
        TopicStream::new("logs".into(), options, Arc::clone(&memory), metrics, clock.clone());
    Under { stream, clock, memory }
}

fn offsets(rows: &RecordBatch) -> Vec<i64> {
    rows.column_by_name(OFFSET).unwrap().as_primitive::<Int64Type>().values().to_vec()
}

fn all(reader: &mut Reader) -> Vec<i64> {
    let mut read = Vec::new();
    while let Some(rows) = reader.next().now_or_never().expect("it is there").unwrap() {
        read.extend(offsets(&rows));
    }
    read
}

fn read(under: &Under, selection: Selection) -> Vec<i64> {
    all(&mut under.stream.read(selection).unwrap())
}

#[test]
fn a_snapshot_is_what_was_there_and_takes_nothing_away() {
    let under = stream(10, WhenFull::Block);
    let error = under.stream.read(Selection::default()).err().unwrap();
    assert_eq!(error.code(), Code::NotFound);
    under.stream.try_append(part(0, 0..10)).unwrap();
    under.stream.try_append(part(1, 100..110)).unwrap();
    let mut first = under.stream.read(Selection::default()).unwrap();
    under.stream.try_append(part(0, 10..20)).unwrap();
    assert_eq!(all(&mut first), (0..10).chain(100..110).collect::<Vec<_>>());
    for _ in 0..2 {
        let selection = Selection { partition: Some(0), ..Selection::default() };
        assert_eq!(read(&under, selection), (0..20).collect::<Vec<_>>());
    }
    let selection = Selection { start: Start::Offset(15), ..Selection::default() };
    assert_eq!(read(&under, selection), (100..110).chain(15..20).collect::<Vec<_>>());
    let selection = Selection { start: Start::Time(104_500), ..Selection::default() };
    assert_eq!(read(&under, selection), (105..110).collect::<Vec<_>>());
    let selection = Selection { start: Start::Newest, ..Selection::default() };
    assert!(read(&under, selection).is_empty());
    assert_eq!(under.stream.partitions()[&0].rows, 20);
}

#[test]
fn a_follower_sees_what_comes_and_the_end_of_the_stream() {
    let under = stream(10, WhenFull::Block);
    under.stream.try_append(part(0, 0..10)).unwrap();
    let selection = Selection { follow: true, start: Start::Newest, partition: None };
    let mut follower = under.stream.read(selection).unwrap();
    assert!(follower.next().now_or_never().is_none());
    under.stream.try_append(part(0, 10..20)).unwrap();
    let rows = follower.next().now_or_never().unwrap().unwrap().unwrap();
    assert_eq!(offsets(&rows), (10..20).collect::<Vec<_>>());
    assert!(follower.next().now_or_never().is_none());
    under.stream.close();
    assert!(follower.next().now_or_never().unwrap().unwrap().is_none());
}

#[test]
fn a_full_stream_waits_for_its_readers_and_loses_nothing() {
    let under = stream(3, WhenFull::Block);
    let append = |offsets: Range<i64>| under.stream.try_append(part(0, offsets));
    append(0..10).unwrap();
    let follow = Selection { follow: true, ..Selection::default() };
    let mut follower = under.stream.read(follow).unwrap();
    append(10..20).unwrap();
    append(20..30).unwrap();
    assert!(matches!(append(30..40), Err(Refused::Full(_))));
    under.clock.advance(10 * TTL);
    under.stream.expire();
    assert!(matches!(append(30..40), Err(Refused::Full(_))), "a follower waits for all of it");
    let mut next = || follower.next().now_or_never().unwrap().unwrap().unwrap();
    assert_eq!(offsets(&next())[0], 0);
    // What is being sent is still in memory.
    assert!(matches!(append(30..40), Err(Refused::Full(_))));
    assert_eq!(offsets(&next())[0], 10);
    append(30..40).unwrap();
    assert_eq!(offsets(&next())[0], 20);
    assert_eq!(offsets(&next())[0], 30);
    assert_eq!(under.stream.metrics().dropped.get(), 0);
    drop(follower);
    under.clock.advance(TTL);
    under.stream.expire();
    assert_eq!((under.stream.used_bytes(), under.memory.used()), (0, 0));
    let error = under.stream.read(Selection { start: Start::Offset(12), ..follow }).err().unwrap();
    assert!(error.to_string().contains("begins with 40"), "{error}");
}

#[test]
fn rows_that_nobody_reads_go_after_the_time_to_live() {
    let under = stream(10, WhenFull::Block);
    under.stream.try_append(part(0, 0..10)).unwrap();
    under.clock.advance(TTL / 2);
    under.stream.try_append(part(1, 0..10)).unwrap();
    let one = Selection { partition: Some(0), ..Selection::default() };
    assert_eq!(read(&under, one).len(), 10);
    under.clock.advance(TTL / 2);
    under.stream.expire();
    assert_eq!(under.stream.metrics().expired.get(), 0, "one was read, one is new");
    under.clock.advance(TTL / 2);
    under.stream.expire();
    assert_eq!(under.stream.metrics().expired.get(), 20);
    assert_eq!(under.stream.partitions()[&1].gone, Some(10));
}

#[test]
fn the_oldest_are_dropped_and_counted_where_that_is_asked_for() {
    let under = stream(3, WhenFull::DropOldest);
    let append = |offsets: Range<i64>| under.stream.try_append(part(0, offsets));
    append(0..10).unwrap();
    assert_eq!(read(&under, Selection::default()).len(), 10);
    for from in [10, 20, 30, 40] {
        append(from..from + 10).unwrap();
    }
    // The first ten were read before they went.
    assert_eq!(under.stream.metrics().dropped.get(), 10);
    assert_eq!(read(&under, Selection::default()), (20..50).collect::<Vec<_>>());
    assert!(matches!(append(50..5_000), Err(Refused::TooLarge { .. })));
}

#[tokio::test]
async fn who_waits_for_room_gets_it_and_is_told_of_the_end() {
    let under = stream(1, WhenFull::Block);
    under.stream.append(part(0, 0..10), || true).await.unwrap();
    let stream = Arc::clone(&under.stream);
    let waiting = tokio::spawn(async move { stream.append(part(0, 10..20), || true).await });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    assert_eq!(read(&under, Selection::default()).len(), 10);
    waiting.await.unwrap().unwrap();
    let stream = Arc::clone(&under.stream);
    let waiting = tokio::spawn(async move { stream.append(part(0, 20..30), || true).await });
    tokio::task::yield_now().await;
    under.stream.close();
    assert!(matches!(waiting.await.unwrap(), Err(Refused::Full(_))));
}

#[test]
fn another_schema_is_told_before_its_first_row() {
    let under = stream(10, WhenFull::Block);
    under.stream.try_append(part_of(2, 0..10, 1)).unwrap();
    let follow = Selection { follow: true, ..Selection::default() };
    let mut follower = under.stream.read(follow).unwrap();
    under.stream.try_append(part_of(2, 10..20, 2)).unwrap();
    assert_eq!(follower.next().now_or_never().unwrap().unwrap().unwrap().num_rows(), 10);
    let error = follower.next().now_or_never().unwrap().unwrap_err();
    assert!(error.to_string().contains("offset 10 of partition 2"), "{error}");
    let place: Start = error.to_string().rsplit_once("from=").unwrap().1.parse().unwrap();
    let mut on = under.stream.read(Selection { start: place, ..Selection::default() }).unwrap();
    assert_eq!((all(&mut on), on.schema_version()), ((10..20).collect::<Vec<_>>(), 2));
    // A new reader has the columns of now, and gets all of it.
    let mut again = under.stream.read(Selection::default()).unwrap();
    assert_eq!((again.schema().fields().len(), again.schema_version()), (3, 2));
    assert_eq!(all(&mut again).len(), 20);
    under.clock.advance(TTL);
    under.stream.expire();
    let gone = under.stream.read(Selection { start: place, ..Selection::default() });
    assert_eq!(gone.err().unwrap().code(), Code::FailedPrecondition);
}
