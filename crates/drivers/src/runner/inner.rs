//! What a runner does for its runs.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use sheaf_dataflow::Assignment;
use sheaf_pipeline::check::check;
use sheaf_pipeline::plan::Plan;
use sheaf_pipeline::registry::{self, PipelineState};
use tokio::sync::{mpsc, watch};

use super::actor::{Actor, Message};
use super::assign;
use super::event::Event;
use super::model::Model;
use super::node::{self, Node, StoreRecord};
use super::secrets::{Folder, RunSecrets};
use super::{Error, Inner, MAILBOX, NOTES, Note, Outcome, Run, seed};
use crate::driver::{Ended, LaunchId};
use crate::planned;

/// How long it is waited for who clears up after a run that was killed.
const CLEARING_TIME: Duration = Duration::from_secs(60);
/// How often it is looked whether that is done.
const LOOK: Duration = Duration::from_millis(100);

/// Everything that a run needs before it begins.
pub(super) struct Prepared {
    pub(super) plan: Plan,
    pub(super) text: String,
    pub(super) folder: Folder,
    pub(super) secrets: RunSecrets,
    pub(super) assignments: BTreeMap<String, Assignment>,
    /// The process of its durable edges, where it has one.
    pub(super) node: Option<Node>,
    /// It goes on where the run before was broken off.
    pub(super) goes_on: bool,
}

impl Inner {
    pub(super) fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Run>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn run(&self, pipeline: &str) -> Option<Run> {
        self.lock().get(pipeline).cloned()
    }

