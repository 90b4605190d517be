//! Brings a run to another plan.

use std::collections::BTreeSet;

use sheaf_dataflow::{UNDRAINED, done_reason};
use sheaf_pipeline::plan::Plan;
use sheaf_pipeline::registry::{self, Status};
use tokio::sync::oneshot;

use super::super::change::{Change, refusal};
use super::super::event::Event;
use super::super::secrets::RunSecrets;
use super::super::{Error, Reloaded, assign};
use super::Actor;

/// Changes of one run that may wait for the one before.
const MAX_WAITING: usize = 16;

/// Another plan for a run.
pub(in crate::runner) struct Request {
    pub(in crate::runner) plan: Plan,
    pub(in crate::runner) file: String,
    pub(in crate::runner) text: String,
    pub(in crate::runner) reply: oneshot::Sender<Result<Reloaded, Error>>,
}

/// One on its way.
pub(super) struct Reloading {
    plan: Plan,
    text: String,
    secrets: RunSecrets,
    change: Change,
    reply: Option<oneshot::Sender<Result<Reloaded, Error>>>,
    /// The plan before, which comes back where this one cannot be had.
    back: Option<Box<(Plan, String, String)>>,
    /// Why it comes back, where this is that one.
    failed: Option<String>,
    /// Which generation it is, once it holds.
    generation: u32,
}

impl Actor {
    /// Takes a request, at once or when the ones before it are over.
    pub(super) fn requested(&mut self, request: Request) -> Option<Event> {
        if self.reloading.is_none() {
            return self.begin_reload(request);
        }
        if self.waiting.len() < MAX_WAITING {
            self.waiting.push_back(request);
            return None;
        }
        let (pipeline, waiting) = (self.name.clone(), self.waiting.len());
        // Whoever asked may have gone.
        drop(request.reply.send(Err(Error::Busy { pipeline, waiting })));
        None
    }

    /// The next one that waits, where none is on its way.
    pub(super) fn next_reload(&mut self) -> Option<Event> {
        while self.reloading.is_none() {
            let request = self.waiting.pop_front()?;
            if let Some(event) = self.begin_reload(request) {
                return Some(event);
            }
        }
        None
    }

    fn begin_reload(&mut self, request: Request) -> Option<Event> {
        let Request { plan, file, text, reply } = request;
        let refused = |why: String| Error::Reload { pipeline: self.name.clone(), why };
        if let Some(why) = refusal(&self.plan, &plan) {
            drop(reply.send(Err(refused(why))));
            return None;
        }
        let back = (self.plan.clone(), self.secrets.file.clone(), self.text.clone());
        match self.prepare_reload(plan, file, text) {
            Ok(reloading) => {
                let (reply, back) = (Some(reply), Some(Box::new(back)));
                Some(self.set_out(Reloading { reply, back, ..reloading }))
            }
            Err(error) => {
                drop(reply.send(Err(error)));
                None
            }
        }
    }

    fn prepare_reload(&self, plan: Plan, file: String, text: String) -> Result<Reloading, Error> {
        let mut secrets = RunSecrets { file, ..self.secrets.clone() };
        let token = || assign::token(self.clock.now());
        for place in assign::places(&plan) {
            secrets.tokens.entry(place).or_insert_with(token);
        }
        // Folders are made before anything ends for them.
        self.assignments_of(&plan, &secrets)?;
        let change = Change::between(&self.plan, &plan);
        // A process of the plan before must not take a place of this one.
        for place in &change.restarted {
            secrets.tokens.insert(place.clone(), token());
        }
        let (reply, back, failed, generation) = (None, None, None, 0);
        Ok(Reloading { plan, text, secrets, change, reply, back, failed, generation })
    }

    fn set_out(&mut self, reloading: Reloading) -> Event {
        let Reloading { change, back, .. } = &reloading;
        let (leaving, can_go_back) = (change.leaving(), back.is_some());
        self.note("", format!("another plan: {}", change.text()));
        self.reloading = Some(reloading);
        Event::Reload { leaving, can_go_back }
    }

    /// The places are empty: from here on the other plan is the one that holds.
    pub(super) async fn replan(&mut self, told: &BTreeSet<String>) -> Event {
        let Some(mut reloading) = self.reloading.take() else { return Event::NotReplanned };
        match self.holders(told, &reloading).await {
            Ok(holders) if holders.is_empty() => {}
            Ok(holders) => {
                self.widen(&mut reloading, holders);
                return self.set_out(reloading);
            }
            Err(error) => tracing::warn!(pipeline = self.name, %error, "who drained is not known"),
        }
        match self.try_replan(&mut reloading).await {
            Ok(done) => {
                let next = assign::planned(&self.plan, &self.secrets);
                self.reloading = Some(reloading);
                Event::Replanned { next, done }
            }
            Err(error) => {
                let text = registry::reason(&format!("the other plan cannot be had: {error}"));
                self.note("", text);
                if let Some(reply) = reloading.reply {
                    drop(reply.send(Err(error)));
                }
                Event::NotReplanned
            }
        }
    }

    /// Who goes on and holds rows of one that was told to end and has not drained: those come
    /// again, so it has to forget them.
    async fn holders(
        &self,
        told: &BTreeSet<String>,
        reloading: &Reloading,
    ) -> Result<BTreeSet<String>, Error> {
        let leaving = reloading.change.leaving();
        let mut holders = BTreeSet::new();
        for place in told {
            let found = self.plane.component(place.clone()).await?;
            if found.status == Status::Stopped && found.reason != UNDRAINED {
                continue;
            }
            let readers = found.connections.downstream.iter();
            let stay = readers.filter(|reader| !leaving.contains(*reader));
            holders.extend(stay.cloned());
        }
        Ok(holders)
    }

