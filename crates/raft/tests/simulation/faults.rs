//! What goes wrong, as the seed has it.

use std::sync::Arc;
use std::time::Duration;

use openraft::AsyncRuntime as _;
use openraft_rt_sim::SimRuntime;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use sheaf_raft::types::NodeId;

use crate::registers::hash;
use crate::time::pass;
use crate::world::{VOTERS, World, member};

/// The node that comes and goes.
pub(crate) const GUEST: NodeId = 4;

/// Breaks things, one after the other.
pub(crate) struct Faults {
    world: Arc<World>,
    random: StdRng,
    /// How often the guest was taken in: each time it is another node.
    guests: u64,
    guest: Option<NodeId>,
}

impl Faults {
    pub(crate) fn new(world: &Arc<World>, seed: u64) -> Self {
        let random = StdRng::seed_from_u64(hash([seed, 4]));
        Faults { world: Arc::clone(world), random, guests: 0, guest: None }
    }

    fn millis(&mut self, range: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(self.random.random_range(range))
    }

    fn any(&mut self, of: &[NodeId]) -> NodeId {
        of[self.random.random_range(0..of.len())]
    }

    /// Breaks so many things, and mends all but the last.
    pub(crate) async fn run(mut self, count: usize) {
        for _ in 0..count {
            let kind = self.random.random_range(0..14);
            self.world.observer.note([5, kind]);
            self.one(kind).await;
            let pause = self.millis(100..700);
            pass(pause).await;
        }
        self.world.network.heal();
        self.world.restart(VOTERS.into_iter().chain(self.guest)).await;
    }

    async fn one(&mut self, kind: u64) {
        let network = Arc::clone(&self.world.network);
        match kind {
            // Isolate the leader, or anybody: of three nodes, two stay.
            0 | 1 => {
                let leader = self.world.leader().filter(|_| kind == 0);
                let node = leader.unwrap_or_else(|| self.any(&VOTERS));
                for other in self.world.running() {
                    network.cut(node, other);
                    network.cut(other, node);
                }
                self.hold(800..4_000).await;
            }
            // Isolate everybody: no majority anywhere.
            2 => {
                for (from, to) in [(1, 2), (1, 3), (2, 3)] {
                    network.cut(from, to);
                    network.cut(to, from);
                }
                self.hold(300..2_500).await;
            }
            // One direction only.
            3 => {
                let (from, to) = (self.any(&VOTERS), self.any(&VOTERS));
                network.cut(from, to);
                self.hold(500..3_000).await;
            }
            // Two that do not see each other, and both see the third.
            4 => {
                let bridge = self.any(&VOTERS);
                let sides: Vec<_> = VOTERS.into_iter().filter(|node| *node != bridge).collect();
                network.cut(sides[0], sides[1]);
                network.cut(sides[1], sides[0]);
                self.hold(500..4_000).await;
            }
            5 => {
                let (slowest, lost) = (self.millis(20..200), self.random.random_range(0.02..0.3));
                network.weather(slowest, lost, 0.2);
                self.hold(500..3_000).await;
            }
            6..9 => self.crash_some(kind).await,
            9 | 10 => {
                let leader = self.world.leader().filter(|_| kind == 9);
                let node = leader.unwrap_or_else(|| self.any(&VOTERS));
                let length = self.millis(200..4_000);
                network.pause(node, length);
                pass(length).await;
            }
            11 => self.change_lead().await,
            12 => self.change_members().await,
            _ => {
                let running = self.world.running();
                if let Some(node) = running.first().and_then(|id| self.world.node(*id)) {
                    node.snapshot().await.ok();
                }
            }
        }
    }

    /// Leaves it broken for a while, then mends it.
    async fn hold(&mut self, range: std::ops::Range<u64>) {
        let length = self.millis(range);
        pass(length).await;
        self.world.network.heal();
    }

    /// One node crashes, or the leader, or all at once.
    async fn crash_some(&mut self, kind: u64) {
        let victims = match kind {
            6 => vec![self.any(&VOTERS)],
            7 => self.world.leader().into_iter().collect(),
            _ => self.world.running(),
        };
        for victim in &victims {
            self.world.crash(*victim);
        }
        let length = self.millis(10..3_000);
        pass(length).await;
        self.world.restart(victims).await;
    }

    /// The lead goes to another.
    async fn change_lead(&mut self) {
        let to = self.any(&VOTERS);
        if let Some(node) = self.world.leader().and_then(|id| self.world.node(id)) {
            // Whoever does not lead any more says so.
            node.transfer_leader(to).await.ok();
        }
    }

    /// A guest comes, gets a vote, goes.
    async fn change_members(&mut self) {
        let Some(leader) = self.world.leader().and_then(|id| self.world.node(id)) else { return };
        let guest = match self.guest {
            Some(guest) => guest,
            None => {
                let guest = GUEST + self.guests;
                self.guests += 1;
                self.world.start(guest).await;
                self.guest = Some(guest);
                guest
            }
        };
        let within = Duration::from_secs(3);
        let knows = leader.status().members.into_iter().find(|member| member.id == guest);
        match knows {
            None => {
                SimRuntime::timeout(within, leader.add_learner(guest, member(guest))).await.ok();
            }
            Some(known) if !known.is_voter => {
                SimRuntime::timeout(within, leader.promote(guest)).await.ok();
            }
            Some(_) => {
                let removed = SimRuntime::timeout(within, leader.remove(guest)).await;
                if matches!(removed, Ok(Ok(()))) {
                    self.world.crash(guest);
                    self.guest = None;
                }
            }
        }
    }
}
