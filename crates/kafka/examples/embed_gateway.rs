//! A service that reads Kafka topics itself and serves them to others.
//!
//! ```text
//! cargo run -p sheaf-kafka --example embed_gateway -- localhost:9092 logs
//! ```
//!
//! It counts what comes, while any Flight client can read the same rows from the
//! address that it prints. Ctrl-C ends it: what was read is committed.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use sheaf_flight::{Budget, Exposure, FlightRouter, Listener, Server};
use sheaf_kafka::{
    ConsumerOptions, DecoderOptions, Gateway, GatewayOptions, Metrics, Selection, StreamOptions,
    TOPICS, WhenFull,
};
use sheaf_retry::SystemClock;

/// Memory of all streams together, in bytes.
const MEMORY: u64 = 512 << 20;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [brokers, topic] = arguments.as_slice() else {
        return Err("usage: embed_gateway BROKERS TOPIC".into());
    };

    let options = GatewayOptions {
        consumer: ConsumerOptions::new(brokers, vec![topic.clone()], "embed-gateway"),
        decoder: DecoderOptions::default(),
        decoders: BTreeMap::new(),
        stream: StreamOptions {
            limit_bytes: 100_000_000,
            ttl: Duration::from_secs(60),
            when_full: WhenFull::Block,
        },
        registry: None,
        sink: None,
    };
    let memory = Budget::new(MEMORY);
    let metrics = Metrics::new(MEMORY);
    let gateway =
        Gateway::start(options, Arc::clone(&memory), metrics, SystemClock::shared()).await?;

    // The Flight port, with handlers of one's own beside it if there are any.
    let handler = Arc::new(gateway.handler());
    let router = FlightRouter::builder()
        .handler(TOPICS, handler.clone())
        .fallback(handler)
        .actions(Arc::new(gateway.actions()))
        .memory(memory)
        .build()?;
    let listener = Listener::bind("127.0.0.1:0", "the port", Exposure::Loopback)?;
    let server = Server::new(router).serve(listener).await?;
    eprintln!("{topic} at {}", server.uri());

    // The same rows in this process, without a network in between.
    let stream = gateway.streams().get(topic)?;
    let counting = tokio::spawn(async move {
        stream.wait_for_rows().await;
        let mut total = 0;
        let mut reader = stream.read(Selection { follow: true, ..Selection::default() })?;
        while let Some(rows) = reader.next().await? {
            total += rows.num_rows();
            eprintln!("{total} rows, {} columns", rows.num_columns());
        }
        Ok::<_, sheaf_kafka::Error>(total)
    });

    tokio::signal::ctrl_c().await?;
    gateway.stop().await;
    eprintln!("{} rows in all", counting.await??);
    server.drain(Duration::from_secs(1)).await;
    Ok(())
}
