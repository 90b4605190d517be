//! The contract, call by call.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use sheaf_coordinator::limits::{self, DEFAULT_PAGE};
use sheaf_coordinator::{
    Answer as Found, BatchSpec, Claim, ClaimRequest, Control, ControlReply, Coordinator, Error,
    Event, Extended, Extension, ListFilter, Page, Query, Registered, SettleReply, SettleRequest,
    WatchFilter,
};
use tokio_stream::wrappers::ReceiverStream;

use super::command::{self, Answer, Call};
use super::item::{Failed, Waiting};
use super::machine::EngineMachine;
use super::route::{Place, passed_on};
use super::{RaftCoordinator, closed};
use crate::replica::Replica;

/// Batches that a list looks at while commands wait.
const SCAN: usize = 1_024;

fn claimed(answer: Answer) -> Option<Claim> {
    if let Answer::Claimed(claim) = answer { Some(claim) } else { None }
}

fn registered(answer: Answer) -> Option<Vec<Registered>> {
    if let Answer::Registered(all) = answer { Some(all) } else { None }
}

fn settled(answer: Answer) -> Option<SettleReply> {
    if let Answer::Settled(reply) = answer { Some(reply) } else { None }
}

fn extended(answer: Answer) -> Option<Vec<Extended>> {
    if let Answer::Extended(all) = answer { Some(all) } else { None }
}

fn controlled(answer: Answer) -> Option<(ControlReply, Option<u64>)> {
    if let Answer::Controlled(reply, rest) = answer { Some((reply, rest)) } else { None }
}

impl<Rp: Replica<EngineMachine>> RaftCoordinator<Rp> {
    fn look(&self, query: &Query) -> Result<Found, Error> {
        let mut found = Err(closed());
        self.inner.replica.with_machine(&mut |machine| found = machine.query(query, SCAN));
        found
    }

    /// In parts, so that commands get their turn between them.
    async fn list(&self, mut filter: ListFilter) -> Result<Found, Error> {
        let mut left = if filter.limit == 0 { DEFAULT_PAGE } else { filter.limit };
        let mut page = Page::default();
        loop {
            filter.limit = left;
            let Found::Batches(part) = self.look(&Query::List(filter.clone()))? else {
                return Err(command::lost("it is of another kind".to_owned()));
            };
            left = left.saturating_sub(u32::try_from(part.batches.len()).unwrap_or(u32::MAX));
            page.batches.extend(part.batches);
            page.next_cursor.clone_from(&part.next_cursor);
            if left == 0 || part.next_cursor.is_empty() {
                return Ok(Found::Batches(page));
            }
            filter.cursor = part.next_cursor;
            tokio::task::yield_now().await;
        }
    }

    /// The steps of a sweep; goes on where it stopped if the leader changes meanwhile.
    async fn sweep(&self, control: &Control, done: &Mutex<Sweep>) -> Result<ControlReply, Failed> {
        loop {
            let from = done.lock().unwrap_or_else(PoisonError::into_inner).from;
            let call = Call::Control(control.clone(), from);
            let (mut reply, rest) = self.ask_for(&call, None, controlled).await?;
            let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
            done.count += reply.count;
            match rest {
                Some(rest) => done.from = rest,
                None => {
                    reply.count = done.count;
                    return Ok(reply);
                }
            }
        }
    }
}

/// How far a sweep is.
#[derive(Default)]
struct Sweep {
    from: u64,
    count: u64,
}

#[async_trait]
impl<Rp: Replica<EngineMachine>> Coordinator for RaftCoordinator<Rp> {
    async fn register(&self, specs: Vec<BatchSpec>) -> Result<Vec<Registered>, Error> {
        let call = &Call::Register(specs);
        let Call::Register(specs) = call else { return Err(closed()) };
        let done = self.route.follow(Duration::ZERO, |place, _| async move {
            match place {
                Place::Here => self.ask_for(call, None, registered).await,
                Place::There(leader) => passed_on(leader.register(specs.clone()).await),
            }
        });
        done.await
    }

    async fn claim(&self, request: ClaimRequest) -> Result<Claim, Error> {
        limits::claim(&request)?;
        let request = &request;
        let done = self.route.follow(request.wait, |place, left| async move {
            let request = ClaimRequest { wait: left, ..request.clone() };
            match place {
                Place::There(leader) => passed_on(leader.claim(request).await),
                Place::Here => {
                    let until = self.inner.clock.elapsed().saturating_add(left);
                    let waiting =
                        (!left.is_zero()).then(|| Waiting { request: request.clone(), until });
                    self.ask_for(&Call::Claim(request), waiting, claimed).await
                }
            }
        });
        done.await
    }

    /// The results and the claim are one command. Where there is no work, the wait is a
    /// claim of its own: the results stand, whatever becomes of that.
    async fn settle(&self, mut request: SettleRequest) -> Result<SettleReply, Error> {
        let mut next = None;
        if let Some(claim) = &mut request.claim {
            limits::claim(claim)?;
            next = (!claim.wait.is_zero()).then(|| claim.clone());
            claim.wait = Duration::ZERO;
        }
        let call = &Call::Settle(request);
        let Call::Settle(request) = call else { return Err(closed()) };
        let done = self.route.follow(Duration::ZERO, |place, _| async move {
            match place {
                Place::Here => self.ask_for(call, None, settled).await,
                Place::There(leader) => passed_on(leader.settle(request.clone()).await),
            }
        });
        let mut reply: SettleReply = done.await?;
        let is_empty = reply.claim.as_ref().is_some_and(|claim| claim.leases.is_empty());
        if let Some(next) = next.filter(|_| is_empty) {
            match self.claim(next).await {
                Ok(claim) => reply.claim = Some(claim),
                Err(error) => tracing::debug!(%error, "a claim after a settle did not wait"),
            }
        }
        Ok(reply)
    }

    async fn extend(&self, leases: Vec<Extension>) -> Result<Vec<Extended>, Error> {
        let call = &Call::Extend(leases);
        let Call::Extend(leases) = call else { return Err(closed()) };
        let done = self.route.follow(Duration::ZERO, |place, _| async move {
            match place {
                Place::Here => self.ask_for(call, None, extended).await,
                Place::There(leader) => passed_on(leader.extend(leases.clone()).await),
            }
        });
        done.await
    }

    /// From the state of this node, which has all that was acknowledged before the call.
    async fn query(&self, query: Query) -> Result<Found, Error> {
        self.barrier().await?;
        match query {
            Query::List(filter) => self.list(filter).await,
            query => self.look(&query),
        }
    }

    async fn control(&self, control: Control) -> Result<ControlReply, Error> {
        let (control, sweep) = (&control, &Mutex::new(Sweep::default()));
        let done = self.route.follow(Duration::ZERO, |place, _| async move {
            match place {
                Place::Here => self.sweep(control, sweep).await,
                Place::There(leader) => passed_on(leader.control(control.clone()).await),
            }
        });
        done.await
    }

    /// What this node applies from now on, whoever leads.
    async fn watch(&self, filter: WatchFilter) -> Result<BoxStream<'static, Event>, Error> {
        self.barrier().await?;
        let (filter, mut added) = (&mut Some(filter), Err(closed()));
        self.inner.replica.with_machine(&mut |machine| {
            if let Some(filter) = filter.take() {
                added = machine.watchers().add(filter);
            }
        });
        Ok(ReceiverStream::new(added?).boxed())
    }
}
