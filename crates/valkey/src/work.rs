//! Results, starts and claims: one script, one round trip.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use fred::prelude::Value;
use sheaf_coordinator::limits::{self, MAX_ITEMS};
use sheaf_coordinator::{
    Claim, ClaimRequest, Error, Extended, Extension, LeaseRef, Outcome, Resolution, SettleReply,
    SettleRequest, Settled, State, Verdict,
};
use sheaf_proto::BatchId;
use sheaf_retry::Timestamp;

use crate::claims::Claims;
use crate::coordinator::Shared;
use crate::error::unexpected;
use crate::pack::{self, Packed};
use crate::unpack;

/// What is due and done by a call that has other work: keeps it short.
const BUDGET: u32 = 12;
/// What a sweep does at once: about a millisecond of the server's time.
const SWEEP_BUDGET: u32 = 24;

pub(crate) fn number(value: &Value) -> u64 {
    value.as_i64().and_then(|number| u64::try_from(number).ok()).unwrap_or(0)
}

pub(crate) fn bytes(value: Value) -> Bytes {
    value.into_bytes().unwrap_or_default()
}

pub(crate) fn list(value: Option<Value>) -> Vec<Value> {
    match value {
        Some(Value::Array(values)) => values,
        _ => Vec::new(),
    }
}

fn verdict(number: u64) -> Option<Verdict> {
    match number {
        1 => Some(Verdict::Applied),
        2 => Some(Verdict::AlreadyDone),
        3 => Some(Verdict::Stale),
        4 => Some(Verdict::NotFound),
        _ => None,
    }
}

/// Verdicts and states, two values each, for these identifiers.
pub(crate) fn settled<'a>(
    ids: impl Iterator<Item = &'a BatchId>,
    values: &[Value],
) -> Result<Vec<Settled>, Error> {
    let all: Vec<Settled> = ids
        .zip(values.chunks_exact(2))
        .filter_map(|(id, pair)| {
            let verdict = verdict(number(&pair[0]))?;
            Some(Settled { id: id.clone(), verdict, state: unpack::state(number(&pair[1])) })
        })
        .collect();
    if all.len() * 2 != values.len() {
        return Err(unexpected("settle"));
    }
    Ok(all)
}

fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// What one call wants of the script.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) outcomes: Vec<Outcome>,
    pub(crate) started: Vec<LeaseRef>,
    pub(crate) claim: Option<ClaimRequest>,
}

impl Wanted {
    /// Things that the script has to look at.
    pub(crate) fn size(&self) -> usize {
        let outputs: usize = self.outcomes.iter().map(|outcome| outcome.outputs.len()).sum();
        let claimed = self.claim.as_ref().map_or(0, |claim| claim.max.max(1) as usize);
        self.outcomes.len() + outputs + self.started.len() + claimed
    }

    /// Whether nothing of it can be refused, so that others may go with it.
    pub(crate) fn may_share(&self) -> bool {
        self.outcomes.iter().all(|outcome| outcome.outputs.is_empty())
    }
}

/// Several calls as one of the script, and the number of each outcome among those
/// that are plain: completions without outputs, each of another batch, which are done
/// at once. Those with consecutive tokens may be a block, and come first.
fn arguments(
    prefix: &str,
    calls: &[Wanted],
    smallest: usize,
    claims: &Claims<'_>,
) -> Result<(Vec<Bytes>, Vec<Option<u64>>), Error> {
    let outcomes: Vec<&Outcome> = calls.iter().flat_map(|call| &call.outcomes).collect();
    let mut seen = HashMap::new();
    for outcome in &outcomes {
        *seen.entry(&outcome.lease.id).or_insert(0_u32) += 1;
    }
    let is_plain = |outcome: &Outcome| {
        outcome.resolution == Resolution::Completed
            && outcome.outputs.is_empty()
            && seen.get(&outcome.lease.id) == Some(&1)
    };
    let mut plain: Vec<usize> = (0..outcomes.len()).filter(|at| is_plain(outcomes[*at])).collect();
    plain.sort_by_key(|at| outcomes[*at].lease.fence);
    let follows = |one: &usize, next: &usize| {
        outcomes[*next].lease.fence.0 == outcomes[*one].lease.fence.0 + 1
    };
    let (runs, alone): (Vec<&[usize]>, Vec<&[usize]>) =
        plain.chunk_by(follows).partition(|run| run.len() >= smallest);
    let alone: Vec<usize> = alone.concat();
    let mut numbers = vec![None; outcomes.len()];
    for (number, at) in (0..).zip(runs.iter().copied().flatten().chain(&alone)) {
        numbers[*at] = Some(number);
    }
    let mut head = Packed::default();
    head.u32(count(runs.len()))
        .u32(count(alone.len()))
        .u32(count(outcomes.len() - plain.len()))
        .u32(count(calls.iter().map(|call| call.started.len()).sum()))
        .u32(count(claims.groups.len()))
        .u32(count(claims.others.len()))
        .u32(BUDGET);
    let mut all = Vec::with_capacity(outcomes.len() + calls.len() * 2 + 2);
    all.push(head.done());
    for run in runs {
        let mut token = Packed::default();
        token.fence(outcomes[run[0]].lease.fence);
        all.push(token.done());
        all.push(pack::joined(prefix, run.iter().map(|at| &outcomes[*at].lease.id)));
    }
    all.extend(alone.iter().map(|at| pack::key(prefix, "s:", &outcomes[*at].lease.id)));
    if !alone.is_empty() {
        let mut tokens = Packed::default();
        for at in &alone {
            tokens.fence(outcomes[*at].lease.fence);
        }
        all.push(tokens.done());
    }
    for (outcome, _) in outcomes.iter().zip(&numbers).filter(|(_, number)| number.is_none()) {
        all.push(pack::outcome(outcome));
        for spec in &outcome.outputs {
            all.extend(pack::spec(prefix, spec)?);
        }
    }
    for lease in calls.iter().flat_map(|call| &call.started) {
        let mut packed = Packed::default();
        packed.fence(lease.fence).raw(lease.id.as_str().as_bytes());
        all.push(packed.done());
    }
    for group in &claims.groups {
        all.extend(pack::claims(&group.queue, &group.requests()));
    }
    for (_, claim) in &claims.others {
        all.extend(pack::claim(claim)?);
    }
    Ok((all, numbers))
}

