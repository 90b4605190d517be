//! One node that applies at once, and on which things go wrong on purpose.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use sheaf_coordinator::{Coordinator, Error as CoordinatorError};
use sheaf_raft::coordinator::{EngineMachine, Forward};
use sheaf_raft::machine::{Applied, StateMachine as _};
use sheaf_raft::replica::{Error, Leadership, Replica};
use sheaf_raft::types::{Member, NodeId};
use tokio::sync::watch;

/// How often what goes wrong, in percent of proposals.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    /// The node says that it does not lead; nothing is done.
    pub(crate) not_leader: u32,
    /// Nothing is done, and nobody learns it.
    pub(crate) lost: u32,
    /// It is done, and nobody learns it.
    pub(crate) unheard: u32,
}

pub(crate) struct LocalReplica {
    machine: Mutex<EngineMachine>,
    leadership: watch::Sender<Leadership>,
    applied: watch::Sender<u64>,
    faults: Mutex<(Faults, StdRng)>,
    largest: u64,
    /// Commands wait while it is true.
    is_held: watch::Sender<bool>,
    /// Those that came meanwhile.
    pub(crate) held: AtomicU64,
    /// Commands that were applied, and calls for which something went wrong.
    pub(crate) commands: AtomicU64,
    pub(crate) failed: AtomicU64,
}

pub(crate) fn here() -> Member {
    Member::new(vec!["grpc://localhost:1".to_owned()])
}

impl LocalReplica {
    pub(crate) fn new(machine: EngineMachine, term: u64) -> Arc<Self> {
        LocalReplica::with(machine, term, 16 << 20)
    }

    pub(crate) fn with(machine: EngineMachine, term: u64, largest: u64) -> Arc<Self> {
        let leader = Leadership { term, leader: Some((1, here())), is_ready: true, stopped: None };
        Arc::new(LocalReplica {
            machine: Mutex::new(machine),
            leadership: watch::Sender::new(leader),
            applied: watch::Sender::new(0),
            faults: Mutex::new((Faults::default(), StdRng::seed_from_u64(term))),
            largest,
            is_held: watch::Sender::new(false),
            held: AtomicU64::new(0),
            commands: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        })
    }

    pub(crate) fn fail(&self, faults: Faults) {
        self.faults.lock().unwrap().0 = faults;
    }

    /// Lets commands wait, or go on.
    pub(crate) fn hold(&self, is_held: bool) {
        self.held.store(0, Ordering::Relaxed);
        self.is_held.send_replace(is_held);
    }

    pub(crate) fn lead(&self, leadership: Leadership) {
        self.leadership.send_replace(leadership);
    }

    fn machine(&self) -> MutexGuard<'_, EngineMachine> {
        self.machine.lock().unwrap()
    }

    /// The state in another machine, by a snapshot.
    pub(crate) fn copy(&self) -> EngineMachine {
        let mut machine = self.machine();
        machine.begin_snapshot().unwrap();
        let parts: Vec<_> = std::iter::from_fn(|| machine.snapshot_part().transpose()).collect();
        let mut copy = EngineMachine::new();
        copy.restore(&mut parts.into_iter()).unwrap();
        assert_eq!(copy.digest(), machine.digest());
        copy
    }

    pub(crate) fn digest(&self) -> u64 {
        self.machine().digest()
    }

    fn apply(&self, command: &Bytes) -> Bytes {
        let index = *self.applied.borrow() + 1;
        let term = self.leadership.borrow().term;
        let reply = self.machine().apply(Applied { index, term, command });
        self.applied.send_replace(index);
        self.commands.fetch_add(1, Ordering::Relaxed);
        reply
    }
}

fn unknown() -> Error {
    Error::Unknown { problem: "on purpose".to_owned() }
}

#[async_trait]
impl Replica<EngineMachine> for LocalReplica {
    async fn propose(&self, command: Bytes) -> Result<Bytes, Error> {
        let actual = command.len() as u64;
        if actual > self.largest {
            return Err(Error::TooLarge { actual, limit: self.largest });
        }
        let leadership = self.leadership.borrow().clone();
        if !leadership.is_ready {
            return Err(Error::NotLeader { leader: leadership.leader });
        }
        let (faults, chance) = {
            let mut faults = self.faults.lock().unwrap();
            (faults.0, faults.1.random_range(0..100))
        };
        let mut is_held = self.is_held.subscribe();
        self.held.fetch_add(1, Ordering::Relaxed);
        is_held.wait_for(|held| !held).await.unwrap();
        // Others get their turn, so that several commands are under way.
        tokio::task::yield_now().await;
        let mut below = 0;
        let mut is = |percent: u32| {
            below += percent;
            chance < below
        };
        let error = if is(faults.not_leader) {
            Error::NotLeader { leader: None }
        } else if is(faults.lost) {
            unknown()
        } else if is(faults.unheard) {
            self.apply(&command);
            unknown()
        } else {
            return Ok(self.apply(&command));
        };
        self.failed.fetch_add(1, Ordering::Relaxed);
        Err(error)
    }

    async fn read_barrier(&self) -> Result<(), Error> {
        let leadership = self.leadership.borrow().clone();
        match leadership.leader {
            Some(_) => Ok(()),
            None => Err(Error::NotLeader { leader: None }),
        }
    }

    fn with_machine(&self, look: &mut dyn FnMut(&mut EngineMachine)) {
        look(&mut self.machine());
    }

    fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.subscribe()
    }

    fn applied(&self) -> watch::Receiver<u64> {
        self.applied.subscribe()
    }
}

/// There is no other node.
pub(crate) struct Nobody;

impl Forward for Nobody {
    fn to(
        &self,
        node: NodeId,
        _: &Member,
        _: u32,
    ) -> Result<Arc<dyn Coordinator>, CoordinatorError> {
        Err(CoordinatorError::NotFound { id: format!("node {node}") })
    }
}

/// Another coordinator of this process.
pub(crate) struct Beside(pub(crate) Arc<dyn Coordinator>);

impl Forward for Beside {
    fn to(&self, _: NodeId, _: &Member, _: u32) -> Result<Arc<dyn Coordinator>, CoordinatorError> {
        Ok(Arc::clone(&self.0))
    }
}
