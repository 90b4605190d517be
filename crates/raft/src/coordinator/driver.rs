//! What the leader does: collects calls into commands, lets claims wait, and sees to
//! what time brings about.
//!
//! One task on every node. Calls that come while commands are under way share the
//! next one. While another node leads it answers every call with that.

mod waits;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt as _};
use sheaf_coordinator::Error;
use sheaf_coordinator::backend::{Metrics, Time};
use sheaf_proto::raft::v1::CallReply;
use sheaf_retry::{Code, SharedClock, Timestamp};
use tokio::sync::{mpsc, watch};

use super::command::{self, Answer, Call};
use super::config::Config;
use super::item::{Failed, Item, Waiting};
use super::machine::EngineMachine;
use super::new_run;
use super::pace::Pace;
use super::parked::Parking;
use super::twice::Claims;
use crate::replica::{self, Leadership, Replica};

/// Most calls of one command.
const GROUP: usize = 4_096;
/// Longest sleep: the clock may not be the machine's.
const IDLE: Duration = Duration::from_secs(1);

/// While something waits for its time, the others hear of the time this often.
const TELL: Duration = Duration::from_secs(20);

/// Pause before a leader tries again to begin.
const AGAIN: Duration = Duration::from_millis(50);

/// A command that was proposed.
struct Landed {
    items: Vec<Item>,
    result: Result<Bytes, replica::Error>,
    began: Duration,
}

/// Where this node stands.
enum Role {
    /// Another node leads, or none.
    Away,
    /// It leads, and brings its configuration.
    Arriving { term: u64, first: BoxFuture<'static, Result<Bytes, replica::Error>>, time: Time },
    /// It does calls.
    Leading { term: u64, time: Time },
}

/// See the module.
pub(super) struct Driver<Rp> {
    replica: Arc<Rp>,
    clock: SharedClock,
    config: Config,
    metrics: Metrics,
    inbox: mpsc::Receiver<Item>,
    leadership: watch::Receiver<Leadership>,
    closing: watch::Receiver<bool>,
    role: Role,
    queue: VecDeque<Item>,
    parking: Parking,
    /// Claims that are here, but for those that came twice.
    claims: Claims,
    /// Those: each waits until the one before it is over.
    twice: Vec<(Waiting, Item)>,
    flights: FuturesUnordered<BoxFuture<'static, Landed>>,
    /// Claims under way that had waited: while there are some, no more are tried.
    serving: usize,
    /// Claims that wait are to be tried, though nothing new became ready.
    again: bool,
    pace: Pace,
}

/// What the state says that the driver goes by.
struct View {
    next_timer: Option<Timestamp>,
    now: Timestamp,
    /// A leader brought that time since this node was started.
    is_live: bool,
    is_ready: bool,
}

impl<Rp: Replica<EngineMachine>> Driver<Rp> {
    pub(super) fn new(
        replica: Arc<Rp>,
        clock: SharedClock,
        config: Config,
        metrics: Metrics,
        inbox: mpsc::Receiver<Item>,
        closing: watch::Receiver<bool>,
    ) -> Self {
        let (leadership, parking) = (replica.leadership(), Parking::new(config.max_waiting));
        Driver {
            replica,
            clock,
            config,
            metrics,
            inbox,
            leadership,
            closing,
            role: Role::Away,
            queue: VecDeque::new(),
            parking,
            claims: Claims::default(),
            twice: Vec::new(),
            flights: FuturesUnordered::new(),
            serving: 0,
            again: false,
            pace: Pace::default(),
        }
    }

    /// Works until it is closed, or nobody can call any more.
    pub(super) async fn run(mut self) {
        let mut closing = self.closing.clone();
        loop {
            self.look_who_leads();
            let pause = self.advance();
            let room = self.queue.len() < GROUP;
            tokio::select! {
                biased;
                _ = closing.wait_for(|closed| *closed) => break,
                changed = self.leadership.changed() => if changed.is_err() { break },
                result = arrived(&mut self.role) => self.arrived(result),
                Some(landed) = self.flights.next() => self.landed(landed),
                item = self.inbox.recv(), if room => match item {
                    Some(item) => self.take(item),
                    None => break,
                },
                () = tokio::time::sleep(pause) => {}
            }
        }
        self.close().await;
    }

    /// Claims that wait get nothing; what is under way is still answered.
    async fn close(mut self) {
        self.inbox.close();
        self.end_waits(Duration::MAX);
        while let Some(landed) = self.flights.next().await {
            self.deliver(landed);
        }
        self.end_waits(Duration::MAX);
        // What they have got is not nothing, and not known here.
        for (_, item) in self.parking.drain().chain(self.twice.drain(..)) {
            item.answer(Err(Failed::Error(super::closed())));
        }
        self.queue.extend(std::iter::from_fn(|| self.inbox.try_recv().ok()));
        for item in std::mem::take(&mut self.queue) {
            item.answer(Err(Failed::Error(super::closed())));
        }
    }

