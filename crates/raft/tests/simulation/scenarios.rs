//! Single stories, told to their end.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use openraft::AsyncRuntime as _;
use openraft_rt_sim::SimRuntime;
use sheaf_raft::node::ChangeError;
use sheaf_raft::replica::Replica as _;
use sheaf_raft::types::NodeId;

use crate::disk::Bug;
use crate::registers::{Ask, Said};
use crate::time::pass;
use crate::world::{VOTERS, World, config, member};

/// Tells a story in a world; nothing that must not happen may happen in it.
pub(crate) fn tell<F, T>(bug: Option<Bug>, story: impl FnOnce(Arc<World>) -> F) -> T
where
    F: Future<Output = T>,
{
    let world = World::new(1, bug);
    let mut runtime = SimRuntime::with_seed(1);
    let told = runtime.block_on(story(Arc::clone(&world)));
    assert_eq!(world.observer.violations(), Vec::<String>::new());
    told
}

/// A founded cluster, and who leads it.
pub(crate) async fn founded(world: &World) -> NodeId {
    world.found().await;
    let ready = || {
        let leader = world.leader().and_then(|id| world.node(id));
        leader.is_some_and(|leader| leader.leadership().borrow().is_ready)
    };
    assert!(world.until(Duration::from_secs(5), ready).await, "nobody leads");
    world.leader().unwrap()
}

pub(crate) async fn write(world: &World, node: NodeId, value: u64) -> Said {
    let command = Ask::Write { key: 1, value }.command(value);
    let node = world.node(node).unwrap();
    Said::read(&node.propose(command).await.unwrap())
}

/// By how much the term grows when a follower that was cut off comes back.
fn increments_of_a_rejoin(bug: Option<Bug>) -> u64 {
    tell(bug, async |world: Arc<World>| {
        let leader = founded(&world).await;
        assert_eq!(write(&world, leader, 1).await, Said::Done);
        let before = world.node(leader).unwrap().status().term;
        let away = VOTERS.into_iter().find(|id| *id != leader).unwrap();
        for other in VOTERS {
            world.network.cut(away, other);
            world.network.cut(other, away);
        }
        pass(config(1).election_timeout() * 10).await;
        world.network.heal();
        pass(config(1).election_timeout() * 4).await;
        world.settle().await;
        let now = world.node(world.leader().unwrap()).unwrap().status().term;
        world.end().await;
        now - before
    })
}

#[test]
fn a_node_that_comes_back_disturbs_nobody() {
    assert_eq!(increments_of_a_rejoin(None), 0);
}

#[test]
fn pre_votes_that_are_always_granted_are_caught() {
    assert!(increments_of_a_rejoin(Some(Bug::GrantPreVote)) > 0);
}

#[test]
fn a_follower_passes_commands_on_and_reads_what_was_written() {
    tell(None, async |world: Arc<World>| {
        let leader = founded(&world).await;
        let follower = VOTERS.into_iter().find(|id| *id != leader).unwrap();
        for value in 1..50 {
            assert_eq!(write(&world, follower, value).await, Said::Done);
            let node = world.node(follower).unwrap();
            node.read_barrier().await.unwrap();
            let mut seen = 0;
            node.with_machine(&mut |registers| seen = registers.value(1));
            assert_eq!(seen, value);
        }
        world.end().await;
    });
}

#[test]
fn a_new_node_is_brought_up_by_a_snapshot_and_may_lead() {
    tell(None, async |world: Arc<World>| {
        let leader = founded(&world).await;
        for value in 1..400 {
            write(&world, leader, value).await;
        }
        world.start(9).await;
        let node = world.node(leader).unwrap();
        node.add_learner(9, member(9)).await.unwrap();
        let same = || world.is_equal();
        assert!(world.until(Duration::from_secs(20), same).await);
        let new = world.node(9).unwrap().status();
        assert!(new.purged.is_some(), "it received all entries, and no snapshot: {new:?}");
        node.promote(9).await.unwrap();
        node.transfer_leader(9).await.unwrap();
        let leads = || world.is_ready(9);
        assert!(world.until(Duration::from_secs(5), leads).await);
        assert_eq!(write(&world, 9, 1_000).await, Said::Done);
        world.end().await;
    });
}

#[test]
fn a_node_that_was_removed_is_not_taken_in_again() {
    tell(None, async |world: Arc<World>| {
        let leader = founded(&world).await;
        world.start(9).await;
        let node = world.node(leader).unwrap();
        node.add_learner(9, member(9)).await.unwrap();
        let again = node.add_learner(9, member(9)).await.unwrap_err().to_string();
        assert_eq!(again, "node 9 is a member already, at node-9:5001");
        node.remove(9).await.unwrap();
        let again = node.add_learner(9, member(9)).await.unwrap_err().to_string();
        assert_eq!(again, "node 9 was removed, and an id is never given twice; choose another");
        world.end().await;
    });
}

