//! Tables of real databases: DuckDB and SQLite.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use arrow_array::builder::{Int64Builder, MapBuilder, StringBuilder};
use arrow_array::cast::AsArray as _;
use arrow_array::types::{Int32Type, Int64Type};
use arrow_array::{
    Array as _, ArrayRef, BooleanArray, Date32Array, Decimal128Array, DictionaryArray,
    DurationSecondArray, Float64Array, Int32Array, Int64Array, ListArray, NullArray, RecordBatch,
    StringArray, StructArray, TimestampMillisecondArray, TimestampNanosecondArray, UInt64Array,
};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_schema::{DataType, Field};
use sheaf_connectors::{
    AdbcDatabase, AdbcSpec, AdbcTables, Appended, DriverPaths, Error, Position, TableRows,
};
use sheaf_retry::{Class, Code, Retryable as _};
use sheaf_testkit::{libduckdb, sqlite_driver};

pub(crate) async fn duckdb(path: &Path) -> Option<AdbcDatabase> {
    let paths = DriverPaths { flag: Some(libduckdb()?), ..DriverPaths::default() };
    Some(AdbcDatabase::open(&AdbcSpec::duckdb(path), &paths).await.unwrap())
}

pub(crate) async fn sqlite(path: &Path) -> Option<AdbcDatabase> {
    let driver = sqlite_driver()?;
    let spec = AdbcSpec::driver(driver.to_str().unwrap(), path.to_str().unwrap());
    Some(AdbcDatabase::open(&spec, &DriverPaths::default()).await.unwrap())
}

/// A schema of its own on a server that is somebody else's.
async fn postgres() -> Option<AdbcDatabase> {
    static NEXT: AtomicU32 = AtomicU32::new(0);

    let (driver, uri) = sheaf_testkit::postgres()?;
    let schema = format!("sheaf_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let open = async |uri: &str| {
        let spec = AdbcSpec::driver(driver.to_str().unwrap(), uri);
        AdbcDatabase::open(&spec, &DriverPaths::default()).await.unwrap()
    };
    open(&uri).await.execute(&format!("CREATE SCHEMA {schema}")).await.unwrap();
    let own = format!("{uri}?options=-csearch_path%3D{schema}&application_name={schema}");
    Some(open(&own).await)
}

/// Those that are installed.
pub(crate) async fn databases(dir: &Path) -> Vec<AdbcDatabase> {
    let files = [duckdb(&dir.join("a.duckdb")).await, sqlite(&dir.join("a.sqlite")).await];
    files.into_iter().chain([postgres().await]).flatten().collect()
}

pub(crate) fn is_postgres(database: &AdbcDatabase) -> bool {
    database.describe().contains("postgresql://")
}

fn batch<const N: usize>(columns: [(&str, ArrayRef); N]) -> RecordBatch {
    let columns = columns.into_iter().map(|(name, array)| (name, array, true));
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

pub(crate) fn numbers(values: std::ops::Range<i64>) -> RecordBatch {
    batch([("n", Arc::new(Int64Array::from_iter_values(values)))])
}

pub(crate) fn rows(table: &str, batches: impl IntoIterator<Item = RecordBatch>) -> TableRows {
    TableRows { table: table.into(), batches: batches.into_iter().collect() }
}

pub(crate) fn at(topic: &str, partition: i32, next_offset: i64) -> Position {
    Position { topic: topic.into(), partition, next_offset }
}

async fn append(tables: &AdbcTables, batch: RecordBatch) -> Result<Appended, Error> {
    tables.append(&[rows("t", [batch])], &[]).await
}

/// Every value as text, row by row.
async fn read(database: &AdbcDatabase, sql: &str) -> Vec<Vec<String>> {
    let options = FormatOptions::default().with_null("null");
    let mut all = Vec::new();
    for batch in database.query(sql, 1_000_000).await.unwrap() {
        let columns = batch.columns().iter();
        let columns: Vec<_> =
            columns.map(|column| ArrayFormatter::try_new(column, &options).unwrap()).collect();
        all.extend((0..batch.num_rows()).map(|row| {
            columns.iter().map(|column| column.value(row).to_string()).collect::<Vec<_>>()
        }));
    }
    all
}

pub(crate) async fn number(database: &AdbcDatabase, sql: &str) -> i64 {
    read(database, sql).await[0][0].parse().unwrap()
}

#[tokio::test]
async fn rows_and_positions_are_there_together_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    for database in databases(dir.path()).await {
        let tables = database.tables("g'1").await.unwrap();
        assert_eq!(tables.positions().await.unwrap(), []);
        let (a, b) = (rows("a", [numbers(0..3)]), rows("b", [numbers(0..2), numbers(2..5)]));
        let positions = [at("a", 0, 3), at("b", 7, 5)];
        let appended = tables.append(&[a.clone(), b], &positions).await.unwrap();
        assert_eq!(appended, Appended { rows: 8, created: true });
        assert_eq!(tables.positions().await.unwrap(), positions);
        assert_eq!(number(&database, "SELECT count(*) FROM b").await, 5);

        // The second table has no place for the rows: nothing of the first.
        let bad = batch([("n", Arc::new(StringArray::from(vec!["x"])))]);
        let failed = tables.append(&[a, rows("b", [bad])], &[at("a", 0, 6)]).await;
        assert_eq!(failed.unwrap_err().code(), Code::InvalidArgument);
        assert_eq!(number(&database, "SELECT count(*) FROM a").await, 3);
        assert_eq!(tables.positions().await.unwrap(), positions);

        // Of one group the other knows nothing; what is stored outlives the writer.
        let other = database.tables("g'2").await.unwrap();
        assert_eq!(other.positions().await.unwrap(), []);
        drop(tables);
        let again = database.tables("g'1").await.unwrap();
        let claimed = again.claim(&[("b".into(), 7), ("b".into(), 8)]).await.unwrap();
        assert_eq!(claimed, [at("b", 7, 5)]);
        again.append(&[], &[at("b", 7, 6), at("b", 8, 1)]).await.unwrap();
        let now = again.positions().await.unwrap();
        assert_eq!(now, [at("a", 0, 3), at("b", 7, 6), at("b", 8, 1)]);
    }
}

