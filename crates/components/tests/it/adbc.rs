//! Databases, read and written.

use std::path::Path;

use serde_json::{Value, json};
use sheaf_components::Host;
use sheaf_connectors::{AdbcDatabase, AdbcSpec, DriverPaths};
use sheaf_dataflow::Start;
use sheaf_retry::{Code, ManualClock, Retryable as _, Timestamp};
use sheaf_testkit::{libduckdb, sqlite_driver};

use crate::common::{all, numbers, of_another_process, received, sink_of, source_of, start};

fn host() -> Host {
    let drivers = DriverPaths { flag: libduckdb(), ..DriverPaths::default() };
    Host { drivers, ..Host::plain() }
}

/// Databases of this machine, each as a configuration has it.
fn databases(dir: &Path) -> Vec<Value> {
    let at = |name: &str| dir.join(name).display().to_string();
    let duckdb = libduckdb().map(|_| json!({"driver": "duckdb", "uri": at("a.duckdb")}));
    let sqlite = sqlite_driver().map(|path| json!({"driver": path, "uri": at("a.sqlite")}));
    let postgres = sheaf_testkit::postgres();
    let postgres = postgres.map(|(path, uri)| json!({"driver": path, "uri": uri}));
    [duckdb, sqlite, postgres].into_iter().flatten().collect()
}

async fn open(database: &Value) -> AdbcDatabase {
    let uri = database["uri"].as_str().unwrap();
    let spec = match database["driver"].as_str().unwrap() {
        "duckdb" => AdbcSpec::duckdb(uri),
        driver => AdbcSpec::driver(driver, uri),
    };
    AdbcDatabase::open(&spec, &host().drivers).await.unwrap()
}

async fn execute(database: &Value, statements: &[&str]) {
    let database = open(database).await;
    for statement in statements {
        database.execute(statement).await.unwrap();
    }
}

async fn read(database: &Value, table: &str, dir: &Path) -> Vec<i64> {
    let query = format!("SELECT n FROM {table} ORDER BY n");
    let config = json!({"database": database, "query": query});
    let mut source = source_of("adbc", config, start(dir), &host()).await.unwrap();
    numbers(&all(source.as_mut()).await, "n")
}

#[tokio::test]
async fn a_batch_that_comes_again_after_a_restart_is_there_once_and_other_rows_are_not_lost() {
    let dir = tempfile::tempdir().unwrap();
    for database in databases(dir.path()) {
        let table = "components_again";
        execute(&database, &[&format!("DROP TABLE IF EXISTS {table}")]).await;
        let config = json!({"database": database, "table": table});
        // Of its own, for a database that others have too.
        let run = std::process::id().into();
        for given in [
            vec![received(1, 0, 5), received(2, 5, 5), received(3, 0, 0)],
            vec![received(1, 0, 5), received(2, 5, 5), received(4, 10, 5)],
            // A sender that was started again counts from the beginning.
            [received(1, 15, 5), received(257, 20, 5)].map(of_another_process).to_vec(),
            // Each takes the place of the one before.
            (2..12).map(|n| received(1 + 256 * n, 15 + 5 * n.cast_signed(), 5)).collect(),
        ] {
            let host = Host { run, ..host() };
            let mut sink = sink_of("adbc", config.clone(), dir.path(), &host).await.unwrap();
            let mut done = 0;
            for received in &given {
                done = sink.write(received).await.unwrap();
            }
            assert_eq!(done, given.len() as u64);
            assert_eq!(sink.flush().await.unwrap(), done);
            sink.end().await.unwrap();
        }
        assert_eq!(read(&database, table, dir.path()).await, (0..75).collect::<Vec<_>>());
        execute(&database, &[&format!("DROP TABLE {table}")]).await;
    }
}

#[tokio::test]
async fn a_sink_that_may_not_make_columns_says_what_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    for database in databases(dir.path()) {
        let table = "components_given";
        execute(&database, &[&format!("DROP TABLE IF EXISTS {table}")]).await;
        let config = json!({"database": database, "table": table, "create": false});
        let error = sink_of("adbc", config.clone(), dir.path(), &host()).await.err().unwrap();
        assert!(error.to_string().starts_with("there is no table components_given"), "{error}");

        execute(&database, &[&format!("CREATE TABLE {table} (n BIGINT)")]).await;
        let mut sink = sink_of("adbc", config, dir.path(), &host()).await.unwrap();
        let error = sink.write(&received(1, 0, 1)).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
        assert!(error.to_string().contains("has no column text"), "{error}");
        drop(sink);
        execute(&database, &[&format!("DROP TABLE {table}")]).await;
    }
}

