//! Five nodes in a network that breaks: any three that reach each other go on, and no two do.

use std::time::Duration;

use sheaf_coordinator::{
    Batch, Coordinator as _, CoordinatorExt as _, Fence, LeaseRef, SettleRequest, State, Verdict,
};
use sheaf_proto::BatchId;
use sheaf_rpc::RpcCoordinator;
use sheaf_testkit::netns::Cuts;
use tokio::task::JoinHandle;

use super::crashes::{claim, completed, register};
use super::scene::{Scene, TERMS};
use crate::remote::sized;

/// Longer than a test.
const LEASE: Duration = Duration::from_secs(3_600);

/// A batch that was given out while all was well.
struct Held {
    id: BatchId,
    fence: Fence,
}

impl Held {
    async fn take(client: &RpcCoordinator, round: u64) -> Self {
        let id = register(client, &format!("held:{round}")).await;
        let fence = claim(client, &id, "holder", LEASE).await.leases.remove(0).fence;
        Held { id, fence }
    }
}

/// What a minority is asked: to take a batch, to complete one, and how that one is.
struct Asked {
    registered: JoinHandle<BatchId>,
    settled: JoinHandle<Verdict>,
    read: JoinHandle<Batch>,
}

impl Asked {
    fn begin(client: impl Fn() -> RpcCoordinator, held: &Held, round: u64) -> Self {
        let [one, two, three] = [client(), client(), client()];
        let (id, lease) = (held.id.clone(), LeaseRef { id: held.id.clone(), fence: held.fence });
        let late = format!("late:{round}");
        Asked {
            registered: tokio::spawn(async move { register(&one, &late).await }),
            settled: tokio::spawn(async move {
                let request: SettleRequest = completed(lease);
                two.settle(request).await.unwrap().outcomes.remove(0).verdict
            }),
            read: tokio::spawn(async move { three.get(&id).await.unwrap().unwrap() }),
        }
    }

    fn assert_waits(&self) {
        let answered = [
            ("a registration", self.registered.is_finished()),
            ("a completion", self.settled.is_finished()),
            ("a question", self.read.is_finished()),
        ];
        let answered: Vec<&str> =
            answered.into_iter().filter_map(|(what, is)| is.then_some(what)).collect();
        assert!(answered.is_empty(), "a minority answered {answered:?}");
    }

    /// Each has its effect, once, when the minority is none any more.
    async fn assert_answered(self, client: &RpcCoordinator, held: Held) {
        let late = client.get(&self.registered.await.unwrap()).await.unwrap().unwrap();
        assert_eq!(late.state, State::Pending, "{late:?}");
        let verdict = self.settled.await.unwrap();
        let is_done = matches!(verdict, Verdict::Applied | Verdict::AlreadyDone);
        assert!(is_done, "{verdict:?}");
        let read = self.read.await.unwrap();
        assert_eq!(read.last_fence, held.fence, "{read:?}");
        let held = client.get(&held.id).await.unwrap().unwrap();
        assert_eq!((held.state, held.attempts), (State::Completed, 1), "{held:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn soak_raft_five_nodes_go_on_where_three_are_and_two_acknowledge_nothing() {
    let Some(scene) = Scene::start(5).await else { return };
    let client = scene.cluster.client();
    for round in 0..sized(1, 10) {
        let (leader, term) = scene.leader().await;
        let others = scene.others(leader);
        let (rest, away) = others.split_at(2);
        let majority = [leader, rest[0], rest[1]];
        let cuts = Cuts::partition(&[&majority, away]);
        let led = scene.cut("two followers are cut off", &cuts, &majority).await;
        scene.elections(2).await;
        let now = scene.cluster.leads(&scene.cluster.asked()).await;
        assert_eq!((led, now), ((leader, term), Some((leader, term))), "one leader all the time");
        scene.heal("the two are back", led).await;

        let (minority, majority) = ([leader, others[0]], &others[1..]);
        let held = Held::take(&client, round).await;
        let what = "the leader is cut off with another one";
        scene.begin(what, &Cuts::partition(&[&minority, majority]));
        let uris = minority.map(|node| scene.cluster.uri(node));
        let asked = Asked::begin(|| scene.cluster.client_of(&uris), &held, round);
        let led = scene.goes_on(what, majority).await;
        assert!(led.1 > term && led.1 <= term + TERMS, "term {} after {term}", led.1);
        scene.elections(2).await;
        asked.assert_waits();
        scene.heal("the old leader and the other one are back", led).await;
        asked.assert_answered(&client, held).await;
    }
    scene.end().await;
}

/// Whoever does not hear the leader reaches no majority that does not hear it either.
#[tokio::test(flavor = "multi_thread")]
async fn soak_raft_five_nodes_that_do_not_all_reach_each_other_keep_their_leader() {
    let Some(scene) = Scene::start(5).await else { return };
    for _ in 0..sized(1, 10) {
        let (leader, term) = scene.leader().await;
        let middle = scene.others(leader)[1];
        for (what, cuts) in [
            ("the leader is the bridge between two and two", Cuts::bridge(leader, 5)),
            ("the leader is at one end of the bridge", Cuts::bridge(middle, 5)),
            ("each of a ring reaches two others", Cuts::majorities_ring(5)),
        ] {
            let reached: Vec<usize> = (0..5).filter(|node| !cuts.has(*node, leader)).collect();
            let led = scene.cut(what, &cuts, &reached).await;
            scene.elections(2).await;
            let now = scene.cluster.leads(&scene.cluster.asked()).await;
            let all_the_time = ((leader, term), Some((leader, term)));
            assert_eq!((led, now), all_the_time, "{what}: one leader all the time");
            scene.heal(what, led).await;
        }
    }
    scene.end().await;
}
