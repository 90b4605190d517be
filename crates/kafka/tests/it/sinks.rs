//! The numbered rules of [`TopicSink`], for everything that is one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, BinaryArray, RecordBatch, StringArray};
use async_trait::async_trait;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use sheaf_connectors::{AdbcDatabase, AdbcSpec, DriverPaths, FilesSpec, TableNames};
use sheaf_kafka::{
    Decoded, Decoder, DecoderOptions, Error, FileSink, Format, Messages, Portion, TableSink,
    TopicPartition, TopicRows, TopicSink,
};
use sheaf_retry::{Code, Retryable as _, SystemClock};
use sheaf_testkit::{S3Server, TempDir, libduckdb, sqlite_driver};

/// An empty place, and what is in it.
#[async_trait]
pub(crate) trait SinkPlace {
    /// A sink on it, as a member of the group has one; several are open at once.
    async fn open(&self) -> Arc<dyn TopicSink>;

    /// The offsets that are stored of a stream, in order.
    async fn offsets(&self, stream: &str) -> Vec<i64>;
}

/// Runs the suite; `make` gives an empty place at every call.
pub(crate) async fn sink_conformance<P: SinkPlace>(make: impl AsyncFn() -> P) {
    rows_are_there_once_and_a_claim_goes_on_behind_them(&make().await).await;
    a_beginning_is_known_to_all_members(&make().await).await;
    another_writer_is_told_from_a_place_that_was_claimed(&make().await).await;
    one_partition_that_moved_on_holds_up_no_order(&make().await).await;
    columns_may_change_and_rows_may_lack(&make().await).await;
    every_stream_has_its_place(&make().await).await;
}

const TOPIC: &str = "orders";
const LETTERS: &str = "orders.dead-letters";

fn of(partition: i32) -> TopicPartition {
    TopicPartition { topic: TOPIC.into(), partition }
}

/// The messages from one offset to another of a partition, every fifth of which is a
/// dead letter.
fn chunk(partition: i32, from: i64, to: i64, value: &str) -> TopicRows {
    let options = DecoderOptions { format: Format::Json, ..DecoderOptions::default() };
    let mut decoder = Decoder::try_new(TOPIC, options).unwrap();
    let mut decoded = |offsets: Vec<i64>| {
        let mut messages = Messages::default();
        for offset in &offsets {
            messages.push(*offset, Some(1_000), Some(b"key"), Some(value.as_bytes()), []);
        }
        match decoder.decode(partition, &messages).unwrap() {
            Decoded::Batch(decoded) => decoded.batch.filter(|rows| rows.num_rows() > 0),
            Decoded::Unknown(ids) => panic!("{ids:?}"),
        }
    };
    let (dead, rows): (Vec<i64>, Vec<i64>) = (from..to).partition(|offset| offset % 5 == 4);
    let (rows, dead) = (decoded(rows), decoded(dead));
    let dead_letters = dead.map(|dead| {
        let count = dead.num_rows();
        let schema = dead.schema();
        let own: [(&str, ArrayRef); 2] = [
            ("error", Arc::new(StringArray::from(vec!["bad"; count]))),
            ("value", Arc::new(BinaryArray::from(vec![&b"x"[..]; count]))),
        ];
        let names = schema.fields().iter().map(|field| field.name().as_str());
        let ours =
            names.zip(dead.columns().iter().cloned()).filter(|(name, _)| name.starts_with('_'));
        RecordBatch::try_from_iter(own.into_iter().chain(ours)).unwrap()
    });
    TopicRows { of: of(partition), rows, dead_letters, end: to }
}

async fn claimed(sink: &dyn TopicSink, partitions: &[i32]) -> Vec<Option<i64>> {
    let of: Vec<_> = partitions.iter().map(|partition| of(*partition)).collect();
    let known = sink.claim(&of, &BTreeMap::new()).await.unwrap();
    of.iter().map(|of| known.get(of).copied()).collect()
}

async fn assert_stored(place: &impl SinkPlace, offsets: &[i64]) {
    let (dead, rows): (Vec<i64>, Vec<i64>) = offsets.iter().partition(|offset| **offset % 5 == 4);
    assert_eq!(place.offsets(TOPIC).await, rows);
    assert_eq!(place.offsets(LETTERS).await, dead);
}

