//! One client that puts all the time, to whoever leads: how long nothing was done.

use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Args;
use serde_json::json;
use sheaf_raft_transport::{Config, FlightTransport};
use sheaf_retry::SystemClock;

use super::CLUSTER;
use super::client::{NODE, puts};
use super::service::REQUESTS;
use crate::error::{Error, Result};
use crate::load::echo::Client;

/// How long a node has for an answer before another is asked.
const PATIENCE: Duration = Duration::from_millis(200);
/// Between asking all of them and asking again.
const PAUSE: Duration = Duration::from_millis(5);

/// One client that puts all the time.
#[derive(Debug, Args)]
pub(crate) struct ClusterGap {
    /// Where all nodes listen, with commas between.
    addresses: String,
    /// How long it does so, after its first put.
    seconds: f64,
}

/// Says `started` when the first put is done, and how long the longest time between two was
/// at the end.
pub(in crate::load) async fn run(options: &ClusterGap) -> Result<()> {
    let transport = FlightTransport::try_new(Config::new(CLUSTER, NODE), SystemClock::shared())?;
    let nodes = (1..).zip(options.addresses.split(','));
    let nodes = nodes.map(|(id, address)| Client::new(&transport, id, address));
    let nodes: Vec<Client> = nodes.collect::<Result<_>>()?;
    let mut put = puts(Bytes::from_static(b"value"));
    let (mut done, mut longest, mut leader) = (0_u64, Duration::ZERO, 0);
    let (mut last, mut end) = (Instant::now(), None);
    while end.is_none_or(|end| Instant::now() < end) {
        let tried = tokio::time::timeout(PATIENCE, nodes[leader].all(REQUESTS, [put()])).await;
        if matches!(tried, Ok(Ok(()))) {
            if end.is_none() {
                println!("started");
                end = Some(Instant::now() + Duration::from_secs_f64(options.seconds));
            } else {
                longest = longest.max(last.elapsed());
            }
            (done, last) = (done + 1, Instant::now());
            continue;
        }
        leader = (leader + 1) % nodes.len();
        if leader == 0 {
            tokio::time::sleep(PAUSE).await;
        }
    }
    // What did not go on is longer than what was seen.
    if last.elapsed() > longest {
        return Err(Error::Message(format!("no put was done in the last {:?}", last.elapsed())));
    }
    println!("{}", json!({ "puts": done, "gap_seconds": longest.as_secs_f64() }));
    Ok(())
}
