//! Files as sources: formats, options and what is wrong with them.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{Array as _, RecordBatch, cast::AsArray as _, types::Int64Type};
use arrow_schema::{DataType, Field, Schema};
use futures::{StreamExt as _, TryStreamExt as _};
use sheaf_connectors::conformance::{rows, schema};
use sheaf_connectors::{Error, FileFormat, FileSource, Source as _, SourceOptions};
use sheaf_retry::{Code, Retryable as _};
use tempfile::TempDir;

use crate::common::{self, key};

fn file(dir: &TempDir, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let path = dir.path().join(name);
    fs::write(&path, content).unwrap();
    path
}

async fn open(path: &Path, options: SourceOptions) -> Result<FileSource, Error> {
    FileSource::open(path.to_str().unwrap(), options).await
}

async fn failure(path: &Path, options: SourceOptions) -> Error {
    common::read(path, options).await.unwrap_err()
}

fn numbers(batches: &[RecordBatch], column: usize) -> Vec<i64> {
    let columns = batches.iter().map(|batch| batch.column(column).as_primitive::<Int64Type>());
    columns.flat_map(|column| column.values().to_vec()).collect()
}

#[tokio::test]
async fn csv_infers_a_schema_and_reads_in_exact_batches() {
    let dir = tempfile::tempdir().unwrap();
    let lines: String = (0..2_500).map(|n| format!("{n},\"a,{n}\",{}.5,\n", n * 2)).collect();
    let path = file(&dir, "a.csv", format!("\u{feff}n,name,x,never\n{lines}"));
    let source = open(&path, SourceOptions::default()).await.unwrap();
    let schema = source.schema().await.unwrap();
    let types: Vec<_> =
        schema.fields().iter().map(|f| (f.name().as_str(), f.data_type())).collect();
    assert_eq!(
        types,
        [
            ("n", &DataType::Int64),
            ("name", &DataType::Utf8),
            ("x", &DataType::Float64),
            ("never", &DataType::Utf8)
        ]
    );
    assert_eq!(source.rows().await.unwrap(), None);
    for _ in 0..2 {
        let batches: Vec<_> = source.read(700).await.unwrap().try_collect().await.unwrap();
        let sizes: Vec<_> = batches.iter().map(RecordBatch::num_rows).collect();
        assert_eq!(sizes, [700, 700, 700, 400]);
        assert_eq!(numbers(&batches, 0), (0..2_500).collect::<Vec<_>>());
        assert_eq!(batches[3].column(1).as_string::<i32>().value(399), "a,2499");
        assert!(batches.iter().all(|batch| batch.schema() == schema));
    }
}

#[tokio::test]
async fn csv_mistakes_name_file_and_line() {
    let dir = tempfile::tempdir().unwrap();
    let good: String = (0..1_200).map(|n| format!("{n}\n")).collect();
    let path = file(&dir, "late.csv", format!("n\n{good}oops\n"));
    let error = failure(&path, SourceOptions::default()).await;
    assert_eq!(error.code(), Code::MalformedData);
    assert!(error.to_string().contains("late.csv:1202 is not valid CSV"), "{error}");

    let path = file(&dir, "short.csv", "a,b\n1,2\n3\n");
    let error = failure(&path, SourceOptions::default()).await;
    assert!(error.to_string().contains("short.csv:3 "), "{error}");

    let given = Arc::new(Schema::new(vec![Field::new("z", DataType::Int64, true)]));
    let path = file(&dir, "names.csv", "n\n1\n");
    let options = SourceOptions { schema: Some(given), ..SourceOptions::default() };
    let error = failure(&path, options).await;
    assert_eq!(error.code(), Code::MalformedData, "{error:?}");

    let path = file(&dir, "open.csv", format!("n\n\"{}", "x\n".repeat(200_000)));
    let options = SourceOptions {
        max_record_bytes: 100_000,
        schema: Some(Arc::new(Schema::new(vec![Field::new("n", DataType::Utf8, true)]))),
        ..SourceOptions::default()
    };
    let error = failure(&path, options).await;
    assert_eq!(error.code(), Code::LimitExceeded, "{error:?}");
}

#[tokio::test]
async fn csv_options_are_obeyed() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(&dir, "a.tsv", "n\tt\n1\tx,y\n");
    let batches = common::read(&path, SourceOptions::default()).await.unwrap();
    assert_eq!(batches[0].column(1).as_string::<i32>().value(0), "x,y");
    let path = file(&dir, "b.data", "1;'x;y'\n2;z\n");
    let options = SourceOptions {
        format: Some(FileFormat::Csv),
        header: false,
        delimiter: Some(b';'),
        quote: b'\'',
        ..SourceOptions::default()
    };
    let batches = common::read(&path, options).await.unwrap();
    assert_eq!(numbers(&batches, 0), [1, 2]);
    assert_eq!(batches[0].column(1).as_string::<i32>().value(0), "x;y");
}

