//! A whole pipeline inside one service, without a server: store, coordinator,
//! workers and a sink, durable at every step. [`pipeline`] is all there is to it.
//!
//! `cargo run -p sheaf-examples --example embed_pipeline`
#![allow(clippy::print_stdout, reason = "an example shows what happens")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use sheaf_connectors::{FileFormat, FileSink, FileSource, SinkOptions, Source as _, SourceOptions};
use sheaf_coordinator::embedded::{self, Embedded};
use sheaf_coordinator::{CoordinatorExt as _, DEFAULT_QUEUE, State};
use sheaf_retry::SystemClock;
use sheaf_store::{Options, PutOptions, Store};
use sheaf_worker::{Config, CoordinatorOwner, LocalPayloads, Parts, Verify, Worker};

/// 25,000 flights that left New York in January 2013.
const FLIGHTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/flights.parquet");

/// How long the whole of it may take.
const PATIENCE: Duration = Duration::from_secs(60);

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
    // Payloads are kept as long as there is work to be done on their batches.
    let owner = Arc::new(CoordinatorOwner::new(coordinator.clone(), clock.clone()));
    let options = Options::new(clock.clone()).with_data_dir(data).with_owner(owner);
    let store = Store::open(options).await?;
    let sink = FileSink::open(results, FileFormat::Parquet, SinkOptions::default(), clock.clone());
    let payloads = Arc::new(LocalPayloads::new(store.clone()));
    let parts = Parts::new(coordinator.clone(), payloads, Arc::new(Verify), clock.clone())
        .with_sink(Arc::new(sink.await?));
    let workers = Worker::new(Config::new("embedded").with_worker_count(2), parts)?;
    workers.start()?;

    let source = FileSource::open(FLIGHTS, SourceOptions::default()).await?;
    let mut flights = source.read(1_000).await?;
    while let Some(rows) = flights.next().await {
        let schema = source.schema().await?;
        // One call stores and registers: no crash leaves a stored batch that
        // nobody works on.
        store.put_batches(None, schema, &[rows?], PutOptions::REGISTERED).await?;
    }
    let idle = coordinator.wait_idle(DEFAULT_QUEUE, &clock, PATIENCE).await?;
    workers.shutdown().await;
    store.close().await;
    coordinator.close().await?;
    Ok(idle.counts)
}
