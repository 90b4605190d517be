//! What a test puts, asks and finds, and the worker processes around a server.

use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::cast::AsArray as _;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use bytes::Bytes;
use futures::StreamExt as _;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;
use sheaf_coordinator::{Answer, Batch, BatchSpec, Coordinator, ListFilter, Query, State};
use sheaf_flight::{CallOptions, ChannelPool, ClientConfig};
use sheaf_proto::BatchId;
use sheaf_retry::{RetryPolicy, SystemClock};
use sheaf_rpc::{RpcCoordinator, RpcOptions};
use sheaf_store::{ClientPut, FlightClient};
use sheaf_testkit::{Process, Ready, wait_for_async};
use sheaf_worker::ShuffleTask;

use crate::harness::{PATIENCE, serve};

/// Rows of a batch.
pub(crate) const ROWS: u64 = 20;
/// Puts under way at once.
const PUTTERS: usize = 8;
/// How long a fleet may take for all of its work in the long form.
const LONG: Duration = Duration::from_secs(1_800);

/// How long all of a test's batches may take.
pub(crate) fn patience_for_all() -> Duration {
    if sheaf_testkit::soak() { LONG } else { 2 * PATIENCE }
}

/// This number in CI, that one in the long form.
pub(crate) fn sized(short: u64, long: u64) -> u64 {
    if sheaf_testkit::soak() { long } else { short }
}

/// A seed, printed so that a failure can be told by it.
pub(crate) fn seed() -> u64 {
    let seed = SystemClock::shared().now().as_micros();
    eprintln!("seed {seed}");
    seed
}

/// The rows `number * ROWS..(number + 1) * ROWS`.
pub(crate) fn batch(number: u64) -> RecordBatch {
    let first = i64::try_from(number * ROWS).unwrap();
    let rows: Vec<i64> = (first..first + i64::try_from(ROWS).unwrap()).collect();
    let texts: Vec<String> = rows.iter().map(|row| format!("row {row}")).collect();
    let columns: [(&str, ArrayRef); 2] =
        [("row", Arc::new(Int64Array::from(rows))), ("text", Arc::new(StringArray::from(texts)))];
    RecordBatch::try_from_iter(columns).unwrap()
}

pub(crate) fn id(number: u64) -> BatchId {
    BatchId::try_new(&format!("b-{number:06}")).unwrap()
}

/// Tries for as long as the test may last: the server is away again and again.
pub(crate) fn stubborn() -> RetryPolicy {
    RetryPolicy {
        max_retries: 10_000,
        base_ms: 10,
        factor: 1.5,
        cap_ms: 200,
        jitter: 0.2,
        deadline_ms: Some(120_000),
    }
}

/// Every row number in the result files.
pub(crate) fn rows_out(folder: &Path) -> Vec<i64> {
    let mut rows = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_string_lossy().starts_with("part-") {
            let file = File::open(&path).unwrap();
            let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
            for batch in reader {
                rows.extend(batch.unwrap().column(0).as_primitive::<Int64Type>().values());
            }
        }
    }
    rows.sort_unstable();
    rows
}

/// Every row of the first `batches` batches is in the folder, once.
pub(crate) fn assert_rows_once(folder: &Path, batches: u64) {
    let rows = rows_out(folder);
    assert_eq!(rows.len() as u64, batches * ROWS, "rows lost or doubled");
    assert!(rows.into_iter().eq(0..i64::try_from(batches * ROWS).unwrap()), "other rows");
}

/// A `sheaf --mode worker` with its own way to each of the two.
pub(crate) fn worker(coordinator: &str, flight: &str, words: &[&str]) -> (Process, Ready) {
    let first = ["--mode", "worker", "--coordinator", coordinator, "--flight-addr", flight];
    let mut process = serve(&[], &[&first, words].concat());
    match process.wait_ready(PATIENCE) {
        Ok(ready) => (process, ready),
        Err(error) => panic!("{error}\n{}", process.stderr()),
    }
}

/// What a test asks a server: it tries again for as long as a test may last.
pub(crate) struct Remote {
    pool: ChannelPool,
    pub(crate) coordinator: RpcCoordinator,
    flight: FlightClient,
}

impl Remote {
    pub(crate) fn at(uri: &str) -> Self {
        let clock = SystemClock::shared();
        let pool = ChannelPool::new(ClientConfig::default(), clock.clone());
        let flight = FlightClient::with_pool(pool.clone(), uri, stubborn(), clock.clone()).unwrap();
        let options = RpcOptions { retry: stubborn(), ..RpcOptions::default() };
        let coordinator = RpcCoordinator::new(pool.clone(), uri.parse().unwrap(), options, clock);
        Remote { pool, coordinator, flight }
    }

