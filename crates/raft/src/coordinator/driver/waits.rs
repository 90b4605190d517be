//! Claims that wait on the leader, those that came twice, and those that nobody waits for.

use std::time::Duration;

use sheaf_coordinator::{Claim, ClaimRequest, Error, LeaseRef, Outcome, SettleRequest};
use sheaf_retry::Code;

use super::{Driver, Role};
use crate::coordinator::command::{Answer, Call};
use crate::coordinator::item::{Failed, Item, Lends, Waiting};
use crate::coordinator::machine::EngineMachine;
use crate::replica::Replica;

impl<Rp: Replica<EngineMachine>> Driver<Rp> {
    /// A claim for which there is nothing waits without a command.
    pub(super) fn enter(&mut self, mut item: Item) {
        if let Some(lends) = &item.lends
            && item.waiting.is_some()
            && self.claims.has(&lends.key)
        {
            return self.keep_second(item);
        }
        self.begin(&mut item);
        let request = item.waiting.as_ref().map(|waiting| &waiting.request);
        let is_idle = request.is_some_and(|request| !self.has_something_for(request));
        match item.waiting.take() {
            Some(waiting) if is_idle => self.park(waiting, item),
            waiting => {
                item.waiting = waiting;
                self.queue.push_back(item);
            }
        }
    }

    fn begin(&self, item: &mut Item) {
        if let Some(lends) = &mut item.lends {
            lends.under_way = Some(self.claims.begin(&lends.key));
        }
    }

    /// A claim that came before the one that it repeats is over.
    fn keep_second(&mut self, mut item: Item) {
        if self.is_full() {
            self.twice.retain(|(_, item)| !item.is_gone());
        }
        match item.waiting.take() {
            Some(waiting) if !self.is_full() => self.twice.push((waiting, item)),
            _ => self.refuse_to_wait(item),
        }
    }

    fn is_full(&self) -> bool {
        self.parking.len() + self.twice.len() >= self.config.max_waiting
    }

    /// Goes on with claims that came twice, where the first one is over, or where they have
    /// waited for long enough: a command says what they have then.
    pub(super) fn look_for_second(&mut self) {
        let elapsed = self.clock.elapsed();
        let is_due = self.next_second().is_some_and(|until| until <= elapsed);
        if self.twice.is_empty() || !(self.claims.have_ended() || is_due) {
            return;
        }
        for (waiting, mut item) in std::mem::take(&mut self.twice) {
            if item.is_gone() {
                continue;
            }
            if waiting.until <= elapsed {
                self.begin(&mut item);
                self.queue.push_back(item);
                continue;
            }
            item.waiting = Some(waiting);
            self.enter(item);
        }
    }

    /// When one of them has waited for long enough.
    pub(super) fn next_second(&self) -> Option<Duration> {
        self.twice.iter().map(|(waiting, _)| waiting.until).min()
    }

    /// Whether there is work for a claim, or it has leases already.
    fn has_something_for(&self, request: &ClaimRequest) -> bool {
        let mut found = false;
        self.replica.with_machine(&mut |machine| {
            let engine = machine.engine();
            found = engine.has_work(request) || engine.holds(request);
        });
        found
    }

    fn refuse_to_wait(&self, item: Item) {
        let problem = format!("has {} claims waiting, its limit", self.config.max_waiting);
        let error = Error::Unavailable { problem, code: Code::Overloaded };
        item.answer(Err(Failed::Error(error)));
    }

    fn park(&mut self, waiting: Waiting, item: Item) {
        if let Some(item) = self.parking.add(waiting, item) {
            self.refuse_to_wait(item);
        }
        self.gauge();
    }

    pub(super) fn gauge(&self) {
        let waiting = self.parking.len() + self.twice.len();
        self.metrics.waiting.set(i64::try_from(waiting).unwrap_or(i64::MAX));
    }

    /// Claims that have waited for so long get nothing, but for those that have leases: they are
    /// to be served.
    pub(super) fn end_waits(&mut self, elapsed: Duration) {
        if self.parking.len() == 0 {
            return;
        }
        let (parking, mut holds) = (&mut self.parking, false);
        self.replica.with_machine(&mut |machine| holds = parking.expire(elapsed, machine.engine()));
        self.again |= holds;
    }

    /// Tries the claims that wait and that there is work for.
    pub(super) fn serve(&mut self) {
        let (parking, mut taken) = (&mut self.parking, Vec::new());
        if parking.len() == 0 {
            return;
        }
        self.replica.with_machine(&mut |machine| taken = parking.take(machine.engine()));
        for (waiting, mut item) in taken {
            item.waiting = Some(waiting);
            self.serving += 1;
            self.queue.push_back(item);
        }
    }

    pub(super) fn is_served(&mut self, item: &Item) {
        if item.waiting.is_some() && self.serving > 0 {
            self.serving -= 1;
            self.again = true;
        }
    }

    /// A call that was done; one that found nothing may wait on.
    pub(super) fn settle(&mut self, mut item: Item, result: Result<Answer, Error>) {
        let claim = result.as_ref().ok().and_then(claim_of);
        if let Some(claim) = claim {
            self.metrics.claims.inc_by(u64::from(!claim.leases.is_empty()));
            self.metrics.claimed.inc_by(claim.leases.len() as u64);
        }
        let is_empty =
            matches!(&result, Ok(Answer::Claimed(Claim { leases, .. })) if leases.is_empty());
        match item.waiting.take() {
            Some(waiting) if is_empty && waiting.until > self.clock.elapsed() => match self.role {
                Role::Leading { .. } => {
                    // What became ready since has woken those that were parked by then.
                    self.again |= self.has_something_for(&waiting.request);
                    self.park(waiting, item);
                }
                _ => item.answer(Err(Failed::Elsewhere("the lead went".to_owned()))),
            },
            _ => {
                let lends = item.lends.take();
                let told = item.tell(result.map_err(Failed::Error));
                match (lends, told) {
                    (Some(lends), Ok(())) => self.claims.heard(&lends.key),
                    (Some(lends), Err(Ok(answer))) => self.give_back(lends, &answer),
                    _ => {}
                }
            }
        }
    }

    /// Nobody heard which batches a claim got. It may have lain in a network for long, or its
    /// caller is gone: others are not to wait until its leases end. One that was sent again gets
    /// them, and one that had them before keeps them.
    fn give_back(&mut self, lends: Lends, answer: &Answer) {
        let Some(claim) = claim_of(answer) else { return };
        let is_same =
            |(_, item): &(_, Item)| item.lends.as_ref().is_some_and(|other| other.key == lends.key);
        let is_sent_again = self.claims.is_sent_again(&lends.key) || self.twice.iter().any(is_same);
        if is_sent_again || !matches!(self.role, Role::Leading { .. }) {
            return;
        }
        let until = claim.now.plus(lends.lease);
        let given = claim.leases.iter().filter(|lease| lease.deadline == until);
        let outcomes: Vec<Outcome> = given
            .map(|lease| LeaseRef { id: lease.spec.id.clone(), fence: lease.fence })
            .map(Outcome::released)
            .collect();
        if outcomes.is_empty() {
            return;
        }
        tracing::debug!(batches = outcomes.len(), "nobody waits for what a claim got");
        let call = Call::Settle(SettleRequest { outcomes, ..SettleRequest::default() });
        self.queue.push_back(Item::giving_back(lends, &call));
    }
}

fn claim_of(answer: &Answer) -> Option<&Claim> {
    match answer {
        Answer::Claimed(claim) => Some(claim),
        Answer::Settled(reply) => reply.claim.as_ref(),
        _ => None,
    }
}
