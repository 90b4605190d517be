//! Files, read and written.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sheaf_components::Host;
use sheaf_connectors::{CommitKey, FileFormat, FileSink, Sink as _, SinkOptions};
use sheaf_dataflow::{Received, Start};
use sheaf_retry::{Code, Retryable as _, SystemClock};

use crate::common::{
    all, batch, goes_on_from_everywhere, numbers, of_another_process, received, sink_of, source,
    source_of, start,
};

fn parts(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut parts: Vec<_> = entries.filter(|path| path.is_file()).collect();
    parts.sort();
    parts
}

async fn read(path: &Path) -> Vec<i64> {
    let config = json!({"path": path.to_str().unwrap()});
    let mut read = numbers(&all(source("file", config, start(path)).await.as_mut()).await, "n");
    read.sort_unstable();
    read
}

#[tokio::test]
async fn what_a_sink_wrote_in_any_format_a_source_reads_and_goes_on_in() {
    for format in ["parquet", "csv", "json", "ipc"] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        let config = json!({"path": path.to_str().unwrap(), "format": format});
        let mut sink = sink_of("file", config, dir.path(), &Host::plain()).await.unwrap();
        for number in 1..=3 {
            let first = i64::try_from(number).unwrap() * 10;
            assert_eq!(sink.write(&received(number, first, 10)).await.unwrap(), number);
        }
        // Without rows there is nothing to write, and it is done with nevertheless.
        assert_eq!(sink.write(&received(4, 0, 0)).await.unwrap(), 4);
        assert_eq!(sink.flush().await.unwrap(), 4);
        sink.end().await.unwrap();
        assert_eq!(parts(&path).len(), 3);
        assert_eq!(read(&path).await, (10..40).collect::<Vec<_>>(), "{format}");
        let config = json!({"path": path.to_str().unwrap(), "batchRows": 4});
        goes_on_from_everywhere("file", config, dir.path(), "n").await;
    }
}

#[tokio::test]
async fn a_batch_that_comes_again_after_a_restart_is_there_once_and_other_rows_are_not_lost() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out");
    let config = json!({"path": path.to_str().unwrap(), "format": "csv"});
    for given in [
        vec![received(1, 0, 5), received(2, 5, 5)],
        vec![received(2, 5, 5), received(3, 10, 5)],
        // A sender that was started again counts from the beginning.
        vec![of_another_process(received(1, 15, 5))],
    ] {
        let mut sink = sink_of("file", config.clone(), dir.path(), &Host::plain()).await.unwrap();
        for received in &given {
            sink.write(received).await.unwrap();
        }
    }
    assert_eq!(read(&path).await, (0..20).collect::<Vec<_>>());
    // Equal rows of another process are other rows: of the next run, or after a restart.
    let mut sink = sink_of("file", config, dir.path(), &Host::plain()).await.unwrap();
    sink.write(&of_another_process(received(2, 5, 5))).await.unwrap();
    assert_eq!(read(&path).await.len(), 25);
}

#[tokio::test]
async fn a_sink_that_is_killed_between_write_and_commit_leaves_no_half_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out");
    let config = json!({"path": path.to_str().unwrap(), "format": "parquet"});
    let mut sink = sink_of("file", config.clone(), dir.path(), &Host::plain()).await.unwrap();
    sink.write(&received(1, 0, 5)).await.unwrap();
    // As a process that dies leaves it: written and finished, not committed, and nobody
    // tidies up.
    let format = FileFormat::Parquet;
    let options = SinkOptions { min_age: std::time::Duration::ZERO, ..SinkOptions::default() };
    let files = FileSink::open(&path, format, options, SystemClock::shared()).await.unwrap();
    let key = CommitKey { id: "broken".parse().unwrap(), fence: 1 };
    let mut write = files.prepare(&key, batch(0, 5).schema()).await.unwrap();
    write.write(&batch(100, 5)).await.unwrap();
    write.finish().await.unwrap();
    std::mem::forget(write);
    assert_eq!(read(&path).await, (0..5).collect::<Vec<_>>());

    let mut sink = sink_of("file", config, dir.path(), &Host::plain()).await.unwrap();
    sink.write(&received(1, 0, 5)).await.unwrap();
    sink.write(&received(2, 5, 5)).await.unwrap();
    assert_eq!(read(&path).await, (0..10).collect::<Vec<_>>());
}

