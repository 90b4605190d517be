//! The Python examples against a real server.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow_array::cast::AsArray as _;
use arrow_array::types::Int64Type;
use arrow_array::{Int64Array, RecordBatch};
use async_trait::async_trait;
use futures::StreamExt as _;
use sheaf_connectors::{
    FileFormat, FileSink, FileSource, Sink, SinkOptions, Source as _, SourceOptions,
};
use sheaf_coordinator::{Event, State, WatchFilter};
use sheaf_retry::SystemClock;
use sheaf_testkit::{Process, TempDir};
use sheaf_worker::{Job, Output, PassThrough, ProcessError, Processor, Verify};
use tokio::sync::watch;

use crate::server::Server;

/// Only bounds how long a broken example hangs.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Waits for its end, which must be a good one; gives what it printed.
pub(crate) async fn finish(mut process: Process) -> String {
    let ended = tokio::task::spawn_blocking(move || {
        let status = process.wait_exit(PATIENCE).unwrap();
        (status, process.stdout(), process.stderr())
    });
    let (status, printed, errors) = ended.await.unwrap();
    assert!(status.success(), "{status}\n{printed}\n{errors}");
    printed
}

#[tokio::test(flavor = "multi_thread")]
async fn a_python_client_puts_registers_and_gets_back_the_same_rows() {
    let Some(python) = sheaf_testkit::python() else { return };
    let server = Server::start().await;
    let worker = server.worker(Verify, None);
    let flights = script("data/flights.parquet");
    for (data, rows) in [(Some(flights), 25_000), (None, 3)] {
        let client = Process::command(&python)
            .arg(script("pyarrow_client.py"))
            .arg(server.uri())
            .args(data)
            .spawn()
            .unwrap();
        let printed = finish(client).await;
        for line in
            ["now        completed after 1 attempt(s)", &format!("got back   the same {rows} rows")]
        {
            assert!(printed.contains(line), "no {line:?} in:\n{printed}");
        }
    }
    assert_eq!(worker.shutdown().await.completed, 2);
    server.stop().await;
}

/// Lets nothing through before it is opened.
struct Gated(watch::Receiver<bool>);

#[async_trait]
impl Processor for Gated {
    async fn process(&self, job: Job) -> Result<Output, ProcessError> {
        let mut gate = self.0.clone();
        let opened = gate.wait_for(|open| *open).await;
        opened.map_err(|error| ProcessError::permanent(error.to_string()))?;
        PassThrough.process(job).await
    }

    fn describe(&self) -> String {
        "gated".to_owned()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn python_and_rust_workers_share_a_run_and_a_folder() {
    const BATCHES: i64 = 40;
    const ROWS: i64 = 250;
    let Some(python) = sheaf_testkit::python() else { return };
    let server = Server::start().await;
    let mut events = server.coordinator.watch(WatchFilter::default()).await.unwrap();
    for batch in 0..BATCHES {
        let numbers = Int64Array::from_iter_values(batch * ROWS..(batch + 1) * ROWS);
        let rows = RecordBatch::try_from_iter([("n", Arc::new(numbers) as _)]).unwrap();
        server.register(rows).await;
    }
    let results = TempDir::new().unwrap();
    let clock = SystemClock::shared();
    let sink = FileSink::open(results.path(), FileFormat::Parquet, SinkOptions::default(), clock);
    let sink: Arc<dyn Sink> = Arc::new(sink.await.unwrap());
    // The Rust worker holds its first batch until Python has settled one: both take part.
    let (open, gate) = watch::channel(false);
    let rust = server.worker(Gated(gate), Some(sink));
    let python = Process::command(python)
        .arg(script("pyarrow_worker.py"))
        .arg(server.uri())
        .arg(results.path())
        .arg("--until-idle")
        .spawn()
        .unwrap();

    let mut settled = BTreeMap::<String, u64>::new();
    while settled.values().sum::<u64>() < BATCHES.unsigned_abs() {
        let event = tokio::time::timeout(PATIENCE, events.next()).await;
        let event = event.unwrap_or_else(|_| panic!("{settled:?}, {}", python.stderr()));
        let Some(Event::Changed(change)) = event else { panic!("{event:?}") };
        assert!(change.error.is_none(), "{change:?}");
        if change.to == Some(State::Completed) {
            let worker = change.worker.unwrap();
            let kind = worker.split('-').next().unwrap().to_owned();
            *settled.entry(kind).or_default() += 1;
            open.send_replace(true);
        }
    }
    assert!(settled["python"] > 0 && settled["rust"] > 0, "{settled:?}");
    let printed = finish(python).await;
    assert!(printed.contains(&format!("settled {}", settled["python"])), "{settled:?}, {printed}");
    assert_eq!(rust.shutdown().await.completed, settled["rust"]);
    server.stop().await;

    let mut numbers = numbers(results.path()).await;
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(0..BATCHES * ROWS), "not every row is there once");
}

/// The column of all result files.
async fn numbers(folder: &Path) -> Vec<i64> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let place = path.to_str().unwrap();
            let source = FileSource::open(place, SourceOptions::default()).await.unwrap();
            let mut rows = source.read(1_000).await.unwrap();
            while let Some(batch) = rows.next().await {
                found.extend(batch.unwrap().column(0).as_primitive::<Int64Type>().values());
            }
        }
    }
    found
}

/// What Python has written is adopted by the sink of the Rust workers.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_the_python_worker_is_a_commit_for_the_rust_sink() {
    let Some(python) = sheaf_testkit::python() else { return };
    let server = Server::start().await;
    let numbers = Int64Array::from_iter_values(0..7);
    let rows = RecordBatch::try_from_iter([("n", Arc::new(numbers) as _)]).unwrap();
    let id = server.register(rows).await;
    let results = TempDir::new().unwrap();
    let worker = Process::command(python)
        .arg(script("pyarrow_worker.py"))
        .arg(server.uri())
        .arg(results.path())
        .arg("--until-idle")
        .spawn()
        .unwrap();
    assert!(finish(worker).await.contains("settled 1"));
    let clock = SystemClock::shared();
    let sink = FileSink::open(results.path(), FileFormat::Parquet, SinkOptions::default(), clock);
    let winner = sink.await.unwrap().committed(&id).await.unwrap().unwrap();
    assert_eq!((winner.rows, winner.created), (7, false));
    server.stop().await;
}
