//! A cluster that was down: its time goes on where the wall clock is by then.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sheaf_coordinator::{BatchSpec, Coordinator as _, CoordinatorExt as _, State};
use sheaf_raft::config::RaftClusterConfig;
use sheaf_raft::coordinator::{Config, EngineMachine, RaftCoordinator};
use sheaf_raft::node::{RaftNode, RaftServer};
use sheaf_retry::{ManualClock, Timestamp};
use sheaf_testkit::wait_for_async;

use super::calls::{claim, spec};
use super::local::Nobody;

const HOUR: Duration = Duration::from_secs(3_600);
/// Long enough for machines that do much else.
const LONG: Duration = Duration::from_secs(60);

/// The only node of a cluster, and its coordinator.
struct Only {
    raft: RaftServer<EngineMachine>,
    coordinator: RaftCoordinator<RaftNode<EngineMachine>>,
}

impl Only {
    /// Starts it on what is in the directory, until it leads.
    async fn start(directory: &Path, address: &str, clock: &Arc<ManualClock>) -> Self {
        let config = RaftClusterConfig::new("test", 1).node(1, address);
        let started = wait_for_async(LONG, "what it needs to be free", || async {
            let mut raft = RaftServer::new(EngineMachine::new(), directory);
            raft.initialize(config.clone()).unwrap();
            match raft.start().await {
                Ok(node) => Some((raft, node)),
                Err(error) if error.to_string().contains("in use") => None,
                Err(error) => panic!("{error}"),
            }
        });
        let (raft, node) = started.await.unwrap();
        let (node, nobody) = (Arc::new(node), Arc::new(Nobody));
        let coordinator = RaftCoordinator::start(node, Config::new(1), nobody, clock.clone());
        let leads = || async { coordinator.wake().await.ok() };
        wait_for_async(LONG, "it to lead", leads).await.unwrap();
        Only { raft, coordinator }
    }

    async fn stop(mut self) {
        self.raft.shutdown().await;
        self.coordinator.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_due_while_all_were_down_is_due_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let address = sheaf_testkit::free_port().unwrap().release().to_string();
    let clock = ManualClock::new(Timestamp::from_millis(1_760_000_000_000));
    let only = Only::start(directory.path(), &address, &clock).await;
    let late = BatchSpec { delay: HOUR, ..spec("late") };
    only.coordinator.register(vec![late]).await.unwrap();
    only.coordinator.wake().await.unwrap();
    let batch = only.coordinator.get(&"late".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(batch.state, State::Scheduled);
    only.stop().await;

    clock.advance(24 * HOUR);
    let only = Only::start(directory.path(), &address, &clock).await;
    let given = only.coordinator.claim(claim("after", 1)).await.unwrap();
    let ids: Vec<_> = given.leases.iter().map(|lease| lease.spec.id.as_str()).collect();
    assert_eq!(ids, ["late"], "at {:?}", given.now);
    assert_eq!(given.now, sheaf_retry::Clock::now(&*clock));
    only.stop().await;
}