    fn now(&self) -> Timestamp {
        let mut now = Timestamp::EPOCH;
        self.replica.with_machine(&mut |machine| now = machine.engine().now());
        now
    }

    fn view(&self) -> View {
        let mut view =
            View { next_timer: None, now: Timestamp::EPOCH, is_live: false, is_ready: false };
        let restored = self.replica.restored();
        let elapsed = self.clock.elapsed();
        self.replica.with_machine(&mut |machine| {
            view.next_timer = machine.next_timer();
            view.now = machine.engine().now();
            view.is_live = is_live(machine, restored);
            view.is_ready = machine.engine().take_ready();
            self.metrics.count(elapsed, || machine.engine().totals());
        });
        view
    }

    fn look_who_leads(&mut self) {
        let (term, is_ready) = {
            let seen = self.leadership.borrow_and_update();
            (seen.term, seen.is_ready)
        };
        let own = match &self.role {
            Role::Away => None,
            Role::Arriving { term, .. } | Role::Leading { term, .. } => Some(*term),
        };
        match (is_ready, own) {
            (true, Some(own)) if own == term => {}
            (true, _) => {
                let (mut now, mut came) = (Timestamp::EPOCH, false);
                let restored = self.replica.restored();
                self.replica.with_machine(&mut |machine| {
                    (now, came) = (machine.engine().now(), is_live(machine, restored));
                });
                let time = self.pace.lead(&self.clock, now, came);
                self.role = self.arriving(term, time, Duration::ZERO);
            }
            (false, Some(_)) => self.step_down("the lead went to another node"),
            (false, None) => {}
        }
    }

    /// The first command of a leader.
    fn arriving(&self, term: u64, mut time: Time, pause: Duration) -> Role {
        let config = Box::new(self.config.engine.clone());
        let lead = Call::Lead { node: self.config.node, run: new_run(), config };
        let bytes = lead.encode();
        let command = command::command(time.now(), std::iter::once(bytes.as_slice()));
        let replica = Arc::clone(&self.replica);
        let first = Box::pin(async move {
            tokio::time::sleep(pause).await;
            replica.propose(command).await
        });
        Role::Arriving { term, first, time }
    }

    fn step_down(&mut self, why: &str) {
        self.role = Role::Away;
        self.serving = 0;
        for (_, item) in self.parking.drain().chain(self.twice.drain(..)) {
            item.answer(Err(Failed::Elsewhere(why.to_owned())));
        }
        for item in self.queue.drain(..) {
            item.answer(Err(Failed::Elsewhere(why.to_owned())));
        }
    }

    fn arrived(&mut self, result: Result<Bytes, replica::Error>) {
        let Role::Arriving { term, time, .. } = std::mem::replace(&mut self.role, Role::Away)
        else {
            return;
        };
        match result {
            Ok(_) => {
                tracing::info!(term, node = self.config.node, "leads the coordinator");
                self.role = Role::Leading { term, time };
                self.again = true;
            }
            // Whether it still leads is told elsewhere. Twice the command does no harm.
            Err(error) => {
                tracing::warn!(%error, term, "could not begin to lead the coordinator");
                self.role = self.arriving(term, time, AGAIN);
            }
        }
    }

    /// A call that came in.
    fn take(&mut self, item: Item) {
        if matches!(self.role, Role::Away) {
            return item.answer(Err(Failed::Elsewhere("this node does not lead".to_owned())));
        }
        self.enter(item);
        // What else is there shares the command.
        while self.queue.len() < GROUP
            && let Ok(item) = self.inbox.try_recv()
        {
            self.enter(item);
        }
    }

    /// Proposes what there is to propose; how long there will be nothing.
    fn advance(&mut self) -> Duration {
        let view = self.view();
        self.pace.see(&self.clock, view.now, view.is_live);
        self.again |= view.is_ready;
        let Role::Leading { time, .. } = &mut self.role else { return IDLE };
        let now = time.now();
        // In this order: what another leader gave to a claim that waits here is no nothing.
        if self.again && self.serving == 0 {
            self.again = false;
            self.serve();
        }
        self.end_waits(self.clock.elapsed());
        self.look_for_second();
        while !self.queue.is_empty() && self.flights.len() < self.config.max_commands {
            self.propose(now);
        }
        let is_due = view.next_timer.is_some_and(|at| at <= now);
        // The others are to know the time when they have to go on with it.
        let is_old = view.next_timer.is_some() && now.since(view.now) >= TELL;
        if (is_due || is_old) && self.flights.is_empty() {
            self.fly(Vec::new(), now);
        }
        self.gauge();
        let timer = view.next_timer.map(|at| at.since(now));
        let elapsed = self.clock.elapsed();
        let ends = [self.parking.next_end(), self.next_second()];
        let end = ends.into_iter().flatten().min().map(|until| until.saturating_sub(elapsed));
        let pauses = [timer.filter(|_| !is_due), end, Some(IDLE)];
        pauses.into_iter().flatten().min().unwrap_or(IDLE).max(Duration::from_millis(1))
    }