#[tokio::test]
async fn a_second_writer_is_fenced_until_it_claims() {
    let dir = tempfile::tempdir().unwrap();
    for database in databases(dir.path()).await {
        let (first, second) =
            (database.tables("g").await.unwrap(), database.tables("g").await.unwrap());
        let write = async |writer: &AdbcTables, next| {
            writer.append(&[rows("t", [numbers(0..1)])], &[at("t", 0, next)]).await
        };
        let fenced = |result: Result<Appended, Error>| match result.unwrap_err() {
            error @ Error::Fenced { expected, found, .. } => {
                assert_eq!(
                    (error.code(), error.code().class()),
                    (Code::StaleFence, Class::Permanent)
                );
                (expected, found)
            }
            error => panic!("{error}"),
        };
        write(&first, 1).await.unwrap();
        assert_eq!(fenced(write(&second, 1).await), (None, Some(1)));
        second.claim(&[("t".into(), 0)]).await.unwrap();
        write(&second, 2).await.unwrap();
        assert_eq!(fenced(write(&first, 2).await), (Some(1), Some(2)));
        // Other partitions are not concerned.
        first.append(&[], &[at("t", 1, 9)]).await.unwrap();
        assert_eq!(fenced(write(&first, 2).await), (Some(1), Some(2)));
        first.claim(&[("t".into(), 0)]).await.unwrap();
        write(&first, 3).await.unwrap();
        assert_eq!(number(&database, "SELECT count(*) FROM t").await, 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_writers_at_once_one_is_fenced_or_told_to_try_again() {
    let dir = tempfile::tempdir().unwrap();
    for database in databases(dir.path()).await {
        let write = async |writer: AdbcTables| {
            let (mut own, mut lost) = (0, 0);
            for next in 1..=20 {
                match writer.append(&[rows("t", [numbers(0..10)])], &[at("t", 0, next)]).await {
                    Ok(_) => own += 1,
                    Err(Error::Fenced { .. }) => lost += 1,
                    Err(error) => assert_eq!(error.code(), Code::Unavailable, "{error:?}"),
                }
            }
            (own, lost)
        };
        let (first, second) =
            (database.tables("g").await.unwrap(), database.tables("g").await.unwrap());
        let (one, two) =
            tokio::join!(tokio::spawn(write(first.clone())), tokio::spawn(write(second.clone())));
        let ((one, _), (two, _)) = (one.unwrap(), two.unwrap());
        assert!(one + two > 0 && (one == 0 || two == 0), "both wrote: {one} and {two}");
        assert_eq!(number(&database, "SELECT count(*) FROM t").await, 10 * i64::from(one + two));
    }
}

#[tokio::test]
async fn new_columns_are_added_and_missing_ones_are_null() {
    let dir = tempfile::tempdir().unwrap();
    for database in databases(dir.path()).await {
        let tables = database.tables("g").await.unwrap();
        append(&tables, numbers(0..1)).await.unwrap();
        let text: ArrayRef = Arc::new(StringArray::from(vec!["x"]));
        // Of another order, of another case where that is the same, and with a
        // column of which nothing is known.
        let name = if is_postgres(&database) { "n" } else { "N" };
        let number: ArrayRef = Arc::new(Int64Array::from(vec![1]));
        let unknown: ArrayRef = Arc::new(NullArray::new(1));
        let more = batch([("s \"q'", text.clone()), (name, number), ("u", unknown.clone())]);
        append(&tables, more).await.unwrap();
        append(&tables, batch([("s \"q'", text)])).await.unwrap();
        append(&tables, batch([("n", unknown), ("u", Arc::new(BooleanArray::from(vec![true])))]))
            .await
            .unwrap();
        let sql =
            "SELECT n, \"s \"\"q'\", u IS NULL FROM t ORDER BY n IS NULL, n, \"s \"\"q'\" IS NULL";
        let found = read(&database, sql).await;
        let found: Vec<_> = found.iter().map(|row| (row[0].as_str(), row[1].as_str())).collect();
        assert_eq!(found, [("0", "null"), ("1", "x"), ("null", "x"), ("null", "null")]);
    }
}

#[tokio::test]
async fn columns_widen_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    for database in databases(dir.path()).await {
        let tables = database.tables("g").await.unwrap();
        let column = |array: ArrayRef| batch([("n", array)]);
        append(&tables, column(Arc::new(Int32Array::from(vec![1])))).await.unwrap();
        append(&tables, column(Arc::new(Int64Array::from(vec![1 << 40])))).await.unwrap();
        append(&tables, column(Arc::new(Int32Array::from(vec![2])))).await.unwrap();
        append(&tables, column(Arc::new(Float64Array::from(vec![0.5])))).await.unwrap();
        append(&tables, column(Arc::new(Int32Array::from(vec![3])))).await.unwrap();
        assert_eq!(
            number(&database, "SELECT CAST(2 * sum(n) AS BIGINT) FROM t").await,
            (1 << 41) + 13
        );
        let text: ArrayRef = Arc::new(StringArray::from(vec!["x"]));
        let error = append(&tables, column(text.clone())).await.unwrap_err();
        assert!(matches!(error, Error::Unsupported { .. }), "{error}");
        assert!(error.to_string().contains("column n: "), "{error}");
        // Batches of one call widen each other.
        let two = [column(Arc::new(Int32Array::from(vec![1]))), batch([("m", text)])];
        tables.append(&[rows("two", two)], &[]).await.unwrap();
        assert_eq!(number(&database, "SELECT count(m) FROM two").await, 1);
    }
}

#[tokio::test]
async fn duckdb_keeps_nested_types_and_lets_them_grow() {
    let dir = tempfile::tempdir().unwrap();
    let Some(database) = duckdb(&dir.path().join("a.duckdb")).await else { return };
    let tables = database.tables("g").await.unwrap();
    let list = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), None]);
    let inner = |name: &str, array: ArrayRef| {
        let field = Arc::new(Field::new(name, array.data_type().clone(), true));
        Arc::new(StructArray::from(vec![(field, array)])) as ArrayRef
    };
    let words: ArrayRef = Arc::new(StringArray::from(vec!["p", "q"]));
    let mut map = MapBuilder::new(None, StringBuilder::new(), Int64Builder::new());
    for value in 0..2 {
        map.keys().append_value("k");
        map.values().append_value(value);
        map.append(true).unwrap();
    }
    let dictionary: DictionaryArray<Int32Type> = vec![Some("d"), None].into_iter().collect();
    let first = batch([
        ("l", Arc::new(list)),
        ("s", inner("x \"y", words)),
        ("m", Arc::new(map.finish())),
        ("d", Arc::new(dictionary)),
        (
            "e",
            Arc::new(Decimal128Array::from(vec![125, 5]).with_precision_and_scale(5, 2).unwrap()),
        ),
        ("t", Arc::new(TimestampMillisecondArray::from(vec![0, 1]).with_timezone("+00:00"))),
        ("u", Arc::new(UInt64Array::from(vec![0, u64::MAX]))),
    ]);
    append(&tables, first.clone()).await.unwrap();
    let found = read(&database, "SELECT l, s, m, d, e, t, u FROM t").await;
    let instant = |end: &str| format!("1970-01-01T00:00:00{end}Z");
    let last = u64::MAX.to_string();
    assert_eq!(found[0], ["[1, null]", "{x \"y: p}", "{k: 0}", "d", "1.25", &instant(""), "0"]);
    assert_eq!(found[1], ["null", "{x \"y: q}", "{k: 1}", "null", "0.05", &instant(".001"), &last]);

    // Structs get fields, lists and maps other values; the old rows stay.
    let longs = ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1 << 40)])]);
    let grown =
        batch([("l", Arc::new(longs)), ("s", inner("z", Arc::new(Int64Array::from(vec![7]))))]);
    append(&tables, grown).await.unwrap();
    append(&tables, first).await.unwrap();
    let found = read(&database, "SELECT l, s FROM t").await;
    let texts: Vec<_> = found.iter().map(|row| (row[0].as_str(), row[1].as_str())).collect();
    let (one, two) = (("[1, null]", "{x \"y: p, z: null}"), ("null", "{x \"y: q, z: null}"));
    assert_eq!(texts, [one, two, ("[1099511627776]", "{x \"y: null, z: 7}"), one, two]);
    let types = database.query("SELECT * FROM t", 10).await.unwrap()[0].schema();
    assert!(
        matches!(types.field(0).data_type(), DataType::List(item) if item.data_type() == &DataType::Int64)
    );
}

