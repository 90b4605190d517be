//! pyarrow as a sender beside one of ours, and as the receiver of both.

use std::path::PathBuf;

use sheaf_exchange::shuffle::ExchangeOptions;
use sheaf_exchange::{ChunkCompression, PartitionerOptions};

use super::world::{Worker, client, key, numbers, options, read, rows, schema, sender, soon};

async fn script(python: PathBuf, what: &'static str, uri: String) -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/shuffle/pyarrow_shuffle.py");
    let run = move || std::process::Command::new(python).args([path, what, &uri]).output();
    let output = soon("pyarrow", tokio::task::spawn_blocking(run)).await.unwrap().unwrap();
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{out}\n{}", String::from_utf8_lossy(&output.stderr));
    out
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pyarrow_sends_and_receives() {
    let Some(python) = sheaf_testkit::python() else { return };
    for compression in [
        ChunkCompression::None,
        ChunkCompression::Lz4,
        ChunkCompression::Zstd,
        ChunkCompression::Auto,
    ] {
        both_ways(python.clone(), compression).await;
    }
}

async fn both_ways(python: PathBuf, compression: ChunkCompression) {
    let worker = Worker::new().await;
    let partitioner = PartitionerOptions { compression, ..options().partitioner };
    let ours = client(ExchangeOptions { partitioner, ..options() });
    // Sender 0 of two is ours, sender 1 pyarrow: rows 0 to 1999 and 2000 to 2999.
    ours.send_data_to_worker(&worker.uri, &key(0), sender(0, 1, 2), schema(), rows(0, 2_000, 250))
        .await
        .unwrap();
    let told = script(python.clone(), "send", worker.uri.clone()).await;
    assert_eq!(told.trim(), r#"{"next_sequence":4,"committed":true}"#);
    let got = read(&ours, &worker.uri, 0).await.unwrap();
    assert_eq!(numbers(&got), (0..3_000).collect::<Vec<_>>());
    let told = script(python, "receive", worker.uri.clone()).await;
    let sum: i64 = (0..3_000).sum();
    assert_eq!(told.trim(), format!("rows 3000 sum {sum}"));
}
