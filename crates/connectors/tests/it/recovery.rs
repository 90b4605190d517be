//! What `recover` removes by age, what a sink refuses, and metadata.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::RecordBatch;
use arrow_schema::{DataType, Field, Schema};
use sheaf_connectors::conformance::{rows, schema};
use sheaf_connectors::{FileFormat, FileSink, Sink as _, SinkOptions};
use sheaf_retry::{Code, ManualClock, Retryable as _, Timestamp};

use crate::common::{self, FORMATS, key, leftovers};

#[tokio::test]
async fn old_leftovers_go_and_young_ones_stay() {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::new(Timestamp::from(std::time::SystemTime::now()));
    let options = SinkOptions { min_age: Duration::from_secs(60), ..SinkOptions::default() };
    let sink = FileSink::open(dir.path(), FileFormat::Csv, options, clock.clone()).await.unwrap();
    for name in ["a.1", "a.1.json", "stray"] {
        fs::write(dir.path().join("_tmp").join(name), "x").unwrap();
    }
    clock.advance(Duration::from_secs(50));
    assert_eq!(sink.recover().await.unwrap(), 0);
    fs::write(dir.path().join("_tmp/a.2"), "x").unwrap();
    assert_eq!(sink.recover().await.unwrap(), 2, "the older attempt and its record");
    clock.advance(Duration::from_secs(50));
    assert_eq!(sink.recover().await.unwrap(), 2, "by age");
    assert_eq!(leftovers(dir.path()), [""; 0]);
}

#[tokio::test]
async fn foreign_newer_and_removed_files_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let sink = common::sink(dir.path(), FileFormat::Csv).await;
    let committed = common::write(&*sink, &key("a", 1), schema(), &[rows(2)]).await.unwrap();
    fs::remove_file(&committed.place).unwrap();
    let gone = sink.committed(&key("a", 1).id).await.unwrap_err();
    let text = format!("{:?}", gone);
    assert!(text.contains("has been removed"), "{text}");

    let sink = common::sink(dir.path(), FileFormat::Ipc).await;
    fs::write(dir.path().join("part-b.arrow"), "not ours").unwrap();
    let foreign = sink.committed(&key("b", 1).id).await.unwrap_err();
    assert_eq!(foreign.code(), Code::MalformedData);
    let foreign = common::write(&*sink, &key("b", 1), schema(), &[rows(2)]).await.unwrap_err();
    assert_eq!(foreign.code(), Code::MalformedData, "never overwritten");
    assert_eq!(fs::read(dir.path().join("part-b.arrow")).unwrap(), b"not ours");
}

#[tokio::test]
async fn a_place_that_cannot_be_written_is_refused_when_opened() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "x").unwrap();
    for format in FORMATS {
        let clock = ManualClock::new(Timestamp::EPOCH);
        let refused = FileSink::open(file.join("below"), format, SinkOptions::default(), clock);
        let refused = refused.await.map(|_| ()).unwrap_err();
        assert!(refused.to_string().contains("file"), "{refused}");
    }
}

#[tokio::test]
async fn a_column_that_does_not_fit_is_named() {
    let union = DataType::Union(
        [(0, Arc::new(Field::new("i", DataType::Int32, true)))].into_iter().collect(),
        arrow_schema::UnionMode::Sparse,
    );
    let list = DataType::List(Arc::new(Field::new("item", union, true)));
    let schema = Arc::new(Schema::new(vec![
        Field::new("fine", DataType::Int64, true),
        Field::new("odd", list, true),
    ]));
    for (format, column) in [
        (FileFormat::Parquet, "odd.item"),
        (FileFormat::Json, "odd.item"),
        (FileFormat::Csv, "odd"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let sink = common::sink(dir.path(), format).await;
        let error = sink.prepare(&key("u", 1), Arc::clone(&schema)).await.map(drop).unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
        let text = error.to_string();
        assert!(text.starts_with(&format!("column {column}: ")), "{text}");
        assert_eq!(leftovers(dir.path()), [""; 0]);
    }
}

#[tokio::test]
async fn the_footer_names_the_attempt_and_readers_do_not_see_it() {
    let metadata: std::collections::HashMap<_, _> = [("owner".to_owned(), "ü".to_owned())].into();
    let schema = Arc::new(Schema::new_with_metadata(schema().fields().clone(), metadata));
    for format in [FileFormat::Parquet, FileFormat::Ipc] {
        let dir = tempfile::tempdir().unwrap();
        let sink = common::sink(dir.path(), format).await;
        let batch = RecordBatch::try_new(Arc::clone(&schema), rows(3).columns().to_vec()).unwrap();
        let committed =
            common::write(&*sink, &key("m:1", 77), Arc::clone(&schema), &[batch]).await.unwrap();
        assert!(committed.place.contains("part-m%3A1."), "{}", committed.place);
        let bytes = fs::read(&committed.place).unwrap();
        let has = |text: &str| bytes.windows(text.len()).any(|w| w == text.as_bytes());
        assert!(has("sheaf.fence") && has("m:1") && has("77"), "{format}");
        let batches =
            common::read(committed.place.as_ref(), common::options_for(format)).await.unwrap();
        assert_eq!(batches[0].schema(), schema, "{format}");
    }
}
