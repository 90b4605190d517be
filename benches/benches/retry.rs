//! What a retry costs when nothing goes wrong, and what planning one costs.
#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]

use std::convert::Infallible;
use std::future::ready;
use std::hint::black_box;
use std::io;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use sheaf_retry::{ManualClock, RetryPolicy, SharedClock, SystemClock, Timestamp};
use sheaf_retry::{retry, retry_blocking, retry_if};

fn policy(c: &mut Criterion) {
    let policy = RetryPolicy { max_retries: 20, ..RetryPolicy::default() };
    let mut group = c.benchmark_group("retry/policy");
    group.bench_function("delay", |b| {
        b.iter(|| black_box(&policy).delay_seeded(black_box(7), black_box(42)));
    });
    group.bench_function("schedule of 20", |b| {
        b.iter(|| black_box(&policy).schedule(black_box(42)).fold(0, |ns, d| ns ^ d.as_nanos()));
    });
    group.bench_function("display", |b| b.iter(|| black_box(&policy).to_string()));
    group.finish();
}

fn run(c: &mut Criterion) {
    let policy = RetryPolicy::default();
    let clock = SystemClock::shared();
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.expect("a runtime without drivers needs nothing of the system");
    let mut group = c.benchmark_group("retry/run");
    group.bench_function("async, at once", |b| {
        b.to_async(&runtime).iter(|| {
            let op = |attempt| ready(Ok::<_, Infallible>(black_box(attempt)));
            retry_if(&policy, 42, Arc::clone(&clock), op, |_| false)
        });
    });
    group.bench_function("blocking, at once", |b| {
        b.iter(|| {
            let op = |attempt| Ok::<_, io::Error>(black_box(attempt));
            retry_blocking(&policy, 42, Arc::clone(&clock), op)
        });
    });
    let manual: SharedClock = ManualClock::auto(Timestamp::EPOCH);
    group.bench_function("async, four failures", |b| {
        b.to_async(&runtime).iter(|| {
            let failure = || io::Error::from(io::ErrorKind::ConnectionReset);
            retry(&policy, 42, Arc::clone(&manual), move |_| ready(Err::<(), _>(failure())))
        });
    });
    group.finish();
}

criterion_group!(benches, policy, run);
criterion_main!(benches);
