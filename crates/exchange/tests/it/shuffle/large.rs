//! Rows that fit no message, and streams with very many columns or none.

use std::path::PathBuf;
use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, StringArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use futures::TryStreamExt as _;
use sheaf_exchange::shuffle::{
    Error, ExchangeClient, ExchangeOptions, ReadOptions, SentPartition, ShufflePlan,
};
use sheaf_retry::{Code, Retryable as _};

use super::world::{Worker, batches, client, key, options, sender, soon};

/// A short row, one of so many bytes, and a short one again.
fn rows(bytes: usize) -> RecordBatch {
    let text = ["first".to_owned(), "x".repeat(bytes), "last".to_owned()];
    let columns: [(&str, ArrayRef); 2] = [
        ("number", Arc::new(Int64Array::from(vec![1, 2, 3]))),
        ("text", Arc::new(StringArray::from_iter_values(text))),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

async fn send(
    client: &ExchangeClient,
    worker: &Worker,
    batch: &RecordBatch,
) -> Result<SentPartition, Error> {
    let (key, sent) = (key(0), batches(vec![batch.clone()]));
    let sending =
        client.send_data_to_worker(&worker.uri, &key, sender(0, 1, 1), batch.schema(), sent);
    soon("the send", sending).await
}

async fn read(client: &ExchangeClient, worker: &Worker) -> Vec<RecordBatch> {
    let key = key(0);
    let reader = client.request_data_from_worker(&worker.uri, &key, None, ReadOptions::default());
    soon("the read", reader.await.unwrap().into_stream().try_collect()).await.unwrap()
}

async fn read_by_pyarrow(python: PathBuf, worker: &Worker) -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/shuffle/pyarrow_shuffle.py");
    let uri = worker.uri.clone();
    let run = move || std::process::Command::new(python).args([path, "receive", &uri]).output();
    let output = soon("pyarrow", tokio::task::spawn_blocking(run)).await.unwrap().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_over_the_limit_of_messages_comes_in_fragments_and_is_read_whole() {
    const LONG: usize = 40 << 20;
    for conversations_per_peer in [4, 0] {
        let worker = Worker::new().await;
        let client = client(ExchangeOptions { conversations_per_peer, ..options() });
        let sent = send(&client, &worker, &rows(LONG)).await.unwrap();
        assert_eq!((sent.totals.rows, sent.totals.chunks), (3, 3));
        let got = read(&client, &worker).await;
        let text = |batch: &RecordBatch| batch.column(1).as_string::<i32>().value(0).len();
        assert_eq!(got.iter().map(text).collect::<Vec<_>>(), [5, LONG, 4]);
        assert_eq!(client.governor().in_flight(), 0);
        if let Some(python) = sheaf_testkit::python() {
            assert_eq!(read_by_pyarrow(python, &worker).await, "rows 3 sum 6");
        }
        worker.exchange.cleanup_query_data("query:1").unwrap();
        assert_eq!(worker.budget.used(), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_fits_no_memory_of_its_worker_is_refused_with_both_sizes() {
    for conversations_per_peer in [4, 0] {
        let worker = Worker::with_memory(36 << 20).await;
        let client = client(ExchangeOptions { conversations_per_peer, ..options() });
        let error = send(&client, &worker, &rows(40 << 20)).await.unwrap_err();
        assert_eq!(error.code(), Code::LimitExceeded, "{error:?}");
        let Error::Send(failed) = error else { panic!("{error:?}") };
        assert_eq!(failed.partition, key(0));
        let text = failed.cause.to_string();
        assert!(text.contains("37748736"), "{text}");
        assert_eq!(client.governor().in_flight(), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_with_very_many_columns_or_none_or_without_rows_arrive() {
    let wide: Vec<(String, ArrayRef)> = (0..4_096)
        .map(|n| (format!("column {n}"), Arc::new(Int64Array::from(vec![n, n + 1])) as ArrayRef))
        .collect();
    let wide = RecordBatch::try_from_iter(wide).unwrap();
    let rows = RecordBatchOptions::new().with_row_count(Some(1_000));
    let no_columns: SchemaRef = Arc::new(Schema::empty());
    let no_columns = RecordBatch::try_new_with_options(no_columns, Vec::new(), &rows).unwrap();
    let field = Field::new("number", DataType::Int64, true);
    let no_rows = RecordBatch::new_empty(Arc::new(Schema::new(vec![field])));
    for (batch, rows) in [(wide, 2), (no_columns, 1_000), (no_rows, 0)] {
        let worker = Worker::new().await;
        let client = client(options());
        let sent = send(&client, &worker, &batch).await.unwrap();
        assert_eq!(sent.totals.rows, rows);
        let got = read(&client, &worker).await;
        assert_eq!(got.iter().map(RecordBatch::num_rows).sum::<usize>() as u64, rows);
        if rows != 1_000 {
            let got = arrow_select::concat::concat_batches(&batch.schema(), &got).unwrap();
            assert!(got == batch);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_without_columns_are_spread_too() {
    let worker = Worker::new().await;
    let client = client(options());
    let schema: SchemaRef = Arc::new(Schema::empty());
    let rows = RecordBatchOptions::new().with_row_count(Some(10));
    let batch = RecordBatch::try_new_with_options(schema.clone(), Vec::new(), &rows).unwrap();
    let plan = ShufflePlan {
        query: "query:1".to_owned(),
        stage: 3,
        sender: sender(0, 1, 1),
        workers: vec![worker.uri.clone()],
        partitions: 4,
    };
    let rule = sheaf_exchange::Partitioning::RoundRobin;
    let sent = client.perform_shuffle(&plan, rule, schema, batches(vec![batch])).await.unwrap();
    assert_eq!(sent.iter().map(|one| one.totals.rows).collect::<Vec<_>>(), [3, 3, 2, 2]);
}
