//! Commits of which nobody knows whether they were.

use arrow_array::{ArrayRef, Int64Array};

use super::super::driver::{self, DriverPaths};
use super::super::spec::AdbcSpec;
use super::*;

fn tables(dir: &std::path::Path) -> Option<AdbcTables> {
    let paths = DriverPaths { flag: Some(sheaf_testkit::libduckdb()?), ..DriverPaths::default() };
    let spec = AdbcSpec::duckdb(dir.join("a"));
    let database = driver::open(&spec, &paths).unwrap();
    let failure = Failure::of(&spec);
    Some(AdbcTables::open(database, Dialect::DuckDb, &failure, "g".into()).unwrap())
}

/// A state whose one append was committed, while its answer was lost.
fn lost_answer(dir: &std::path::Path) -> Option<State> {
    let mut state = Arc::into_inner(tables(dir)?.state).unwrap().into_inner().unwrap();
    state.append(Order::Rising, &rows(), &next(1)).unwrap();
    state.pending = Some(next(1));
    state.believed = Positions::new();
    Some(state)
}

fn rows() -> Vec<TableRows> {
    let column = Arc::new(Int64Array::from(vec![1, 2, 3])) as ArrayRef;
    let batch = RecordBatch::try_from_iter([("n", column)]).unwrap();
    vec![TableRows { table: "t".into(), batches: vec![batch] }]
}

fn next(offset: i64) -> Positions {
    Positions::from([(("t".to_owned(), 0), offset)])
}

fn count(state: &mut State) -> usize {
    let found = state.session().unwrap().query("SELECT * FROM t", 100).unwrap();
    state.end_transaction();
    found.iter().map(RecordBatch::num_rows).sum()
}

#[test]
fn the_same_append_again_is_known_to_be_done() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut state) = lost_answer(dir.path()) else { return };
    let again = state.append(Order::Rising, &rows(), &next(1)).unwrap();
    assert_eq!(again, Appended { rows: 3, created: false });
    assert_eq!(count(&mut state), 3);
    assert!(state.append(Order::Rising, &rows(), &next(2)).unwrap().created);
    assert_eq!(count(&mut state), 6);
}

#[test]
fn another_append_is_fenced_until_it_is_claimed() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut state) = lost_answer(dir.path()) else { return };
    let fenced = state.append(Order::Rising, &rows(), &next(2)).unwrap_err();
    assert!(matches!(fenced, Error::Fenced { expected: None, found: Some(1), .. }), "{fenced}");
    state.end_transaction();
    assert_eq!(count(&mut state), 3);
    state.claim(&next(2).into_keys().collect()).unwrap();
    assert!(state.append(Order::Rising, &rows(), &next(2)).unwrap().created);
}

#[test]
fn a_claim_of_another_partition_leaves_a_lost_answer_to_be_found() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut state) = lost_answer(dir.path()) else { return };
    state.claim(&BTreeSet::from([("t".to_owned(), 1)])).unwrap();
    let again = state.append(Order::Rising, &rows(), &next(1)).unwrap();
    assert_eq!(again, Appended { rows: 3, created: false });
    assert_eq!(count(&mut state), 3);
}

#[test]
fn rows_before_the_place_are_not_written_again() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut state) = lost_answer(dir.path()) else { return };
    state.claim(&next(1).into_keys().collect()).unwrap();
    let error = state.append(Order::Rising, &rows(), &next(1)).unwrap_err();
    assert!(matches!(error, Error::Fenced { .. }), "{error}");
    state.end_transaction();
    assert_eq!(count(&mut state), 3);
}

#[test]
fn marks_may_go_down() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut state) = lost_answer(dir.path()) else { return };
    state.claim(&next(1).into_keys().collect()).unwrap();
    for (mark, rows_then) in [(7, 6), (3, 9)] {
        assert!(state.append(Order::Any, &rows(), &next(mark)).unwrap().created);
        assert_eq!(count(&mut state), rows_then);
    }
}

#[test]
fn what_was_not_committed_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut state) = lost_answer(dir.path()) else { return };
    state.pending = Some(next(7));
    state.believed = next(1);
    assert!(state.append(Order::Rising, &rows(), &next(7)).unwrap().created);
    assert_eq!(count(&mut state), 6);
    assert_eq!(state.pending, None);
}

#[tokio::test]
async fn a_panic_takes_its_transaction_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let Some(tables) = tables(dir.path()) else { return };
    let half = |state: &mut State| -> Result<(), Error> {
        positions::write(state.session()?, "g", &Positions::new(), &next(1))?;
        panic!("as a cast may");
    };
    assert!(tables.run("append to", half).await.is_err());
    let position = Position { topic: "t".into(), partition: 0, next_offset: 5 };
    assert_eq!(tables.positions().await.unwrap(), []);
    tables.append(&rows(), std::slice::from_ref(&position)).await.unwrap();
    assert_eq!(tables.positions().await.unwrap(), [position]);
}
