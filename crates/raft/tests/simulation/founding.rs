//! How a cluster begins, and what a node without a disk may not do.

use std::sync::Arc;
use std::time::Duration;

use openraft::AsyncRuntime as _;
use openraft_rt_sim::SimRuntime;
use prost::Message as _;
use sheaf_proto::raft::v1 as proto;
use sheaf_raft::network::{Message, Topic};
use sheaf_raft::node::ChangeError;
use sheaf_raft::replica::Replica as _;
use sheaf_raft::types::NodeId;

use crate::registers::Said;
use crate::scenarios::{founded, tell, write};
use crate::time::{SimClock, pass};
use crate::world::{VOTERS, World, config, member};

/// What a start does: tries to found the cluster.
async fn bootstrap(world: &World, id: NodeId) -> Result<(), ChangeError> {
    let members = VOTERS.into_iter().map(|id| (id, member(id))).collect();
    world.node(id).unwrap().bootstrap(members).await
}

#[test]
fn nodes_that_start_one_after_the_other_found_one_cluster() {
    tell(None, async |world: Arc<World>| {
        world.start(1).await;
        for _ in 0..5 {
            let alone = bootstrap(&world, 1).await.unwrap_err();
            assert!(matches!(alone, ChangeError::Waiting { .. }), "{alone}");
            pass(config(1).election_timeout()).await;
        }
        world.start(2).await;
        let two = bootstrap(&world, 2).await.unwrap_err();
        assert!(matches!(two, ChangeError::Waiting { .. }), "{two}");
        world.start(3).await;
        bootstrap(&world, 2).await.unwrap();
        // Without another that has the first entry nobody is elected.
        pass(config(1).election_timeout() * 8).await;
        assert_eq!(world.leader(), None);
        bootstrap(&world, 1).await.unwrap();
        let leads = || world.leader().is_some_and(|id| world.is_ready(id));
        assert!(world.until(Duration::from_secs(10), leads).await, "nobody leads");
        assert_eq!(write(&world, world.leader().unwrap(), 1).await, Said::Done);

        // The third one wrote nothing: the others know its log all the same.
        bootstrap(&world, 3).await.unwrap();
        let same = || world.is_equal();
        assert!(world.until(Duration::from_secs(20), same).await, "the third one lacks something");
        world.end().await;
    });
}

/// Whether a node says that it is about to found a cluster.
async fn intends(world: &World, id: NodeId) -> bool {
    let service = world.node(id).unwrap().service();
    let told = service.call(9, Topic::Hello, Message::default()).await.unwrap();
    let told = proto::HelloReply::decode(told.head).unwrap();
    assert_eq!(told.last, None, "it has founded");
    told.founding.is_some()
}

/// Both that are left had asked everybody once, and the third one has another log by then.
#[test]
fn a_disk_that_is_emptied_between_the_questions_keeps_nobody_from_founding() {
    tell(None, async |world: Arc<World>| {
        for id in VOTERS {
            world.start(id).await;
        }
        let founding = [1, 2].map(|id| {
            let world = Arc::clone(&world);
            SimRuntime::spawn(async move { bootstrap(&world, id).await })
        });
        // What the third one answers to the second question does not arrive.
        let mut intent = [1, 2].map(|id| (id, false));
        while !intent.iter().all(|(_, intends)| *intends) {
            pass(Duration::from_micros(20)).await;
            for (id, seen) in &mut intent {
                if !*seen && intends(&world, *id).await {
                    *seen = true;
                    world.network.cut(3, *id);
                }
            }
        }
        for founds in founding {
            let waits = founds.await.unwrap().unwrap_err();
            assert!(matches!(waits, ChangeError::Waiting { .. }), "{waits}");
        }
        world.crash(3);
        world.wipe(3);
        world.network.heal();
        world.start(3).await;
        let founding = VOTERS.map(|id| {
            let world = Arc::clone(&world);
            SimRuntime::spawn(async move {
                let clock = SimClock::shared();
                SimRuntime::timeout(Duration::from_secs(60), world.node(id).unwrap().found(clock))
                    .await
            })
        });
        for founds in founding {
            founds.await.unwrap().expect("it waits for ever").unwrap();
        }
        world.settle().await;
        world.end().await;
    });
}