    /// The next command: as many calls as it takes. Nothing is done for callers that
    /// gave up.
    fn propose(&mut self, now: Timestamp) {
        let (mut items, mut bytes) = (Vec::new(), 0);
        while let Some(item) = self.queue.front() {
            if item.is_gone() {
                if let Some(gone) = self.queue.pop_front() {
                    self.is_served(&gone);
                }
                continue;
            }
            let length = item.bytes().len();
            let fits = items.is_empty() || bytes + length <= self.config.max_command_bytes;
            if !fits || items.len() == GROUP {
                break;
            }
            bytes += length;
            items.extend(self.queue.pop_front());
        }
        if !items.is_empty() {
            self.fly(items, now);
        }
    }

    fn fly(&self, items: Vec<Item>, now: Timestamp) {
        let calls = items.iter().filter_map(|item| item.call.as_deref());
        let command = command::command(now, calls);
        let (replica, began) = (Arc::clone(&self.replica), self.clock.elapsed());
        self.flights.push(Box::pin(async move {
            let result = replica.propose(command).await;
            Landed { items, result, began }
        }));
    }

    fn landed(&mut self, landed: Landed) {
        let took = self.clock.elapsed().saturating_sub(landed.began);
        match &landed.result {
            Ok(_) => self.metrics.stored(took, landed.items.len()),
            Err(_) => drop(self.metrics.failures.inc()),
        }
        self.deliver(landed);
    }

    fn deliver(&mut self, landed: Landed) {
        let Landed { items, result, .. } = landed;
        match result {
            Ok(bytes) => self.hand_out(items, &bytes),
            Err(replica::Error::TooLarge { .. }) if items.len() > 1 => {
                // Each by itself: only the one that is too large fails.
                let now = self.now();
                items.into_iter().for_each(|item| self.fly(vec![item], now));
            }
            Err(error) => {
                for item in items {
                    self.is_served(&item);
                    item.answer(Err(failed(&error)));
                }
            }
        }
    }

    fn hand_out(&mut self, items: Vec<Item>, bytes: &Bytes) {
        // Errors name fields by texts that the machine keeps.
        let mut results = Vec::with_capacity(items.len());
        self.replica.with_machine(&mut |machine| {
            results = read(bytes, items.iter().map(|item| item.call.is_some()), machine);
        });
        for (item, result) in items.into_iter().zip(results) {
            self.is_served(&item);
            self.settle(item, result);
        }
    }
}

/// Whether a leader brought the time of the state since this node was started: what the log had
/// by then may have lain there for long.
fn is_live(machine: &EngineMachine, restored: Option<u64>) -> bool {
    let came = |index: u64| restored.is_none_or(|restored| index > restored);
    machine.timed_at().is_some_and(came)
}

/// One answer for each item; those without a call have none of their own.
fn read(
    bytes: &Bytes,
    calls: impl Iterator<Item = bool>,
    machine: &EngineMachine,
) -> Vec<Result<Answer, Error>> {
    let name = |text: &str| machine.name(text);
    let mut replies: Result<std::vec::IntoIter<CallReply>, Error> =
        command::replies(bytes, &name).map(|replies| replies.all.into_iter());
    calls
        .map(|is_call| match &mut replies {
            Ok(_) if !is_call => Ok(Answer::Done(0)),
            Ok(replies) => {
                let missing = || command::lost("there is one answer too few".to_owned());
                replies.next().ok_or_else(missing).and_then(|reply| command::answer(reply, &name))
            }
            Err(_) => Err(refused(bytes, &name)),
        })
        .collect()
}

/// The error of a command, once for every caller.
fn refused(bytes: &Bytes, name: super::failure::Names<'_>) -> Error {
    match command::replies(bytes, name) {
        Err(error) => error,
        Ok(_) => command::lost("it changed".to_owned()),
    }
}

/// What a caller is told of a command that was not answered.
pub(super) fn failed(error: &replica::Error) -> Failed {
    match error {
        replica::Error::NotLeader { .. } | replica::Error::Unknown { .. } => {
            Failed::Elsewhere(error.to_string())
        }
        replica::Error::Full { .. } => Failed::Error(Error::Unavailable {
            problem: format!("is overloaded: {error}"),
            code: Code::Overloaded,
        }),
        replica::Error::TooLarge { actual, limit } => {
            Failed::Error(Error::Limit { field: "command", actual: *actual, limit: *limit })
        }
        replica::Error::Stopped { .. } => Failed::Error(super::stopped(error)),
    }
}

/// The end of a leader's first command, where there is one under way.
async fn arrived(role: &mut Role) -> Result<Bytes, replica::Error> {
    match role {
        Role::Arriving { first, .. } => first.await,
        _ => std::future::pending().await,
    }
}
