//! Packets that are lost, late, doubled and out of their order.

use std::time::Duration;

use sheaf_testkit::netns::{Cuts, Line, Network};
use sheaf_testkit::wait_until;

use super::scene::{FAR, Scene, TERMS};
use crate::harness::PATIENCE;
use crate::remote::sized;

const MILLI: Duration = Duration::from_millis(1);

/// With more than this share of lost packets a connection is silent for longer and longer, up
/// to minutes: nothing needs to get on.
const WORKABLE: u8 = 30;

/// Up to half of all packets between the nodes are lost: there may be elections then, and
/// with less some work gets on; when no more are lost there soon is a leader, which stays.
#[tokio::test(flavor = "multi_thread")]
async fn soak_raft_packets_that_are_lost_lose_no_work() {
    let Some(scene) = Scene::start(3).await else { return };
    let shares: &[u8] = if sheaf_testkit::soak() { &[5, 10, 20, 30, 40, 50] } else { &[5, 20, 50] };
    for _ in 0..sized(1, 3) {
        for share in shares {
            let what = format!("{share}% of packets are lost");
            eprintln!("{what}");
            scene.load.fault_begins();
            scene.network.lose(*share).unwrap();
            let before = scene.load.completed();
            // sleep: this is the load under the fault.
            scene.clock.sleep(Duration::from_secs(sized(3, 20))).await;
            if *share <= WORKABLE {
                let goes_on = || scene.load.completed() > before;
                let goes_on = wait_until(PATIENCE, "the work to go on", goes_on);
                goes_on.unwrap_or_else(|error| {
                    panic!("{what}: {error}: {}", scene.cluster.last_words())
                });
            }
            let done = scene.load.completed() - before;
            let (healed, before) = (scene.clock.elapsed(), scene.load.completed());
            let after = scene.whole(&what).await;
            // A connection that was silent for long is so a while longer: the leader of before
            // may be lost only now.
            let goes_on = || scene.load.completed() > before;
            wait_until(PATIENCE, "the work to go on", goes_on)
                .unwrap_or_else(|error| panic!("{what}: {error}: {}", scene.cluster.last_words()));
            let works = scene.clock.elapsed() - healed;
            let led = scene.one_leader(&what).await;
            eprintln!("{done} completed, a leader after {after:?}, work after {works:?}: {led:?}");
            scene.calm(&what).await;
            assert_eq!(scene.one_leader(&what).await, led, "{what}: it stays when none is");
        }
    }
    scene.end().await;
}

/// The way from node to node is up to 120 ms long, and some packets come twice or before
/// others: no follower misses its leader. One that is lost is replaced there too.
#[tokio::test(flavor = "multi_thread")]
async fn soak_raft_nodes_far_from_each_other_keep_their_leader_and_replace_a_lost_one() {
    let Some(network) = Network::start_with_lines(3).unwrap() else { return };
    let scene = Scene::start_on(network, FAR, &[]).await;
    for _ in 0..sized(1, 5) {
        let (leader, term) = scene.leader().await;
        let rest = scene.others(leader);
        scene.load.fault_begins();
        // Between two nodes are two lines.
        for (delay, jitter) in [(10, 2), (25, 10), (50, 10)] {
            let (delay, jitter) = (delay * MILLI, jitter * MILLI);
            let what = format!("each line delays by {delay:?} to {:?}", delay + jitter);
            eprintln!("{what}");
            scene.set_lines(Line { delay, jitter, repeated_percent: 5, ..Line::default() });
            scene.elections(sized(1, 5).try_into().unwrap()).await;
            scene.calm(&what).await;
            let now = scene.one_leader(&what).await;
            assert_eq!(now, (leader, term), "{what}: one leader all the time");
        }
        let led = scene.cut("the leader is cut off", &Cuts::isolate(leader, 3), &rest).await;
        assert!(led.1 > term && led.1 <= term + TERMS, "term {} after {term}", led.1);
        scene.heal("the old leader is back", led).await;
        scene.set_lines(Line::default());
        scene.load.fault_ends();
        scene.calm("the lines are short again").await;
    }
    scene.end().await;
}