/// The answers in the order of the request: those to plain outcomes are given
/// only where they are not `Applied` and `completed`.
fn merged<'a>(
    outcomes: impl Iterator<Item = &'a Outcome>,
    numbers: &[Option<u64>],
    exceptions: &[Value],
    others: &[Value],
) -> Result<Vec<Settled>, Error> {
    let exceptions: HashMap<u64, (u64, u64)> = exceptions
        .chunks_exact(3)
        .map(|three| (number(&three[0]), (number(&three[1]), number(&three[2]))))
        .collect();
    let mut others = others.chunks_exact(2);
    let mut all = Vec::with_capacity(numbers.len());
    for (outcome, plain) in outcomes.zip(numbers) {
        let id = outcome.lease.id.clone();
        let told = if let Some(plain) = plain {
            exceptions.get(plain).copied()
        } else {
            let pair = others.next().ok_or_else(|| unexpected("settle"))?;
            Some((number(&pair[0]), number(&pair[1])))
        };
        let (verdict, state) = match told {
            None => (Verdict::Applied, Some(State::Completed)),
            Some((told, state)) => {
                (verdict(told).ok_or_else(|| unexpected("settle"))?, unpack::state(state))
            }
        };
        all.push(Settled { id, verdict, state });
    }
    Ok(all)
}

impl Shared {
    /// Settles, starts and claims what is there, for several calls at once.
    pub(crate) async fn work_all(&self, calls: &[Wanted]) -> Result<Vec<SettleReply>, Error> {
        let smallest = self.settings.smallest_block;
        let claims = Claims::of(calls)?;
        let (arguments, numbers) = arguments(self.link.prefix(), calls, smallest, &claims)?;
        // A claim that is lost is made anew, with a greater token.
        let durable =
            calls.iter().any(|call| !call.outcomes.is_empty() || !call.started.is_empty());
        let away = self.turns.enter();
        let answer = self.link.call(&self.link.library().work, arguments, durable).await?;
        let _turn = away.answered().await;
        let outcomes = || calls.iter().flat_map(|call| &call.outcomes);
        let mut answer = answer.map_err(|refusal| {
            let outputs: Vec<_> = outcomes().flat_map(|outcome| &outcome.outputs).collect();
            self.refused(&refusal, &outputs)
        })?;
        let now = self.noted(&mut answer).now;
        let exceptions = list(answer.next());
        let settled_all = merged(outcomes(), &numbers, &exceptions, &list(answer.next()))?;
        self.metrics.settled(&settled_all);
        let starts = calls.iter().flat_map(|call| &call.started).map(|lease| &lease.id);
        let mut started_all = settled(starts, &list(answer.next()))?.into_iter();
        let mut settled_all = settled_all.into_iter();
        let mut replies = Vec::with_capacity(calls.len());
        for call in calls {
            replies.push(SettleReply {
                outcomes: settled_all.by_ref().take(call.outcomes.len()).collect(),
                started: started_all.by_ref().take(call.started.len()).collect(),
                claim: None,
            });
        }
        let key_bytes = self.link.prefix().len() + "b:".len();
        for (call, claim) in claims.answers(now, list(answer.next()), key_bytes)? {
            self.metrics.claimed(claim.leases.len());
            for lease in &claim.leases {
                self.link.saw(lease.fence);
            }
            replies[call].claim = Some(claim);
        }
        Ok(replies)
    }

    /// The same for one call; with others that come at the same time.
    async fn work(&self, wanted: Wanted) -> Result<SettleReply, Error> {
        if wanted.may_share() && wanted.size() <= MAX_SHARED {
            let size = wanted.size();
            return self.together.call(wanted, size).await;
        }
        let reply = self.work_all(&[wanted]).await?.pop();
        reply.ok_or_else(|| unexpected("settle"))
    }