#[tokio::test]
async fn values_that_do_not_fit_are_refused_and_not_bent() {
    let dir = tempfile::tempdir().unwrap();
    for database in databases(dir.path()).await {
        let tables = database.tables("g").await.unwrap();
        let fine = TimestampNanosecondArray::from(vec![1]).with_timezone("UTC");
        let big = UInt64Array::from(vec![u64::MAX]);
        let is_sqlite = database.describe().contains("sqlite");
        let column: ArrayRef = if is_sqlite { Arc::new(big) } else { Arc::new(fine) };
        let error = append(&tables, batch([("c", column)])).await.unwrap_err();
        assert_eq!(error.code(), Code::MalformedData, "{error:?}");
        assert!(error.to_string().starts_with("t.c is not valid"), "{error}");
        if is_sqlite {
            let list = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1)])]);
            append(&tables, batch([("l", Arc::new(list))])).await.unwrap();
            assert_eq!(read(&database, "SELECT l FROM t").await, [["[1]"]]);
            let span = batch([("c", Arc::new(DurationSecondArray::from(vec![1])))]);
            let error = append(&tables, span).await.unwrap_err();
            assert!(error.to_string().starts_with("column c: SQLite cannot hold"), "{error}");
            let day = batch([("d", Arc::new(Date32Array::from(vec![1])))]);
            append(&tables, day).await.unwrap();
            assert_eq!(read(&database, "SELECT d FROM t WHERE d > ''").await, [["1970-01-02"]]);
        }
    }
}

