//! One worker's exchange on one port, over Flight and over gRPC.
//!
//! ```text
//! cargo run -p sheaf-examples --example exchange_server -- 127.0.0.1:8815 [TOKEN_FILE]
//! ```
//!
//! What is sent by one face is read by the other: `examples/pyarrow_shuffle.py` speaks
//! Flight, `examples/data_exchange/` gRPC. It serves until it is interrupted or
//! terminated, and listens on loopback only.
#![allow(clippy::print_stdout, reason = "an example shows what happens")]

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use sheaf_exchange::service::DataExchangeService;
use sheaf_exchange::shuffle::{Exchange, ShuffleHandler};
use sheaf_flight::{Budget, Exposure, FlightRouter, Listener, Security, SecurityFiles, Server};
use sheaf_retry::SystemClock;
use tokio::signal::unix::{SignalKind, signal};

/// For all partitions together; who sends more is told to come again.
const MEMORY_BYTES: u64 = 256 << 20;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let clock = SystemClock::shared();
    let security = match arguments.next() {
        Some(tokens) => {
            let tokens = Some(PathBuf::from(tokens));
            Security::open(SecurityFiles { tokens, ..SecurityFiles::default() }, clock.clone())?
        }
        None => Security::none(),
    };

    // Chunks that were received and messages that come in count in one budget.
    let budget = Budget::new(MEMORY_BYTES);
    let exchange = Exchange::new(budget.clone(), clock);
    let router = FlightRouter::builder().memory(budget);
    let router = ShuffleHandler::new(exchange.clone()).serve(router).build()?;
    let server = DataExchangeService::new(exchange).serve(Server::new(router));

    let listener = Listener::bind(&address, "the address", Exposure::Loopback)?;
    let server = server.security(security).serve(listener).await?;
    println!("serving {}", server.local_addr());

    let mut terminated = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted?,
        _ = terminated.recv() => {}
    }
    server.drain(Duration::from_secs(5)).await;
    Ok(())
}
