//! A processor and a sink of one's own: mean departure delay per carrier, with
//! a lookup service that is down at first. The failed attempt is tried again
//! and every batch is in the result once.
//!
//! `cargo run -p sheaf-examples --example custom_processor`
#![allow(clippy::print_stdout, reason = "an example shows what happens")]

mod carriers;
mod commit_log;
mod json_lines;

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::StreamExt as _;
use sheaf_connectors::{FileSource, Source as _, SourceOptions};
use sheaf_coordinator::embedded::{self, Embedded};
use sheaf_coordinator::{BatchSpec, Coordinator, Event, State, WatchFilter};
use sheaf_retry::{RetryPolicy, SystemClock};
use sheaf_store::{Options, PutOptions, Store};
use sheaf_worker::{Config, LocalPayloads, Parts, ToSpec as _, Worker};

use carriers::DelayByCarrier;
use commit_log::CommitLog;
use json_lines::JsonLines;

/// 25,000 flights that left New York in January 2013.
const FLIGHTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/flights.parquet");

type Failure = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let clock = SystemClock::shared();
    let folder = tempfile::tempdir()?;
    let results = CommitLog::open(folder.path().join("delays.jsonl"))?;
    // In memory, for a job that is simply run again after a crash.
    let coordinator = Arc::new(Embedded::open(embedded::Config::memory(), clock.clone())?);
    let store = Store::open(Options::new(clock.clone())).await?;
    let payloads = Arc::new(LocalPayloads::new(store.clone()));
    let processor = Arc::new(DelayByCarrier::default());
    let parts = Parts::new(coordinator.clone(), payloads, processor, clock)
        .with_sink(Arc::new(JsonLines(results.clone())));
    let workers = Worker::new(Config::new("delays").with_worker_count(2), parts)?;
    // Before the first registration, so that no event is missed.
    let mut events = coordinator.watch(WatchFilter::default()).await?;
    let mut open = register_flights(&store, &coordinator).await?;
    workers.start()?;
    while open > 0 {
        let Event::Changed(change) = events.next().await.ok_or("the coordinator closed")? else {
            return Err("too slow for the events".into());
        };
        if let (Some(State::Scheduled), Some(error)) = (change.to, &change.error) {
            println!("{} is tried again: {}", change.id, error.message);
        }
        open -= usize::from(change.to.is_some_and(State::is_terminal));
    }
    println!("{:?}", workers.shutdown().await);
    report(&results)
}

/// Five batches of 5,000 flights, each with a quick retry policy of its own.
async fn register_flights(store: &Store, coordinator: &Embedded) -> Result<usize, Failure> {
    let source = FileSource::open(FLIGHTS, SourceOptions::default()).await?;
    let mut batches = source.read(5_000).await?;
    let mut specs = Vec::new();
    while let Some(rows) = batches.next().await {
        let id = format!("flights-{}", specs.len()).parse()?;
        let schema = source.schema().await?;
        let put = store.put_batches(Some(id), schema, &[rows?], PutOptions::MEMORY).await?;
        let retry = Some(RetryPolicy { base_ms: 50, ..RetryPolicy::QUEUE });
        specs.push(BatchSpec { retry, ..put.to_spec() });
    }
    Ok(coordinator.register(specs).await?.len())
}

/// Adds up the parts, one line per batch.
fn report(results: &CommitLog) -> Result<(), Failure> {
    let mut carriers = BTreeMap::<String, (f64, f64)>::new();
    for row in results.lock()?.entries.iter().flat_map(|entry| &entry.rows) {
        let sum = carriers.entry(row["carrier"].as_str().unwrap_or("?").into()).or_default();
        sum.0 += row["minutes"].as_f64().unwrap_or(0.0);
        sum.1 += row["flights"].as_f64().unwrap_or(0.0);
    }
    for (carrier, (minutes, flights)) in carriers {
        println!("{carrier} {flights:>5} flights, {:>5.1} minutes late", minutes / flights);
    }
    Ok(())
}
