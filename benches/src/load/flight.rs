//! Our Flight client against two servers, and a raw socket beside them.

use std::time::{Duration, Instant};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use clap::Args;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use serde_json::json;
use sheaf_flight::ipc::{Bounds, decode_stream};
use sheaf_flight::{CallOptions, FlightConnection};
use sheaf_proto::BatchId;
use sheaf_retry::SystemClock;
use sheaf_store::{ClientPut, Durability, FlightClient};

use super::socket;
use crate::error::{Error, Result};
use crate::stats::percentile;

/// The payloads that the Python client has put: many small batches, few large ones.
const SHAPES: [&str; 2] = ["rows1k", "mib4"];

/// Whom to measure, and how often.
#[derive(Debug, Args)]
pub(crate) struct Flight {
    /// The server under test.
    #[arg(long)]
    ours: String,
    /// The server of the peer.
    #[arg(long)]
    peer: String,
    /// A `load socket`.
    #[arg(long)]
    socket: String,
    /// How often every case is measured.
    #[arg(long)]
    rounds: u32,
    /// Few calls.
    #[arg(long)]
    quick: bool,
}

struct Side {
    name: &'static str,
    client: FlightClient,
}

/// Measures all cases in every round, one side right after the other.
pub(super) async fn run(load: Flight) -> Result<()> {
    let side = |name, uri: &str| {
        let client = FlightClient::connect(uri, SystemClock::shared())?;
        Ok::<_, Error>(Side { name, client })
    };
    let mut sides = [side("ours", &load.ours)?, side("peer", &load.peer)?];
    let calls = if load.quick { 20 } else { 1_000 };
    for round in 0..load.rounds {
        for shape in SHAPES {
            let mut data = None;
            for side in &sides {
                let (schema, batches, took) = get(side.client.connection(), shape).await?;
                let size = size_of(&batches);
                say(&format!("doget {shape}"), side.name, took, size);
                if side.name == "ours" && shape == "mib4" {
                    let took = socket::read(&load.socket, size)?;
                    say("socket", "peer", took, size);
                }
                data = Some((schema, batches));
            }
            let Some((schema, batches)) = data else { continue };
            for side in &sides {
                let took = put(&side.client, &schema, &batches, round).await?;
                say(&format!("doput {shape}"), side.name, took, size_of(&batches));
            }
        }
        for side in &sides {
            let took = one_row(side.client.connection(), calls).await?;
            say("get-1row", side.name, took, 0);
        }
        // The second finds warmer caches: take turns.
        sides.reverse();
    }
    Ok(())
}

fn say(case: &str, side: &str, took: Duration, bytes: u64) {
    let seconds = took.as_secs_f64();
    println!("{}", json!({ "case": case, "side": side, "seconds": seconds, "bytes": bytes }));
}

/// Bytes of the buffers that hold rows.
fn size_of(batches: &[RecordBatch]) -> u64 {
    let columns = batches.iter().flat_map(|batch| batch.columns());
    let sizes = columns.map(|column| column.to_data().get_slice_memory_size().unwrap_or(0));
    sizes.map(|size| size as u64).sum()
}

type Rows = (SchemaRef, BoxStream<'static, Result<RecordBatch, sheaf_flight::Error>>);

async fn open(connection: &FlightConnection, name: &str) -> Result<Rows> {
    let messages = connection.get(&format!("batches/{name}"), &CallOptions::default()).await?;
    Ok(decode_stream(messages, Bounds::default()).await?)
}

/// All rows of a payload, decoded.
async fn get(
    connection: &FlightConnection,
    shape: &str,
) -> Result<(SchemaRef, Vec<RecordBatch>, Duration)> {
    let start = Instant::now();
    let (schema, mut stream) = open(connection, &format!("{shape}.1")).await?;
    let mut batches = Vec::new();
    while let Some(batch) = stream.next().await {
        batches.push(batch?);
    }
    Ok((schema, batches, start.elapsed()))
}

/// Puts them under a new name, in memory; deletes them after the measurement.
async fn put(
    client: &FlightClient,
    schema: &SchemaRef,
    batches: &[RecordBatch],
    round: u32,
) -> Result<Duration> {
    let id: BatchId = format!("rust.{round}")
        .parse()
        .map_err(|error| Error::Message(format!("no name for a put: {error}")))?;
    let how = ClientPut::default().with_durability(Durability::Memory);
    let start = Instant::now();
    client.put(Some(&id), schema.clone(), batches, how).await?;
    let took = start.elapsed();
    client.delete(&id).await?;
    Ok(took)
}

/// The median of gets of one row, one after another.
async fn one_row(connection: &FlightConnection, calls: u32) -> Result<Duration> {
    let mut times = Vec::new();
    for _ in 0..calls {
        let start = Instant::now();
        let (_, mut rows) = open(connection, "one").await?;
        while let Some(batch) = rows.next().await {
            batch?;
        }
        times.push(start.elapsed().as_secs_f64());
    }
    let median = percentile(&times, 50);
    Ok(Duration::from_secs_f64(median.unwrap_or_default()))
}
