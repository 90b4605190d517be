//! The suite that every [`Sink`] passes.
//!
//! It checks the numbered rules of [`Sink`] as far as a caller can see them;
//! what needs a crash of the process is up to each sink's own tests.
//! Violations panic, with the rule.

use std::sync::Arc;

use arrow_array::{Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use sheaf_proto::BatchId;
use sheaf_retry::Retryable as _;

use crate::sink::{CommitKey, Committed, PreparedWrite, Sink};

/// A fresh, empty place to write to.
#[async_trait]
pub trait SinkPlace: Send + Sync {
    /// Opens a sink on it; several times, as several workers and restarts do.
    async fn open(&self) -> Arc<dyn Sink>;

    /// The rows that a reader of the place sees, over all batches.
    async fn visible_rows(&self) -> u64;
}

/// Runs the suite; `make_place` gives a fresh place at every call.
///
/// # Panics
/// Where a rule of [`Sink`] is broken.
pub async fn sink_conformance<P: SinkPlace>(make_place: impl Fn() -> P) {
    nothing_is_visible_before_commit(&make_place()).await;
    the_first_commit_wins(&make_place()).await;
    one_of_many_wins(&make_place()).await;
    abandoned_writes_leave_nothing(&make_place()).await;
    a_batch_may_be_empty_or_written_in_pieces(&make_place()).await;
    misuse_is_an_error(&make_place()).await;
    ids_are_kept_apart(&make_place()).await;
}

/// The schema of the suite's rows.
pub fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("n", DataType::Int64, false),
        Field::new("name", DataType::Utf8, true),
    ]))
}

/// `count` rows of it.
///
/// # Panics
/// Never: the columns fit the schema.
pub fn rows(count: u32) -> RecordBatch {
    let numbers = Int64Array::from_iter_values(0..i64::from(count));
    let names =
        StringArray::from_iter((0..count).map(|n| (n % 3 != 0).then(|| format!("row {n}"))));
    RecordBatch::try_new(schema(), vec![Arc::new(numbers), Arc::new(names)])
        .expect("two columns of the same length in the order of the schema")
}

fn key(id: &str, fence: u64) -> CommitKey {
    CommitKey { id: BatchId::try_new(id).expect("ids of the suite are valid"), fence }
}

async fn prepared(sink: &dyn Sink, key: &CommitKey, count: u32) -> Box<dyn PreparedWrite> {
    let mut write = sink.prepare(key, schema()).await.expect("prepare");
    write.write(&rows(count)).await.expect("write");
    write
}

async fn commit(sink: &dyn Sink, key: &CommitKey, count: u32) -> Committed {
    let mut write = prepared(sink, key, count).await;
    write.finish().await.expect("finish");
    write.commit().await.expect("commit")
}

async fn nothing_is_visible_before_commit(place: &dyn SinkPlace) {
    let sink = place.open().await;
    let key = key("visible", 3);
    let mut write = prepared(&*sink, &key, 10).await;
    assert_eq!(place.visible_rows().await, 0, "rule 1: rows are visible after write");
    write.finish().await.expect("finish");
    assert_eq!(place.visible_rows().await, 0, "rule 1: rows are visible after finish");
    let before = sink.committed(&key.id).await.expect("committed");
    assert_eq!(before, None, "rule 5: committed answers before the commit");
    let committed = write.commit().await.expect("commit");
    let own = (committed.created, committed.fence, committed.rows);
    assert_eq!(own, (true, 3, 10), "rule 2: the first commit is the winner");
    assert_eq!(place.visible_rows().await, 10, "rule 3: committed rows are not visible");
    for sink in [sink, place.open().await] {
        let found = sink.committed(&key.id).await.expect("committed");
        let expected = Committed { created: false, ..committed.clone() };
        assert_eq!(found, Some(expected), "rule 5: committed answers the winner");
    }
}

async fn the_first_commit_wins(place: &dyn SinkPlace) {
    let first = commit(&*place.open().await, &key("twice", 1), 5).await;
    // A late attempt, the same attempt again, and an older one that comes back.
    for fence in [2, 1, 0] {
        let sink = place.open().await;
        let late = commit(&*sink, &key("twice", fence), 7).await;
        let expected = Committed { created: false, ..first.clone() };
        assert_eq!(late, expected, "rule 2: attempt {fence} did not adopt the winner");
    }
    assert_eq!(place.visible_rows().await, 5, "rule 2: a second commit changed the rows");
}

