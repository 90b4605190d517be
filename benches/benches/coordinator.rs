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

use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use sheaf_bench::embedded::{LIFE, lifecycle, open, registrations, request, spec};
use sheaf_coordinator::{ClaimRequest, Coordinator};
use tokio::runtime::Runtime;

fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn transitions(c: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    for durability in ["disk", "memory"] {
        let mut group = c.benchmark_group(format!("coordinator/{durability}"));
        group.sample_size(10).sampling_mode(SamplingMode::Flat);
        group.warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(4));
        for size in [1, 16, 64] {
            let home = directory();
            let coordinator = open((durability == "disk").then(|| home.path())).unwrap();
            group.throughput(Throughput::Elements(LIFE));
            group.bench_function(format!("register_claim_complete/{size}"), |b| {
                b.iter_custom(|n| {
                    runtime
                        .block_on(lifecycle(&coordinator, size, n.max(4_096)))
                        .unwrap()
                        .mul_f64(n as f64 / n.max(4_096) as f64)
                });
            });
            group.throughput(Throughput::Elements(1));
            group.bench_function(format!("register/{size}"), |b| {
                b.iter_custom(|n| {
                    runtime
                        .block_on(registrations(&coordinator, size, n.max(4_096)))
                        .unwrap()
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
        let coordinator = open((durability == "disk").then(|| home.path())).unwrap();
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
    let coordinator = open(Some(home.path())).unwrap();
    runtime.block_on(async {
        for start in (0..BATCHES).step_by(5_000) {
            coordinator.register((start..start + 5_000).map(spec).collect()).await.unwrap();
        }
        coordinator.close().await.unwrap();
    });
    drop(coordinator);
    let start = Instant::now();
    let coordinator = open(Some(home.path())).unwrap();
    println!("coordinator/open: {BATCHES} batches in {:?}", start.elapsed());
    drop(coordinator);
}

criterion_group!(benches, pick_up, open_million, transitions);
criterion_main!(benches);