/// The engine tells of its log only when it runs, and is asked as soon as the node is there.
#[test]
fn a_node_that_has_just_been_started_tells_what_is_on_its_disk() {
    tell(None, async |world: Arc<World>| {
        let leader = founded(&world).await;
        let other = VOTERS.into_iter().find(|id| *id != leader).unwrap();
        assert_eq!(write(&world, leader, 7).await, Said::Done);
        assert!(world.until(Duration::from_secs(5), || world.is_equal()).await);
        world.crash(other);
        world.start(other).await;
        let service = world.node(other).unwrap().service();
        let told = service.call(9, Topic::Hello, Message::default()).await.unwrap();
        let told = proto::HelloReply::decode(told.head).unwrap();
        assert!(told.last > Some(0) && told.founding.is_some(), "{told:?}");
        world.end().await;
    });
}

#[test]
fn nodes_go_on_where_another_one_that_was_told_other_members_is_started_again() {
    tell(None, async |world: Arc<World>| {
        let wrong = config(3).node(3, "elsewhere:5001");
        world.start(1).await;
        world.start(2).await;
        world.start_as(3, wrong).await;
        let clock = SimClock::shared();
        let founding = [1, 2].map(|id| {
            let (node, clock) = (world.node(id).unwrap(), Arc::clone(&clock));
            SimRuntime::spawn(async move { node.found(clock).await })
        });
        pass(config(1).election_timeout() * 10).await;
        assert!(VOTERS.into_iter().all(|id| is_empty(&world, id)), "they have founded");
        // Only the one that had others, as its message says.
        world.crash(3);
        world.start(3).await;
        let third = world.node(3).unwrap();
        let founds = SimRuntime::timeout(Duration::from_secs(60), third.found(clock));
        founds.await.expect("it waits").unwrap();
        for founds in founding {
            founds.await.unwrap().unwrap();
        }
        let leads = || world.leader().is_some_and(|id| world.is_ready(id));
        assert!(world.until(config(1).election_timeout() * 12, leads).await, "nobody leads");
        world.end().await;
    });
}

/// A cluster in which one node lost its disk, with what it alone had acknowledged beside the
/// leader: all run but that leader. The leader, who was away, and who lost its disk.
async fn one_disk_lost(world: &World) -> (NodeId, NodeId, NodeId) {
    let leader = founded(world).await;
    let others: Vec<_> = VOTERS.into_iter().filter(|id| *id != leader).collect();
    let (lost, behind) = (others[0], others[1]);
    let same = || world.is_equal();
    assert!(world.until(Duration::from_secs(5), same).await);
    world.crash(behind);
    // More than one append takes, and fewer than a snapshot is of.
    for value in (101..116).chain([7]) {
        assert_eq!(write(world, leader, value).await, Said::Done);
    }
    world.crash(leader);
    world.crash(lost);
    world.wipe(lost);
    for id in [behind, lost] {
        world.start(id).await;
    }
    // It founds nothing either: the other one has entries.
    let founds = bootstrap(world, lost).await;
    assert!(matches!(founds, Ok(()) | Err(ChangeError::Waiting { .. })), "{founds:?}");
    pass(config(1).election_timeout() * 10).await;
    assert_eq!(world.leader(), None, "somebody leads without the command");
    (leader, behind, lost)
}

/// The same, and the leader of before leads again.
async fn led_again(world: &World) -> (NodeId, NodeId, NodeId) {
    let (leader, behind, lost) = one_disk_lost(world).await;
    world.start(leader).await;
    // By the vote of the one that was behind.
    let leads = || world.is_ready(leader);
    assert!(world.until(config(1).election_timeout() * 12, leads).await, "nobody leads");
    (leader, behind, lost)
}

fn value(world: &World, id: NodeId) -> u64 {
    let mut value = 0;
    world.node(id).unwrap().with_machine(&mut |registers| value = registers.value(1));
    value
}

fn is_empty(world: &World, id: NodeId) -> bool {
    world.node(id).unwrap().status().last_log.is_none()
}

