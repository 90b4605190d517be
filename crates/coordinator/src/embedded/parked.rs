//! Claims that wait for work, first come first served.

use std::collections::VecDeque;

use sheaf_retry::{Code, Timestamp};

use super::mailbox::Reply;
use crate::contract::Error;
use crate::request::{Claim, ClaimRequest, SettleReply};

/// Who is told.
pub(super) enum Waiter {
    Claim(Reply<Claim>),
    /// The settle before the claim is durable.
    Settle(SettleReply, Reply<SettleReply>),
}

impl Waiter {
    fn is_gone(&self) -> bool {
        match self {
            Waiter::Claim(reply) => reply.is_closed(),
            Waiter::Settle(_, reply) => reply.is_closed(),
        }
    }

    pub(super) fn answer(self, claim: Result<Claim, Error>) {
        // A caller that no longer listens has given up its claim.
        match self {
            Waiter::Claim(reply) => drop(reply.send(claim)),
            Waiter::Settle(mut settled, reply) => drop(reply.send(claim.map(|claim| {
                settled.claim = Some(claim);
                settled
            }))),
        }
    }
}

/// A claim that waits.
pub(super) struct Parked {
    pub(super) request: ClaimRequest,
    pub(super) until: Timestamp,
    pub(super) waiter: Waiter,
}

/// See the module.
pub(super) struct Parking {
    all: VecDeque<Parked>,
    limit: usize,
}

impl Parking {
    pub(super) fn new(limit: usize) -> Self {
        Parking { all: VecDeque::new(), limit }
    }

    pub(super) fn is_full(&mut self) -> bool {
        if self.all.len() >= self.limit {
            self.all.retain(|parked| !parked.waiter.is_gone());
        }
        self.all.len() >= self.limit
    }

    pub(super) fn refusal(&self) -> Error {
        let problem = format!("has {} claims waiting, its limit", self.limit);
        Error::Unavailable { problem, code: Code::Overloaded }
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn add(&mut self, parked: Parked) {
        self.all.push_back(parked);
    }

    /// Takes out those for which `claim` finds work.
    pub(super) fn take_if(
        &mut self,
        mut claim: impl FnMut(&ClaimRequest) -> Option<Claim>,
    ) -> Vec<(Waiter, Claim)> {
        let mut served = Vec::new();
        let mut left = VecDeque::with_capacity(self.all.len());
        for parked in self.all.drain(..) {
            if parked.waiter.is_gone() {
                continue;
            }
            match claim(&parked.request) {
                Some(claim) => served.push((parked.waiter, claim)),
                None => left.push_back(parked),
            }
        }
        self.all = left;
        served
    }

    /// Takes out those that have waited long enough, and those that gave up.
    pub(super) fn expired(&mut self, now: Timestamp) -> Vec<Waiter> {
        if self.all.is_empty() {
            return Vec::new();
        }
        let ends = |parked: &Parked| parked.until <= now || parked.waiter.is_gone();
        let (ended, left) = self.all.drain(..).partition(ends);
        self.all = left;
        let ended: VecDeque<Parked> = ended;
        ended.into_iter().map(|parked| parked.waiter).collect()
    }

    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        self.all.iter().map(|parked| parked.until).min()
    }

    pub(super) fn clear(&mut self) -> Vec<Waiter> {
        self.all.drain(..).map(|parked| parked.waiter).collect()
    }
}
