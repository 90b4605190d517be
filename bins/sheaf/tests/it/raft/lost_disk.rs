//! A disk that was emptied: what is on it then is no log of the cluster, whoever leads.

use sheaf_coordinator::{Coordinator as _, CoordinatorExt as _};
use sheaf_testkit::{wait_for_async, wait_until};

use super::cluster::{Cluster, ELECTION, free_addresses};
use super::damage::replace;
use super::specs;
use crate::harness::{PATIENCE, sheaf};

const BATCHES: usize = 2_000;

async fn pending(cluster: &Cluster) -> u64 {
    let stats = cluster.client().stats(None).await.unwrap();
    stats.iter().flat_map(|queue| queue.counts.values()).sum()
}

/// What a node says of its cluster has no members before a leader has told it of them.
async fn knows_nobody(cluster: &Cluster, index: usize) -> bool {
    let status = wait_for_async(PATIENCE, "an answer", || cluster.status(index, false)).await;
    status.unwrap()["members"].as_array().unwrap().is_empty()
}

/// One follower is away while batches are acknowledged; the other one, which has them, loses its
/// disk. The leader alone has them then, and is killed as soon as it could have filled the empty
/// disk: nothing that it acknowledged is missing, and the empty node is never a voter again.
#[tokio::test(flavor = "multi_thread")]
async fn raft_a_node_that_lost_its_disk_is_taken_back_by_no_leader() {
    let mut cluster = Cluster::plan(3, free_addresses(4), &[]);
    cluster.launch_founders();
    let leader = cluster.leader().await;
    let (behind, lost) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.agree().await;
    cluster.kill(behind);
    cluster.client_of(&[cluster.uri(leader)]).register(specs(0, BATCHES)).await.unwrap();
    cluster.kill_all(|cluster| std::fs::remove_dir_all(cluster.data(lost)).unwrap());
    assert_eq!(cluster.leader().await, leader, "only it has all, with the vote of the other");
    let says = || cluster.nodes[leader].process.stderr().contains("its log was lost");
    wait_until(PATIENCE, "the leader to say so", says).unwrap();
    assert!(cluster.nodes[lost].process.stderr().contains("its log was lost"));
    let table = sheaf(&["raft", "status", "--server", &cluster.uri(leader)]).ok();
    assert!(table.contains("its log was lost"), "{table}");
    assert_eq!(pending(&cluster).await, BATCHES as u64);

    // The lead changes, which used to make it a voter again.
    let to = (behind + 1).to_string();
    sheaf(&["raft", "transfer-leader", &to, "--server", &cluster.uri(leader)]).ok();
    assert_eq!(cluster.leader().await, behind);
    // sleep: a leader would have filled it within this time.
    sheaf_retry::SystemClock::shared().sleep(4 * ELECTION).await;
    assert!(knows_nobody(&cluster, lost).await);
    cluster.assert_calm(behind).await;

    // With the empty one alone there is no majority. Whoever leads by now goes: it would say that
    // it leads until it hears of another leader.
    let gone = cluster.leader_among(&[leader, behind]).await;
    let stays = leader + behind - gone;
    cluster.kill(gone);
    // sleep: within this time another one is elected, where there is a majority.
    sheaf_retry::SystemClock::shared().sleep(6 * ELECTION).await;
    let left = cluster.leads(&[stays, lost]).await;
    assert!(left.is_none(), "{left:?} leads with the vote of an empty node");
    cluster.start_again(gone);
    cluster.leader().await;
    assert_eq!(pending(&cluster).await, BATCHES as u64);
    assert!(knows_nobody(&cluster, lost).await);

    cluster.leave_out(lost);
    replace(&mut cluster, lost).await;
    cluster.agree().await;
    assert_eq!(pending(&cluster).await, BATCHES as u64);
}
