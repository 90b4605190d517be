//! Clients of a cluster, all of whose requests go over one stream to the leader.

use std::time::Duration;

use bytes::Bytes;
use clap::{Args, ValueEnum};
use sheaf_raft_transport::{Config, FlightTransport, Packet};
use sheaf_retry::SystemClock;

use super::service::REQUESTS;
use super::{CLUSTER, machine::KEY};
use crate::error::{Error, Result};
use crate::load::echo::{Client, Requests};

/// Which node they take themselves for: none of the cluster.
pub(super) const NODE: u64 = 1_000;
/// Where the leader of a new cluster is.
const LEADER: u64 = 1;
/// Different keys; those that are read are put before.
const KEYS: u64 = 10_000;
const READ: u64 = 1_000;
/// How long a new cluster may have no leader.
const PATIENCE: Duration = Duration::from_secs(15);

/// Clients of a cluster.
#[derive(Debug, Args)]
pub(crate) struct ClusterClient {
    what: What,
    /// The first node.
    server: String,
    /// Whose CPU counts too, with commas between.
    pids: String,
    /// Requests under way.
    clients: usize,
    /// Bytes of a value.
    size: usize,
    /// How long it is measured, after a quarter of it.
    seconds: f64,
}

/// What they ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    Put,
    Get,
}

pub(in crate::load) async fn run(options: &ClusterClient) -> Result<()> {
    let ClusterClient { what, server, pids, clients, size, seconds } = options;
    let transport = FlightTransport::try_new(Config::new(CLUSTER, NODE), SystemClock::shared())?;
    let client = Client::new(&transport, LEADER, server)?;
    let value = crate::load::echo::message(*size);
    wait(&client, &value).await?;
    if *what == What::Get {
        let mut put = puts(value.clone());
        client.all(REQUESTS, (0..READ).map(|_| put())).await?;
    }
    let mut pids: Vec<String> = pids.split(',').map(str::to_owned).collect();
    pids.push(std::process::id().to_string());
    let next: Box<dyn FnMut() -> Packet + Send> = match what {
        What::Put => Box::new(puts(value)),
        What::Get => Box::new(gets()),
    };
    let requests =
        Requests { kind: REQUESTS, depth: *clients, next, answer: Bytes::from_static(b"+") };
    println!("{}", client.drive(&pids, *seconds, requests).await?.json()?);
    Ok(())
}

/// Until a put is done.
async fn wait(client: &Client, value: &Bytes) -> Result<()> {
    let start = std::time::Instant::now();
    let mut put = puts(value.clone());
    while let Err(error) = client.all(REQUESTS, [put()]).await {
        if start.elapsed() > PATIENCE {
            return Err(Error::Message(format!("node {LEADER} takes no puts: {error}")));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

pub(super) fn puts(value: Bytes) -> impl FnMut() -> Packet {
    let mut number = 0;
    move || {
        number += 1;
        Packet { meta: key(number), payloads: vec![value.clone()] }
    }
}

fn gets() -> impl FnMut() -> Packet {
    let mut number = 0;
    move || {
        number += 1;
        Packet::of(key(number % READ + 1))
    }
}

fn key(number: u64) -> Bytes {
    // Apart from each other, as keys of users are.
    let text = format!("{:0KEY$x}", (number % KEYS).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    Bytes::from(text)
}
