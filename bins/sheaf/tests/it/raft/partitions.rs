//! Nodes in a network that breaks: the cluster goes on where a majority is, loses nothing,
//! and is whole again once the network is.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use sheaf_retry::{SharedClock, SystemClock};
use sheaf_testkit::netns::{Cuts, Network};
use sheaf_testkit::{free_port, wait_for_async, wait_until};

use super::cluster::Cluster;
use super::load::Load;
use crate::harness::{PATIENCE, SHEAF, serve_by};
use crate::remote::sized;

/// Longer than a busy machine holds up a heartbeat.
const ELECTION: Duration = Duration::from_secs(1);
const WORDS: [&str; 5] =
    ["--election-timeout", "1s", "--heartbeat-interval", "100ms", "--insecure"];
/// Elections that one fault may cost: one, and one more for a split vote.
const TERMS: u64 = 4;

/// A cluster whose nodes have a network each, with load on it.
struct Scene {
    network: Arc<Network>,
    cluster: Cluster,
    load: Load,
    clock: SharedClock,
}

impl Scene {
    /// `None` where no networks can be made.
    async fn start(size: usize) -> Option<Self> {
        let network = Arc::new(Network::start(size).unwrap()?);
        // No two tests have the same network: any port of it is free.
        let port = free_port().unwrap().release().port();
        let addresses = (0..size).map(|node| SocketAddr::new(network.addr(node), port)).collect();
        let mut cluster = Cluster::plan(size, addresses, &WORDS);
        for node in 0..size {
            let network = Arc::clone(&network);
            cluster.launch(Arc::new(move |words| {
                serve_by(network.command(node, SHEAF), words).spawn().unwrap()
            }));
        }
        cluster.leader().await;
        let load = Load::start(3, || cluster.client());
        wait_until(PATIENCE, "the load to begin", || load.completed() > 0).unwrap();
        Some(Scene { network, cluster, load, clock: SystemClock::shared() })
    }

    /// Who leads, in which term, once all know.
    async fn leader(&self) -> (usize, u64) {
        let leader = self.cluster.leader().await;
        (leader, self.cluster.term(leader).await)
    }

    fn others(&self, one: usize) -> Vec<usize> {
        (0..self.network.size()).filter(|other| *other != one).collect()
    }

    /// Makes these cuts, and waits until a majority has a leader under which work goes on.
    async fn cut(&self, what: &str, cuts: &Cuts, majority: &[usize]) -> (usize, u64) {
        eprintln!("{what}: {cuts:?}");
        self.network.set(cuts).unwrap();
        let led = async || {
            let leader = self.cluster.leads(majority).await?;
            let before = self.load.completed();
            // sleep: time in which a leader that counts gets something done.
            self.clock.sleep(ELECTION).await;
            (self.load.completed() > before).then_some(leader)
        };
        let led = wait_for_async(PATIENCE, "a majority to go on", led).await;
        led.unwrap_or_else(|error| panic!("{what}: {error}: {}", self.cluster.last_words()))
    }

    /// Ends the cuts: soon there is a leader, and everybody follows it, in the term it had.
    async fn heal(&self, what: &str, (leader, term): (usize, u64)) {
        self.network.heal().unwrap();
        let healed = self.clock.elapsed();
        let all = self.cluster.asked();
        let led = wait_for_async(PATIENCE, "a leader", || self.cluster.leads(&all)).await;
        let after = self.clock.elapsed() - healed;
        assert!(led.is_ok() && after <= 3 * ELECTION, "{what}: a leader after {after:?}");
        let follows = async |index| {
            let status = self.cluster.status(index, false).await?;
            (status["leader"]["node_id"] == leader + 1).then_some(status["term"].as_u64())
        };
        for index in all {
            let what = format!("{what}: node {} to follow node {}", index + 1, leader + 1);
            let seen = wait_for_async(PATIENCE, &what, || follows(index)).await;
            let seen =
                seen.unwrap_or_else(|error| panic!("{error}: {}", self.cluster.last_words()));
            assert_eq!(seen, Some(term), "{what}: it came back without an election");
        }
        eprintln!(
            "{what}: a leader after {after:?}, all follow after {:?}",
            self.clock.elapsed() - healed
        );
    }

    async fn end(self) {
        let (batches, available) = self.load.settle(&self.cluster.client()).await;
        let digest = self.cluster.agree().await;
        eprintln!("{batches} batches, {:.1}% available, {digest}", available * 100.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn soak_raft_nodes_that_are_cut_off_come_back_without_an_election() {
    let Some(scene) = Scene::start(3).await else { return };
    for _ in 0..sized(1, 10) {
        let (leader, term) = scene.leader().await;
        let rest = scene.others(leader);
        let cuts = Cuts::isolate(rest[0], 3);
        let led = scene.cut("a follower is cut off", &cuts, &[leader, rest[1]]).await;
        assert_eq!(led, (leader, term), "the majority has its leader");
        scene.heal("a follower is back", led).await;

        let cuts = Cuts::isolate(leader, 3);
        let led = scene.cut("the leader is cut off", &cuts, &rest).await;
        assert!(led.1 > term && led.1 <= term + TERMS, "term {} after {term}", led.1);
        scene.heal("the old leader is back", led).await;
    }
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn soak_raft_leader_that_is_heard_or_hears_in_one_direction_only_is_replaced() {
    let Some(scene) = Scene::start(3).await else { return };
    for _ in 0..sized(1, 10) {
        for is_mute in [true, false] {
            let (leader, term) = scene.leader().await;
            let rest = scene.others(leader);
            let cuts = rest.iter().fold(Cuts::none(), |cuts, other| {
                let (from, to) = if is_mute { (leader, *other) } else { (*other, leader) };
                cuts.and(Cuts::one_way(from, to))
            });
            let what = if is_mute { "the leader is mute" } else { "the leader is deaf" };
            let led = scene.cut(what, &cuts, &rest).await;
            assert!(led.1 > term && led.1 <= term + TERMS, "term {} after {term}", led.1);
            scene.heal("the old leader is back", led).await;
        }
    }
    scene.end().await;
}

/// The nodes at both ends of a bridge do not hear each other: the one without the leader
/// wants to be elected, and the one in the middle, which hears the leader, does not have it.
#[tokio::test(flavor = "multi_thread")]
async fn soak_raft_bridges_and_links_that_flap_cost_no_election() {
    let Some(scene) = Scene::start(3).await else { return };
    for _ in 0..sized(1, 10) {
        let (leader, term) = scene.leader().await;
        let middle = scene.others(leader)[0];
        let led = scene.cut("a bridge", &Cuts::bridge(middle, 3), &[leader, middle]).await;
        // sleep: so long that whoever hears no leader has asked for votes.
        scene.clock.sleep(3 * ELECTION).await;
        let now = scene.cluster.leads(&[leader, middle]).await;
        assert_eq!((led, now), ((leader, term), Some((leader, term))), "one leader all the time");
        scene.heal("the bridge is gone", led).await;

        let other = scene.others(leader)[1];
        for _ in 0..sized(2, 10) {
            scene.network.set(&Cuts::isolate(other, 3)).unwrap();
            // sleep: the link is down for longer than an election takes, and up for less.
            scene.clock.sleep(2 * ELECTION).await;
            scene.network.heal().unwrap();
            scene.clock.sleep(ELECTION / 3).await;
        }
        scene.heal("the link has flapped", (leader, term)).await;
    }
    scene.end().await;
}
