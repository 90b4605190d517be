//! Reference tables.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::{Int16Array, Int32Array, Int64Array, RecordBatch, StringArray};
use proptest::prelude::*;
use serde_json::{Value, json};
use sheaf_components::Host;
use sheaf_components::processors::build;
use sheaf_connectors::DriverPaths;
use sheaf_dataflow::Processor;
use sheaf_retry::{ManualClock, Timestamp};
use sheaf_testkit::libduckdb;

use crate::support::{array, batch, parse, received, rows, start};

fn write(dir: &Path, content: &str) -> Value {
    let path = dir.join("table.csv");
    std::fs::write(&path, content).unwrap();
    json!({ "file": { "path": path } })
}

fn enrich(config: Value, host: &Host) -> Box<dyn Processor> {
    build(&parse("enrich", config), &start(), host).unwrap()
}

fn orders() -> RecordBatch {
    batch([
        ("id", array(Int32Array::from(vec![Some(2), None, Some(9), Some(1)]))),
        ("what", array(StringArray::from(vec!["a", "b", "c", "d"]))),
    ])
}

async fn joined(config: Value, batch: RecordBatch) -> Vec<String> {
    let mut enrich = enrich(config, &Host::plain());
    let outcome = enrich.process(&received(batch, 1)).await.unwrap();
    assert_eq!(outcome.done, 1);
    rows(&outcome.batches)
}

async fn refused(config: Value, batch: RecordBatch) -> String {
    let mut enrich = enrich(config, &Host::plain());
    enrich.process(&received(batch, 1)).await.unwrap_err().to_string()
}

#[tokio::test]
async fn rows_get_the_columns_of_what_they_match() {
    let dir = tempfile::tempdir().unwrap();
    let table =
        write(dir.path(), "id,name,city\n1,one,Ulm\n2,two,Bonn\n2,again,Kiel\n,none,Jena\n");
    let config = json!({ "reference": table, "on": ["id"] });
    let expected =
        ["2,a,two,Bonn", "2,a,again,Kiel", "null,b,null,null", "9,c,null,null", "1,d,one,Ulm"];
    assert_eq!(joined(config, orders()).await, expected);
    let config =
        json!({ "reference": table, "on": ["id"], "columns": ["city"], "unmatched": "drop" });
    assert_eq!(joined(config, orders()).await, ["2,a,Bonn", "2,a,Kiel", "1,d,Ulm"]);
}

#[tokio::test]
async fn several_columns_have_to_be_equal_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let table = write(dir.path(), "a,b,c\n1,x,first\n1,y,second\n2,x,third\n");
    let rows = batch([
        ("b", array(StringArray::from(vec![Some("y"), Some("x"), None, Some("z")]))),
        ("a", array(Int16Array::from(vec![1, 2, 1, 1]))),
    ]);
    let config = json!({ "reference": table, "on": ["a", "b"] });
    assert_eq!(joined(config, rows).await, ["y,1,second", "x,2,third", "null,1,null", "z,1,null"]);
}

#[tokio::test]
async fn what_does_not_fit_is_refused_with_types_and_names() {
    let dir = tempfile::tempdir().unwrap();
    let table = write(dir.path(), "id,what\n1,x\n");
    let error = refused(json!({ "reference": table, "on": ["id"] }), orders()).await;
    assert!(error.starts_with("enrich: the rows have a column `what` already"), "{error}");
    let texts = batch([("id", array(StringArray::from(vec!["1"])))]);
    let error = refused(json!({ "reference": table, "on": ["id"] }), texts).await;
    let text = "enrich: column `id` is of type Utf8 in the rows and of type Int64 in the reference";
    assert!(error.starts_with(text), "{error}");
    let error = refused(json!({ "reference": table, "on": ["key"] }), orders()).await;
    let text = "enrich: reference table: the rows have no column `key`; they have `id`, `what`";
    assert_eq!(error, text);
    let nowhere = json!({ "file": { "path": dir.path().join("nowhere.csv") } });
    let error = refused(json!({ "reference": nowhere, "on": ["id"] }), orders()).await;
    assert!(error.contains("nowhere.csv"), "{error}");
}

