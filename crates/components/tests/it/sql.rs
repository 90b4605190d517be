//! Queries over batches and windows, in a real DuckDB.

use std::error::Error as _;

use arrow_array::{Int32Array, Int64Array, RecordBatch, StringArray};
use serde_json::{Value, json};
use sheaf_components::Host;
use sheaf_components::processors::build;
use sheaf_connectors::DriverPaths;
use sheaf_dataflow::Processor;
use sheaf_retry::{Class, Retryable as _};
use sheaf_testkit::libduckdb;

use crate::support::{array, batch, parse, received, rows, start};

fn sql(config: Value) -> Option<Box<dyn Processor>> {
    let drivers = DriverPaths { flag: Some(libduckdb()?), ..DriverPaths::default() };
    let host = Host { drivers, ..Host::plain() };
    Some(build(&parse("sql", config), &start(), &host).unwrap())
}

fn orders(from: i64, to: i64) -> RecordBatch {
    let shops: StringArray =
        (from..to).map(|n| Some(if n % 2 == 0 { "even" } else { "odd" })).collect();
    batch([("n", array(Int64Array::from_iter_values(from..to))), ("shop", array(shops))])
}

#[tokio::test]
async fn a_query_sees_the_rows_of_its_batch_and_no_others() {
    let query = "SELECT shop, sum(n)::BIGINT AS total FROM input GROUP BY shop ORDER BY shop";
    let Some(mut sql) = sql(json!({ "query": query })) else { return };
    for sequence in 1..4 {
        let outcome = sql.process(&received(orders(0, 10), sequence)).await.unwrap();
        assert_eq!(rows(&outcome.batches), ["even,20", "odd,25"]);
        assert_eq!(outcome.done, sequence);
    }
    assert_eq!(sql.end().await.unwrap().done, 3);
}

#[tokio::test]
async fn a_query_over_a_window_sees_all_of_it_by_its_own_name() {
    let query = "SELECT count(*) AS c, max(n) AS m, count(extra) AS e FROM sales";
    let config = json!({ "query": query, "table": "sales", "window": { "rows": 15 } });
    let Some(mut sql) = sql(config) else { return };
    let outcome = sql.process(&received(orders(0, 10), 1)).await.unwrap();
    assert_eq!((outcome.batches.len(), outcome.done), (0, 0));
    // The second batch has a column more.
    let more = batch([
        ("n", array(Int64Array::from_iter_values(10..20))),
        ("shop", array(StringArray::from(vec!["x"; 10]))),
        ("extra", array(Int32Array::from(vec![1; 10]))),
    ]);
    let outcome = sql.process(&received(more, 2)).await.unwrap();
    assert_eq!((rows(&outcome.batches), outcome.done), (vec!["15,14,5".to_owned()], 1));
    let outcome = sql.end().await.unwrap();
    assert_eq!((rows(&outcome.batches), outcome.done), (vec!["5,19,5".to_owned()], 2));
}

#[tokio::test]
async fn a_query_that_fails_says_why_and_can_be_asked_again() {
    let Some(mut wrong) = sql(json!({ "query": "SELECT nothing FROM input" })) else { return };
    let error = wrong.process(&received(orders(0, 3), 1)).await.unwrap_err();
    assert_eq!(error.code().class(), Class::Permanent);
    assert_eq!(error.to_string(), "sql: the query failed; it runs over the rows as table `input`");
    let cause = error.source().unwrap();
    let cause = cause.source().unwrap_or(cause).to_string();
    assert!(cause.contains("\"nothing\" not found"), "{cause}");
}

#[tokio::test]
async fn without_the_library_the_error_says_how_to_get_it() {
    let drivers =
        DriverPaths { flag: Some("/nowhere/libduckdb.so".into()), ..DriverPaths::default() };
    let host = Host { drivers, ..Host::plain() };
    let config = json!({ "query": "SELECT 1 FROM input" });
    let mut sql = build(&parse("sql", config), &start(), &host).unwrap();
    let error = sql.process(&received(orders(0, 3), 1)).await.unwrap_err();
    assert_eq!(error.to_string(), "sql: the database for the query cannot be opened");
    let cause = error.source().unwrap().source().unwrap().to_string();
    assert!(cause.contains("tried /nowhere/libduckdb.so"), "{cause}");
}