    fn widen(&self, reloading: &mut Reloading, holders: BTreeSet<String>) {
        let names: Vec<&str> = holders.iter().map(|place| assign::instance(place)).collect();
        let names = names.join(", ");
        self.note("", format!("not all has drained: what {names} hold of it comes again"));
        let Reloading { change, secrets, .. } = reloading;
        change.kept = change.kept.saturating_sub(holders.len());
        for place in &holders {
            secrets.tokens.insert(place.clone(), assign::token(self.clock.now()));
        }
        change.restarted.extend(holders);
    }

    async fn try_replan(&mut self, reloading: &mut Reloading) -> Result<BTreeSet<String>, Error> {
        let Reloading { plan, text, secrets, change, generation, .. } = reloading;
        let done = self.done(change).await?;
        // Attempts have gone on, and old tokens are kept until the registry has new ones.
        secrets.attempts.clone_from(&self.secrets.attempts);
        secrets.handed.clone_from(&self.secrets.handed);
        for place in &change.started {
            let attempt = secrets.attempts.get(place).copied().unwrap_or_default();
            secrets.handed.insert(place.clone(), attempt);
        }
        let to_tell = self.assignments_of(plan, secrets)?;
        self.write(secrets)?;
        let registered = assign::registry_plan(plan, text, secrets);
        let replanned = self.plane.replan(registered, registry::reason(&change.text())).await;
        *generation = match replanned {
            Ok(generation) => generation,
            Err(error) => {
                self.write(&self.secrets)?;
                return Err(error.into());
            }
        };
        for place in &change.stopped {
            secrets.tokens.remove(place);
            secrets.handed.remove(place);
        }
        self.secrets = secrets.clone();
        (self.plan, self.text) = (plan.clone(), text.clone());
        self.assignments = to_tell;
        self.components.send_replace(assign::components(&self.plan));
        if let Err(error) = self.write(&self.secrets) {
            tracing::warn!(pipeline = self.name, %error, "tokens of places that are gone stay");
        }
        Ok(done)
    }

    /// Whose holders have come to their end by themselves.
    async fn done(&self, change: &Change) -> Result<BTreeSet<String>, Error> {
        let reason = done_reason(self.secrets.pass);
        let mut done = BTreeSet::new();
        for place in change.leaving() {
            let found = self.plane.component(place.clone()).await?;
            if found.has_left(&reason) {
                done.insert(place);
            }
        }
        Ok(done)
    }

    /// What the other plan needs runs, or not.
    pub(super) fn reloaded(&mut self, result: Result<(), String>) {
        let Some(reloading) = self.reloading.take() else { return };
        let Reloading { change, reply, failed, generation, .. } = reloading;
        if result.is_ok() {
            for place in &change.stopped {
                if let Err(error) = self.folder.forget_state_of(assign::instance(place)) {
                    tracing::warn!(component = place, %error, "its state cannot be removed");
                }
            }
        }
        let names = |places: &BTreeSet<String>| {
            places.iter().map(|place| assign::instance(place).to_owned()).collect()
        };
        let pipeline = self.name.clone();
        let answer = match (failed, result) {
            (Some(why), _) => Err(Error::Reload { pipeline, why }),
            (None, Err(why)) => Err(Error::Unproved { pipeline, generation, why }),
            (None, Ok(())) => Ok(Reloaded {
                pipeline,
                run: self.secrets.run,
                generation,
                restarted: names(&change.restarted),
                started: names(&change.started),
                stopped: names(&change.stopped),
                kept: change.kept,
                warnings: String::new(),
            }),
        };
        let text = match &answer {
            Ok(_) => format!("generation {generation} runs"),
            Err(error) => error.to_string(),
        };
        self.note("", text);
        if let Some(reply) = reply {
            // Whoever asked may have gone.
            drop(reply.send(answer));
        }
    }

    /// A component of the other plan cannot be had at all: the one before comes back.
    pub(super) fn go_back(&mut self, why: String) -> Option<Event> {
        let Reloading { reply, back, .. } = self.reloading.take()?;
        let (plan, file, text) = *back?;
        let failed = format!("the new plan was taken back, since {why}");
        self.note("", registry::reason(&failed));
        match self.prepare_reload(plan, file, text) {
            Ok(reloading) => {
                let failed = Some(failed);
                Some(self.set_out(Reloading { reply, failed, ..reloading }))
            }
            Err(error) => {
                let reason =
                    registry::reason(&format!("the plan before cannot come back: {error}"));
                if let Some(reply) = reply {
                    drop(reply.send(Err(error)));
                }
                Some(Event::Stop { at_once: false, reason })
            }
        }
    }

    /// The run is being stopped: nothing is brought to another plan any more.
    pub(super) fn drop_reloads(&mut self) {
        let current = self.reloading.take().and_then(|reloading| reloading.reply);
        let waiting = self.waiting.drain(..).map(|request| request.reply);
        for reply in current.into_iter().chain(waiting) {
            drop(reply.send(Err(Error::NotRunning { pipeline: self.name.clone() })));
        }
    }
}