    /// One step of what time brings about; gives wakes of these queues again.
    pub(crate) async fn sweep(&self, queues: Vec<String>) -> Result<(), Error> {
        let mut head = Packed::default();
        head.u32(0).u32(0).u32(0).u32(0).u32(0).u32(0).u32(SWEEP_BUDGET);
        let mut arguments = vec![head.done()];
        arguments.extend(queues.into_iter().map(Bytes::from));
        let answer = self.link.call(&self.link.library().work, arguments, false).await?;
        let mut answer = answer.map_err(|refusal| self.refused(&refusal, &[]))?;
        self.noted(&mut answer);
        Ok(())
    }

    pub(crate) async fn settle_and_claim(
        &self,
        request: SettleRequest,
    ) -> Result<SettleReply, Error> {
        limits::settle(&request)?;
        let SettleRequest { outcomes, started, claim } = request;
        let wanted = Wanted { outcomes, started, claim: claim.clone() };
        let mut reply = self.work(wanted).await?;
        if let Some(wanted) = &claim
            && reply.claim.as_ref().is_some_and(|claim| claim.leases.is_empty())
            && !wanted.wait.is_zero()
        {
            reply.claim = Some(self.wait_for_work(wanted, reply.claim.take()).await?);
        }
        Ok(reply)
    }

    pub(crate) async fn claim_once(&self, request: &ClaimRequest) -> Result<Claim, Error> {
        let wanted = Wanted { claim: Some(request.clone()), ..Wanted::default() };
        let reply = self.work(wanted).await?;
        reply.claim.ok_or_else(|| unexpected("claim"))
    }

    pub(crate) async fn claim(&self, request: &ClaimRequest) -> Result<Claim, Error> {
        limits::claim(request)?;
        let claim = self.claim_once(request).await?;
        if !claim.leases.is_empty() || request.wait.is_zero() {
            return Ok(claim);
        }
        self.wait_for_work(request, Some(claim)).await
    }

    /// Tries again at every wake, when something falls due, and now and then.
    async fn wait_for_work(
        &self,
        request: &ClaimRequest,
        first: Option<Claim>,
    ) -> Result<Claim, Error> {
        let end = self.clock.elapsed() + request.wait;
        let (place, poke) = self.parking.enter(pack::queues(request)?);
        let _waits = self.metrics.wait();
        if poke {
            self.poke().await?;
        }
        // What came between the claim and the parking left its mark before.
        let mut claim = first.unwrap_or_default();
        loop {
            let left = end.saturating_sub(self.clock.elapsed());
            if left.is_zero() || self.is_closed() {
                return Ok(claim);
            }
            let mut wait = left.min(self.settings.poll);
            if !request.ids.is_empty() {
                // No mark tells of single batches.
                wait = wait.min(NAMED_POLL);
            }
            if let Some(due) = claim.next_due {
                wait = wait.min(due.since(claim.now) + DUE_SLACK);
            }
            tokio::select! {
                () = place.woken() => {}
                () = self.clock.sleep(wait) => {}
            }
            if self.is_closed() {
                return Ok(claim);
            }
            place.use_wake();
            claim = self.claim_once(request).await?;
            if !claim.leases.is_empty() {
                return Ok(claim);
            }
        }
    }

    pub(crate) async fn extend(&self, leases: &[Extension]) -> Result<Vec<Extended>, Error> {
        limits::extend(leases)?;
        let mut extended = Vec::with_capacity(leases.len());
        // Each by itself: a part at a time keeps the server's calls short.
        for part in leases.chunks(EXTEND_PER_CALL) {
            let arguments = part.iter().map(pack::extension).collect();
            let answer = self.link.call(&self.link.library().extend, arguments, true).await?;
            let mut answer = answer.map_err(|refusal| self.refused(&refusal, &[]))?;
            self.noted(&mut answer);
            let values = list(answer.next());
            if values.len() != part.len() * 3 {
                return Err(unexpected("extend"));
            }
            for (extension, three) in part.iter().zip(values.chunks_exact(3)) {
                let verdict = verdict(number(&three[0])).ok_or_else(|| unexpected("extend"))?;
                let deadline = Some(number(&three[2])).filter(|micros| *micros > 0);
                extended.push(Extended {
                    id: extension.lease.id.clone(),
                    verdict,
                    deadline: deadline.map(Timestamp::from_micros),
                    cancelled: number(&three[1]) == 1,
                });
            }
        }
        Ok(extended)
    }
}

/// Things of one call that may go with others.
pub(crate) const MAX_SHARED: usize = 64;
/// Leases that one call extends: about a millisecond of the server's time.
const EXTEND_PER_CALL: usize = 48;
/// How often a claim of named batches looks.
const NAMED_POLL: Duration = Duration::from_millis(250);
/// What falls due is made ready by a sweep that comes first.
const DUE_SLACK: Duration = Duration::from_millis(1);
const _: () = assert!(MAX_ITEMS < 65_536, "counts fit");
