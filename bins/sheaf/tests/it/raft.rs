//! The coordinator that three processes replicate among themselves.

mod bad_lines;
mod churn;
mod cluster;
mod crashes;
mod damage;
mod everything;
mod five;
mod full;
mod load;
mod lost_disk;
mod migrate;
mod partitions;
mod scene;
mod slow_link;
mod strangers;
mod wrong_clocks;

use std::time::Duration;

use sheaf_coordinator::{
    BatchSpec, ClaimRequest, Coordinator as _, Failure, LeaseRef, Outcome, Resolution,
    SettleRequest,
};
use sheaf_retry::{RetryPolicy, SystemClock};
use sheaf_rpc::RpcCoordinator;
use sheaf_testkit::{wait_for_async, wait_until};

use crate::harness::{PATIENCE, get, sheaf};
use crate::remote::sized;
use cluster::Cluster;
use load::Load;

/// The leader is killed with kill -9 every 10 s for five minutes, shorter in CI.
#[tokio::test(flavor = "multi_thread")]
async fn soak_raft_leaders_killed_again_and_again_lose_nothing() {
    let (kills, pause) = (sized(4, 30), Duration::from_secs(sized(3, 10)));
    let mut cluster = Cluster::start(3, &[]).await;
    let load = Load::start(4, || cluster.client());
    let clock = SystemClock::shared();
    for kill in 0..kills {
        let before = load.completed();
        // sleep: this is the load between two kills.
        clock.sleep(pause).await;
        assert!(load.completed() > before, "nothing got on before kill {kill}");
        let leader = cluster.leader().await;
        cluster.kill(leader);
        // sleep: the others go on without it for a while.
        clock.sleep(pause / 4).await;
        cluster.start_again(leader);
    }
    let (batches, available) = load.settle(&cluster.client()).await;
    let digest = cluster.agree().await;
    eprintln!("{kills} kills, {batches} batches, {:.1}% available, {digest}", available * 100.0);
    assert!(!sheaf_testkit::soak() || available >= 0.9, "{available}");
}

#[tokio::test(flavor = "multi_thread")]
async fn raft_commands_show_and_change_the_cluster_at_any_node() {
    let cluster = Cluster::start(3, &[]).await;
    let leader = cluster.leader().await;
    let (at, other) = (cluster.uri(leader), (leader + 1) % 3);
    let status = sheaf(&["raft", "status", "--digest", "--json", "--server", &at]).json().remove(0);
    assert_eq!(status["members"].as_array().unwrap().len(), 3, "{status}");
    assert_eq!(status["leader"]["node_id"], leader + 1);
    assert_eq!(status["digest"].as_str().unwrap().len(), 16);
    let shown = sheaf(&["raft", "status", "--server", &cluster.uri(other)]).ok();
    assert!(shown.contains("follower") && shown.contains("committed"), "{shown}");
    let to = (other + 1).to_string();
    let done = sheaf(&["raft", "transfer-leader", &to, "--server", &cluster.uri(other)]).ok();
    assert!(done.contains(&format!("node {to} leads")), "{done}");
    assert_eq!(cluster.leader().await, other);
    let done = sheaf(&["raft", "snapshot", "--server", &at]).ok();
    assert!(done.contains("has a snapshot up to entry"), "{done}");
    cluster.agree().await;
    sheaf(&["raft", "remove", "9", "--server", &at]).failed(5);
    sheaf(&["raft", "add-learner", "4", "nowhere", "--server", &at]).failed(2);
}

/// The grace period is for calls of clients: the leader's stream to a follower is none.
#[tokio::test(flavor = "multi_thread")]
async fn raft_a_follower_without_clients_ends_before_its_grace_period() {
    let mut cluster = Cluster::start(3, &["--grace", "10m"]).await;
    let leader = cluster.leader().await;
    let client = cluster.client();
    client.register(specs(0, 10)).await.unwrap();
    let follower = (leader + 1) % 3;
    // Long before the ten minutes are over.
    let status = cluster.nodes[follower].process.terminate(PATIENCE).unwrap();
    assert!(status.success(), "{status}");
    client.register(specs(10, 10)).await.unwrap();
}

