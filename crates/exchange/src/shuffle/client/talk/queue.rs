//! What is to be sent in a conversation, and what was sent and not taken yet.

use std::collections::{BTreeMap, VecDeque};

use sheaf_flight::Message;
use tokio::sync::oneshot;

use super::super::put::Segment;
use crate::shuffle::error::Error;
use crate::shuffle::governor::InFlight;
use crate::shuffle::key::{PartitionKey, Sender, Totals};
use crate::shuffle::wire::talk::{Answer, MAX_ANNOUNCED, Place};

/// A segment, and who waits for it.
pub(in super::super) struct Order {
    pub(in super::super) segment: Segment,
    pub(in super::super) done: oneshot::Sender<Reply>,
}

/// What became of a segment. What fails ends the whole conversation instead.
pub(in super::super) enum Reply {
    /// The worker has it.
    Taken,
    /// The worker holds no conversations: it is to be put.
    Put(Box<Segment>),
}

/// What is sent next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A chunk of the order of a partition.
    Chunk {
        partition: u32,
        at: usize,
    },
    Commit {
        partition: u32,
        totals: Totals,
    },
}

/// Chunks are kept until the worker has taken them: on another connection all
/// others are sent again.
#[derive(Default)]
pub(super) struct Queue {
    lanes: BTreeMap<u32, Lane>,
    /// Not announced yet, and announced.
    new: VecDeque<Step>,
    announced: VecDeque<Step>,
    announced_bytes: u64,
    credit: u64,
    /// Sent and not answered.
    unanswered: usize,
}

#[derive(Default)]
struct Lane {
    order: Option<Order>,
    /// Chunks before it were taken.
    taken: u64,
    is_committed: bool,
    /// What the governor counts for chunks that were sent and not taken.
    sent: VecDeque<InFlight>,
}

impl Lane {
    fn is_done(&self, segment: &Segment) -> bool {
        let after = segment.first + segment.chunks.len() as u64;
        self.taken >= after && (segment.commit.is_none() || self.is_committed)
    }
}

fn bytes_of(message: &Message) -> u64 {
    (message.header.len() + message.body_len()) as u64
}

impl Queue {
    pub(super) fn new(partitions: &[u32]) -> Self {
        let lanes = partitions.iter().map(|partition| (*partition, Lane::default())).collect();
        Queue { lanes, ..Queue::default() }
    }

    /// Whether anything is left to be sent or answered.
    pub(super) fn is_empty(&self) -> bool {
        self.lanes.values().all(|lane| lane.order.is_none())
    }

    /// Whether the worker is the one who is waited for.
    pub(super) fn waits_for_worker(&self) -> bool {
        let needs_credit = match self.announced.front() {
            Some(Step::Chunk { partition, at }) => self.bytes(*partition, *at) > self.credit,
            Some(Step::Commit { .. }) | None => false,
        };
        self.unanswered > 0 || needs_credit
    }

    /// The partition of what is sent next, or one that is not done; the first of
    /// all where all are.
    pub(super) fn some_partition(&self) -> u32 {
        if let Some(Step::Chunk { partition, .. } | Step::Commit { partition, .. }) =
            self.announced.front().or(self.new.front())
        {
            return *partition;
        }
        let open = self.lanes.iter().find(|(_, lane)| lane.order.is_some());
        open.or(self.lanes.iter().next()).map_or(0, |(partition, _)| *partition)
    }

    pub(super) fn add(&mut self, order: Order) {
        let partition = order.segment.key.partition();
        let lane = self.lanes.entry(partition).or_default();
        steps(partition, lane.taken, &order.segment, &mut self.new);
        lane.order = Some(order);
    }

    /// All that the worker holds no conversation for.
    pub(super) fn orders(&mut self) -> Vec<Order> {
        self.lanes.values_mut().filter_map(|lane| lane.order.take()).collect()
    }

    /// Another connection: nothing is announced or sent on it.
    pub(super) fn begin_anew(&mut self) {
        let Queue { lanes, new, announced, .. } = self;
        new.clear();
        announced.clear();
        (self.announced_bytes, self.credit, self.unanswered) = (0, 0, 0);
        for (partition, lane) in lanes {
            lane.sent.clear();
            if let Some(order) = &lane.order {
                steps(*partition, lane.taken, &order.segment, new);
            }
        }
    }

