//! The embedded coordinator under many concurrent callers, in this process.
//!
//! A transition is one batch changing its state: registered, claimed and
//! completed are three.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sheaf_coordinator::embedded::{Config, Embedded};
use sheaf_coordinator::{
    BatchSpec, Claim, ClaimRequest, Coordinator, LeaseRef, Outcome, Resolution, SettleRequest,
};
use sheaf_proto::BatchId;
use sheaf_retry::SystemClock;
use tokio::task::JoinSet;

/// Callers at once.
pub const CALLERS: u64 = 64;

/// Transitions of one batch in [`lifecycle`].
pub const LIFE: u64 = 3;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Opens one in a folder, with fsync, or in memory.
///
/// # Errors
/// The coordinator's own.
pub fn open(folder: Option<&Path>) -> std::result::Result<Arc<Embedded>, sheaf_coordinator::Error> {
    let config =
        folder.map_or_else(Config::memory, |folder| Config::disk(folder.join("coordinator.redb")));
    Ok(Arc::new(Embedded::open(config, SystemClock::shared())?))
}

/// A batch as a store would describe it.
#[must_use]
pub fn spec(n: u64) -> BatchSpec {
    BatchSpec {
        rows: 1_000,
        bytes: 100_000,
        checksum: format!("{n:032x}"),
        schema_fingerprint: "0123456789abcdef0123456789abcdef".to_owned(),
        locations: vec!["grpc://127.0.0.1:8080".to_owned()],
        ..BatchSpec::new(BatchId::generate(n))
    }
}

/// What a caller asks for in one round.
#[must_use]
pub fn request(caller: u64, round: u64, size: u32) -> ClaimRequest {
    let worker = format!("worker-{caller}");
    ClaimRequest::new(worker, format!("{caller}-{round}"), size, Duration::from_secs(300))
}

/// All that was claimed, done.
#[must_use]
pub fn completed(claim: &Claim) -> Vec<Outcome> {
    let done = claim.leases.iter().map(|lease| Outcome {
        lease: LeaseRef { id: lease.spec.id.clone(), fence: lease.fence },
        resolution: Resolution::Completed,
        error: None,
        outputs: Vec::new(),
        delay: Duration::ZERO,
    });
    done.collect()
}

/// Each caller registers `size` batches, then settles what it has and claims
/// the next in one call, until at least `batches` went through in all. Gives
/// the time that `batches` took.
///
/// # Errors
/// The coordinator's own.
pub async fn lifecycle(coordinator: &Arc<Embedded>, size: u32, batches: u64) -> Result<Duration> {
    let each = u64::from(size);
    let rounds = batches.div_ceil(CALLERS * each);
    let work: Vec<Vec<Vec<BatchSpec>>> = (0..CALLERS)
        .map(|_| (0..rounds).map(|n| (0..each).map(|m| spec(n * each + m)).collect()).collect())
        .collect();
    let start = Instant::now();
    let mut callers = JoinSet::new();
    for (work, caller) in work.into_iter().zip(0..) {
        let coordinator = Arc::clone(coordinator);
        callers.spawn(async move {
            let mut outcomes = Vec::new();
            for (specs, round) in work.into_iter().zip(0..) {
                coordinator.register(specs).await?;
                let claim = Some(request(caller, round, size));
                let settle = SettleRequest { outcomes, started: Vec::new(), claim };
                let reply = coordinator.settle(settle).await?;
                outcomes = reply.claim.as_ref().map(completed).unwrap_or_default();
            }
            coordinator.settle(SettleRequest { outcomes, ..Default::default() }).await
        });
    }
    while let Some(ended) = callers.join_next().await {
        ended??;
    }
    Ok(share(start.elapsed(), batches, rounds * CALLERS * each))
}

/// Only registrations: one transition per batch, `size` batches per call.
///
/// # Errors
/// The coordinator's own.
pub async fn registrations(
    coordinator: &Arc<Embedded>,
    size: u32,
    batches: u64,
) -> Result<Duration> {
    let each = u64::from(size);
    let rounds = batches.div_ceil(CALLERS * each);
    let start = Instant::now();
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let coordinator = Arc::clone(coordinator);
        callers.spawn(async move {
            for n in 0..rounds {
                coordinator.register((0..each).map(|m| spec(n + m)).collect()).await?;
            }
            Ok::<_, sheaf_coordinator::Error>(())
        });
    }
    while let Some(ended) = callers.join_next().await {
        ended??;
    }
    Ok(share(start.elapsed(), batches, rounds * CALLERS * each))
}

/// What was asked for may be less than what was run.
fn share(took: Duration, asked: u64, run: u64) -> Duration {
    took.mul_f64(asked as f64 / run as f64)
}
