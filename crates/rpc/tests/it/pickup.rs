//! T11: single batches against an idle worker are picked up as they come.

use std::sync::Arc;
use std::time::Duration;

use sheaf_coordinator::{
    Answer, ClaimRequest, Coordinator, Lease, LeaseRef, Outcome, Query, Resolution, SettleRequest,
    State,
};
use sheaf_retry::{SharedClock, SystemClock};
use tokio::sync::mpsc;

use crate::harness::{claim, embedded, patient, rpc, serve, spec};

/// Single registrations; 100,000 in the long form.
fn size() -> u64 {
    if sheaf_testkit::soak() { 100_000 } else { 2_000 }
}

/// The target of the long form on a machine that does nothing else.
const P99: Duration = Duration::from_millis(10);
/// A worker that was not woken would find out after this, 2,000 times over.
const WAIT: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(30);

fn waiting(number: u64) -> ClaimRequest {
    ClaimRequest { wait: WAIT, ..claim(&format!("r{number}"), 1) }
}

fn done(lease: &Lease) -> Outcome {
    Outcome {
        lease: LeaseRef { id: lease.spec.id.clone(), fence: lease.fence },
        resolution: Resolution::Completed,
        error: None,
        outputs: Vec::new(),
        delay: Duration::ZERO,
    }
}

/// An idle worker that says what it got and when, settles it, and waits again.
async fn work(
    coordinator: Arc<dyn Coordinator>,
    clock: SharedClock,
    got: mpsc::Sender<(u64, Duration)>,
) {
    let (mut settled, mut number) = (0, 0);
    while settled < size() {
        number += 1;
        for lease in coordinator.claim(waiting(number)).await.unwrap().leases {
            let at = clock.elapsed();
            let outcomes = vec![done(&lease)];
            let request = SettleRequest { outcomes, ..SettleRequest::default() };
            coordinator.settle(request).await.unwrap();
            settled += 1;
            let batch = lease.spec.id.as_str()[1..].parse().unwrap();
            got.send((batch, at)).await.unwrap();
        }
    }
}

/// Single registrations against an idle worker behind gRPC.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn soak_pickup_of_single_registrations() {
    let truth = embedded().await;
    let server = serve(Arc::clone(&truth)).await;
    let clock = SystemClock::shared();
    let (send, mut got) = mpsc::channel(1);
    let worker = Arc::new(rpc(&server.uri(), patient()));
    let working = tokio::spawn(work(worker, clock.clone(), send));
    let producer = rpc(&server.uri(), patient());
    let mut took = Vec::new();
    for number in 0..size() {
        let start = clock.elapsed();
        producer.register(vec![spec(&format!("b{number}"))]).await.unwrap();
        let (batch, at) = tokio::time::timeout(PATIENCE, got.recv()).await.unwrap().unwrap();
        assert_eq!(batch, number, "each is taken as it comes");
        took.push(at - start);
    }
    working.await.unwrap();
    let Answer::Stats(queues) = truth.query(Query::Stats(None)).await.unwrap() else {
        panic!("counts were asked for")
    };
    assert_eq!(queues[0].counts[&State::Completed], size());
    took.sort_unstable();
    let (p50, p99) = (took[took.len() / 2], took[took.len() * 99 / 100]);
    eprintln!(
        "{} single registrations, from the call to the lease in the worker's hands: p50 {p50:?}, \
         p99 {p99:?}, longest {:?}; target of p99 {P99:?}: {}",
        size(),
        took[took.len() - 1],
        if p99 <= P99 { "met" } else { "missed" }
    );
    // Woken, not polled: the median knows nothing of the interval.
    assert!(p50 < WAIT / 2, "{p50:?}");
}