    /// Puts these batches and registers each in the same call.
    pub(crate) async fn put(&self, numbers: Range<u64>) {
        let puts = numbers.map(|number| self.put_one(number, ClientPut::REGISTERED));
        futures::stream::iter(puts).buffer_unordered(PUTTERS).collect::<Vec<()>>().await;
    }

    async fn put_one(&self, number: u64, how: ClientPut) {
        let (id, rows) = (id(number), [batch(number)]);
        if let Err(error) = self.flight.put(Some(&id), rows[0].schema(), &rows, how).await {
            panic!("batch {id} could not be put: {error}");
        }
    }

    /// Puts one batch, and registers it in a queue.
    pub(crate) async fn put_in(&self, queue: &str, number: u64) {
        self.put_one(number, ClientPut::default()).await;
        let mut spec = BatchSpec::new(id(number));
        queue.clone_into(&mut spec.queue);
        self.coordinator.register(vec![spec]).await.unwrap();
    }

    /// Puts one batch, and registers it in queue `idle`, after another one.
    pub(crate) async fn put_after(&self, number: u64, parent: u64) {
        self.put_one(number, ClientPut::default()).await;
        let depends_on = vec![id(parent)];
        let spec = BatchSpec { queue: "idle".to_owned(), depends_on, ..BatchSpec::new(id(number)) };
        self.coordinator.register(vec![spec]).await.unwrap();
    }

    /// Puts a task with these rows, and registers it after others.
    pub(crate) async fn put_task(
        &self,
        name: &str,
        task: &ShuffleTask,
        rows: &[RecordBatch],
        after: &[String],
    ) {
        let named = |name: &str| BatchId::try_new(name).unwrap();
        let nothing = [task.to_batch().unwrap()];
        let plain = rows.first().unwrap_or(&nothing[0]).schema();
        let schema = task.on(&plain).unwrap();
        let tagged = rows.iter().map(|rows| rows.clone().with_schema(schema.clone()).unwrap());
        let rows: Vec<RecordBatch> = tagged.collect();
        let id = named(name);
        self.flight.put(Some(&id), schema, &rows, ClientPut::default()).await.unwrap();
        let depends_on = after.iter().map(|name| named(name)).collect();
        let spec = BatchSpec { depends_on, ..BatchSpec::new(id) };
        self.coordinator.register(vec![spec]).await.unwrap();
    }

    /// The answer of a server to an action.
    pub(crate) async fn action(&self, uri: &str, name: &'static str, body: &str) -> Value {
        let body = Bytes::copy_from_slice(body.as_bytes());
        let connection = self.pool.connection(uri).unwrap();
        let answer = connection.action(name, body, &CallOptions::default()).await.unwrap();
        serde_json::from_slice(&answer[0]).unwrap()
    }

    pub(crate) async fn batch(&self, number: u64) -> Batch {
        match self.coordinator.query(Query::Get(vec![id(number)])).await.unwrap() {
            Answer::Batches(mut page) => page.batches.pop().expect("the batch is known"),
            other => panic!("{other:?}"),
        }
    }

    /// Every batch in this state, up to 10,000.
    pub(crate) async fn list(&self, state: State) -> Vec<Batch> {
        let filter = ListFilter { states: vec![state], limit: 10_000, ..ListFilter::default() };
        match self.coordinator.query(Query::List(filter)).await.unwrap() {
            Answer::Batches(page) => page.batches,
            other => panic!("{other:?}"),
        }
    }

    /// How many batches of all queues are in this state.
    pub(crate) async fn count(&self, state: State) -> u64 {
        match self.coordinator.query(Query::Stats(None)).await.unwrap() {
            Answer::Stats(queues) => queues.iter().map(|queue| queue.counts[&state]).sum(),
            other => panic!("{other:?}"),
        }
    }

    /// Waits until a batch is as wanted; all that is known of it then.
    pub(crate) async fn wait_for_batch(
        &self,
        number: u64,
        what: &str,
        is_so: impl Fn(&Batch) -> bool,
    ) -> Batch {
        let found = wait_for_async(PATIENCE, what, || async {
            Some(self.batch(number).await).filter(|batch| is_so(batch))
        });
        match found.await {
            Ok(batch) => batch,
            Err(error) => panic!("{error}: {:?}", self.batch(number).await),
        }
    }

    /// Waits until so many batches are completed; none has failed then.
    pub(crate) async fn completes(&self, batches: u64) {
        let done = wait_for_async(patience_for_all(), "every batch to be over", || async {
            let (done, failed) =
                (self.count(State::Completed).await, self.count(State::Failed).await);
            (done + failed >= batches).then_some((done, failed))
        });
        match done.await {
            Ok(counts) if counts == (batches, 0) => {}
            Ok(counts) => {
                let failed = self.list(State::Failed).await;
                panic!("of {batches} completed and failed {counts:?}: {:?}", failed.first());
            }
            Err(error) => panic!("{error}: {} are", self.count(State::Completed).await),
        }
    }
}
