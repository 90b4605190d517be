//! A coordinator's state that moves from a data directory to three nodes and back.

use std::time::Duration;

use sheaf_coordinator::{
    Batch, BatchSpec, ClaimRequest, Coordinator as _, CoordinatorExt as _, Failure, Fence, Lease,
    LeaseRef, ListFilter, Outcome, Resolution, SettleRequest, Verdict,
};
use sheaf_flight::{ChannelPool, ClientConfig};
use sheaf_proto::BatchId;
use sheaf_retry::{Code, Retryable as _, SystemClock, Timestamp};
use sheaf_rpc::{RpcCoordinator, RpcOptions};
use sheaf_testkit::TempDir;

use super::cluster::Cluster;
use crate::harness::{PATIENCE, sheaf};
use crate::parts::{Part, data};

/// More than go into one part.
const BATCHES: u64 = 3_000;
const HOUR: Duration = Duration::from_secs(3_600);

/// A server with its coordinator in this directory, and a client of it.
fn inside(folder: &str) -> (Part, RpcCoordinator) {
    let words = ["--mode", "coordinator", "--data-dir", folder, "--flight-addr", "127.0.0.1:0"];
    let mut part = Part::start(&words);
    let ready = part.process.wait_ready(PATIENCE).unwrap();
    let pool = ChannelPool::new(ClientConfig::default(), SystemClock::shared());
    let target = ready.url("coordinator").unwrap().parse().unwrap();
    let client = RpcCoordinator::new(pool, target, RpcOptions::default(), SystemClock::shared());
    (part, client)
}

/// A batch of which the payload is elsewhere.
fn spec(name: &str) -> BatchSpec {
    let id = BatchId::try_new(name).unwrap();
    let locations = vec!["grpc://127.0.0.1:1".to_owned()];
    BatchSpec { rows: 1, bytes: 8, locations, ..BatchSpec::new(id) }
}

async fn claim(client: &RpcCoordinator, key: &str, count: u32) -> Vec<Lease> {
    let claim = ClaimRequest::new("worker", key, count, HOUR);
    client.claim(ClaimRequest { start: true, ..claim }).await.unwrap().leases
}

async fn settle(client: &RpcCoordinator, leases: &[Lease], resolution: Resolution) {
    // For good, so that no time brings it back.
    let error = (resolution == Resolution::Failed).then(|| Failure {
        code: Code::ProcessorFailed,
        message: "no such carrier".to_owned(),
        permanent: true,
        at: Timestamp::EPOCH,
    });
    let outcome = |lease: &Lease| Outcome {
        lease: LeaseRef { id: lease.spec.id.clone(), fence: lease.fence },
        resolution,
        error: error.clone(),
        outputs: Vec::new(),
        delay: Duration::ZERO,
    };
    let outcomes = leases.iter().map(outcome).collect();
    let settled = client.settle(SettleRequest { outcomes, ..SettleRequest::default() }).await;
    for outcome in settled.unwrap().outcomes {
        assert_eq!(outcome.verdict, Verdict::Applied, "{outcome:?}");
    }
}

/// All batches, without what a move may change: when a lease ends.
async fn state(client: &RpcCoordinator) -> Vec<Batch> {
    let filter = ListFilter { limit: 10_000, ..ListFilter::default() };
    let mut all = client.list(filter).await.unwrap().batches;
    for holder in all.iter_mut().filter_map(|batch| batch.lease.as_mut()) {
        holder.deadline = Timestamp::EPOCH;
    }
    all
}

fn highest(batches: &[Batch]) -> Fence {
    batches.iter().map(|batch| batch.last_fence).max().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_moves_from_a_directory_to_a_cluster_and_back() {
    let home = TempDir::new().unwrap();
    let (first, last) = (data(home.path(), "first"), data(home.path(), "last"));
    let (mut server, client) = inside(&first);
    let specs: Vec<_> = (0..BATCHES).map(|number| spec(&format!("b-{number:06}"))).collect();
    for part in specs.chunks(500) {
        client.register(part.to_vec()).await.unwrap();
    }
    let leases = claim(&client, "first", 30).await;
    settle(&client, &leases[..10], Resolution::Completed).await;
    settle(&client, &leases[10..15], Resolution::Failed).await;
    let before = state(&client).await;
    assert_eq!(before.len() as u64, BATCHES);
    server.stop();

    // A node that is away when it is asked first.
    let mut cluster = Cluster::start(3, &[]).await;
    let away = (cluster.leader().await + 1) % 3;
    cluster.kill(away);
    let mut nodes = cluster.uris();
    nodes.swap(0, away);
    let nodes = nodes.join(",");
    let up = ["coordinator", "migrate", "--from", &first, "--to", &nodes, "--json"];
    let told = sheaf(&up).json().remove(0);
    assert_eq!((&told["batches"], &told["leases"]), (&BATCHES.into(), &15.into()), "{told}");
    let there = sheaf(&["serve", "--data-dir", &first]).failed(5);
    assert!(there.contains("was moved to the Raft cluster sheaf"), "{there}");
    let again = sheaf(&up).json().remove(0);
    assert_eq!(again["done_before"], true, "{again}");

    // What was taken there is settled here, and tokens go on above all before.
    let client = cluster.client();
    assert_eq!(state(&client).await, before);
    settle(&client, &leases[15..20], Resolution::Completed).await;
    let taken = claim(&client, "second", 10).await;
    assert!(taken.iter().all(|lease| lease.fence > highest(&before)), "{taken:?}");
    cluster.start_again(away);
    cluster.agree().await;
    let before = state(&client).await;

    let down = ["coordinator", "migrate", "--from", &nodes, "--to", &last, "--json"];
    let told = sheaf(&[&down[..], &["--drain-timeout", "0s"]].concat()).json().remove(0);
    assert_eq!((&told["batches"], &told["leases"]), (&BATCHES.into(), &20.into()), "{told}");
    let refused = client.list(ListFilter::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(format!("{refused:?}").contains("was moved to the file"), "{refused:?}");
    let (_server, client) = inside(&last);
    assert_eq!(state(&client).await, before);
    settle(&client, &taken, Resolution::Completed).await;
    let taken = claim(&client, "third", 10).await;
    assert!(taken.iter().all(|lease| lease.fence > highest(&before)), "{taken:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_is_moved_only_into_an_empty_cluster_of_nodes() {
    let home = TempDir::new().unwrap();
    let folder = data(home.path(), "data");
    let (mut server, client) = inside(&folder);
    client.register(vec![spec("here")]).await.unwrap();
    server.stop();
    let cluster = Cluster::start(1, &[]).await;
    cluster.client().register(vec![spec("there")]).await.unwrap();
    let at = cluster.uri(0);
    let refused = sheaf(&["coordinator", "migrate", "--from", &folder, "--to", &at]).failed(5);
    assert!(refused.contains("the Raft cluster sheaf"), "{refused}");
    let (_server, _) = inside(&folder);
    let (_other, client) = inside(&data(home.path(), "other"));
    let no_node = client.target().to_string();
    let refused = sheaf(&["coordinator", "migrate", "--from", &no_node, "--to", &at]).failed(10);
    assert!(refused.contains("is no node of a Raft cluster"), "{refused}");
}