/// Rule 1.
async fn rows_are_there_once_and_a_claim_goes_on_behind_them(place: &impl SinkPlace) {
    let sink = place.open().await;
    assert_eq!(claimed(sink.as_ref(), &[0, 1, 2]).await, [None, None, None]);
    let n = r#"{"n":1}"#;
    let chunks = [chunk(0, 0, 3, n), chunk(1, 10, 12, n), chunk(0, 3, 6, n), chunk(1, 12, 20, n)];
    assert_eq!(sink.append(&chunks).await.unwrap(), 16);
    // Messages that are nothing, as those of transactions, are behind it too.
    let nothing = TopicRows { of: of(0), rows: None, dead_letters: None, end: 9 };
    assert_eq!(sink.append(&[nothing]).await.unwrap(), 0);
    drop(sink);
    let next = place.open().await;
    assert_eq!(claimed(next.as_ref(), &[0, 1, 2]).await, [Some(9), Some(20), None]);
    assert_eq!(next.append(&[chunk(0, 9, 10, n)]).await.unwrap(), 1);
    let all: Vec<i64> = (0..6).chain([9]).chain(10..20).collect();
    assert_stored(place, &all).await;
}

async fn a_beginning_is_known_to_all_members(place: &impl SinkPlace) {
    let (sink, other) = (place.open().await, place.open().await);
    assert_eq!(claimed(sink.as_ref(), &[0, 1]).await, [None, None]);
    sink.begin(&[(of(0), 0), (of(1), 7)]).await.unwrap();
    assert_eq!(claimed(other.as_ref(), &[0, 1]).await, [Some(0), Some(7)]);
    other.append(&[chunk(1, 7, 9, r#"{"n":1}"#)]).await.unwrap();
    assert_eq!(claimed(sink.as_ref(), &[0, 1]).await, [Some(0), Some(9)]);
    assert_stored(place, &[7, 8]).await;
}

/// Rule 3.
async fn another_writer_is_told_from_a_place_that_was_claimed(place: &impl SinkPlace) {
    let n = r#"{"n":1}"#;
    let (slow, fast) = (place.open().await, place.open().await);
    slow.append(&[chunk(0, 0, 4, n)]).await.unwrap();
    assert_eq!(claimed(fast.as_ref(), &[0]).await, [Some(4)]);
    fast.append(&[chunk(0, 4, 7, n)]).await.unwrap();
    for _ in 0..2 {
        let error = slow.append(&[chunk(0, 4, 9, n)]).await.unwrap_err();
        assert_eq!(error.code(), Code::StaleFence, "{error}");
    }
    assert_eq!(claimed(slow.as_ref(), &[0]).await, [Some(7)]);
    slow.append(&[chunk(0, 4, 9, n).beyond(7)]).await.unwrap();
    assert_stored(place, &(0..9).collect::<Vec<_>>()).await;
}

/// Rule 2, as far as it shows without a crash.
async fn one_partition_that_moved_on_holds_up_no_order(place: &impl SinkPlace) {
    let n = r#"{"n":1}"#;
    let (sink, other) = (place.open().await, place.open().await);
    assert_eq!(claimed(sink.as_ref(), &[0, 1]).await, [None, None]);
    sink.append(&[chunk(0, 0, 2, n), chunk(1, 100, 102, n)]).await.unwrap();
    claimed(other.as_ref(), &[1]).await;
    other.append(&[chunk(1, 102, 104, n)]).await.unwrap();
    let chunks = [chunk(0, 2, 4, n), chunk(1, 102, 107, n), chunk(0, 4, 6, n)];
    let error = sink.append(&chunks).await.unwrap_err();
    assert_eq!(error.code(), Code::StaleFence, "{error}");
    let [zero, one] = claimed(sink.as_ref(), &[0, 1]).await[..] else { panic!("two") };
    assert_eq!(one, Some(104));
    assert!([2, 4, 6].contains(&zero.unwrap()), "whole chunks, the first ones: {zero:?}");
    let left = chunks.into_iter().filter_map(|chunk| {
        let stored = if chunk.of.partition == 0 { zero } else { one }.unwrap();
        (chunk.end > stored).then(|| chunk.beyond(stored))
    });
    sink.append(&left.collect::<Vec<_>>()).await.unwrap();
    assert_eq!(claimed(sink.as_ref(), &[0, 1]).await, [Some(6), Some(107)]);
    assert_stored(place, &(0..6).chain(100..107).collect::<Vec<_>>()).await;
}

async fn columns_may_change_and_rows_may_lack(place: &impl SinkPlace) {
    let sink = place.open().await;
    let values = [r#"{"a":1}"#, r#"{"a":2,"b":"x"}"#, r#"{"a":3,"b":null,"c":{"d":1}}"#, "{}"];
    let chunks = (0..).zip(values).map(|(at, value)| chunk(0, at * 3, at * 3 + 3, value));
    // The first ones of another partition are dead letters alone.
    let dead = (0..3).map(|at| chunk(1, 50 + at, 51 + at, "{}")).chain([chunk(2, 104, 105, "{}")]);
    sink.append(&chunks.chain(dead).collect::<Vec<_>>()).await.unwrap();
    assert_eq!(claimed(sink.as_ref(), &[0, 1, 2]).await, [Some(12), Some(53), Some(105)]);
    assert_stored(place, &(0..12).chain(50..53).chain([104]).collect::<Vec<_>>()).await;
}

async fn every_stream_has_its_place(place: &impl SinkPlace) {
    let sink = place.open().await;
    let places = [TOPIC, LETTERS, "a.b_c-D"].map(|stream| sink.place_of(stream).unwrap());
    assert!(places[0] != places[1] && places[1] != places[2], "{places:?}");
    let portion = sink.portion();
    assert!(portion.rows > 0 && portion.bytes > 0);
}

/// Tables of a database.
struct Tables {
    database: AdbcDatabase,
    is_flat: bool,
    _folder: TempDir,
}

#[async_trait]
impl SinkPlace for Tables {
    async fn open(&self) -> Arc<dyn TopicSink> {
        let sink = Arc::new(TableSink::open(&self.database, "group").await.unwrap());
        if self.is_flat { Arc::new(Flat(sink)) } else { sink }
    }

    async fn offsets(&self, stream: &str) -> Vec<i64> {
        let table = TableNames::default().name(stream).unwrap();
        let sql = format!("SELECT _offset FROM \"{table}\" ORDER BY _offset");
        // A stream of which there is no row has no table.
        let Ok(rows) = self.database.query(&sql, 10_000).await else { return Vec::new() };
        let offsets =
            rows.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values());
        offsets.copied().collect()
    }
}

/// A sink for a database that has no nested columns: rows are without them.
#[derive(Debug)]
struct Flat(Arc<dyn TopicSink>);

#[async_trait]
impl TopicSink for Flat {
    async fn claim(
        &self,
        partitions: &[TopicPartition],
        committed: &BTreeMap<TopicPartition, i64>,
    ) -> Result<BTreeMap<TopicPartition, i64>, Error> {
        self.0.claim(partitions, committed).await
    }

    async fn begin(&self, places: &[(TopicPartition, i64)]) -> Result<(), Error> {
        self.0.begin(places).await
    }

    async fn append(&self, chunks: &[TopicRows]) -> Result<u64, Error> {
        let flat = |rows: &RecordBatch| {
            let fields = rows.schema();
            let kept =
                (0..rows.num_columns()).filter(|at| !fields.field(*at).data_type().is_nested());
            rows.project(&kept.collect::<Vec<_>>()).unwrap()
        };
        let chunks = chunks.iter().map(|chunk| TopicRows {
            rows: chunk.rows.as_ref().map(flat),
            dead_letters: chunk.dead_letters.as_ref().map(flat),
            ..chunk.clone()
        });
        self.0.append(&chunks.collect::<Vec<_>>()).await
    }

    fn needs_committed(&self) -> bool {
        self.0.needs_committed()
    }

    fn portion(&self) -> Portion {
        self.0.portion()
    }

    fn place_of(&self, stream: &str) -> Result<String, Error> {
        self.0.place_of(stream)
    }
}

/// Files of a directory.
struct Directory(TempDir);

fn parquet_files(folder: &Path) -> Vec<PathBuf> {
    let entries =
        std::fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    let files = entries.flat_map(|path| match path.is_dir() {
        true => parquet_files(&path),
        false => vec![path],
    });
    files.filter(|path| path.extension().is_some_and(|of| of == "parquet")).collect()
}

#[async_trait]
impl SinkPlace for Directory {
    async fn open(&self) -> Arc<dyn TopicSink> {
        let spec: FilesSpec = format!("parquet:{}", self.0.path().display()).parse().unwrap();
        Arc::new(FileSink::open(&spec, "group", SystemClock::shared()).await.unwrap())
    }

    async fn offsets(&self, stream: &str) -> Vec<i64> {
        let mut offsets = Vec::new();
        for file in parquet_files(&self.0.path().join(stream)) {
            let file = std::fs::File::open(file).unwrap();
            for batch in ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap() {
                let batch = batch.unwrap();
                let column = batch.column_by_name("_offset").unwrap();
                offsets.extend(column.as_primitive::<Int64Type>().values());
            }
        }
        offsets.sort_unstable();
        offsets
    }
}

/// Objects of a bucket.
struct Objects {
    server: S3Server,
}

#[async_trait]
impl SinkPlace for Objects {
    async fn open(&self) -> Arc<dyn TopicSink> {
        let spec = format!("s3://lake/a/topics?endpoint={}&region=us-east-1", self.server.url());
        let spec: FilesSpec = spec.parse().unwrap();
        let spec = spec.with_setting("AWS_ACCESS_KEY_ID", "me");
        let spec = spec.with_setting("AWS_SECRET_ACCESS_KEY", "secret");
        Arc::new(FileSink::open(&spec, "group", SystemClock::shared()).await.unwrap())
    }

    async fn offsets(&self, stream: &str) -> Vec<i64> {
        const SCRIPT: &str = "
import sys, pyarrow.fs as fs, pyarrow.dataset as ds
s3 = fs.S3FileSystem(endpoint_override=sys.argv[1], access_key='me', secret_key='secret', region='us-east-1')
found = s3.get_file_info(fs.FileSelector('lake/a/topics/' + sys.argv[2], allow_not_found=True))
if found:
    rows = ds.dataset('lake/a/topics/' + sys.argv[2], filesystem=s3).to_table(columns=['_offset'])
    print(*sorted(rows['_offset'].to_pylist()))
";
        let python = sheaf_testkit::python().unwrap();
        let mut command = std::process::Command::new(python);
        let output = command.args(["-c", SCRIPT, &self.server.url(), stream]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        text.split_whitespace().map(|offset| offset.parse().unwrap()).collect()
    }
}

async fn tables(spec: impl Fn(&Path) -> AdbcSpec, drivers: &DriverPaths) -> Tables {
    let folder = TempDir::new().unwrap();
    let database = AdbcDatabase::open(&spec(folder.path()), drivers).await.unwrap();
    Tables { database, is_flat: false, _folder: folder }
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_of_duckdb_keep_the_rules() {
    let Some(library) = libduckdb() else { return };
    let drivers = DriverPaths { flag: Some(library), ..DriverPaths::default() };
    let spec = |folder: &Path| AdbcSpec::duckdb(folder.join("a.duckdb"));
    sink_conformance(async || tables(spec, &drivers).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_of_sqlite_keep_the_rules() {
    let Some(driver) = sqlite_driver() else { return };
    let spec = |folder: &Path| {
        let path = folder.join("a.sqlite");
        AdbcSpec::driver(driver.to_str().unwrap(), path.to_str().unwrap())
    };
    let drivers = DriverPaths::default();
    sink_conformance(async || Tables { is_flat: true, ..tables(spec, &drivers).await }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_keep_the_rules() {
    sink_conformance(async || Directory(TempDir::new().unwrap())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_keep_the_rules() {
    if S3Server::start().unwrap().is_none() || sheaf_testkit::python().is_none() {
        return;
    }
    sink_conformance(async || {
        let server = S3Server::start().unwrap().unwrap();
        server.create_bucket("lake").unwrap();
        Objects { server }
    })
    .await;
}
