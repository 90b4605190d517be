//! A node that was away is sent the whole state over a link that is slow.

use std::fs;
use std::time::Duration;

use futures::StreamExt as _;
use sheaf_coordinator::{BatchSpec, Coordinator as _};
use sheaf_proto::BatchId;
use sheaf_testkit::netns::{Cuts, Line, Network};
use sheaf_testkit::wait_for_async;

use super::scene::{BUSY, Scene};
use crate::hostile::gauge::{Gauge, resident};
use crate::remote::{patience_for_all, sized};

/// Of a batch, so that a state becomes large in little time.
const LOCATIONS: u64 = 20;
const LOCATION_BYTES: u64 = 1_000;
/// Batches of a call: it is to be answered soon on a machine that is busy, too.
const GROUP: usize = 2;
/// Calls at once.
const CALLS: usize = 4;
const MIB: u64 = 1 << 20;
/// What a node has in memory of its log, which comes and goes.
const OF_LOG: u64 = 64 * MIB;

/// What is on its way between nodes is packed: of these letters little is gained by that.
const LETTERS: &[u8; 64] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyzAB";

/// Letters of no order, the same for the same number.
fn noise(number: u64) -> String {
    let mut state = number;
    let letter = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        char::from(LETTERS[usize::try_from(state >> 58).unwrap()])
    };
    (0..LOCATION_BYTES).map(letter).collect()
}

fn large(number: u64) -> BatchSpec {
    let location = |at: u64| format!("grpc://{}:1", noise(number * LOCATIONS + at + 1));
    BatchSpec {
        rows: 1,
        bytes: 8,
        locations: (0..LOCATIONS).map(location).collect(),
        queue: "large".to_owned(),
        ..BatchSpec::new(BatchId::try_new(&format!("large:{number}")).unwrap())
    }
}

/// Makes the state as large as this.
async fn grow(scene: &Scene, bytes: u64) {
    let client = scene.cluster.client();
    let batches = bytes / (LOCATIONS * LOCATION_BYTES);
    let calls = (0..batches).step_by(GROUP);
    let calls = calls.map(|first| client.register((first..).take(GROUP).map(large).collect()));
    let calls = futures::stream::iter(calls).buffer_unordered(CALLS);
    calls.for_each(|registered| async { drop(registered.unwrap()) }).await;
}

/// Bytes of the newest snapshot of a node.
fn snapshot_bytes(scene: &Scene, index: usize) -> u64 {
    let folder = scene.cluster.data(index).join("raft").join("snapshots");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.extension().is_some_and(|end| end == "arrow"));
    files.max().map_or(0, |path| fs::metadata(path).map_or(0, |found| found.len()))
}

/// Waits until the leader's log has not all any more that a node lacks.
async fn outgrow(scene: &Scene, leader: usize, away: usize) {
    let behind = scene.cluster.status(away, false).await.unwrap()["last_log"].as_u64().unwrap();
    let purged = async || {
        let status = scene.cluster.status(leader, false).await?;
        (status["purged"].as_u64()? > behind).then_some(())
    };
    let purged = wait_for_async(patience_for_all(), "the log to be cut", purged).await;
    purged.unwrap_or_else(|error| panic!("{error}: {}", scene.cluster.last_words()));
}

/// Its heartbeats wait behind the snapshot, which is on its way for longer than an election timeout:
/// it does not miss its leader, the others go on, and no node has the snapshot in memory.
#[tokio::test(flavor = "multi_thread")]
async fn soak_raft_snapshot_over_a_slow_link_costs_no_election_and_little_memory() {
    let Some(network) = Network::start_with_lines(3).unwrap() else { return };
    let distance = sized(300, 1_000).to_string();
    let scene = Scene::start_on(network, BUSY, &["--snapshot-distance", &distance]).await;
    let (size, rate) = (sized(6, 200) * MIB, sized(1, 20) * MIB);
    let (leader, term) = scene.leader().await;
    let (away, other) = (scene.others(leader)[0], scene.others(leader)[1]);
    let cuts = Cuts::isolate(away, 3);
    let led = scene.cut("a follower is away", &cuts, &[leader, other]).await;
    assert_eq!(led, (leader, term), "the majority has its leader");
    let began = scene.clock.elapsed();
    grow(&scene, size).await;
    let grown = scene.clock.elapsed() - began;
    outgrow(&scene, leader, away).await;
    eprintln!("grown in {grown:?}, the log cut after {:?}", scene.clock.elapsed() - began);

    let bytes = snapshot_bytes(&scene, leader);
    assert!(bytes >= size, "{bytes} bytes of snapshot");
    scene.network.set_line(away, Line { bytes_per_second: Some(rate), ..Line::default() });
    let [of_leader, of_away] = [leader, away].map(|index| scene.cluster.nodes[index].process.pid());
    let before = [resident(of_leader), resident(of_away)];
    let gauges = [Gauge::start(of_leader), Gauge::start(of_away)];
    let wanted = scene.cluster.status(leader, false).await.unwrap()["applied"].as_u64().unwrap();
    let (began, done) = (scene.clock.elapsed(), scene.load.completed());
    scene.whole("the follower is back").await;
    let caught_up = async || {
        assert_eq!(scene.cluster.leads(&[leader, other]).await, Some((leader, term)));
        let status = scene.cluster.status(away, false).await?;
        assert_eq!(status["term"], term, "no election on either side");
        (status["applied"].as_u64()? >= wanted).then_some(())
    };
    let caught_up = wait_for_async(patience_for_all(), "it to catch up", caught_up).await;
    caught_up.unwrap_or_else(|error| panic!("{error}: {}", scene.cluster.last_words()));
    let (took, done) = (scene.clock.elapsed() - began, scene.load.completed() - done);
    let (most, now) = ([gauges[0].most(), gauges[1].most()], resident(of_away));
    eprintln!(
        "{} MiB in {took:?}, {done} completed meanwhile; MiB of the leader {} to {}, of the \
         follower {} to {}, now {}",
        bytes / MIB,
        before[0] / MIB,
        most[0] / MIB,
        before[1] / MIB,
        most[1] / MIB,
        now / MIB,
    );
    // Of 64 letters packing leaves six eighths at least.
    let least = Duration::from_millis(bytes * 1_000 / rate * 3 / 4);
    assert!(took >= least, "{took:?} for {bytes} bytes: the link was not slow");
    assert!(done > 0, "the others went on");
    // The follower has the state in memory in the end, and nothing beside it before.
    let limit = OF_LOG + bytes / 2;
    assert!(most[0] < before[0] + limit, "the leader has the snapshot in memory");
    assert!(most[1] < now + limit, "the follower has the snapshot in memory");
    scene.network.set_line(away, Line::default());
    scene.follow("it has caught up", (leader, term)).await;
    scene.end().await;
}