#[tokio::test]
async fn compressed_text_reads_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let text = "n\n1\n2\n";
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(text.as_bytes()).unwrap();
    let gz = gz.finish().unwrap();
    let zst = zstd::encode_all(text.as_bytes(), 1).unwrap();
    // Two members in one file, as `cat a.gz b.gz` makes.
    let path = file(&dir, "two.csv.gz", [gz.clone(), gz.clone()].concat());
    let options = SourceOptions { header: false, infer_rows: 0, ..SourceOptions::default() };
    let given = Arc::new(Schema::new(vec![Field::new("n", DataType::Utf8, true)]));
    let options = SourceOptions { schema: Some(given), ..options };
    let batches = common::read(&path, options).await.unwrap();
    assert_eq!(batches[0].num_rows(), 6);
    let path = file(&dir, "a.csv.zst", &zst);
    assert_eq!(numbers(&common::read(&path, SourceOptions::default()).await.unwrap(), 0), [1, 2]);
    for (name, bytes) in [
        ("cut.csv.gz", &gz[..gz.len() - 6]),
        ("cut.csv.zst", &zst[..zst.len() - 3]),
        ("no.csv.gz", b"n\n1\n".as_slice()),
        ("no.csv.zst", b"n\n1\n".as_slice()),
    ] {
        let error = failure(&file(&dir, name, bytes), SourceOptions::default()).await;
        assert_eq!(error.code(), Code::MalformedData, "{name}: {error:?}");
    }
    let error = failure(&file(&dir, "a.parquet.gz", &gz), SourceOptions::default()).await;
    assert_eq!(error.code(), Code::InvalidArgument, "{error}");
}

#[tokio::test]
async fn json_lines_and_arrays_read_alike() {
    let dir = tempfile::tempdir().unwrap();
    let lines = "{\"n\":1,\"t\":{\"a\":[1,2]}}\n\n{\"n\":2}\n{\"n\":3,\"t\":{\"a\":[]}}";
    let array = "\n [ {\"n\":1,\"t\":{\"a\":[1,2]}},\n{\"n\":2}\n,{\"n\":3,\"t\":{\"a\":[]}} ] \n";
    let one = common::read(&file(&dir, "a.jsonl", lines), SourceOptions::default()).await.unwrap();
    let two = common::read(&file(&dir, "a.json", array), SourceOptions::default()).await.unwrap();
    assert_eq!(one, two);
    assert_eq!(numbers(&one, 0), [1, 2, 3]);
    let empty = common::read(&file(&dir, "e.json", "[]"), SourceOptions::default()).await.unwrap();
    assert_eq!(empty, []);
}

#[tokio::test]
async fn json_mistakes_name_file_and_line() {
    let dir = tempfile::tempdir().unwrap();
    let good: String = (0..1_500).map(|n| format!("{{\"n\":{n}}}\n")).collect();
    for (name, content, line) in [
        ("type.jsonl", format!("{good}{{\"n\":\"x\"}}\n{{\"n\":1}}\n"), 1_501),
        ("syntax.jsonl", format!("{good}{{\"n\":\n"), 1_502),
        ("early.jsonl", "{\"n\":1}\n{\"n\" 2}\n".to_owned(), 2),
        ("array.json", format!("[{}{{\"n\":[]}}]", good.replace('\n', ",\n")), 1_501),
    ] {
        let error = failure(&file(&dir, name, content), SourceOptions::default()).await;
        assert_eq!(error.code(), Code::MalformedData, "{name}: {error:?}");
        assert!(error.to_string().contains(&format!("{name}:{line} ")), "{error}");
    }
    for (name, content) in
        [("cut.json", "[{\"n\":1}"), ("more.json", "[{\"n\":1}] 7"), ("n.json", "7")]
    {
        let error = failure(&file(&dir, name, content), SourceOptions::default()).await;
        assert_eq!(error.code(), Code::MalformedData, "{name}: {error:?}");
    }
    let long = format!("{{\"n\":\"{}\"}}", "x".repeat(300_000));
    let options = SourceOptions { max_record_bytes: 100_000, ..SourceOptions::default() };
    let error = failure(&file(&dir, "long.json", long), options).await;
    assert_eq!(error.code(), Code::LimitExceeded, "{error:?}");
}

