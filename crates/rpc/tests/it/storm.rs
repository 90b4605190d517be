//! T9: very many retries and lost leases fall due at once, and calls go on.

use std::sync::Arc;
use std::time::Duration;

use sheaf_coordinator::embedded::{Config, Embedded};
use sheaf_coordinator::engine::{PROMOTE_PER_CALL, REAP_PER_CALL};
use sheaf_coordinator::{
    Answer, Claim, ClaimRequest, Coordinator, Failure, LeaseRef, Outcome, Query, Resolution,
    SettleRequest, State,
};
use sheaf_retry::{Code, ManualClock, RetryPolicy, SharedClock, SystemClock, Timestamp};
use sheaf_testkit::wait_until_async;

use crate::harness::{once, rpc, serve, spec};

/// Due retries, and as many dead leases; 50,000 in the long form.
fn size() -> u64 {
    if sheaf_testkit::soak() { 50_000 } else { 3_000 }
}

/// When everything falls due.
const LATER: Duration = Duration::from_secs(600);
const PAGE: u64 = 1_000;

fn take(number: u64) -> ClaimRequest {
    let page = u32::try_from(PAGE).unwrap();
    ClaimRequest { start: true, ..ClaimRequest::new("w", format!("r{number}"), page, LATER) }
}

async fn count(coordinator: &dyn Coordinator, state: State) -> u64 {
    match coordinator.query(Query::Stats(None)).await.unwrap() {
        Answer::Stats(queues) => queues.iter().map(|queue| queue.counts[&state]).sum(),
        other => panic!("{other:?}"),
    }
}

/// Twice `size()` batches: one half waits for its retry, the other is held by
/// workers that will not be heard of again; all of it until `LATER`.
async fn prepare(client: &dyn Coordinator) {
    let retry = RetryPolicy {
        max_retries: 3,
        base_ms: u64::try_from(LATER.as_millis()).unwrap(),
        factor: 1.0,
        cap_ms: u64::try_from(LATER.as_millis()).unwrap(),
        jitter: 0.0,
        deadline_ms: None,
    };
    for page in 0..2 * size() / PAGE {
        let specs = (page * PAGE..(page + 1) * PAGE).map(|number| {
            let mut spec = spec(&format!("b{number}"));
            spec.retry = Some(retry.clone());
            spec
        });
        client.register(specs.collect()).await.unwrap();
        let Claim { leases, .. } = client.claim(take(page)).await.unwrap();
        assert_eq!(leases.len() as u64, PAGE);
        if page % 2 == 0 {
            continue; // never heard of again
        }
        let failure = Failure {
            code: Code::ProcessorFailed,
            message: "broken".to_owned(),
            permanent: false,
            at: Timestamp::EPOCH,
        };
        let outcomes = leases.iter().map(|lease| Outcome {
            lease: LeaseRef { id: lease.spec.id.clone(), fence: lease.fence },
            resolution: Resolution::Failed,
            error: Some(failure.clone()),
            outputs: Vec::new(),
            delay: std::time::Duration::ZERO,
        });
        let request = SettleRequest { outcomes: outcomes.collect(), ..SettleRequest::default() };
        client.settle(request).await.unwrap();
    }
    assert_eq!(count(client, State::Scheduled).await, size());
    assert_eq!(count(client, State::Processing).await, size());
}

/// 50,000 due retries and 50,000 dead leases at once, behind gRPC.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn soak_storm_of_due_retries_and_dead_leases() {
    let clock = ManualClock::new(Timestamp::from_millis(1_760_000_000_000));
    let real: SharedClock = SystemClock::shared();
    let embedded = Arc::new(Embedded::open(Config::memory(), clock.clone()).unwrap());
    let server = serve(embedded.clone()).await;
    let client = rpc(&server.uri(), once());
    prepare(&client).await;

    clock.advance(LATER + Duration::from_secs(1));
    // Other callers are answered meanwhile: a registration, a look, a claim that finds work.
    let (mut took, mut seen, mut number) = (Vec::new(), 0, 0);
    while seen < 2 * size() {
        let start = real.elapsed();
        let name = format!("other{number}");
        let mut other = spec(&name);
        other.queue = "other".to_owned();
        assert!(client.register(vec![other]).await.unwrap()[0].created);
        let mut claim = take(1_000_000 + number);
        claim.queues = vec!["other".to_owned()];
        claim.max = 1;
        let leases = client.claim(claim).await.unwrap().leases;
        assert_eq!(leases[0].spec.id.as_str(), name, "the other queue has its turn");
        took.push((real.elapsed() - start) / 2);
        let pending = count(&client, State::Pending).await;
        assert!(pending >= seen, "nothing goes away again");
        seen = pending;
        number += 1;
    }
    let all = || async { count(&client, State::Pending).await == 2 * size() };
    wait_until_async(Duration::from_secs(60), "all to be back", all).await.unwrap();
    assert_eq!(count(&client, State::Scheduled).await, 0);
    assert_eq!(count(&client, State::Failed).await, 0);
    // One turn of the coordinator does no more than this, and answers calls between two:
    // had the storm been one turn, the first answer would have come after it.
    let turns = (size() / REAP_PER_CALL as u64).max(size() / PROMOTE_PER_CALL as u64);
    assert!(number >= 2, "{number} pairs of calls were answered in a storm of {turns} turns");
    took.sort_unstable();
    eprintln!(
        "{number} pairs of calls during the storm, p50 {:?}, p99 {:?}, longest {:?}",
        took[took.len() / 2],
        took[took.len() * 99 / 100],
        took[took.len() - 1]
    );
}
