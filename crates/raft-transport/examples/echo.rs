//! Messages a second that a node echoes over a stream, and how long each takes:
//! `cargo run --release -p sheaf-raft-transport --example echo -- 1024 100000 32`
//! (bytes, messages, most requests under way; 0 is the default).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use sheaf_raft_transport::{
    Compression, Config, Engine, Error, FlightTransport, Lane, NodeId, Packet, PacketStream,
};
use sheaf_retry::SystemClock;

struct Echo;

#[async_trait]
impl Engine for Echo {
    async fn stream(
        &self,
        _: NodeId,
        _: &str,
        requests: PacketStream,
    ) -> Result<PacketStream, Error> {
        Ok(requests)
    }
}

#[tokio::main]
#[allow(clippy::print_stdout, reason = "it is what the program is for")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default| arguments.next().map_or(Ok(default), |text| text.parse::<usize>());
    let (bytes, count, under_way) = (number(1_024)?, number(100_000)?, number(0)?);
    let clock = SystemClock::shared();
    let mut config = Config::new("echo", 1);
    config.compression = Compression::Off;
    if under_way > 0 {
        (config.window.requests, config.window.max_requests) = (under_way, under_way);
    }
    let other = Config { node_id: 2, ..config.clone() };
    let one = FlightTransport::try_new(config, clock.clone())?;
    let two = FlightTransport::try_new(other, clock.clone())?;
    two.listen("127.0.0.1:0", Arc::new(Echo)).await?;
    let address = two.local_addr().ok_or("it does not listen")?;
    one.add_peer(2, vec![address.to_string()])?;
    let (mut sender, mut replies) = one.open_stream(2, Lane::Data, "echo").await?;
    let payload = Bytes::from(vec![7; bytes]);
    let before = clock.elapsed();
    let sending = {
        let clock = clock.clone();
        tokio::spawn(async move {
            for _ in 0..count {
                let sent = u64::try_from(clock.elapsed().as_nanos()).unwrap_or_default();
                let meta = Bytes::copy_from_slice(&sent.to_le_bytes());
                sender.send(Packet { meta, payloads: vec![payload.clone()] }).await?;
            }
            Ok::<_, Error>(sender.window())
        })
    };
    let mut took = Vec::with_capacity(count);
    while took.len() < count {
        let reply = replies.next().await.ok_or("the stream is over")??;
        let sent = u64::from_le_bytes(reply.meta[..].try_into()?);
        took.push(clock.elapsed().saturating_sub(Duration::from_nanos(sent)));
    }
    let seconds = (clock.elapsed() - before).as_secs_f64();
    let window = sending.await??;
    took.sort_unstable();
    let at = |percent: usize| took[(count - 1) * percent / 100];
    let rate = count as f64 / seconds;
    println!("{rate:.0} msg/s, {:.0} MB/s each way, window {window:?}", rate * bytes as f64 / 1e6);
    println!("p50 {:?} (with the wait for room), p99 {:?}", at(50), at(99));
    Ok(())
}
