//! Claims whose caller is gone when they are answered.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sheaf_coordinator::{
    Claim, ClaimRequest, Coordinator as _, Lease, SettleRequest, State, Verdict,
};
use sheaf_raft::coordinator::RaftCoordinator;
use tokio::task::JoinHandle;

use super::calls::{alone, claim, completed, spec};
use super::local::LocalReplica;

const PATIENCE: Duration = Duration::from_secs(20);

type Alone = (Arc<LocalReplica>, RaftCoordinator<LocalReplica>);

/// Two batches are there.
async fn two() -> Alone {
    let (replica, coordinator) = alone();
    coordinator.register(vec![spec("a"), spec("b")]).await.unwrap();
    (replica, coordinator)
}

fn waits(name: &str) -> ClaimRequest {
    ClaimRequest { wait: PATIENCE, ..claim(name, 8) }
}

fn claims((_, coordinator): &Alone, request: ClaimRequest) -> JoinHandle<Claim> {
    let coordinator = coordinator.clone();
    tokio::spawn(async move { coordinator.claim(request).await.unwrap() })
}

fn wakes((_, coordinator): &Alone) -> JoinHandle<()> {
    let coordinator = coordinator.clone();
    tokio::spawn(async move { coordinator.wake().await.unwrap() })
}

/// Begins a call, and returns when its command waits.
async fn under_way<T>((replica, _): &Alone, call: impl FnOnce() -> JoinHandle<T>) -> JoinHandle<T> {
    replica.hold(true);
    let call = call();
    sheaf_testkit::wait_until_async(PATIENCE, "a command is under way", || async {
        replica.held.load(Ordering::Relaxed) > 0
    })
    .await
    .unwrap();
    call
}

async fn gives_up<T>(call: JoinHandle<T>) {
    call.abort();
    assert!(call.await.is_err_and(|error| error.is_cancelled()));
}

fn names(leases: &[Lease]) -> Vec<&str> {
    leases.iter().map(|lease| lease.spec.id.as_str()).collect()
}

async fn are_completed((_, coordinator): &Alone, leases: &[Lease]) {
    for lease in leases {
        let reply = coordinator.settle(completed(lease.spec.id.as_str(), lease.fence)).await;
        let outcome = &reply.unwrap().outcomes[0];
        assert_eq!((outcome.verdict, outcome.state), (Verdict::Applied, Some(State::Completed)));
    }
}

#[tokio::test]
async fn what_nobody_heard_of_is_given_to_others_at_once() {
    let alone = two().await;
    let first = under_way(&alone, || claims(&alone, waits("r1"))).await;
    gives_up(first).await;
    alone.0.hold(false);
    let second = ClaimRequest { worker: "other".to_owned(), ..waits("r2") };
    let given = claims(&alone, second).await.unwrap();
    assert_eq!(names(&given.leases), ["a", "b"], "long before the leases of the first one end");
    assert!(given.leases.iter().all(|lease| lease.attempt == 1), "nothing was tried yet");
    are_completed(&alone, &given.leases).await;
}

#[tokio::test]
async fn the_claim_of_a_settle_is_given_back_and_its_results_stand() {
    let alone = two().await;
    let lease = alone.1.claim(claim("r1", 1)).await.unwrap().leases.remove(0);
    let settle = SettleRequest {
        claim: Some(waits("r2")),
        ..completed(lease.spec.id.as_str(), lease.fence)
    };
    let first = under_way(&alone, || {
        let coordinator = alone.1.clone();
        tokio::spawn(async move { coordinator.settle(settle).await.unwrap() })
    })
    .await;
    gives_up(first).await;
    alone.0.hold(false);
    let given = claims(&alone, waits("r3")).await.unwrap();
    assert_eq!(names(&given.leases), ["b"]);
    let again = completed(lease.spec.id.as_str(), lease.fence);
    let reply = alone.1.settle(again).await.unwrap();
    assert_eq!(reply.outcomes[0].verdict, Verdict::AlreadyDone);
}

#[tokio::test]
async fn who_sent_a_claim_again_gets_what_the_first_one_got() {
    for wait in [PATIENCE, Duration::ZERO] {
        let alone = two().await;
        let first = under_way(&alone, || claims(&alone, waits("r1"))).await;
        gives_up(first).await;
        let second = claims(&alone, ClaimRequest { wait, ..waits("r1") });
        // What comes after it is under way: so it is known before the first one is answered.
        let after = under_way(&alone, || wakes(&alone)).await;
        alone.0.hold(false);
        let given = second.await.unwrap();
        assert_eq!(names(&given.leases), ["a", "b"]);
        after.await.unwrap();
        are_completed(&alone, &given.leases).await;
    }
}

#[tokio::test]
async fn what_a_claim_had_before_it_keeps() {
    let alone = two().await;
    let given = alone.1.claim(waits("r1")).await.unwrap();
    let late = under_way(&alone, || claims(&alone, waits("r1"))).await;
    gives_up(late).await;
    alone.0.hold(false);
    wakes(&alone).await.unwrap();
    are_completed(&alone, &given.leases).await;
}
