//! A coordinator, payloads in memory, and processors that do as told.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow_array::{Int64Array, RecordBatch};
use async_trait::async_trait;
use futures::StreamExt as _;
use sheaf_connectors::{
    CommitKey, FileFormat, FileSink, FileSource, Sink, SinkOptions, Source, SourceOptions,
};
use sheaf_coordinator::embedded::{self, Embedded};
use sheaf_coordinator::{Answer, Batch, BatchSpec, ClaimRequest, Coordinator, Lease, Query, State};
use sheaf_flight::ipc::encode_batches;
use sheaf_flight::{Error, Message, MessageStream};
use sheaf_proto::BatchId;
use sheaf_retry::{Code, RetryPolicy, SystemClock};
use sheaf_testkit::TempDir;
use sheaf_worker::{
    Config, Job, Metrics, Output, Parts, Payloads, ProcessError, Processor, Worker,
};

/// A broken test hangs no longer than this.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

pub(crate) fn id(name: &str) -> BatchId {
    BatchId::try_new(name).unwrap()
}

/// Retries at once.
pub(crate) fn eager(max_retries: u32) -> RetryPolicy {
    RetryPolicy { max_retries, base_ms: 1, factor: 1.0, cap_ms: 1, jitter: 0.0, deadline_ms: None }
}

/// Payloads in memory.
#[derive(Default)]
pub(crate) struct Shelf(Mutex<HashMap<BatchId, Vec<Message>>>);

impl Shelf {
    pub(crate) fn put(&self, name: &str, numbers: &[i64]) {
        let column = Arc::new(Int64Array::from(numbers.to_vec())) as _;
        let batch = RecordBatch::try_from_iter([("n", column)]).unwrap();
        self.put_messages(name, encode_batches(batch.schema(), &[batch]).unwrap());
    }

    pub(crate) fn put_messages(&self, name: &str, messages: Vec<Message>) {
        self.0.lock().unwrap().insert(id(name), messages);
    }

    pub(crate) fn remove(&self, name: &str) {
        self.0.lock().unwrap().remove(&id(name));
    }
}

#[async_trait]
impl Payloads for Shelf {
    async fn open(&self, batch: &BatchSpec) -> Result<MessageStream, Error> {
        let shelf = self.0.lock().unwrap();
        let messages = shelf
            .get(&batch.id)
            .cloned()
            .ok_or_else(|| Error::new(Code::NotFound, format!("no payload {}", batch.id)))?;
        Ok(futures::stream::iter(messages.into_iter().map(Ok)).boxed())
    }
}

/// Calls a function for every job.
pub(crate) struct Each<F>(pub(crate) F);

#[async_trait]
impl<F, R> Processor for Each<F>
where
    F: Fn(Job) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Output, ProcessError>> + Send,
{
    async fn process(&self, job: Job) -> Result<Output, ProcessError> {
        (self.0)(job).await
    }

    fn describe(&self) -> String {
        "test".to_owned()
    }
}

/// One scene: coordinator, shelf and a folder for results.
pub(crate) struct Scene {
    pub(crate) coordinator: Arc<dyn Coordinator>,
    pub(crate) shelf: Arc<Shelf>,
    pub(crate) folder: TempDir,
}

impl Scene {
    pub(crate) async fn new() -> Self {
        let embedded = Embedded::open(embedded::Config::memory(), SystemClock::shared()).unwrap();
        Scene {
            coordinator: Arc::new(embedded),
            shelf: Arc::default(),
            folder: TempDir::new().unwrap(),
        }
    }

    pub(crate) async fn sink(&self) -> Arc<dyn Sink> {
        let clock = SystemClock::shared();
        let options = SinkOptions::default();
        Arc::new(
            FileSink::open(self.folder.path(), FileFormat::Parquet, options, clock).await.unwrap(),
        )
    }

    /// Puts and registers a batch of these numbers.
    pub(crate) async fn add(&self, name: &str, numbers: &[i64], retry: RetryPolicy) {
        self.shelf.put(name, numbers);
        let mut spec = BatchSpec::new(id(name));
        spec.retry = Some(retry);
        spec.rows = numbers.len() as u64;
        self.coordinator.register(vec![spec]).await.unwrap();
    }

    pub(crate) fn worker(&self, config: Config, processor: impl Processor) -> Worker {
        self.worker_with(config, processor, None, Arc::clone(&self.coordinator))
    }