#[tokio::test]
async fn names_are_not_read_as_sql() {
    let dir = tempfile::tempdir().unwrap();
    let evil = "x\"; DROP TABLE kept; --";
    for database in databases(dir.path()).await {
        let tables = database.tables("g'; DROP TABLE kept; --").await.unwrap();
        tables.append(&[rows("kept", [numbers(0..1)])], &[]).await.unwrap();
        for next in 1..3 {
            let batch = batch([(evil, Arc::new(Int64Array::from(vec![1])) as ArrayRef)]);
            let position = at("'; DROP TABLE kept; --", 0, next);
            tables.append(&[rows(evil, [batch])], &[position]).await.unwrap();
        }
        let sql = "SELECT sum(\"x\"\"; DROP TABLE kept; --\") FROM \"x\"\"; DROP TABLE kept; --\"";
        assert_eq!(number(&database, sql).await, 2);
        assert_eq!(number(&database, "SELECT count(*) FROM kept").await, 1);
        for name in ["", "_sheaf_offsets", "_SHEAF_x", "a\0b"] {
            let refused = tables.append(&[rows(name, [numbers(0..1)])], &[]).await.unwrap_err();
            assert!(matches!(refused, Error::Invalid(_)), "{name:?}: {refused}");
        }
        let twice = tables.append(&[], &[at("a", 0, 1), at("a", 0, 2)]).await;
        assert!(matches!(twice.unwrap_err(), Error::Invalid(_)));
    }
}

