//! Idle pick-up over gRPC: two connections to one server, one that waits.

use std::time::{Duration, Instant};

use serde_json::json;
use sheaf_bench::embedded::{completed, request, spec};
use sheaf_coordinator::{ClaimRequest, Coordinator as _, SettleRequest};
use tokio::sync::mpsc;

use super::coordinator;
use crate::error::{Error, Result};

/// Until the worker waits again: its settle is long answered by then.
const PAUSE: Duration = Duration::from_millis(5);

/// Milliseconds from before the registration until the worker holds the lease.
pub(super) async fn run(server: &str, count: u32) -> Result<()> {
    let worker = coordinator(server)?;
    let producer = coordinator(server)?;
    let (taken, mut leases) = mpsc::channel(1);
    let working = tokio::spawn(async move {
        let mut outcomes = Vec::new();
        for round in 0..u64::from(count) {
            let claim = ClaimRequest { wait: Duration::from_secs(30), ..request(0, round, 1) };
            let settle = SettleRequest { outcomes, started: Vec::new(), claim: Some(claim) };
            let claim = worker.settle(settle).await?.claim.unwrap_or_default();
            let at = Instant::now();
            outcomes = completed(&claim);
            if taken.send((at, outcomes.len())).await.is_err() {
                break;
            }
        }
        worker.settle(SettleRequest { outcomes, ..Default::default() }).await
    });
    let mut times = Vec::new();
    for round in 0..u64::from(count) {
        tokio::time::sleep(PAUSE).await;
        let start = Instant::now();
        producer.register(vec![spec(round)]).await?;
        let Some((end, leases)) = leases.recv().await else { break };
        if leases != 1 {
            return Err(Error::Message(format!("the worker holds {leases} leases, not 1")));
        }
        times.push((end - start).as_secs_f64() * 1_000.0);
    }
    working.await.map_err(|error| Error::Message(format!("the worker died: {error}")))??;
    println!("{}", json!({ "ms": times }));
    Ok(())
}
