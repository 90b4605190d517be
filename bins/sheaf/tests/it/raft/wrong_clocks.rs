//! Nodes whose wall clocks are minutes apart: a lease lasts as long as was said, whoever leads.

use std::sync::Arc;
use std::time::Duration;

use sheaf_coordinator::CoordinatorExt as _;
use sheaf_retry::SystemClock;
use sheaf_testkit::wait_for_async;

use super::cluster::{Cluster, free_addresses, plainly};
use super::crashes::{claim, register};
use super::load::Load;
use crate::harness::{PATIENCE, serve_with, sheaf, wall_clock};
use crate::parts::Launch;
use crate::remote::sized;

const LEASE: Duration = Duration::from_secs(2);
/// How much later a lease may end than was said: whoever is asked may be slow.
const LATE: Duration = Duration::from_millis(1_500);

/// As any process is started, with its wall clock wrong by `shift`.
fn shifted(library: &str, shift: &'static str) -> Launch {
    let library = library.to_owned();
    Arc::new(move |words| {
        serve_with(words, |command| {
            let variables = wall_clock(&library, shift);
            variables.iter().fold(command, |command, (name, value)| command.env(name, value))
        })
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn soak_raft_leases_last_as_said_between_leaders_whose_clocks_differ() {
    let Some(library) = sheaf_testkit::faketime() else { return };
    let library = library.to_str().unwrap();
    let mut cluster = Cluster::plan(3, free_addresses(3), &[]);
    cluster.launch(shifted(library, "+600s"));
    cluster.launch(shifted(library, "-600s"));
    cluster.launch(plainly());
    cluster.leader().await;
    let load = Load::start(1, || cluster.client());
    let (client, clock) = (cluster.client(), SystemClock::shared());
    for round in 0..sized(1, 10) {
        // From ahead to behind, from behind to right, from right to ahead.
        for (from, to) in [(0, 1), (1, 2), (2, 0)] {
            lead(&cluster, from).await;
            let id = register(&client, &format!("timed:{round}:{from}")).await;
            let asked = clock.elapsed();
            let worker = format!("worker-{round}-{from}");
            let fence = claim(&client, &id, &worker, LEASE).await.leases.remove(0).fence;
            lead(&cluster, to).await;
            // It began anew with the next leader, which was some time before.
            let led = clock.elapsed();
            let ended = wait_for_async(PATIENCE, "the lease to end", || async {
                let before = clock.elapsed();
                let batch = client.get(&id).await.unwrap().unwrap();
                assert_eq!(batch.last_fence, fence, "nobody else claims it");
                (batch.lost_leases > 0).then(|| (before, clock.elapsed()))
            });
            let (before, after) = ended.await.unwrap();
            // It began after it was asked for, and not after the next leader was there; it ended
            // before it was seen to be over.
            let (most, least) = (after - asked, before.saturating_sub(led));
            let (from, to) = (from + 1, to + 1);
            eprintln!(
                "node {from} to node {to}: {most:?} after the claim, {least:?} after the lead"
            );
            // What a clock is ahead is worked off at a tenth of the pace.
            assert!(most >= LEASE * 9 / 10, "it ended early: {most:?}");
            assert!(least < LEASE + LATE, "it ended late: {least:?}");
        }
    }
    let (batches, _) = load.settle(&client).await;
    eprintln!("{batches} batches, {}", cluster.agree().await);
}

/// Has a node lead.
async fn lead(cluster: &Cluster, index: usize) {
    let to = (index + 1).to_string();
    let moved = wait_for_async(PATIENCE, "the lead to be handed over", || async {
        let leader = cluster.leader().await;
        let at = cluster.uri(leader);
        let done = leader == index
            || sheaf(&["raft", "transfer-leader", &to, "--server", &at]).code() == 0;
        (done && cluster.leader().await == index).then_some(())
    });
    moved.await.unwrap();
}