#[tokio::test]
async fn ipc_streams_and_files_read_alike() {
    let dir = tempfile::tempdir().unwrap();
    let mut stream = arrow_ipc::writer::StreamWriter::try_new(Vec::new(), &schema()).unwrap();
    stream.write(&rows(10)).unwrap();
    stream.write(&rows(5)).unwrap();
    let stream = stream.into_inner().unwrap();
    let source = open(&file(&dir, "a.arrows", &stream), SourceOptions::default()).await.unwrap();
    let batches: Vec<_> = source.read(6).await.unwrap().try_collect().await.unwrap();
    let sizes: Vec<_> = batches.iter().map(RecordBatch::num_rows).collect();
    assert_eq!(sizes, [6, 6, 3]);

    let sink = common::sink(dir.path(), FileFormat::Ipc).await;
    let committed =
        common::write(&*sink, &key("a", 1), schema(), &[rows(10), rows(5)]).await.unwrap();
    let source = open(committed.place.as_ref(), SourceOptions::default()).await.unwrap();
    assert_eq!(source.rows().await.unwrap(), Some(15));
    let bytes = fs::read(&committed.place).unwrap();
    for cut in [0, 5, 9, 20, bytes.len() / 2, bytes.len() - 1] {
        let error =
            failure(&file(&dir, "cut.arrow", &bytes[..cut]), SourceOptions::default()).await;
        assert_eq!(error.code(), Code::MalformedData, "cut at {cut}: {error:?}");
    }
    for cut in [0, 3, stream.len() / 2] {
        let error =
            failure(&file(&dir, "cut.arrows", &stream[..cut]), SourceOptions::default()).await;
        assert_eq!(error.code(), Code::MalformedData, "cut at {cut}: {error:?}");
    }
}

#[tokio::test]
async fn broken_binary_files_are_errors_and_never_panics() {
    let dir = tempfile::tempdir().unwrap();
    for format in [FileFormat::Parquet, FileFormat::Ipc] {
        let sink = common::sink(dir.path(), format).await;
        let committed = common::write(&*sink, &key("a", 1), schema(), &[rows(100)]).await.unwrap();
        let good = fs::read(&committed.place).unwrap();
        let name = format!("broken.{}", format.extension());
        for position in 0..good.len() {
            let mut bad = good.clone();
            bad[position] ^= 0xff;
            let path = file(&dir, &name, &bad);
            // Some bytes are data or padding: then other rows are right.
            if let Err(error) = common::read(&path, SourceOptions::default()).await {
                let code = error.code();
                let expected = [Code::MalformedData, Code::InvalidArgument];
                assert!(expected.contains(&code), "{format} byte {position}: {error:?}");
            }
        }
    }
}

#[tokio::test]
async fn parquet_knows_its_rows() {
    let dir = tempfile::tempdir().unwrap();
    let sink = common::sink(dir.path(), FileFormat::Parquet).await;
    let committed =
        common::write(&*sink, &key("a", 1), schema(), &[rows(10), rows(5)]).await.unwrap();
    let url = format!("file://{}", committed.place);
    let source = FileSource::open(&url, SourceOptions::default()).await.unwrap();
    assert_eq!(source.rows().await.unwrap(), Some(15));
    assert_eq!(source.schema().await.unwrap(), schema());
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_clearly() {
    let dir = tempfile::tempdir().unwrap();
    let gone = failure(&dir.path().join("gone.csv"), SourceOptions::default()).await;
    assert_eq!(gone.code(), Code::NotFound);
    let unnamed = failure(&file(&dir, "data", "n\n1\n"), SourceOptions::default()).await;
    assert!(unnamed.to_string().contains("name one of parquet, ipc, csv, json"), "{unnamed}");
    fs::create_dir(dir.path().join("d.csv")).unwrap();
    let directory = failure(&dir.path().join("d.csv"), SourceOptions::default()).await;
    assert!(directory.to_string().contains("is a directory"), "{directory}");
    let path = file(&dir, "a.csv", "n\n1\n");
    let source = open(&path, SourceOptions::default()).await.unwrap();
    assert_eq!(source.read(0).await.map(drop).unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_dropped_stream_ends_the_reading() {
    let dir = tempfile::tempdir().unwrap();
    let lines: String = (0..100_000).map(|n| format!("{n}\n")).collect();
    let path = file(&dir, "a.csv", format!("n\n{lines}"));
    let source = open(&path, SourceOptions::default()).await.unwrap();
    let mut stream = source.read(10).await.unwrap();
    assert_eq!(stream.next().await.unwrap().unwrap().num_rows(), 10);
    drop(stream);
    let all: Vec<_> = source.read(100_000).await.unwrap().try_collect().await.unwrap();
    assert_eq!(all[0].column(0).len(), 100_000);
}
