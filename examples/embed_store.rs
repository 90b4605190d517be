//! The Arrow store inside a program of one's own, and the same store on a
//! Flight port, where any Flight client reads it.
//!
//! `cargo run -p sheaf-examples --example embed_store`
#![allow(clippy::print_stdout, reason = "an example shows what happens")]

use std::sync::Arc;
use std::time::Duration;

use arrow_cast::pretty::pretty_format_batches;
use futures::{StreamExt as _, TryStreamExt as _};
use sheaf_connectors::{FileSource, Source as _, SourceOptions};
use sheaf_flight::ipc::{Compression, encode_stream};
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
    let columns = ["carrier", "flight", "dest", "dep_delay"];
    let part = ReadOptions::default().with_columns(columns).with_rows(20_000, 3);
    // Only here is anything decoded.
    let (_schema, rows) = store.read_batches(&id, &part).await?;
    println!("{}", pretty_format_batches(&rows.try_collect::<Vec<_>>().await?)?);

    let server = serve(&store).await?;
    let client = FlightClient::connect(&server.uri(), clock)?;
    let whole = client.get_batch(&id).await?;
    println!("over Flight: {} rows, {} columns", whole.num_rows(), whole.num_columns());
    // The server cuts it: only these three rows cross the network.
    let (_schema, rows) = client.read_batches(&id, &part).await?;
    println!("over Flight: {} record batch of them", rows.count().await);

    server.drain(Duration::from_secs(1)).await;
    store.close().await;
    Ok(())
}

/// Streams a Parquet file into the store: at no time is all of it in memory twice.
async fn put_flights(store: &Store) -> Result<PutReceipt, Box<dyn std::error::Error>> {
    let source = FileSource::open(FLIGHTS, SourceOptions::default()).await?;
    let rows = source.read(5_000).await?.map_err(Error::from_error);
    // The store takes messages as they travel, so that nothing is decoded and
    // encoded again on the way from a socket to the disk and back. For record
    // batches that are in memory anyway there is `put_batches`.
    let messages = encode_stream(source.schema().await?, Box::pin(rows), Compression::None)?;
    let id: BatchId = "flights:2013-01".parse()?;
    // `DISK` answers when the payload would survive a loss of power.
    Ok(store.put(Some(id), messages, PutOptions::DISK).await?)
}

/// Serves the store on a free port of the loopback interface.
async fn serve(store: &Store) -> Result<ServerHandle, Error> {
    let handler = StoreHandler::new(store.clone(), Durability::Disk);
    let router = FlightRouter::builder()
        .handler(NAMESPACE, Arc::new(handler))
        .actions(Arc::new(StoreActions::new(store.clone())))
        .build()?;
    // The name is only for errors: "--flight-addr … is in use".
    let listener = Listener::bind("127.0.0.1:0", "--flight-addr", Exposure::Loopback)?;
    Server::new(router).serve(listener).await
}
