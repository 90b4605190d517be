//! All nodes killed at once, and a leader that stands still.

use std::time::Duration;

use sheaf_coordinator::{
    BatchSpec, Claim, ClaimRequest, Coordinator as _, CoordinatorExt as _, LeaseRef, Outcome,
    Resolution, SettleRequest, State, Verdict,
};
use sheaf_proto::BatchId;
use sheaf_retry::SystemClock;
use sheaf_rpc::RpcCoordinator;
use sheaf_testkit::wait_for_async;

use super::cluster::{Cluster, ELECTION};
use super::load::Load;
use crate::harness::PATIENCE;
use crate::remote::sized;

/// A queue that the load does not look at.
const QUEUE: &str = "watched";

/// kill -9 of every node at the same moment, in the middle of their work.
#[tokio::test(flavor = "multi_thread")]
async fn soak_raft_nodes_all_killed_at_once_keep_what_was_acknowledged() {
    let mut cluster = Cluster::start(3, &[]).await;
    let load = Load::start(4, || cluster.client());
    let clock = SystemClock::shared();
    for round in 0..sized(2, 20) {
        let before = load.completed();
        // sleep: this is the load between two kills.
        clock.sleep(Duration::from_secs(sized(2, 5))).await;
        assert!(load.completed() > before, "nothing got on before round {round}");
        cluster.kill_all(|_| {});
        cluster.leader().await;
    }
    let (batches, available) = load.settle(&cluster.client()).await;
    let digest = cluster.agree().await;
    eprintln!("{batches} batches, {:.1}% available, {digest}", available * 100.0);
}

pub(super) async fn register(client: &RpcCoordinator, name: &str) -> BatchId {
    let id = BatchId::try_new(name).unwrap();
    let locations = vec!["grpc://127.0.0.1:1".to_owned()];
    let queue = QUEUE.to_owned();
    let spec = BatchSpec { rows: 1, bytes: 8, locations, queue, ..BatchSpec::new(id.clone()) };
    client.register(vec![spec]).await.unwrap();
    id
}

/// Claims this batch, where nobody has it.
pub(super) async fn claim(
    client: &RpcCoordinator,
    id: &BatchId,
    worker: &str,
    lease: Duration,
) -> Claim {
    let (ids, queues) = (vec![id.clone()], vec![QUEUE.to_owned()]);
    // Of a claim of its own: the same one again would be answered with the same.
    let number = SystemClock::shared().now().as_micros();
    let request = ClaimRequest::new(worker, format!("{worker}:{number}"), 1, lease);
    let request = ClaimRequest { start: true, ids, queues, ..request };
    client.claim(request).await.unwrap()
}

/// The end of the work under a lease.
pub(super) fn completed(lease: LeaseRef) -> SettleRequest {
    let resolution = Resolution::Completed;
    let (error, outputs, delay) = (None, vec![], Duration::ZERO);
    let outcomes = vec![Outcome { lease, resolution, error, outputs, delay }];
    SettleRequest { outcomes, ..SettleRequest::default() }
}

/// The leader stands still past its election timeout; another leads and gives its batch
/// to another worker. What the old one is asked while it still takes itself for the
/// leader is not answered from its old state, and changes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn soak_raft_leader_that_stood_still_answers_nothing_stale() {
    let mut cluster = Cluster::start(3, &[]).await;
    let load = Load::start(4, || cluster.client());
    let client = cluster.client();
    let clock = SystemClock::shared();
    for round in 0..sized(1, 20) {
        let lease = ELECTION * 4;
        let id = register(&client, &format!("watched:{round}")).await;
        let mut first = claim(&client, &id, &format!("first-{round}"), lease).await;
        let stale = first.leases.remove(0).fence;
        let old = cluster.leader().await;
        let others: Vec<usize> = cluster.asked().into_iter().filter(|one| *one != old).collect();
        let old_only = cluster.client_of(&[cluster.uri(old)]);
        let term = cluster.term(old).await;
        // It has a connection, on which the questions wait for it to wake.
        old_only.get_all(vec![id.clone()]).await.unwrap();
        cluster.nodes[old].process.pause().unwrap();
        let new = cluster.leader_among(&others).await;
        assert!(cluster.term(new).await > term, "another one leads");
        let again = wait_for_async(PATIENCE, "the lease to end", || async {
            let (worker, lease) = (format!("second-{round}"), Duration::from_secs(600));
            claim(&client, &id, &worker, lease).await.leases.into_iter().next()
        });
        let fresh = again.await.unwrap().fence;
        assert!(fresh > stale, "{fresh} after {stale}");
        let lease = LeaseRef { id: id.clone(), fence: stale };
        let asked = tokio::spawn({
            let (client, id) = (cluster.client_of(&[cluster.uri(old)]), id.clone());
            async move { client.get_all(vec![id]).await.unwrap().remove(0) }
        });
        let told = tokio::spawn(async move { old_only.settle(completed(lease)).await.unwrap() });
        // sleep: it stands still for as long as it was said to, with questions waiting.
        clock.sleep(Duration::from_secs(sized(3, 5))).await;
        cluster.nodes[old].process.resume().unwrap();
        let seen = asked.await.unwrap();
        assert_eq!(seen.last_fence, fresh, "it answered from its old state: {seen:?}");
        let verdict = told.await.unwrap().outcomes.remove(0).verdict;
        assert!(!matches!(verdict, Verdict::Applied | Verdict::AlreadyDone), "{verdict:?}");
        let lease = LeaseRef { id: id.clone(), fence: fresh };
        let verdict = client.settle(completed(lease)).await.unwrap().outcomes.remove(0).verdict;
        assert_eq!(verdict, Verdict::Applied);
        let batch = client.get_all(vec![id]).await.unwrap().remove(0);
        assert_eq!((batch.state, batch.attempts), (State::Completed, 2), "{batch:?}");
    }
    let (batches, available) = load.settle(&client).await;
    let digest = cluster.agree().await;
    eprintln!("{batches} batches, {:.1}% available, {digest}", available * 100.0);
}
