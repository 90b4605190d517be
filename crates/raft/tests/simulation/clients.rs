//! Clients that write, swap and read, and remember what they saw.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use openraft::AsyncRuntime as _;
use openraft_rt_sim::SimRuntime;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use sheaf_raft::node::Role;
use sheaf_raft::replica::{Error, Replica as _};
use sheaf_raft::types::NodeId;
use sheaf_testkit::linearizability::{
    KeyedVerdict, Operation, Register, RegisterOp, RegisterRet, check_by_key,
};

use crate::disk::Bug;
use crate::registers::{Ask, Said, hash, hash_bytes};
use crate::time::pass;
use crate::world::{Node, VOTERS, World};

/// How many keys there are.
const KEYS: u64 = 5;

/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_millis(2_500);

/// Steps of the model that a key is given.
const WORK: u64 = 400_000;

type Op = (u64, RegisterOp<u64>);
type Seen = Operation<Op, RegisterRet<u64>>;

/// A register of one of several keys.
struct Keyed;

impl sheaf_testkit::linearizability::Model for Keyed {
    type Op = Op;
    type Ret = RegisterRet<u64>;
    type State = u64;

    fn step(state: &u64, op: &Op, ret: Option<&RegisterRet<u64>>) -> Option<u64> {
        Register::<u64>::step(state, &op.1, ret)
    }
}

/// What all clients saw.
#[derive(Default)]
pub(crate) struct History {
    seen: Mutex<Vec<Seen>>,
    values: AtomicU64,
    over: AtomicBool,
}

impl History {
    /// Clients begin nothing new.
    pub(crate) fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    fn push(&self, operation: Seen) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).push(operation);
    }

    /// Whether it can have happened in one order.
    pub(crate) fn check(&self) -> KeyedVerdict<u64> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        check_by_key::<Keyed, u64>(&0, seen, |op| op.0, WORK)
    }

    /// How many operations there are.
    pub(crate) fn len(&self) -> usize {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

/// How an attempt ended.
enum Attempt<T> {
    Done(T),
    /// Certainly not.
    Refused(Option<NodeId>),
    Unknown,
}

/// One client, of one of several that never wait for each other.
pub(crate) struct Client {
    world: Arc<World>,
    history: Arc<History>,
    id: u64,
    random: StdRng,
    /// Whom it asks first.
    node: NodeId,
}

impl Client {
    pub(crate) fn new(world: &Arc<World>, history: &Arc<History>, seed: u64, id: u64) -> Self {
        Client {
            world: Arc::clone(world),
            history: Arc::clone(history),
            id,
            random: StdRng::seed_from_u64(hash([seed, 3, id])),
            node: id % VOTERS.len() as u64 + 1,
        }
    }

    /// Does one operation after the other, until they are to end.
    pub(crate) async fn run(mut self) {
        while !self.history.over.load(Ordering::Relaxed) {
            let key = self.random.random_range(0..KEYS);
            match self.random.random_range(0..10) {
                0..5 => self.read(key).await,
                5..9 => {
                    let value = self.value();
                    let op = RegisterOp::Write(value);
                    self.write(key, op, Ask::Write { key, value }).await;
                }
                _ => {
                    let new = self.value();
                    let expected = self.random.random_range(0..new);
                    let op = RegisterOp::Cas { expected, new };
                    self.write(key, op, Ask::Swap { key, expected, new }).await;
                }
            }
            let pause = self.random.random_range(5..60);
            pass(Duration::from_millis(pause)).await;
        }
    }

    /// A value that nobody wrote before.
    fn value(&self) -> u64 {
        self.history.values.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn step(&self) -> u64 {
        self.world.observer.note([4, self.id])
    }

    fn choose(&mut self, hint: Option<NodeId>) {
        self.node = match hint {
            Some(leader) if self.random.random_bool(0.8) => leader,
            _ => {
                let running = self.world.running();
                let at = self.random.random_range(0..running.len().max(1));
                running.get(at).copied().unwrap_or(1)
            }
        };
    }

    async fn write(&mut self, key: u64, op: RegisterOp<u64>, ask: Ask) {
        let command = ask.command(self.value());
        let name = hash_bytes(&command);
        let invoked = self.step();
        for _ in 0..30 {
            let attempt = match self.world.node(self.node) {
                None => Attempt::Refused(None),
                Some(node) => propose(&self.world, &node, command.clone()).await,
            };
            match attempt {
                Attempt::Done(said) => {
                    self.world.observer.acknowledged(name);
                    let ret = match said {
                        Said::Swapped(hit) => RegisterRet::Swapped(hit),
                        _ => RegisterRet::Done,
                    };
                    let at = self.step();
                    let seen = Operation::returned(self.id, (key, op), ret, invoked, at);
                    return self.history.push(seen);
                }
                Attempt::Unknown => {
                    self.choose(None);
                    return self.history.push(Operation::unknown(self.id, (key, op), invoked));
                }
                Attempt::Refused(hint) => self.choose(hint),
            }
            pass(Duration::from_millis(100)).await;
        }
    }

    async fn read(&mut self, key: u64) {
        let invoked = self.step();
        for _ in 0..30 {
            let attempt = match self.world.node(self.node) {
                None => Attempt::Refused(None),
                Some(node) => look(&self.world, &node, key).await,
            };
            match attempt {
                Attempt::Done(value) => {
                    let (op, ret) = ((key, RegisterOp::Read), RegisterRet::Value(value));
                    let at = self.step();
                    let seen = Operation::returned(self.id, op, ret, invoked, at);
                    self.history.push(seen);
                    // Any node can be read.
                    return self.choose(None);
                }
                Attempt::Unknown => self.choose(None),
                Attempt::Refused(hint) => self.choose(hint),
            }
            pass(Duration::from_millis(100)).await;
        }
    }
}

fn refused<T>(error: Error) -> Attempt<T> {
    match error {
        Error::Unknown { .. } => Attempt::Unknown,
        Error::NotLeader { leader } => Attempt::Refused(leader.map(|(id, _)| id)),
        Error::Full { .. } | Error::TooLarge { .. } | Error::Stopped { .. } => {
            Attempt::Refused(None)
        }
    }
}

async fn propose(world: &World, node: &Node, command: bytes::Bytes) -> Attempt<Said> {
    world.network.going_on(node.id()).await;
    match SimRuntime::timeout(PATIENCE, node.propose(command)).await {
        Ok(Ok(answer)) => Attempt::Done(Said::read(&answer)),
        Ok(Err(error)) => refused(error),
        Err(_) => Attempt::Unknown,
    }
}

async fn look(world: &World, node: &Node, key: u64) -> Attempt<u64> {
    let mut value = 0;
    let mut read = || node.with_machine(&mut |registers| value = registers.value(key));
    world.network.going_on(node.id()).await;
    // The planted bug: the lease was good when the node stood still, and so did its clock.
    if world.bug == Some(Bug::LeaseReadAfterPause) && node.status().role == Role::Leader {
        read();
        return Attempt::Done(value);
    }
    match SimRuntime::timeout(PATIENCE, node.read_barrier()).await {
        Ok(Ok(())) => {
            read();
            Attempt::Done(value)
        }
        Ok(Err(error)) => refused(error),
        Err(_) => Attempt::Unknown,
    }
}