#[test]
fn what_waits_without_a_majority_is_limited_and_said_so() {
    tell(None, async |world: Arc<World>| {
        let leader = founded(&world).await;
        for other in VOTERS.into_iter().filter(|id| *id != leader) {
            world.crash(other);
        }
        let node = world.node(leader).unwrap();
        let limit = node.config().max_waiting_bytes;
        let command = bytes::Bytes::from(vec![0; 1 << 20]);
        let mut waiting = Vec::new();
        for _ in 0..limit >> 20 {
            let (node, command) = (node.clone(), command.clone());
            waiting.push(SimRuntime::spawn(async move { node.propose(command).await }));
        }
        pass(Duration::from_millis(1)).await;
        let full = node.propose(command.clone()).await.unwrap_err().to_string();
        let all = limit + (1 << 20);
        assert_eq!(full, format!("{all} bytes of commands wait, the limit is {limit}"));
        let large = bytes::Bytes::from(vec![0; (1 << 20) + 1]);
        let large = node.propose(large).await.unwrap_err().to_string();
        assert_eq!(large, "a command has 1048577 bytes, the limit is 1048576");
        node.shutdown().await;
        for answer in waiting {
            let error = answer.await.unwrap().unwrap_err();
            assert!(error.to_string().starts_with("what became of the command"), "{error}");
        }
    });
}

#[test]
fn a_leader_that_goes_gives_the_lead_to_a_node_that_is_there() {
    tell(None, async |world: Arc<World>| {
        let leader = founded(&world).await;
        assert!(world.until(Duration::from_secs(5), || world.is_equal()).await);
        let others: Vec<_> = VOTERS.into_iter().filter(|id| *id != leader).collect();
        let (there, gone) = (others[0], others[1]);
        // It has as much of the log, and the greater number.
        world.crash(gone);
        assert_eq!(world.node(leader).unwrap().hand_over().await.unwrap(), there);
        assert_eq!(world.leader(), Some(there));
        world.restart(VOTERS).await;
        world.settle().await;
        world.end().await;
    });
}

#[test]
fn the_lead_is_not_given_to_a_node_that_cannot_take_it() {
    tell(None, async |world: Arc<World>| {
        let leader = founded(&world).await;
        assert!(world.until(Duration::from_secs(5), || world.is_equal()).await);
        let to = VOTERS.into_iter().find(|id| *id != leader).unwrap();
        let node = world.node(leader).unwrap();
        let term = node.status().term;
        world.crash(to);
        let late = node.transfer_leader(to).await.unwrap_err();
        assert!(matches!(late, ChangeError::Late { .. }), "{late}");
        assert_eq!(write(&world, leader, 1).await, Said::Done);
        // Its disk was emptied: it has a vote, and does not use it.
        world.wipe(to);
        world.start(to).await;
        let refused = node.transfer_leader(to).await.unwrap_err();
        assert!(matches!(refused, ChangeError::Refused { .. }), "{refused}");
        assert!(refused.to_string().contains("its log was lost"), "{refused}");
        // Nobody had to be elected.
        assert_eq!(write(&world, leader, 2).await, Said::Done);
        assert_eq!((world.leader(), node.status().term), (Some(leader), term));
        world.end().await;
    });
}

#[test]
fn a_leader_knows_who_has_not_answered_for_long() {
    tell(None, async |world: Arc<World>| {
        let leader = founded(&world).await;
        // By then each has answered once.
        assert!(world.until(Duration::from_secs(5), || world.is_equal()).await);
        let away = VOTERS.into_iter().find(|id| *id != leader).unwrap();
        world.crash(away);
        pass(Duration::from_secs(30)).await;
        let status = world.node(leader).unwrap().status();
        for member in status.members {
            let silent = member.since_answer;
            match member.id {
                id if id == leader => assert_eq!(silent, None),
                id if id == away => assert!(silent > Some(Duration::from_secs(28)), "{silent:?}"),
                _ => assert!(silent < Some(Duration::from_secs(2)), "{silent:?}"),
            }
        }
        world.end().await;
    });
}

#[test]
fn a_read_that_nobody_can_answer_ends_in_time() {
    tell(None, async |world: Arc<World>| {
        let leader = founded(&world).await;
        let away = VOTERS.into_iter().find(|id| *id != leader).unwrap();
        for other in VOTERS {
            world.network.cut(away, other);
            world.network.cut(other, away);
        }
        // It still thinks that it knows the leader. The second one comes while the first round
        // is under way, and does not wait for both.
        let limit = config(1).election_timeout() * 2 + Duration::from_millis(10);
        let node = world.node(away).unwrap();
        let reads = [0, 1_000].map(|after| {
            let node = node.clone();
            SimRuntime::spawn(async move {
                pass(Duration::from_millis(after)).await;
                SimRuntime::timeout(limit, node.read_barrier()).await
            })
        });
        for read in reads {
            let error = read.await.unwrap().expect("it waits").unwrap_err();
            assert!(matches!(error, sheaf_raft::replica::Error::NotLeader { .. }), "{error}");
        }
        world.network.heal();
        world.settle().await;
        world.end().await;
    });
}