    /// Sizes of the next chunks, so that about so many bytes are announced.
    pub(super) fn announce(&mut self, ahead_bytes: u64) -> Vec<u64> {
        let mut sizes = Vec::new();
        while self.announced_bytes < ahead_bytes
            && self.announced.len() < MAX_ANNOUNCED
            && let Some(step) = self.new.pop_front()
        {
            if let Step::Chunk { partition, at } = step {
                let bytes = self.bytes(partition, at);
                self.announced_bytes += bytes;
                sizes.push(bytes);
            }
            self.announced.push_back(step);
        }
        sizes
    }

    /// What may be sent now.
    pub(super) fn next(&mut self) -> Option<Step> {
        if let Step::Chunk { partition, at } = *self.announced.front()? {
            let bytes = self.bytes(partition, at);
            self.credit = self.credit.checked_sub(bytes)?;
            self.announced_bytes -= bytes;
        }
        self.announced.pop_front()
    }

    fn bytes(&self, partition: u32, at: usize) -> u64 {
        self.chunk(partition, at).map_or(0, |(_, message)| bytes_of(message))
    }

    /// A chunk and its sequence.
    pub(super) fn chunk(&self, partition: u32, at: usize) -> Option<(u64, &Message)> {
        let order = self.lanes.get(&partition)?.order.as_ref()?;
        Some((order.segment.first + at as u64, order.segment.chunks.get(at)?))
    }

    /// Something goes out, with what the governor counts for it.
    pub(super) fn sent(&mut self, partition: u32, in_flight: Option<InFlight>) {
        self.unanswered += 1;
        if let Some(lane) = self.lanes.get_mut(&partition) {
            lane.sent.extend(in_flight);
        }
    }

    /// Takes an answer; whether a chunk or a commit was taken.
    pub(super) fn answered(&mut self, answer: &Answer) -> Result<bool, Error> {
        let partition = match *answer {
            Answer::Credit(bytes) => {
                self.credit = self.credit.saturating_add(bytes);
                return Ok(false);
            }
            Answer::Taken(Place { partition, .. }) | Answer::Committed { partition } => partition,
            Answer::Begun(_) | Answer::Full { .. } | Answer::Failed { .. } => return Ok(false),
        };
        let lane = self.lanes.get_mut(&partition);
        let lane = lane.filter(|lane| lane.order.is_some()).ok_or_else(|| odd(answer))?;
        self.unanswered = self.unanswered.checked_sub(1).ok_or_else(|| odd(answer))?;
        match *answer {
            Answer::Taken(Place { next_sequence, .. }) if next_sequence == lane.taken + 1 => {
                lane.taken = next_sequence;
                drop(lane.sent.pop_front());
            }
            Answer::Committed { .. } => lane.is_committed = true,
            _ => return Err(odd(answer)),
        }
        if let Some(order) = lane.order.take() {
            if lane.is_done(&order.segment) {
                // Who asked for it may have gone.
                drop(order.done.send(Reply::Taken));
            } else {
                lane.order = Some(order);
            }
        }
        Ok(true)
    }

    /// What the worker says that it has, against what it has said to have taken.
    pub(super) fn check(
        &self,
        (query, stage): (&str, u32),
        sender: Sender,
        begun: &[Place],
    ) -> Result<(), Error> {
        for Place { partition, next_sequence } in begun {
            let taken = self.lanes.get(partition).map_or(0, |lane| lane.taken);
            if *next_sequence < taken {
                let key = PartitionKey::try_new(query, stage, *partition)?;
                let (sequence, expected) = (taken, *next_sequence);
                return Err(Error::Gap { key, sender: sender.index, sequence, expected });
            }
        }
        Ok(())
    }
}

/// The steps of an order that are left.
fn steps(partition: u32, taken: u64, segment: &Segment, into: &mut VecDeque<Step>) {
    let from = usize::try_from(taken.saturating_sub(segment.first)).unwrap_or(usize::MAX);
    into.extend((from..segment.chunks.len()).map(|at| Step::Chunk { partition, at }));
    into.extend(segment.commit.map(|totals| Step::Commit { partition, totals }));
}

fn odd(answer: &Answer) -> Error {
    Error::Protocol(format!("the worker answers {answer:?}, which nothing was sent for"))
}