#[tokio::test]
async fn a_table_is_read_again_and_the_old_one_stays_where_that_fails() {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::new(Timestamp::from_millis(0));
    let shared: sheaf_retry::SharedClock = Arc::clone(&clock) as _;
    let host = Host { clock: shared, ..Host::plain() };
    let table = write(dir.path(), "id,name\n1,old\n");
    let config = json!({ "reference": table, "on": ["id"], "unmatched": "drop", "refresh": "10s" });
    let mut enrich = enrich(config, &host);
    let seen = async |enrich: &mut Box<dyn Processor>| {
        rows(&enrich.process(&received(orders(), 1)).await.unwrap().batches)
    };
    let wait = async |enrich: &mut Box<dyn Processor>, name: &str, count: u64| {
        for _ in 0..3_000 {
            enrich.tick().await.unwrap();
            let counters = enrich.counters();
            if counters.contains(&(name, count)) {
                return;
            }
            // sleep: between two looks at the condition, which has a deadline.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{name} is never {count}: {:?}", enrich.counters());
    };
    assert_eq!(seen(&mut enrich).await, ["1,d,old"]);
    write(dir.path(), "id,name\n1,new\n9,nine\n");
    assert_eq!(seen(&mut enrich).await, ["1,d,old"]);
    clock.advance(Duration::from_secs(10));
    wait(&mut enrich, "reference_reads", 2).await;
    assert_eq!(seen(&mut enrich).await, ["9,c,nine", "1,d,new"]);
    std::fs::remove_file(dir.path().join("table.csv")).unwrap();
    clock.advance(Duration::from_secs(10));
    wait(&mut enrich, "failed_reference_reads", 1).await;
    assert_eq!(seen(&mut enrich).await, ["9,c,nine", "1,d,new"]);
}

#[tokio::test]
async fn a_table_may_be_the_result_of_a_query() {
    let Some(library) = libduckdb() else { return };
    let drivers = DriverPaths { flag: Some(library), ..DriverPaths::default() };
    let host = Host { drivers, ..Host::plain() };
    let database = json!({ "driver": "duckdb", "uri": ":memory:" });
    let query = "SELECT n AS id, 'row ' || n AS name FROM range(5) t(n)";
    let reference = json!({ "adbc": { "database": database, "query": query } });
    let mut enrich = enrich(json!({ "reference": reference, "on": ["id"] }), &host);
    let outcome = enrich.process(&received(orders(), 1)).await.unwrap();
    assert_eq!(rows(&outcome.batches), ["2,a,row 2", "null,b,null", "9,c,null", "1,d,row 1"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn rows_match_what_they_match_one_by_one(
        table in prop::collection::vec(0..8i64, 1..30),
        keys in prop::collection::vec(prop::option::of(0..10i64), 1..40),
        keep in any::<bool>(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let lines: Vec<String> = table.iter().enumerate().map(|(row, key)| format!("{key},{row}\n")).collect();
        let reference = write(dir.path(), &format!("id,row\n{}", lines.concat()));
        let unmatched = if keep { "keep" } else { "drop" };
        let config = json!({ "reference": reference, "on": ["id"], "unmatched": unmatched });
        let batch = batch([("id", array(Int64Array::from(keys.clone())))]);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let own = runtime.block_on(joined(config, batch));
        let mut expected = Vec::new();
        for key in keys {
            let found = table.iter().enumerate().filter(|(_, own)| Some(**own) == key);
            let before = expected.len();
            expected.extend(found.map(|(row, own)| format!("{own},{row}")));
            if keep && expected.len() == before {
                expected.push(format!("{},null", key.map_or("null".into(), |key| key.to_string())));
            }
        }
        prop_assert_eq!(own, expected);
    }
}
