//! A whole pipeline inside one service, without a server: store, coordinator,
//! workers and a sink, durable at every step. [`pipeline`] is all there is to it.
//!
//! `cargo run -p sheaf-examples --example embed_pipeline`
#![allow(clippy::print_stdout, reason = "an example shows what happens")]

mod owner;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use futures::stream::{self, StreamExt as _};
use sheaf_connectors::{FileFormat, FileSink, FileSource, SinkOptions, Source as _, SourceOptions};
use sheaf_coordinator::embedded::{self, Embedded};
use sheaf_coordinator::{Answer, Coordinator, Query, State, WatchFilter};
use sheaf_flight::ipc::encode_batches;
use sheaf_retry::SystemClock;
use sheaf_store::{Options, PutOptions, Store};
use sheaf_worker::{Config, LocalPayloads, Metrics, Parts, Verify, Worker};

use owner::Owner;

/// 25,000 flights that left New York in January 2013.
const FLIGHTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/flights.parquet");

type Failure = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let directory = tempfile::tempdir()?;
    let results = directory.path().join("results");
    for (state, batches) in pipeline(directory.path(), &results).await? {
        println!("{state:>10} {batches:>3}");
    }
    let files = std::fs::read_dir(&results)?.flatten();
    let parts = files.filter(|file| file.file_name().as_encoded_bytes().starts_with(b"part-"));
    println!("{} Parquet files, one per batch", parts.count());
    Ok(())
}

async fn pipeline(data: &Path, results: &Path) -> Result<BTreeMap<State, u64>, Failure> {
    let clock = SystemClock::shared();
    let config = embedded::Config::disk(data.join("coordinator.redb"));
    let coordinator = Arc::new(Embedded::open(config, clock.clone())?);
    let owner = Arc::new(Owner(coordinator.clone()));
    let options = Options::new(clock.clone()).with_data_dir(data).with_owner(owner);
    let store = Arc::new(Store::open(options).await?);
    let sink = FileSink::open(results, FileFormat::Parquet, SinkOptions::default(), clock.clone());
    let parts = Parts {
        coordinator: coordinator.clone(),
        payloads: Arc::new(LocalPayloads::new(store.clone())),
        processor: Arc::new(Verify),
        sink: Some(Arc::new(sink.await?)),
        clock,
        metrics: Metrics::default(),
    };
    let workers = Worker::new(Config::new("embedded").with_worker_count(2), parts)?;
    workers.start()?;

    let source = FileSource::open(FLIGHTS, SourceOptions::default()).await?;
    let mut flights = source.read(1_000).await?;
    while let Some(rows) = flights.next().await {
        let messages = encode_batches(source.schema().await?, &[rows?])?;
        store.put(None, stream::iter(messages).map(Ok).boxed(), REGISTERED).await?;
    }
    let counts = all_over(&*coordinator).await?;
    workers.shutdown().await;
    store.close().await;
    Ok(counts)
}

/// One call stores and registers: no crash leaves a stored batch that nobody works on.
const REGISTERED: PutOptions = PutOptions { register: true, ..PutOptions::DISK };

/// The batches by state, once none is left to be worked on.
async fn all_over(coordinator: &dyn Coordinator) -> Result<BTreeMap<State, u64>, Failure> {
    // Watched before the first look: what happens in between is not missed.
    let mut events = coordinator.watch(WatchFilter::default()).await?;
    while let Answer::Stats(mut queues) = coordinator.query(Query::Stats(None)).await? {
        // Of the default queue, the only one here.
        let counts = queues.pop().ok_or("there is no queue")?.counts;
        if counts.iter().all(|(state, batches)| state.is_terminal() || *batches == 0) {
            return Ok(counts);
        }
        events.next().await.ok_or("the coordinator closed")?;
    }
    Err("the coordinator answered another question".into())
}