#[tokio::test]
async fn a_query_goes_on_from_every_offset_with_exactly_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let Some(library) = libduckdb() else { return };
    drop(library);
    let path = dir.path().join("a.duckdb");
    let database = json!({"driver": "duckdb", "uri": path});
    // Many rows have the same cursor, also across the ends of batches.
    let rows = "CREATE TABLE t AS SELECT i AS n, i // 1000 AS c FROM range(10000) AS r(i)";
    execute(&database, &[rows]).await;
    for cursor in [None, Some("n"), Some("c"), Some("C")] {
        let query = "SELECT * FROM t ORDER BY n;";
        let mut config = json!({"database": database, "query": query});
        if let Some(cursor) = cursor {
            config["cursor"] = cursor.into();
        }
        let mut source =
            source_of("adbc", config.clone(), start(dir.path()), &host()).await.unwrap();
        let whole = all(source.as_mut()).await;
        assert_eq!(numbers(&whole, "n"), (0..10_000).collect::<Vec<_>>(), "{cursor:?}");
        assert!(whole.len() > 3);
        for at in 0..whole.len() {
            let offset = Some(whole[at].offset.clone());
            let start = Start { offset, ..start(dir.path()) };
            let mut rest = source_of("adbc", config.clone(), start, &host()).await.unwrap();
            let rest = numbers(&all(rest.as_mut()).await, "n");
            assert_eq!(rest, numbers(&whole[at + 1..], "n"), "{cursor:?} after {at}");
        }
    }
}

#[tokio::test]
async fn with_a_cursor_each_run_takes_what_is_new() {
    let dir = tempfile::tempdir().unwrap();
    for database in databases(dir.path()) {
        let table = "components_cursor";
        execute(&database, &[&format!("DROP TABLE IF EXISTS {table}")]).await;
        execute(&database, &[&format!("CREATE TABLE {table} (n BIGINT, word TEXT)")]).await;
        let insert = |values: &str| format!("INSERT INTO {table} VALUES {values}");
        execute(&database, &[&insert("(1, 'a'), (2, 'it''s')")]).await;
        for cursor in ["n", "word"] {
            let query = format!("SELECT * FROM {table}");
            let config = json!({
                "database": database, "query": query, "every": "10s", "cursor": cursor,
            });
            let clock = ManualClock::auto(Timestamp::EPOCH);
            let host = Host { clock: clock.clone(), ..host() };
            let mut source =
                source_of("adbc", config.clone(), start(dir.path()), &host).await.unwrap();
            let first = source.next().await.unwrap().unwrap();
            assert_eq!(numbers(std::slice::from_ref(&first), "n"), [1, 2]);
            drop(source);
            execute(&database, &[&insert("(3, 'z')")]).await;
            let start = Start { offset: Some(first.offset), ..start(dir.path()) };
            let mut source = source_of("adbc", config, start, &host).await.unwrap();
            let next = source.next().await.unwrap().unwrap();
            assert_eq!(numbers(&[next], "n"), [3], "{cursor}");
            drop(source);
            execute(&database, &[&format!("DELETE FROM {table} WHERE n = 3")]).await;
        }
        execute(&database, &[&format!("DROP TABLE {table}")]).await;
    }
}

#[tokio::test]
async fn mistakes_say_what_is_wrong_and_hide_secrets() {
    let dir = tempfile::tempdir().unwrap();
    let Some(driver) = sqlite_driver() else { return };
    let database = json!({"driver": driver, "uri": dir.path().join("b.sqlite")});
    for (more, expected) in [
        (json!({"query": "SELECT nothing"}), "the query cannot be run"),
        (json!({"query": "SELECT 1 AS n", "cursor": "m"}), "has no column m; it has n"),
        (json!({"query": "SELECT NULL AS n", "cursor": "n"}), "null is beyond nothing"),
    ] {
        let mut config = more;
        config["database"] = database.clone();
        let mut source = source_of("adbc", config, start(dir.path()), &host()).await.unwrap();
        let error = source.next().await.unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
    let host = Host { environment: std::sync::Arc::new(|_| Some("hunter2".into())), ..host() };
    let nowhere = "host=127.0.0.1 port=1 password=hunter2";
    let config = json!({
        "database": {"driver": "/nowhere/driver.so", "uri": nowhere,
                     "options": {"password": {"env": "PASSWORD"}}},
        "query": "SELECT 1",
    });
    let error = source_of("adbc", config, start(dir.path()), &host).await.err().unwrap();
    assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
}
