//! Disks that are full: the node says so, the others go on, and it comes back.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use sheaf_testkit::{wait_for_async, wait_until};

use super::cluster::{Cluster, free_addresses};
use super::load::Load;
use crate::bad_disk::Mount;
use crate::harness::{PATIENCE, get};

/// Everything in the way of the file system, up to the last block.
fn fill(path: &Path) {
    let mut file = fs::File::create(path).unwrap();
    while file.write_all(&[1; 4096]).is_ok() {}
}

/// On the disk of a follower and on that of the leader no room is left.
#[tokio::test(flavor = "multi_thread")]
async fn raft_node_whose_disk_is_full_says_so_and_comes_back_with_all() {
    let mut cluster = Cluster::plan(3, free_addresses(3), &[]);
    let disks: Vec<Option<Mount>> =
        (0..3).map(|index| Mount::new(&cluster.data(index), "size=48m")).collect();
    if disks.iter().any(Option::is_none) {
        return;
    }
    cluster.launch_founders();
    cluster.leader().await;
    let load = Load::start(2, || cluster.client());
    for is_leader in [false, true] {
        let leader = cluster.leader().await;
        let term = cluster.term(leader).await;
        let full = if is_leader { leader } else { (leader + 1) % 3 };
        let filler = cluster.data(full).join("filler");
        fill(&filler);
        let stopped = wait_for_async(PATIENCE, "the node to say that it stopped", || async {
            let status = cluster.status(full, false).await?;
            (status["role"] == "stopped").then_some(status)
        });
        let stopped = stopped.await;
        let stopped = stopped.unwrap_or_else(|error| panic!("{error}: {}", cluster.last_words()));
        let why = stopped["stopped"].as_str().unwrap();
        assert!(why.contains("the disk is full") && why.contains("log"), "{why}");
        let admin = cluster.nodes[full].at.as_ref().unwrap();
        let (code, page) = get(admin, "/readyz");
        assert!(code == 503 && page.contains("the disk is full"), "{code}: {page}");
        let rest: Vec<usize> = cluster.asked().into_iter().filter(|one| *one != full).collect();
        let new = cluster.leader_among(&rest).await;
        assert_eq!(new == leader, !is_leader, "a leader that has stopped is replaced");
        let before = load.completed();
        wait_until(PATIENCE, "the others to go on", || load.completed() > before).unwrap();
        cluster.assert_calm(new).await;
        let log = cluster.nodes[full].process.stderr();
        assert!(!log.contains("panicked"), "{log}");

        fs::remove_file(&filler).unwrap();
        let now = cluster.term(new).await;
        assert!(is_leader || now == term, "a follower that stops costs no election");
        cluster.kill(full);
        cluster.start_again(full);
        let role = wait_for_async(PATIENCE, "the node to follow", || async {
            let status = cluster.status(full, false).await?;
            (status["role"] == "follower" && status["applied"].as_u64() > Some(0)).then_some(())
        });
        role.await.unwrap();
        assert_eq!(cluster.term(new).await, now, "it comes back without an election");
    }
    let (batches, available) = load.settle(&cluster.client()).await;
    let digest = cluster.agree().await;
    eprintln!("{batches} batches, {:.1}% available, {digest}", available * 100.0);
    drop(cluster);
    drop(disks);
}