async fn one_of_many_wins(place: &dyn SinkPlace) {
    const ATTEMPTS: u64 = 8;
    let mut writes = Vec::new();
    for fence in 1..=ATTEMPTS {
        let sink = place.open().await;
        let count = u32::try_from(fence).expect("a small number");
        let mut write = prepared(&*sink, &key("race", fence), count).await;
        write.finish().await.expect("finish");
        writes.push(write);
    }
    let commits = writes.into_iter().map(|write| tokio::spawn(write.commit()));
    let mut results = Vec::new();
    for commit in commits.collect::<Vec<_>>() {
        results.push(commit.await.expect("no panic").expect("commit"));
    }
    let created: Vec<_> = results.iter().filter(|result| result.created).collect();
    assert_eq!(created.len(), 1, "rule 2: several attempts made the same batch");
    let winner = created[0];
    for result in &results {
        let same = (result.fence, result.rows) == (winner.fence, winner.rows);
        assert!(same, "rule 2: attempts name different winners: {result:?}, {winner:?}");
    }
    assert_eq!(winner.rows, winner.fence, "rule 2: rows are not those of the winner");
    assert_eq!(place.visible_rows().await, winner.rows, "rule 2: more than the winner's rows");
}

async fn abandoned_writes_leave_nothing(place: &dyn SinkPlace) {
    let sink = place.open().await;
    drop(prepared(&*sink, &key("dropped", 1), 4).await);
    prepared(&*sink, &key("aborted", 1), 4).await.abort().await.expect("abort");
    let mut finished = prepared(&*sink, &key("finished", 1), 4).await;
    finished.finish().await.expect("finish");
    drop(finished);
    let live = prepared(&*sink, &key("live", 1), 4).await;
    let removed = place.open().await.recover().await.expect("recover");
    assert_eq!(removed, 0, "rule 4: dropped writes left something, or recover took a live one");
    for id in ["dropped", "aborted", "finished", "live"] {
        let found = sink.committed(&key(id, 1).id).await.expect("committed");
        assert_eq!(found, None, "rule 4: {id} is committed");
    }
    assert_eq!(place.visible_rows().await, 0, "rule 4: abandoned rows are visible");
    // The same attempt may be made again once its first try is gone.
    assert!(commit(&*sink, &key("dropped", 1), 4).await.created, "rule 4");
    let live = live.commit().await.expect("a live write outlives recover");
    assert!(live.created, "rule 4: recover removed a live write");
}

async fn a_batch_may_be_empty_or_written_in_pieces(place: &dyn SinkPlace) {
    let sink = place.open().await;
    let mut empty = sink.prepare(&key("empty", 1), schema()).await.expect("prepare");
    empty.finish().await.expect("finish without rows");
    assert_eq!(empty.commit().await.expect("commit").rows, 0);
    let mut pieces = sink.prepare(&key("pieces", 1), schema()).await.expect("prepare");
    for count in [1, 0, 1_000, 3] {
        pieces.write(&rows(count)).await.expect("write");
    }
    // `finish` may be left out: commit does it.
    assert_eq!(pieces.commit().await.expect("commit").rows, 1_004);
    assert_eq!(place.visible_rows().await, 1_004);
}

async fn misuse_is_an_error(place: &dyn SinkPlace) {
    let sink = place.open().await;
    let mut write = prepared(&*sink, &key("misused", 1), 2).await;
    write.finish().await.expect("finish");
    let late = write.write(&rows(1)).await.expect_err("a write after finish");
    assert_eq!(late.disposition(), sheaf_retry::Disposition::Permanent);
    drop(write);
    let other = Arc::new(Schema::new(vec![Field::new("x", DataType::Int64, false)]));
    let mut write = sink.prepare(&key("misused", 2), other).await.expect("prepare");
    write.write(&rows(1)).await.expect_err("rows of another schema");
    drop(write);
    assert_eq!(place.visible_rows().await, 0);
    assert!(commit(&*sink, &key("misused", 3), 2).await.created);
}

async fn ids_are_kept_apart(place: &dyn SinkPlace) {
    let sink = place.open().await;
    let long = ["x".repeat(200), ":".repeat(200), format!("{}a", ":".repeat(199))];
    let short = ["a", "A:", "a.", "a.1", "a.1.json", "..", "-", "a:"];
    let mut ids: Vec<&str> = short.into_iter().chain(long.iter().map(String::as_str)).collect();
    ids.sort_unstable();
    ids.dedup();
    for (n, id) in ids.iter().enumerate() {
        let committed = commit(&*sink, &key(id, n as u64), 1).await;
        assert!(committed.created, "{id} was taken for another batch: {committed:?}");
    }
    for (n, id) in ids.iter().enumerate() {
        let found = sink.committed(&key(id, 0).id).await.expect("committed");
        assert_eq!(found.map(|c| c.fence), Some(n as u64), "{id}");
    }
    assert_eq!(place.visible_rows().await, ids.len() as u64);
}
