//! Jobs end to end: who registers them, and the pool that works on them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow_array::{ArrayRef, Int64Array, RecordBatch};
use async_trait::async_trait;
use futures::StreamExt as _;
use serde_json::json;
use sheaf_coordinator::{BatchSpec, Coordinator, CoordinatorExt as _, DEFAULT_QUEUE, State};
use sheaf_flight::MessageStream;
use sheaf_retry::SystemClock;
use sheaf_store::{ClientPut, FlightClient};
use sheaf_worker::{Config, Job, Output, Parts, Payloads, ProcessError, Processor, Worker};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::{coordinator, now_ns};
use crate::error::{Error, Result};

/// Jobs that run at once, and as many waiting: what the peer gets, too.
const CONCURRENCY: usize = 100;

/// How often a client asks whether all is done, and how long it does.
const POLL: Duration = Duration::from_millis(2);
const PATIENCE: Duration = Duration::from_secs(120);

/// A job has no payload: its number is in the name of the batch.
struct Nothing;

#[async_trait]
impl Payloads for Nothing {
    async fn open(&self, _: &BatchSpec) -> Result<MessageStream, sheaf_flight::Error> {
        Ok(futures::stream::empty().boxed())
    }
}

/// Does nothing, and remembers when.
struct Noop {
    total: u64,
    count: AtomicU64,
    started: Mutex<Vec<(u64, u64)>>,
    over: Arc<Notify>,
}

#[async_trait]
impl Processor for Noop {
    async fn process(&self, job: Job) -> Result<Output, ProcessError> {
        let at = now_ns();
        let number = job.spec.id.as_str().rsplit(':').next().and_then(|text| text.parse().ok());
        let mut started = self.started.lock().unwrap_or_else(PoisonError::into_inner);
        started.push((number.unwrap_or(u64::MAX), at));
        drop(started);
        if self.count.fetch_add(1, Ordering::Relaxed) + 1 == self.total {
            self.over.notify_one();
        }
        let schema = Arc::new(arrow_schema::Schema::empty());
        Ok(Output::new(schema, futures::stream::empty().boxed()))
    }

    fn describe(&self) -> String {
        "nothing".to_owned()
    }

    fn makes_batches(&self) -> bool {
        false
    }
}

/// The worker runtime, with work that costs nothing.
pub(super) async fn worker(server: &str, jobs: u64) -> Result<()> {
    let over = Arc::new(Notify::new());
    let processor = Arc::new(Noop {
        total: jobs,
        count: AtomicU64::new(0),
        started: Mutex::new(Vec::new()),
        over: Arc::clone(&over),
    });
    let mut config = Config::new(format!("bench-{}", std::process::id()));
    (config.worker_count, config.prefetch) = (CONCURRENCY, CONCURRENCY);
    let clock = SystemClock::shared();
    let parts =
        Parts::new(Arc::new(coordinator(server)?), Arc::new(Nothing), processor.clone(), clock);
    let pool = Worker::new(config, parts)?;
    pool.start()?;
    println!("ready");
    over.notified().await;
    let summary = pool.shutdown().await;
    if summary.completed != jobs {
        return Err(Error::Message(format!("of {jobs} jobs: {summary:?}")));
    }
    let started = processor.started.lock().unwrap_or_else(PoisonError::into_inner);
    println!("{}", json!({ "started": *started }));
    Ok(())
}

/// A description whose payload nobody is going to ask for.
fn spec(number: u64) -> Result<BatchSpec> {
    let id = format!("job:{number}")
        .parse()
        .map_err(|error| Error::Message(format!("job {number} has no name: {error}")))?;
    Ok(BatchSpec { locations: vec!["grpc://127.0.0.1:1".to_owned()], ..BatchSpec::new(id) })
}

/// Registers from `callers` tasks at once; over when the coordinator says that
/// all jobs are completed, which is when their settles are on disk.
pub(super) async fn client(server: &str, jobs: u64, callers: u32, stored: bool) -> Result<()> {
    let coordinator = coordinator(server)?;
    let store = FlightClient::connect(server, SystemClock::shared())?;
    let column = Arc::new(Int64Array::from(vec![1])) as ArrayRef;
    let row = RecordBatch::try_from_iter([("job", column)])
        .map_err(|error| Error::Message(format!("one row cannot be made: {error}")))?;
    let next = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    let first_ns = now_ns();
    for _ in 0..callers {
        let (coordinator, store) = (coordinator.clone(), store.clone());
        let (next, row) = (Arc::clone(&next), row.clone());
        tasks.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= jobs {
                    return Ok::<_, Error>(());
                }
                if stored {
                    let rows = std::slice::from_ref(&row);
                    store.put(None, row.schema(), rows, ClientPut::REGISTERED).await?;
                } else {
                    coordinator.register(vec![spec(number)?]).await?;
                }
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.map_err(|error| Error::Message(format!("a caller died: {error}")))??;
    }
    let last_ns = now_ns();
    let done_ns = completed(&coordinator, jobs).await?;
    println!("{}", json!({ "first_ns": first_ns, "last_ns": last_ns, "done_ns": done_ns }));
    Ok(())
}

/// Waits until so many are completed; gives when.
async fn completed(coordinator: &dyn Coordinator, jobs: u64) -> Result<u64> {
    let polls = PATIENCE.as_millis() / POLL.as_millis();
    let mut seen = 0;
    for _ in 0..polls {
        let queues = coordinator.stats(Some(DEFAULT_QUEUE)).await?;
        let now = now_ns();
        let counts = queues.iter().map(|queue| queue.counts.get(&State::Completed).copied());
        seen = counts.flatten().sum();
        if seen >= jobs {
            return Ok(now);
        }
        tokio::time::sleep(POLL).await;
    }
    Err(Error::Message(format!("after {PATIENCE:?} only {seen} of {jobs} jobs are completed")))
}

/// One job at a time, to a worker that is idle again by the next.
pub(super) async fn trickle(server: &str, jobs: u64, pause_ms: u64) -> Result<()> {
    let coordinator = coordinator(server)?;
    let mut sent = Vec::new();
    for number in 0..jobs {
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        sent.push((number, now_ns()));
        coordinator.register(vec![spec(number)?]).await?;
    }
    println!("{}", json!({ "sent": sent }));
    Ok(())
}
