//! How a cluster begins, and what a node without a disk may not do.

use std::sync::Arc;
use std::time::Duration;

use sheaf_raft::node::ChangeError;
use sheaf_raft::replica::Replica as _;
use sheaf_raft::types::NodeId;

use crate::registers::Said;
use crate::scenarios::{founded, tell, write};
use crate::time::pass;
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
        bootstrap(&world, 2).await.unwrap();
        // Without the first node nobody is elected, whatever the second one has.
        pass(config(1).election_timeout() * 8).await;
        assert_eq!(world.leader(), None);
        bootstrap(&world, 1).await.unwrap();
        let leads = || world.leader().is_some_and(|id| world.is_ready(id));
        assert!(world.until(Duration::from_secs(10), leads).await, "nobody leads");
        assert_eq!(write(&world, world.leader().unwrap(), 1).await, Said::Done);

        world.start(3).await;
        bootstrap(&world, 3).await.unwrap();
        let same = || world.is_equal();
        assert!(world.until(Duration::from_secs(20), same).await, "the third one lacks something");
        world.end().await;
    });
}

#[test]
fn a_node_whose_disk_was_emptied_elects_nobody_who_lacks_what_it_acknowledged() {
    tell(None, async |world: Arc<World>| {
        let leader = founded(&world).await;
        let others: Vec<_> = VOTERS.into_iter().filter(|id| *id != leader).collect();
        let (acknowledged, behind) = (others[0], others[1]);
        let same = || world.is_equal();
        assert!(world.until(Duration::from_secs(5), same).await);
        world.crash(behind);
        assert_eq!(write(&world, leader, 7).await, Said::Done);
        world.crash(leader);
        world.crash(acknowledged);
        world.wipe(acknowledged);
        for id in [behind, acknowledged] {
            world.start(id).await;
        }
        // It founds nothing either: the other one has entries.
        bootstrap(&world, acknowledged).await.unwrap();
        pass(config(1).election_timeout() * 10).await;
        assert_eq!(world.leader(), None, "somebody leads without the command");

        world.start(leader).await;
        world.settle().await;
        let mut value = 0;
        let node = world.node(acknowledged).unwrap();
        node.with_machine(&mut |registers| value = registers.value(1));
        assert_eq!(value, 7);
        world.end().await;
    });
}
