//! Nodes in a network that breaks: the cluster goes on where a majority is, loses nothing,
//! and is whole again once the network is.

use sheaf_testkit::netns::Cuts;

use super::scene::{NEAR, Scene, TERMS};
use crate::remote::sized;

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
        scene.elections(3).await;
        let now = scene.cluster.leads(&[leader, middle]).await;
        assert_eq!((led, now), ((leader, term), Some((leader, term))), "one leader all the time");
        scene.heal("the bridge is gone", led).await;

        let other = scene.others(leader)[1];
        scene.load.fault_begins();
        for _ in 0..sized(2, 10) {
            scene.network.set(&Cuts::isolate(other, 3)).unwrap();
            // sleep: the link is down for longer than an election takes, and up for less.
            scene.clock.sleep(2 * NEAR.election).await;
            scene.network.heal().unwrap();
            scene.clock.sleep(NEAR.election / 3).await;
        }
        scene.heal("the link has flapped", (leader, term)).await;
    }
    scene.end().await;
}