#[test]
fn a_node_whose_disk_was_emptied_elects_nobody_and_acknowledges_nothing_under_any_leader() {
    tell(None, async |world: Arc<World>| {
        let (leader, behind, lost) = led_again(&world).await;
        let has = || value(&world, behind) == 7;
        assert!(world.until(Duration::from_secs(5), has).await);
        let named = || {
            let status = world.node(leader).unwrap().status();
            let known = status.members.into_iter().find(|member| member.id == lost).unwrap();
            let says = known.problem.is_some_and(|problem| problem.contains("its log was lost"));
            says && known.matched.is_none() && known.lag.is_none()
        };
        assert!(world.until(Duration::from_secs(5), named).await, "the status does not say so");
        // The lead goes to and fro: no leader takes it back.
        for (to, next) in [(behind, 8), (leader, 9), (behind, 10)] {
            let from = world.leader().unwrap();
            world.node(from).unwrap().transfer_leader(to).await.unwrap();
            assert!(world.until(Duration::from_secs(5), || world.is_ready(to)).await);
            assert_eq!(write(&world, to, next).await, Said::Done);
            pass(config(1).election_timeout() * 4).await;
            assert!(is_empty(&world, lost), "node {to} took it back");
        }
        // With it alone nobody leads, and so nothing of what was acknowledged is missed.
        world.crash(behind);
        pass(config(1).election_timeout() * 10).await;
        let waits = world.node(leader).unwrap();
        let late = SimRuntime::timeout(Duration::from_secs(3), waits.read_barrier()).await;
        assert!(!matches!(late, Ok(Ok(()))), "it counted as an answer");
        // Nor when all are started again.
        for id in [leader, lost] {
            world.crash(id);
        }
        world.restart(VOTERS).await;
        let leads = || world.leader().is_some_and(|id| world.is_ready(id));
        assert!(world.until(config(1).election_timeout() * 12, leads).await);
        assert!(is_empty(&world, lost));
        world.end().await;
    });
}

#[test]
fn a_leader_that_dies_while_an_emptied_node_catches_up_takes_nothing_with_it() {
    tell(None, async |world: Arc<World>| {
        let (leader, _, lost) = one_disk_lost(&world).await;
        // Slow, so that the other two have a part when the leader dies.
        world.network.weather(Duration::from_millis(400), 0.0, 0.0);
        world.start(leader).await;
        let caught = || !is_empty(&world, lost);
        world.until(config(1).election_timeout() * 12, caught).await;
        world.crash(leader);
        world.network.heal();
        let leads = || world.leader().is_some_and(|id| world.is_ready(id));
        if world.until(config(1).election_timeout() * 10, leads).await {
            assert_eq!(value(&world, world.leader().unwrap()), 7, "what was acknowledged is lost");
        }
        world.start(leader).await;
        assert!(world.until(config(1).election_timeout() * 12, leads).await);
        assert_eq!(value(&world, world.leader().unwrap()), 7);
        world.end().await;
    });
}

#[test]
fn a_node_whose_disk_was_emptied_is_replaced_under_another_number() {
    tell(None, async |world: Arc<World>| {
        let (leader, _, lost) = led_again(&world).await;
        let node = world.node(leader).unwrap();
        node.remove(lost).await.unwrap();
        let again = node.add_learner(lost, member(lost)).await.unwrap_err().to_string();
        assert!(again.contains("an id is never given twice"), "{again}");
        world.crash(lost);
        world.start(9).await;
        node.add_learner(9, member(9)).await.unwrap();
        assert!(world.until(Duration::from_secs(20), || world.is_equal()).await);
        // A learner that lost its log gets no vote, and that is what is said of it.
        world.crash(9);
        world.wipe(9);
        world.start(9).await;
        let known = || {
            let members = node.status().members;
            members.iter().any(|member| member.id == 9 && member.problem.is_some())
        };
        assert!(world.until(Duration::from_secs(5), known).await, "the status does not say so");
        let refused = node.promote(9).await.unwrap_err().to_string();
        assert!(refused.contains("its log was lost"), "{refused}");
        assert!(matches!(node.promote(9).await, Err(ChangeError::Refused { .. })));
        node.remove(9).await.unwrap();
        world.crash(9);
        world.start(10).await;
        node.add_learner(10, member(10)).await.unwrap();
        assert!(world.until(Duration::from_secs(20), || world.is_equal()).await);
        node.promote(10).await.unwrap();
        world.crash(leader);
        let leads = || world.leader().is_some_and(|id| world.is_ready(id));
        assert!(world.until(config(1).election_timeout() * 12, leads).await, "nobody leads");
        assert_eq!(value(&world, world.leader().unwrap()), 7);
        world.end().await;
    });
}
