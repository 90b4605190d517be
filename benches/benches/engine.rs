//! The coordinator's engine alone: transitions per second without input and
//! output, and memory per batch.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "a benchmark")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use sheaf_coordinator::engine::{Config, Engine};
use sheaf_coordinator::{BatchSpec, ClaimRequest, LeaseRef, Outcome, Resolution, SettleRequest};
use sheaf_proto::BatchId;
use sheaf_retry::Timestamp;

const NOW: Timestamp = Timestamp::from_millis(1_760_000_000_000);

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

/// Claims and completes everything, `size` at once.
fn work_off(engine: &mut Engine, size: u32) {
    let mut outcomes = Vec::new();
    for n in 0.. {
        let claim = ClaimRequest::new("w", n.to_string(), size, Duration::from_secs(30));
        let request = SettleRequest { outcomes, started: Vec::new(), claim: Some(claim) };
        let claim = engine.settle(&request, NOW).unwrap().claim.unwrap();
        if claim.leases.is_empty() {
            return;
        }
        let done = claim.leases.iter().map(|lease| Outcome {
            lease: LeaseRef { id: lease.spec.id.clone(), fence: lease.fence },
            resolution: Resolution::Completed,
            error: None,
            outputs: Vec::new(),
            delay: Duration::ZERO,
        });
        outcomes = done.collect();
    }
}

fn transitions(c: &mut Criterion) {
    const BATCHES: u64 = 10_000;
    let mut group = c.benchmark_group("engine");
    group.throughput(Throughput::Elements(3 * BATCHES)).sample_size(20);
    for size in [1_usize, 16, 64] {
        group.bench_function(format!("register_claim_complete/{size}"), |b| {
            b.iter_batched(
                || (0..BATCHES).map(spec).collect::<Vec<_>>(),
                |specs| {
                    let mut engine = Engine::new(Config::default(), 1);
                    for chunk in specs.chunks(size) {
                        black_box(engine.register(chunk, NOW).unwrap());
                    }
                    work_off(&mut engine, u32::try_from(size).unwrap());
                    engine
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text.split_whitespace().nth(1).and_then(|field| field.parse::<u64>().ok());
    pages.unwrap_or(0) * 4_096
}

fn memory(_: &mut Criterion) {
    const BATCHES: u64 = 1_000_000;
    let before = resident();
    let mut engine = Engine::new(Config::default(), 1);
    for start in (0..BATCHES).step_by(1_000) {
        let specs: Vec<_> = (start..start + 1_000).map(spec).collect();
        engine.register(&specs, NOW).unwrap();
        engine.take_effects();
    }
    let bytes = resident().saturating_sub(before) / BATCHES;
    println!("engine/memory: {bytes} bytes per batch at {} pending batches", engine.len());
}

criterion_group!(benches, memory, transitions);
criterion_main!(benches);