#[tokio::test]
async fn a_newer_format_of_positions_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for database in databases(dir.path()).await {
        let tables = database.tables("g").await.unwrap();
        tables.append(&[], &[at("t", 0, 1)]).await.unwrap();
        database.execute("UPDATE _sheaf_offsets SET version = 2").await.unwrap();
        assert_eq!(tables.positions().await.unwrap_err().code(), Code::FormatNewer);
        let refused = tables.append(&[], &[at("t", 0, 2)]).await;
        assert_eq!(refused.unwrap_err().code(), Code::FormatNewer);
    }
}

#[tokio::test]
async fn a_table_that_others_change_meanwhile_is_seen_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    for database in databases(dir.path()).await {
        let tables = database.tables("g").await.unwrap();
        append(&tables, numbers(0..1)).await.unwrap();
        database.execute("ALTER TABLE t ADD COLUMN more TEXT").await.unwrap();
        append(&tables, numbers(1..2)).await.unwrap();
        database.execute("DROP TABLE t").await.unwrap();
        append(&tables, numbers(2..3)).await.unwrap();
        assert_eq!(read(&database, "SELECT * FROM t").await, [["2"]]);
    }
}

#[tokio::test]
async fn a_connection_that_is_cut_is_opened_again() {
    let Some(database) = postgres().await else { return };
    let tables = database.tables("g").await.unwrap();
    for round in 1..4 {
        let write =
            async || tables.append(&[rows("t", [numbers(0..1)])], &[at("t", 0, round)]).await;
        write().await.unwrap();
        let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> \
                   pg_backend_pid() AND application_name = current_setting('application_name')";
        database.execute(cut).await.unwrap();
        let next = async || tables.append(&[], &[at("t", 1, round)]).await;
        let error = next().await.unwrap_err();
        assert_eq!(error.code(), Code::Unavailable, "{error:?}");
        assert!(next().await.unwrap().created);
    }
    assert_eq!(number(&database, "SELECT count(*) FROM t").await, 3);
}

#[tokio::test]
async fn what_cannot_be_opened_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let Some(library) = libduckdb() else { return };
    let paths = DriverPaths { environment: Some(library), ..DriverPaths::default() };
    let open = async |spec: AdbcSpec| AdbcDatabase::open(&spec, &paths).await.unwrap_err();
    let file = dir.path().join("text");
    std::fs::write(&file, "this is no database, whatever its name says. ".repeat(100)).unwrap();
    assert_eq!(open(AdbcSpec::duckdb(&file)).await.code(), Code::Corrupt);
    assert_eq!(open(AdbcSpec::duckdb("/nowhere/a")).await.code(), Code::NotFound);
    let odd = AdbcSpec::duckdb(dir.path().join("b")).with_option("no_such_setting", "secret");
    let error = open(odd).await;
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(!format!("{error:?}").contains("secret"), "{error:?}");

    let rows = duckdb(&dir.path().join("c")).await.unwrap();
    let refused = rows.query("SELECT * FROM range(11)", 10).await.unwrap_err();
    assert!(refused.to_string().contains("more than 10 rows"));
    let settings = AdbcSpec::duckdb(dir.path().join("d")).with_option("threads", "1");
    let set = AdbcDatabase::open(&settings, &paths).await.unwrap();
    let threads = set.query("SELECT current_setting('threads')::BIGINT", 1).await.unwrap();
    assert_eq!(threads[0].column(0).as_primitive::<Int64Type>().values(), &[1]);
}

/// What a constraint of the table forbids is an error, and nothing is written.
#[tokio::test]
async fn rows_against_a_constraint_are_refused_as_a_whole() {
    let dir = tempfile::tempdir().unwrap();
    for database in databases(dir.path()).await {
        let tables = database.tables("g").await.unwrap();
        let table = "CREATE TABLE t (n BIGINT PRIMARY KEY CHECK (n <> 100))";
        database.execute(table).await.unwrap();
        let append = async |values: std::ops::Range<i64>, next| {
            tables.append(&[rows("t", [numbers(values)])], &[at("t", 0, next)]).await
        };
        append(0..50, 50).await.unwrap();
        for (values, code) in [(50..150, Code::InvalidArgument), (49..60, Code::AlreadyExists)] {
            let error = append(values.clone(), 150).await.unwrap_err();
            assert_eq!(error.code(), code, "{values:?} in {database:?}: {error:?}");
            assert_eq!(number(&database, "SELECT count(*) FROM t").await, 50);
        }
        append(50..100, 100).await.unwrap();
        append(101..150, 150).await.unwrap();
        assert_eq!(number(&database, "SELECT count(DISTINCT n) FROM t").await, 149);
    }
}
