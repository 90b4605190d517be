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
use super::assign::{self, Addresses};
use super::event::Event;
use super::model::Model;
use super::secrets::{Folder, RunSecrets};
use super::{Error, Inner, MAILBOX, NOTES, Note, Options, Outcome, Run, cut, seed};
use crate::driver::{Ended, LaunchId};
use crate::planned;

/// How long it is waited for who clears up after a run that was killed.
const CLEARING_TIME: Duration = Duration::from_secs(60);
/// How often it is looked whether that is done.
const LOOK: Duration = Duration::from_millis(100);

/// Everything that a run needs before it begins.
pub(super) struct Prepared {
    pub(super) folder: Folder,
    pub(super) secrets: RunSecrets,
    pub(super) assignments: BTreeMap<String, Assignment>,
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
        fresh: bool,
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
            folder.forget_state().map_err(failed)?;
            self.driver.remove(name, true).await?;
        }
        let mut secrets = assign::secrets(plan, file, before, self.clock.now());
        self.end_stale(name).await?;
        self.plane.plan(assign::registry_plan(plan, text, &secrets)).await?;
        for place in secrets.tokens.keys() {
            self.plane.vacate(place.clone(), "another run begins".to_owned()).await?;
        }
        secrets.run = self.plane.begin_run(name.clone()).await?;
        let prepared = self.assign(plan, folder, secrets);
        if let Err(error) = &prepared {
            let (failed, reason) = (PipelineState::Failed, cut(&error.to_string()));
            self.plane.set_pipeline_state(name.clone(), failed, reason).await?;
        }
        prepared
    }

    pub(super) fn assign(
        &self,
        plan: &Plan,
        folder: Folder,
        secrets: RunSecrets,
    ) -> Result<Prepared, Error> {
        let failed = |error| Error::folder(&self.options.folder, error);
        folder.write(&secrets).map_err(failed)?;
        let Options { host, control, .. } = self.options.clone();
        let addresses = Addresses { host, control };
        let mut assignments = assign::assignments(plan, &secrets, &folder, &addresses);
        for assignment in assignments.values_mut() {
            folder.create_state(&assignment.instance).map_err(failed)?;
            assignment.state_dir = std::path::absolute(&assignment.state_dir).map_err(failed)?;
            if let Some(authority) = &self.options.authority {
                let issued = authority.component(&assignment.place, assignment.run);
                let folder = authority.folder().to_owned();
                assignment.tls = Some(issued.map_err(|source| Error::Folder { folder, source })?);
            }
        }
        Ok(Prepared { folder, secrets, assignments })
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
        plan: &Plan,
        prepared: Prepared,
        model: Model,
        is_new: bool,
    ) -> Result<(mpsc::Receiver<Note>, watch::Receiver<Option<Outcome>>), Error> {
        let (mailbox, messages) = mpsc::channel(MAILBOX);
        let (notes, read) = mpsc::channel(NOTES);
        let (told, outcome) = watch::channel(None);
        let components = plan.components.iter().flat_map(|component| {
            let places = component.instances.iter();
            let places = places.map(|one| planned::place(&plan.pipeline, &one.id));
            places.map(|place| (component.id.clone(), place))
        });
        let components = Arc::new(components.collect());
        let run = Run { mailbox: mailbox.clone(), outcome: outcome.clone(), components };
        let actor = Actor::new(self, plan.pipeline.clone(), prepared, model, mailbox, notes);
        let events = actor.watch().await?;
        self.lock().insert(plan.pipeline.clone(), run);
        let (inner, name) = (Arc::downgrade(self), plan.pipeline.clone());
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
        for LaunchId { place, attempt } in self.driver.running(name).await? {
            let held = self.plane.component(place.clone()).await?.status.is_held();
            running.insert(place, (attempt, held));
        }
        let mut model = Model::new(assign::planned(&plan, &secrets), seed(secrets.run, name));
        let is_starting = pipeline.state == PipelineState::Starting;
        model.resume(&running, is_starting, self.clock.elapsed());
        let prepared = self.assign(&plan, folder, secrets)?;
        self.begin(&plan, prepared, model, false).await?;
        if pipeline.state == PipelineState::Stopping {
            let run = self.running(name)?;
            let event = Event::Stop { at_once: false, reason: pipeline.reason.clone() };
            drop(run.mailbox.send(Message::Happened(event)).await);
        }
        Ok(())
    }
}