    pub(super) fn overseen(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.overseen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn running(&self, pipeline: &str) -> Result<Run, Error> {
        self.run(pipeline).ok_or_else(|| {
            let is_overseen = self.overseen().contains(pipeline);
            let pipeline = pipeline.to_owned();
            match is_overseen {
                true => Error::Overseen { pipeline },
                false => Error::NotRunning { pipeline },
            }
        })
    }

    pub(super) async fn tell(&self, ended: Ended) {
        let pipeline = ended.id.place.split(':').next().unwrap_or_default();
        if let Some(run) = self.run(pipeline) {
            // Its mailbox is read until it is over.
            drop(run.mailbox.send(Message::ended(ended)).await);
        }
    }

    pub(super) async fn take_folder(&self, pipeline: &str) -> Result<Folder, Error> {
        let (root, began) = (&self.options.folder, self.clock.elapsed());
        loop {
            let taken = Folder::take(root, pipeline);
            if let Some(folder) = taken.map_err(|error| Error::folder(root, error))? {
                return Ok(folder);
            }
            let waited = self.clock.elapsed().saturating_sub(began);
            if !Folder::is_cleared(root, pipeline) || waited > CLEARING_TIME {
                let pipeline = pipeline.to_owned();
                return Err(Error::Held { pipeline, folder: root.clone() });
            }
            self.clock.sleep(LOOK).await;
        }
    }

    pub(super) async fn prepare(
        &self,
        plan: &Plan,
        file: &str,
        text: &str,
        folder: Folder,
        (fresh, store): (bool, Option<StoreRecord>),
    ) -> Result<Prepared, Error> {
        let name = &plan.pipeline;
        let failed = |error| Error::folder(&self.options.folder, error);
        let mut before = folder.read().map_err(failed)?;
        for LaunchId { place, attempt } in self.end_leftovers(name).await? {
            let attempts = &mut before.get_or_insert_default().attempts;
            let last = attempts.entry(place).or_default();
            *last = attempt.max(*last);
        }
        if fresh {
            if let Some(before) = &mut before {
                before.complete = true;
            }
            folder.forget_state().map_err(failed)?;
            folder.forget_store().map_err(failed)?;
            self.driver.remove(name, true).await?;
        }
        let last = before.as_ref().map(|before| before.pass);
        let mut secrets = assign::secrets(plan, file, before, self.clock.now());
        let goes_on = last == Some(secrets.pass);
        secrets.store = store;
        self.end_stale(name).await?;
        self.plane.plan(assign::registry_plan(plan, text, &secrets)).await?;
        for place in secrets.tokens.keys() {
            self.plane.vacate(place.clone(), "another run begins".to_owned()).await?;
        }
        secrets.run = self.plane.begin_run(name.clone()).await?;
        let prepared = self.assign(plan, text, folder, secrets);
        let prepared = prepared.map(|prepared| Prepared { goes_on, ..prepared });
        if let Err(error) = &prepared {
            let (failed, reason) = (PipelineState::Failed, registry::reason(&error.to_string()));
            self.plane.set_pipeline_state(name.clone(), failed, reason).await?;
        }
        prepared
    }

    pub(super) fn assign(
        &self,
        plan: &Plan,
        text: &str,
        folder: Folder,
        secrets: RunSecrets,
    ) -> Result<Prepared, Error> {
        let failed = |error| Error::folder(&self.options.folder, error);
        folder.write(&secrets).map_err(failed)?;
        let assignments = assign::told(plan, &secrets, &folder, &self.options)?;
        let place = planned::place(&plan.pipeline, node::INSTANCE);
        let attempt = secrets.attempts.get(&place).copied().unwrap_or(0);
        let seed = seed(secrets.run, &place);
        let node = Node::prepare(&plan.pipeline, secrets.store.as_ref(), &folder, attempt, seed);
        let node = node.map_err(failed)?;
        let (plan, text) = (plan.clone(), text.to_owned());
        Ok(Prepared { plan, text, folder, secrets, assignments, node, goes_on: false })
    }

    /// Where the durable edges of a plan lead through.
    pub(super) fn store(&self, plan: &Plan, fresh: bool) -> Result<Option<StoreRecord>, Error> {
        let (options, driver) = (&self.options.durable, &*self.driver);
        let store = StoreRecord::of(plan, options, driver, self.clock.now())?;
        match &store {
            Some(store) if fresh && store.program.is_none() => {
                let (pipeline, address) = (plan.pipeline.clone(), store.address.clone());
                Err(Error::FreshElsewhere { pipeline, address })
            }
            _ => Ok(store),
        }
    }

    /// Ends what an earlier run has left that nobody looks after any more.
    pub(super) async fn end_leftovers(&self, pipeline: &str) -> Result<Vec<LaunchId>, Error> {
        let left = self.driver.running(pipeline).await?;
        for id in &left {
            tracing::warn!(component = id.place, "it still runs from an earlier run: it is ended");
            self.driver.stop(id, Duration::ZERO).await?;
        }
        Ok(left)
    }

    /// A run of which nothing runs and that nobody has ended.
    pub(super) async fn end_stale(&self, pipeline: &str) -> Result<(), Error> {
        match self.plane.pipeline(pipeline.to_owned()).await {
            Ok(found) if !found.state.is_over() => {
                let reason = "it was broken off: the process that ran it has ended".to_owned();
                let failed = PipelineState::Failed;
                Ok(self.plane.set_pipeline_state(pipeline.to_owned(), failed, reason).await?)
            }
            Ok(_) | Err(registry::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) async fn begin(
        self: &Arc<Self>,
        prepared: Prepared,
        model: Model,
        is_new: bool,
    ) -> Result<(mpsc::Receiver<Note>, watch::Receiver<Option<Outcome>>), Error> {
        let (mailbox, messages) = mpsc::channel(MAILBOX);
        let (notes, read) = mpsc::channel(NOTES);
        let (told, outcome) = watch::channel(None);
        let name = prepared.plan.pipeline.clone();
        let actor = Actor::new(self, prepared, model, mailbox.clone(), notes);
        let components = actor.components();
        let run = Run { mailbox, outcome: outcome.clone(), components };
        let events = actor.watch().await?;
        self.lock().insert(name.clone(), run);
        let inner = Arc::downgrade(self);
        tokio::spawn(async move {
            let ended = actor.run(messages, events, is_new).await;
            if let Some(inner) = inner.upgrade() {
                inner.lock().remove(&name);
            }
            told.send_replace(Some(ended));
        });
        Ok((read, outcome))
    }

    pub(super) async fn take_up(
        self: &Arc<Self>,
        pipeline: &registry::Pipeline,
    ) -> Result<(), Error> {
        let name = &pipeline.plan.id;
        let folder = self.take_folder(name).await?;
        let failed = |error| Error::folder(&self.options.folder, error);
        let secrets = folder.read().map_err(failed)?.filter(|found| {
            // Of another run, tokens are of no use.
            found.run == pipeline.last_run
        });
        let secrets = secrets.ok_or_else(|| Error::NoSecrets { pipeline: name.clone() })?;
        let checked = check(&secrets.file, &pipeline.plan.spec).map_err(Error::Spec)?;
        let plan = Plan::new(&checked.pipeline);
        let mut running = BTreeMap::new();
        let mut store = None;
        for LaunchId { place, attempt } in self.driver.running(name).await? {
            if place == planned::place(name, node::INSTANCE) {
                store = Some(attempt);
                continue;
            }
            let held = self.plane.component(place.clone()).await?.status.is_held();
            running.insert(place, (attempt, held));
        }
        let mut model = Model::new(assign::planned(&plan, &secrets), seed(secrets.run, name));
        let is_starting = pipeline.state == PipelineState::Starting;
        model.resume(&running, &secrets.handed, is_starting, self.clock.elapsed());
        let text = &pipeline.plan.spec;
        // On the way to another plan, places may have got new tokens that it does not know yet.
        self.plane.plan(assign::registry_plan(&plan, text, &secrets)).await?;
        let mut prepared = self.assign(&plan, text, folder, secrets)?;
        if let (Some(node), Some(attempt)) = (&mut prepared.node, store) {
            node.is_up(attempt, self.clock.elapsed());
        }
        self.begin(prepared, model, false).await?;
        if pipeline.state == PipelineState::Stopping {
            let run = self.running(name)?;
            let event = Event::Stop { at_once: false, reason: pipeline.reason.clone() };
            drop(run.mailbox.send(Message::Happened(event)).await);
        }
        Ok(())
    }
}