fn specs(from: usize, count: usize) -> Vec<BatchSpec> {
    let spec = |n: usize| BatchSpec {
        locations: vec!["grpc://localhost:1".to_owned()],
        ..BatchSpec::new(format!("batch-{n}").parse().unwrap())
    };
    (from..from + count).map(spec).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn raft_a_leader_without_a_majority_is_down_and_can_be_ended() {
    let mut cluster = Cluster::start(3, &["--grace", "1s"]).await;
    let leader = cluster.leader().await;
    for other in (0..3).filter(|other| *other != leader) {
        cluster.kill(other);
    }
    let ready = cluster.nodes[leader].process.wait_ready(PATIENCE).unwrap();
    let client = cluster.client();
    let call = tokio::spawn(async move { client.register(specs(0, 10)).await });
    let down = async || {
        let (status, page) = get(&ready, "/health");
        (status == 503 && page.contains("no majority answered")).then_some(())
    };
    wait_for_async(PATIENCE, "the leader to be down", down).await.unwrap();
    let status = cluster.nodes[leader].process.terminate(PATIENCE).unwrap();
    assert!(status.success(), "{status}");
    call.abort();
}

/// Every node hears of a batch that failed; the leader tells, once.
#[tokio::test(flavor = "multi_thread")]
async fn raft_a_batch_that_failed_is_in_the_log_of_the_leader() {
    let (cluster, all) = (Cluster::start(3, &[]).await, [0, 1, 2]);
    let has = |index: usize, text: &str| {
        let log = cluster.nodes[index].process.stderr();
        log.lines().filter(|line| line.contains(text)).count()
    };
    let hear = || all.iter().all(|index| has(*index, "hears of batches that fail") > 0);
    wait_until(PATIENCE, "all to hear of batches", hear).unwrap();
    let leads = async || {
        let leads = wait_for_async(PATIENCE, "a node to lead", || cluster.leads(&all)).await;
        leads.unwrap_or_else(|error| panic!("{error}: {}", cluster.last_words()))
    };
    for round in 0..10 {
        let before = leads().await;
        let message = format!("the seam of round {round} burst");
        fail_one(&cluster.client(), round, &message).await;
        let tells = || all.iter().any(|index| has(*index, &message) > 0);
        wait_until(PATIENCE, "the leader to tell", tells).unwrap();
        cluster.agree().await;
        // Where the lead changed meanwhile, both may have told.
        if leads().await == before {
            let told = all.map(|index| has(index, &message));
            assert_eq!(told, all.map(|index| usize::from(index == before.0)), "{before:?}");
            return;
        }
    }
    panic!("the lead does not stay: {}", cluster.last_words());
}

/// Has a batch fail for good, with this message.
async fn fail_one(client: &RpcCoordinator, number: usize, message: &str) {
    let retry = RetryPolicy { max_retries: 0, ..RetryPolicy::QUEUE };
    let spec = BatchSpec { retry: Some(retry), ..specs(number, 1).remove(0) };
    client.register(vec![spec]).await.unwrap();
    let lease = Duration::from_secs(60);
    let claim = ClaimRequest::new("w", format!("claim-{number}"), 1, lease);
    let claim = ClaimRequest { start: true, ..claim };
    let lease = client.claim(claim).await.unwrap().leases.remove(0);
    let failure = Failure {
        code: sheaf_retry::Code::Internal,
        message: message.to_owned(),
        permanent: true,
        at: sheaf_retry::Timestamp::EPOCH,
    };
    let failed = Outcome {
        lease: LeaseRef { id: lease.spec.id, fence: lease.fence },
        resolution: Resolution::Failed,
        error: Some(failure),
        outputs: Vec::new(),
        delay: Duration::ZERO,
    };
    let settle = SettleRequest { outcomes: vec![failed], ..SettleRequest::default() };
    client.settle(settle).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn raft_takes_a_register_call_of_ten_thousand_batches() {
    let cluster = Cluster::start(3, &[]).await;
    let large = |n: usize| BatchSpec {
        locations: vec![format!("grpc://{}:1", "x".repeat(200))],
        ..BatchSpec::new(format!("batch-{n}").parse().unwrap())
    };
    let registered = cluster.client().register((0..10_000).map(large).collect()).await.unwrap();
    assert_eq!(registered.len(), 10_000);
    cluster.agree().await;
}