#[tokio::test]
async fn instances_share_the_files_of_a_folder() {
    let dir = tempfile::tempdir().unwrap();
    for file in 0..20 {
        std::fs::write(dir.path().join(format!("{file}.csv")), format!("n\n{file}\n")).unwrap();
    }
    let config = json!({"path": dir.path().join("*.csv").to_str().unwrap()});
    let (mut seen, mut own) = (BTreeSet::new(), 0);
    for instance in 0..3 {
        let start = Start { instance, replicas: 3, ..start(dir.path()) };
        let read = numbers(&all(source("file", config.clone(), start).await.as_mut()).await, "n");
        own += read.len();
        seen.extend(read);
    }
    assert_eq!((seen, own), ((0..20).collect(), 20));
}

#[tokio::test]
async fn columns_are_those_of_the_first_file_wherever_it_begins() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("1.csv"), "n,x\n1,1.5\n").unwrap();
    std::fs::write(dir.path().join("2.csv"), "n,x\n2,2\n").unwrap();
    let config = json!({"path": dir.path().to_str().unwrap()});
    let whole = all(source("file", config.clone(), start(dir.path())).await.as_mut()).await;
    assert_eq!(whole[0].batch.schema(), whole[1].batch.schema());
    let start = Start { offset: Some(whole[0].offset.clone()), ..start(dir.path()) };
    let rest = all(source("file", config, start).await.as_mut()).await;
    assert_eq!(rest[0].batch, whole[1].batch);
}

#[tokio::test]
async fn mistakes_say_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    std::fs::write(at("a.csv"), "n\n1\n2\n").unwrap();
    let first = |config: Value, start: Start| async move {
        match source_of("file", config, start, &Host::plain()).await {
            Err(error) => error,
            Ok(mut source) => source.next().await.unwrap_err(),
        }
    };
    let error = first(json!({"path": at("*.json")}), start(dir.path())).await;
    assert_eq!(error.code(), Code::NotFound, "{error}");
    let error = first(json!({"path": "gs://a/b"}), start(dir.path())).await;
    assert!(error.to_string().starts_with("config.path: gs://a/b"), "{error}");
    let wrong = json!({"path": at("a.csv"), "compression": "lz4"});
    assert!(first(wrong, start(dir.path())).await.to_string().starts_with("config.compression"));

    // A file that became shorter was replaced: its rows are others.
    let config = json!({"path": at("a.csv")});
    let whole = all(source("file", config.clone(), start(dir.path())).await.as_mut()).await;
    std::fs::write(at("a.csv"), "n\n1\n").unwrap();
    let start = Start { offset: Some(whole[0].offset.clone()), ..start(dir.path()) };
    let error = first(config, start.clone()).await;
    assert_eq!(error.code(), Code::FailedPrecondition, "{error}");
    let error = first(json!({"path": dir.path().to_str().unwrap()}), start).await;
    assert_eq!(error.code(), Code::FailedPrecondition, "{error}");

    let wrong = json!({"path": at("out"), "format": "csv", "compression": "gzip"});
    let error = sink_of("file", wrong, dir.path(), &Host::plain()).await.err().unwrap();
    assert!(error.to_string().starts_with("config.compression"), "{error}");
    let wrong = json!({"path": at("a.csv"), "format": "csv"});
    let error = sink_of("file", wrong, dir.path(), &Host::plain()).await.err().unwrap();
    assert!(error.to_string().starts_with("config.path"), "{error}");
}

#[tokio::test]
async fn a_format_that_cannot_hold_rows_refuses_them() {
    let dir = tempfile::tempdir().unwrap();
    let config = json!({"path": dir.path().join("o").to_str().unwrap(), "format": "csv"});
    let mut sink = sink_of("file", config, dir.path(), &Host::plain()).await.unwrap();
    let list = arrow_array::ListArray::from_iter_primitive::<arrow_array::types::Int64Type, _, _>(
        [Some([Some(1)])],
    );
    let list: arrow_array::ArrayRef = std::sync::Arc::new(list);
    let nested = arrow_array::RecordBatch::try_from_iter([("list", list)]).unwrap();
    let error = sink.write(&Received { batch: nested, ..received(1, 0, 1) }).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert_eq!(sink.flush().await.unwrap(), 0);
}
