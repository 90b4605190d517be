//! The Arrow store inside a program of one's own, and the same store on a
//! Flight port, where any Flight client reads it.
//!
//! `cargo run -p sheaf-examples --example embed_store`
#![allow(clippy::print_stdout, reason = "an example shows what happens")]

use std::sync::Arc;
use std::time::Duration;

use arrow_array::RecordBatch;
use arrow_cast::pretty::pretty_format_batches;
use futures::TryStreamExt as _;
use sheaf_connectors::{FileSource, Source as _, SourceOptions};
use sheaf_flight::ipc::{Bounds, Compression, decode_stream, encode_stream};
use sheaf_flight::{Error, Exposure, FlightRouter, Listener, Server, ServerHandle};
use sheaf_proto::BatchId;
use sheaf_retry::SystemClock;
use sheaf_store::{
    Durability, FlightClient, NAMESPACE, Options, PutOptions, PutReceipt, ReadOptions, Store,
    StoreActions, StoreHandler,
};

/// 25,000 flights that left New York in January 2013.
const FLIGHTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/flights.parquet");

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Components never look at the wall clock by themselves: tests hand in another one.
    let clock = SystemClock::shared();
    let directory = tempfile::tempdir()?;
    let options = Options::new(clock.clone()).with_data_dir(directory.path());
    let store = Store::open(options).await?;

    let receipt = put_flights(&store).await?;
    println!("put {} rows, {} bytes as {}", receipt.rows, receipt.bytes, receipt.batch_id);
    // A producer that did not hear the answer just puts again.
    println!("put again: created {}", put_flights(&store).await?.created);

    let id = receipt.batch_id;
    let part = ReadOptions {
        columns: Some(["carrier", "flight", "dest", "dep_delay"].map(str::to_owned).into()),
        offset: 20_000,
        limit: Some(3),
        ..ReadOptions::default()
    };
    println!("{}", pretty_format_batches(&read(&store, &id, &part).await?)?);

    let server = serve(&store).await?;
    let client = FlightClient::connect(&server.uri(), clock)?;
    let over_flight = client.get_batch(&id).await?;
    let (rows, columns) = (over_flight.num_rows(), over_flight.num_columns());
    println!("over Flight: {rows} rows, {columns} columns");

    server.drain(Duration::from_secs(1)).await;
    store.close().await;
    Ok(())
}

/// Streams a Parquet file into the store: at no time is all of it in memory twice.
async fn put_flights(store: &Store) -> Result<PutReceipt, Box<dyn std::error::Error>> {
    let source = FileSource::open(FLIGHTS, SourceOptions::default()).await?;
    let rows = source.read(5_000).await?.map_err(Error::from_error);
    // The store takes messages as they travel, so that nothing is decoded and
    // encoded again on the way from a socket to the disk and back.
    let messages = encode_stream(source.schema().await?, Box::pin(rows), Compression::None)?;
    let id: BatchId = "flights:2013-01".parse()?;
    // `DISK` answers when the payload would survive a loss of power.
    Ok(store.put(Some(id), messages, PutOptions::DISK).await?)
}

/// Only here is anything decoded.
async fn read(
    store: &Store,
    id: &BatchId,
    part: &ReadOptions,
) -> Result<Vec<RecordBatch>, Box<dyn std::error::Error>> {
    let messages = store.read(id, part).await?;
    let (_schema, batches) = decode_stream(messages, Bounds::default()).await?;
    Ok(batches.try_collect().await?)
}

/// Serves the store on a free port of the loopback interface.
async fn serve(store: &Store) -> Result<ServerHandle, Error> {
    let handler = StoreHandler::new(store.clone(), Durability::Disk);
    let router = FlightRouter::builder()
        .handler(NAMESPACE, Arc::new(handler))
        .actions(Arc::new(StoreActions::new(store.clone())))
        .build()?;
    // The name is what an error calls the setting: "--flight-addr … is in use".
    let listener = Listener::bind("127.0.0.1:0", "--flight-addr", Exposure::Loopback)?;
    Server::new(router).serve(listener).await
}
