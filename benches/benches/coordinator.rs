//! The embedded coordinator at 64 concurrent callers: transitions per second
//! with fsync and without, idle pick-up, and opening a million batches.
//!
//! A transition is one batch changing its state: registered, claimed and
//! completed are three.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a benchmark: it measures real time"
)]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use sheaf_coordinator::embedded::{Config, Embedded};
use sheaf_coordinator::{
    BatchSpec, Claim, ClaimRequest, Coordinator, LeaseRef, Outcome, Resolution, SettleRequest,
};
use sheaf_proto::BatchId;
use sheaf_retry::SystemClock;
use tokio::runtime::Runtime;

const CALLERS: u64 = 64;

fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn open(path: Option<&Path>) -> Arc<Embedded> {
    let config =
        path.map_or_else(Config::memory, |path| Config::disk(path.join("coordinator.redb")));
    Arc::new(Embedded::open(config, SystemClock::shared()).unwrap())
}

fn spec(n: u64) -> BatchSpec {
    BatchSpec {
        rows: 1_000,
        bytes: 100_000,
        checksum: format!("{n:032x}"),
        schema_fingerprint: "0123456789abcdef0123456789abcdef".to_owned(),
        locations: vec!["grpc://127.0.0.1:8080".to_owned()],
        ..BatchSpec::new(BatchId::generate(n))
    }
}

fn request(caller: u64, round: u64, size: u64) -> ClaimRequest {
    let worker = format!("worker-{caller}");
    let max = u32::try_from(size).unwrap();
    ClaimRequest::new(worker, format!("{caller}-{round}"), max, Duration::from_secs(300))
}

fn completed(claim: &Claim) -> Vec<Outcome> {
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
/// the next in one call, until `batches` went through in all.
async fn lifecycle(coordinator: &Arc<Embedded>, size: u64, batches: u64) -> Duration {
    let rounds = batches.div_ceil(CALLERS * size);
    let work: Vec<Vec<Vec<BatchSpec>>> = (0..CALLERS)
        .map(|_| (0..rounds).map(|n| (0..size).map(|m| spec(n * size + m)).collect()).collect())
        .collect();
    let start = Instant::now();
    let callers = work.into_iter().zip(0..).map(|(work, caller)| {
        let coordinator = Arc::clone(coordinator);
        tokio::spawn(async move {
            let mut outcomes = Vec::new();
            for (specs, round) in work.into_iter().zip(0..) {
                coordinator.register(specs).await.unwrap();
                let claim = Some(request(caller, round, size));
                let settle = SettleRequest { outcomes, started: Vec::new(), claim };
                outcomes = completed(&coordinator.settle(settle).await.unwrap().claim.unwrap());
            }
            coordinator.settle(SettleRequest { outcomes, ..Default::default() }).await.unwrap();
        })
    });
    futures::future::try_join_all(callers).await.unwrap();
    // What was asked for may be less than what was run.
    start.elapsed().mul_f64(batches as f64 / (rounds * CALLERS * size) as f64)
}

/// Only registrations: one transition per batch and call.
async fn registrations(coordinator: &Arc<Embedded>, size: u64, batches: u64) -> Duration {
    let rounds = batches.div_ceil(CALLERS * size);
    let start = Instant::now();
    let callers = (0..CALLERS).map(|_| {
        let coordinator = Arc::clone(coordinator);
        tokio::spawn(async move {
            for n in 0..rounds {
                coordinator.register((0..size).map(|m| spec(n + m)).collect()).await.unwrap();
            }
        })
    });
    futures::future::try_join_all(callers).await.unwrap();
    start.elapsed().mul_f64(batches as f64 / (rounds * CALLERS * size) as f64)
}

fn transitions(c: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    for durability in ["disk", "memory"] {
        let mut group = c.benchmark_group(format!("coordinator/{durability}"));
        group.sample_size(10).sampling_mode(SamplingMode::Flat);
        group.warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(4));
        for size in [1, 16, 64] {
            let home = directory();
            let coordinator = open((durability == "disk").then(|| home.path()));
            group.throughput(Throughput::Elements(3));
            group.bench_function(format!("register_claim_complete/{size}"), |b| {
                b.iter_custom(|n| {
                    runtime
                        .block_on(lifecycle(&coordinator, size, n.max(4_096)))
                        .mul_f64(n as f64 / n.max(4_096) as f64)
                });
            });
            group.throughput(Throughput::Elements(1));
            group.bench_function(format!("register/{size}"), |b| {
                b.iter_custom(|n| {
                    runtime
                        .block_on(registrations(&coordinator, size, n.max(4_096)))
                        .mul_f64(n as f64 / n.max(4_096) as f64)
                });
            });
            runtime.block_on(coordinator.close()).unwrap();
        }
        group.finish();
    }
}

/// From the call of `register` to the answer of a claim that waits.
fn pick_up(_: &mut Criterion) {
    const ROUNDS: u64 = 1_000;
    let runtime = Runtime::new().unwrap();
    for durability in ["disk", "memory"] {
        let home = directory();
        let coordinator = open((durability == "disk").then(|| home.path()));
        let mut times = runtime.block_on(async {
            let mut times = Vec::new();
            for round in 0..ROUNDS {
                let waiting = Arc::clone(&coordinator);
                let claim = tokio::spawn(async move {
                    let wait = Duration::from_secs(10);
                    let claim = ClaimRequest { wait, ..request(0, round, 1) };
                    let claim = waiting.claim(claim).await.unwrap();
                    (Instant::now(), claim.leases.len())
                });
                tokio::time::sleep(Duration::from_millis(2)).await;
                let start = Instant::now();
                coordinator.register(vec![spec(round)]).await.unwrap();
                let (end, count) = claim.await.unwrap();
                assert_eq!(count, 1);
                times.push(end - start);
            }
            times
        });
        times.sort_unstable();
        let at = |share: usize| times[times.len() * share / 100];
        println!("coordinator/{durability}/pick_up: p50 {:?}, p99 {:?}", at(50), at(99));
    }
}

fn open_million(_: &mut Criterion) {
    const BATCHES: u64 = 1_000_000;
    let home = directory();
    let runtime = Runtime::new().unwrap();
    let coordinator = open(Some(home.path()));
    runtime.block_on(async {
        for start in (0..BATCHES).step_by(5_000) {
            coordinator.register((start..start + 5_000).map(spec).collect()).await.unwrap();
        }
        coordinator.close().await.unwrap();
    });
    drop(coordinator);
    let start = Instant::now();
    let coordinator = open(Some(home.path()));
    println!("coordinator/open: {BATCHES} batches in {:?}", start.elapsed());
    drop(coordinator);
}

criterion_group!(benches, pick_up, open_million, transitions);
criterion_main!(benches);