    pub(crate) fn worker_with(
        &self,
        config: Config,
        processor: impl Processor,
        sink: Option<Arc<dyn Sink>>,
        coordinator: Arc<dyn Coordinator>,
    ) -> Worker {
        let parts = Parts {
            coordinator,
            payloads: Arc::clone(&self.shelf) as _,
            processor: Arc::new(processor),
            sink,
            clock: SystemClock::shared(),
            metrics: Metrics::default(),
            tracer: None,
        };
        let worker = Worker::new(config, parts).unwrap();
        worker.start().unwrap();
        worker
    }

    /// Takes the one batch that there is, for a worker that will not be heard of again.
    pub(crate) async fn claim_as(&self, worker: &str, lease: Duration) -> Lease {
        let request = ClaimRequest {
            worker: worker.to_owned(),
            request_id: "1".to_owned(),
            queues: Vec::new(),
            max: 1,
            max_bytes: 0,
            max_rows: 0,
            lease,
            wait: Duration::ZERO,
            locations: Vec::new(),
            ids: Vec::new(),
            start: true,
        };
        self.coordinator.claim(request).await.unwrap().leases.pop().unwrap()
    }

    /// Commits these numbers to the sink under a lease, and settles nothing.
    pub(crate) async fn commit(&self, lease: &Lease, numbers: &[i64]) {
        let column = Arc::new(Int64Array::from(numbers.to_vec())) as _;
        let batch = RecordBatch::try_from_iter([("n", column)]).unwrap();
        let key = CommitKey { id: lease.spec.id.clone(), fence: lease.fence.0 };
        let mut write = self.sink().await.prepare(&key, batch.schema()).await.unwrap();
        write.write(&batch).await.unwrap();
        write.finish().await.unwrap();
        assert!(write.commit().await.unwrap().created);
    }

    pub(crate) async fn batch(&self, name: &str) -> Batch {
        self.find(name).await.unwrap()
    }

    async fn find(&self, name: &str) -> Option<Batch> {
        let answer = self.coordinator.query(Query::Get(vec![id(name)])).await.unwrap();
        let Answer::Batches(mut page) = answer else { panic!("batches were asked for") };
        page.batches.pop()
    }

    /// Waits until a batch is in this state.
    pub(crate) async fn reaches(&self, name: &str, state: State) -> Batch {
        let reached = sheaf_testkit::wait_for_async(DEADLINE, "a state", || async {
            self.find(name).await.filter(|batch| batch.state == state)
        });
        reached.await.unwrap()
    }

    pub(crate) async fn count(&self, state: State) -> u64 {
        let Answer::Stats(queues) = self.coordinator.query(Query::Stats(None)).await.unwrap()
        else {
            panic!("counts were asked for")
        };
        queues.iter().filter_map(|queue| queue.counts.get(&state)).sum()
    }

    pub(crate) async fn counts(&self, state: State, wanted: u64) {
        sheaf_testkit::wait_until_async(DEADLINE, "a count", || async {
            self.count(state).await == wanted
        })
        .await
        .unwrap();
    }

    /// Every number in the result files, in order.
    pub(crate) async fn results(&self) -> Vec<i64> {
        let mut numbers = Vec::new();
        for entry in std::fs::read_dir(self.folder.path()).unwrap() {
            let path = entry.unwrap().path();
            if !path.file_name().unwrap().to_string_lossy().starts_with("part-") {
                continue;
            }
            let source =
                FileSource::open(path.to_str().unwrap(), SourceOptions::default()).await.unwrap();
            let mut batches = source.read(1_000).await.unwrap();
            while let Some(batch) = batches.next().await {
                let batch = batch.unwrap();
                let column = batch.column(0).as_any().downcast_ref::<Int64Array>().unwrap();
                numbers.extend(column.values());
            }
        }
        numbers.sort_unstable();
        numbers
    }
}

/// A pool whose leases end soon.
pub(crate) fn quick(name: &str) -> Config {
    Config::new(name).with_lease(Duration::from_millis(600))
}

/// Counts calls.
#[derive(Clone, Default)]
pub(crate) struct Calls(Arc<AtomicUsize>);

impl Calls {
    pub(crate) fn next(&self) -> usize {
        self.0.fetch_add(1, Ordering::SeqCst) + 1
    }

    pub(crate) fn get(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}
