//! Nodes that come and go while the others work.

use std::time::Duration;

use sheaf_retry::SystemClock;
use sheaf_testkit::wait_until;

use super::cluster::{Cluster, free_addresses, plainly};
use super::load::Load;
use crate::harness::{PATIENCE, sheaf};
use crate::remote::sized;

/// A node joins, gets a vote, and the one that leads is taken out, again and again: in the
/// end none of those that founded the cluster is left.
#[tokio::test(flavor = "multi_thread")]
async fn soak_raft_members_that_come_and_go_lose_nothing() {
    let rounds = usize::try_from(sized(3, 12)).unwrap();
    let mut cluster = Cluster::plan(3, free_addresses(3 + rounds), &[]);
    cluster.launch_founders();
    cluster.leader().await;
    let load = Load::start(2, || cluster.client());
    for round in 0..rounds {
        let leader = cluster.leader().await;
        let at = cluster.uri(leader);
        let new = cluster.launch(plainly());
        let (id, uri) = ((new + 1).to_string(), cluster.uri(new));
        sheaf(&["raft", "add-learner", &id, &uri, "--server", &at]).ok();
        wait_until(PATIENCE, "the learner to be promoted", || {
            sheaf(&["raft", "promote", &id, "--server", &at]).code() == 0
        })
        .unwrap();
        let before = load.completed();
        wait_until(PATIENCE, "the four to go on", || load.completed() > before).unwrap();
        sheaf(&["raft", "remove", &(leader + 1).to_string(), "--server", &at]).ok();
        cluster.leave_out(leader);
        let next = cluster.leader().await;
        let gone = cluster.nodes[leader].process.terminate(PATIENCE).unwrap();
        assert_eq!(gone.code(), Some(0), "{}", cluster.nodes[leader].process.stderr());
        let status = cluster.status(next, false).await.unwrap();
        let members = status["members"].as_array().unwrap();
        let voters = members.iter().filter(|member| member["voter"] == true).count();
        assert_eq!((members.len(), voters), (3, 3), "round {round}: {status}");
        let before = load.completed();
        wait_until(PATIENCE, "the three to go on", || load.completed() > before).unwrap();
        // Its number is not given again.
        let (old, at) = ((leader + 1).to_string(), cluster.uri(next));
        let uri = cluster.uri(leader);
        sheaf(&["raft", "add-learner", &old, &uri, "--server", &at]).failed(5);
    }
    let (batches, available) = load.settle(&cluster.client()).await;
    let digest = cluster.agree().await;
    eprintln!("{batches} batches, {:.1}% available, {digest}", available * 100.0);
}

/// Every node is ended by SIGTERM and started again, the leader too, which hands the lead
/// over first: there is work done nearly all the time.
#[tokio::test(flavor = "multi_thread")]
async fn soak_raft_rolling_restart_hands_the_lead_over() {
    let mut cluster = Cluster::start(3, &[]).await;
    let load = Load::start(4, || cluster.client());
    let clock = SystemClock::shared();
    for round in 0..sized(1, 10) {
        // sleep: this is the load between two restarts.
        clock.sleep(Duration::from_secs(1)).await;
        // The leader last but one, then whoever leads then.
        for index in 0..3 {
            let leader = cluster.leader().await;
            let term = cluster.term(leader).await;
            let ended = cluster.nodes[index].process.terminate(PATIENCE).unwrap();
            let log = cluster.nodes[index].process.stderr();
            assert_eq!(ended.code(), Some(0), "round {round}: {log}");
            if index == leader {
                assert!(log.contains("handed the lead over"), "round {round}: {log}");
            }
            let rest: Vec<usize> = (0..3).filter(|other| *other != index).collect();
            let (next, now) = (cluster.leader_among(&rest).await, index == leader);
            assert_eq!(cluster.term(next).await, term + u64::from(now), "round {round}");
            cluster.start_again(index);
            let before = load.completed();
            wait_until(PATIENCE, "the work to go on", || load.completed() > before).unwrap();
        }
    }
    let (batches, available) = load.settle(&cluster.client()).await;
    let digest = cluster.agree().await;
    eprintln!("{batches} batches, {:.1}% available, {digest}", available * 100.0);
    assert!(available >= 0.6, "{available}");
}
