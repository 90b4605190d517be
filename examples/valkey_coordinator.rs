//! Several workers over one Valkey: each batch is done once, whoever does it.
//!
//! ```text
//! valkey-server --appendonly yes &
//! cargo run -p sheaf-examples --example valkey_coordinator -- valkey://localhost:6379
//! ```
#![allow(clippy::print_stdout, reason = "an example talks to its reader")]

use std::collections::HashSet;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use sheaf_coordinator::{
    BatchSpec, ClaimRequest, Coordinator, CoordinatorExt as _, Lease, LeaseRef, Outcome,
    Resolution, SettleRequest,
};
use sheaf_proto::BatchId;
use sheaf_retry::SystemClock;
use sheaf_valkey::ValkeyCoordinator;

const BATCHES: u32 = 1_000;
const QUEUE: &str = "example";

type Failure = Box<dyn Error + Send + Sync>;

async fn connect(address: &str) -> Result<Arc<ValkeyCoordinator>, Failure> {
    let builder = ValkeyCoordinator::builder(address)?.namespace("example");
    Ok(Arc::new(builder.connect(SystemClock::shared()).await?))
}

/// Done: the attempt ends, and nothing is made from it.
fn completed(lease: &Lease) -> Outcome {
    Outcome {
        lease: LeaseRef { id: lease.spec.id.clone(), fence: lease.fence },
        resolution: Resolution::Completed,
        error: None,
        outputs: Vec::new(),
        delay: Duration::ZERO,
    }
}

/// Takes what there is, "does" it, and tells so together with the next claim,
/// until nothing came for two seconds.
async fn work(coordinator: Arc<ValkeyCoordinator>, name: String) -> Result<Vec<BatchId>, Failure> {
    let mut done = Vec::new();
    let mut outcomes = Vec::new();
    for number in 0.. {
        let lease = Duration::from_secs(30);
        let mut claim = ClaimRequest::new(&*name, format!("{name}-{number}"), 32, lease);
        claim.queues = vec![QUEUE.to_owned()];
        claim.start = true;
        claim.wait = Duration::from_secs(2);
        let request = SettleRequest {
            outcomes: std::mem::take(&mut outcomes),
            started: Vec::new(),
            claim: Some(claim),
        };
        let leases = coordinator.settle(request).await?.claim.unwrap_or_default().leases;
        if leases.is_empty() {
            break;
        }
        outcomes.extend(leases.iter().map(completed));
        done.extend(leases.into_iter().map(|lease| lease.spec.id));
    }
    Ok(done)
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "localhost:6379".to_owned());
    let coordinator = connect(&address).await?;
    let mut workers = Vec::new();
    for number in 0..4 {
        // As it would be in four processes: each has its own connections.
        let own = connect(&address).await?;
        workers.push(tokio::spawn(work(own, format!("worker-{number}"))));
    }
    let run = SystemClock::shared().now().as_micros();
    for first in (0..BATCHES).step_by(100) {
        let specs = (first..first + 100).map(|number| {
            let id = format!("example:{run}:{number}").parse()?;
            Ok(BatchSpec { queue: QUEUE.to_owned(), ..BatchSpec::new(id) })
        });
        coordinator.register(specs.collect::<Result<_, Failure>>()?).await?;
    }
    let mut all = HashSet::new();
    let mut count = 0;
    for worker in workers {
        let done = worker.await??;
        println!("one worker did {} batches", done.len());
        count += done.len();
        all.extend(done);
    }
    let stats = coordinator.stats(Some(QUEUE)).await?.remove(0);
    println!("{count} done, each once: {}; queue: {:?}", all.len() == count, stats.counts);
    coordinator.close().await;
    Ok(())
}
