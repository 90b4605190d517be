//! The registry, kept: for whoever is in this process.

use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::registry::Registry as MetricsRegistry;
use sheaf_flight::Secret;
use sheaf_retry::{Code, SharedClock};
use tokio::sync::mpsc;

use super::metrics::Metrics;
use super::writer::{self, Core, Durability, Job};
use crate::health::Timing;
use crate::registry::{
    Beat, Component, Counted, Error, Event, Filter, Limits, Now, Pace, Page, Pipeline,
    PipelineState, Plan, Polled, Registered, Registration, Registry, Status, Token, Totals,
    Watched, Watchers,
};
use crate::state::{Damaged, Disk, Found, Opener, State};

/// Calls that may wait for the one thread that makes them.
const MAILBOX: usize = 4_096;

/// How a control plane is.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Where it keeps what it knows.
    pub state: State,
    /// How much that may be.
    pub limits: Limits,
    /// How it tells health.
    pub timing: Timing,
    /// What workers have to show; without it everybody may be one whom the port
    /// itself lets in.
    pub worker_token: Option<Token>,
}

/// The control plane. Cheap to clone; clones are the same one.
///
/// Calls are made one after another, and answered when what they changed is on
/// disk, many with one commit. Cancel-safe: a dropped call happens or does not.
/// When the last clone goes, what is not on disk yet is written.
#[derive(Clone)]
pub struct ControlPlane {
    shared: Arc<Shared>,
}

struct Shared {
    jobs: mpsc::Sender<Job>,
    metrics: Metrics,
    timing: Timing,
    run: u64,
    damaged: Vec<Damaged>,
}

/// What a reader of changes begins with, and what comes then.
#[derive(Debug)]
pub struct Events {
    /// The components that the filter selects, as they were at the beginning.
    pub current: Vec<Arc<Component>>,
    /// Every change since; it ends with the control plane.
    pub changes: mpsc::Receiver<Event>,
}

impl ControlPlane {
    /// Opens the state and begins to serve.
    ///
    /// # Errors
    /// [`Error::Invalid`] for timing that cannot work; [`Error::State`] where the
    /// file cannot be used, with the code `directory_locked` where another
    /// process has it, `format_newer` or `corrupt`.
    pub fn open(options: Options, clock: SharedClock) -> Result<Self, Error> {
        ControlPlane::open_by(options, None, clock)
    }

    /// As [`ControlPlane::open`], with a file that is opened by other means; its
    /// path is for messages. For tests of failing disks.
    ///
    /// # Errors
    /// As there.
    pub fn open_with(options: Options, opener: Opener, clock: SharedClock) -> Result<Self, Error> {
        ControlPlane::open_by(options, Some(opener), clock)
    }

    fn open_by(
        options: Options,
        opener: Option<Opener>,
        clock: SharedClock,
    ) -> Result<Self, Error> {
        let Options { state, limits, timing, worker_token } = options;
        timing
            .validate()
            .map_err(|problems| Error::Invalid { field: "timing", problem: problems.join("; ") })?;
        let (disk, found) = match state {
            // Fences go up from one process to the next as far as the clock does.
            State::Memory => {
                let epoch = u32::try_from(clock.now().as_millis() / 1_000).unwrap_or(u32::MAX);
                (None, Found { epoch, ..Found::default() })
            }
            State::File(path) => {
                let (disk, found) = match opener {
                    Some(opener) => Disk::open_with(path, opener)?,
                    None => Disk::open(path)?,
                };
                (Some(disk), found)
            }
        };
        // The keys of the hasher are random.
        let run = RandomState::new().hash_one("run").max(1);
        let watchers = Watchers::new(limits.watchers, limits.watch_buffer);
        let token = worker_token.map(|token| token.digest());
        let mut registry =
            Registry::new(limits, timing.clone(), found.epoch, run).with_worker_token(token);
        let stray = load(&mut registry, found.pipelines, found.components, Now::of(&*clock));
        let metrics = Metrics::new();
        metrics.opened(found.damaged.len());
        metrics.count(&registry, 0);
        let (jobs, receiver) = mpsc::channel(MAILBOX);
        let core = Core::new(registry, watchers, disk, clock, metrics.clone()).without(stray);
        writer::spawn(core, receiver)?;
        let shared = Shared { jobs, metrics, timing, run, damaged: found.damaged };
        Ok(ControlPlane { shared: Arc::new(shared) })
    }

    /// Which run of the control plane this is: another number at each start.
    pub fn run(&self) -> u64 {
        self.shared.run
    }

    /// How it tells health.
    pub fn timing(&self) -> &Timing {
        &self.shared.timing
    }

    /// Records that could not be read when it was opened, and are kept aside.
    pub fn damaged(&self) -> &[Damaged] {
        &self.shared.damaged
    }

    /// Registers `sheaf_control_…`.
    pub fn register_metrics(&self, registry: &mut MetricsRegistry) {
        self.shared.metrics.register(registry);
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    async fn call<T, F>(&self, durability: Durability, call: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&mut Core, Now) -> Result<T, Error> + Send + 'static,
    {
        let (job, answered) = writer::job(durability, self.shared.metrics.clone(), call);
        self.send(job)?;
        answered.await.unwrap_or_else(|_| Err(closed()))
    }

    fn send(&self, job: Job) -> Result<(), Error> {
        self.shared.jobs.try_send(job).map_err(|error| match error {
            mpsc::error::TrySendError::Closed(_) => closed(),
            mpsc::error::TrySendError::Full(_) => {
                let problem = format!("has {MAILBOX} calls waiting, its limit; try again");
                Error::Unavailable { problem, code: Code::Overloaded }
            }
        })
    }

    /// As [`Registry::register`].
    ///
    /// # Errors
    /// As there, and what keeping it fails with; so for all calls that change
    /// something.
    pub async fn register(&self, asked: Registration) -> Result<Registered, Error> {
        let call = |core: &mut Core, now| core.registry.register(asked, now);
        let registered = self.call(Durability::Hard, call).await?;
        self.shared.metrics.registered(registered.created);
        Ok(registered)
    }

    /// As [`Registry::beat`]; it is not written down.
    ///
    /// # Errors
    /// As there.
    pub async fn beat(&self, beat: Beat) -> Result<(Counted, Status), Error> {
        let answer = self.call(Durability::Soft, |core, now| core.registry.beat(beat, now)).await?;
        self.shared.metrics.beat(answer.0);
        Ok(answer)
    }

    /// As [`Registry::deregister`].
    ///
    /// # Errors
    /// As there.
    pub async fn deregister(
        &self,
        id: String,
        incarnation: Secret,
        reason: String,
        totals: Option<Totals>,
    ) -> Result<(), Error> {
        let call = move |core: &mut Core, now| {
            core.registry.deregister(&id, &incarnation, &reason, totals, now)
        };
        self.call(Durability::Hard, call).await
    }

    /// As [`Registry::exited`].
    ///
    /// # Errors
    /// As there.
    pub async fn exited(
        &self,
        id: String,
        incarnation: Secret,
        reason: String,
    ) -> Result<bool, Error> {
        let call =
            move |core: &mut Core, now| core.registry.exited(&id, &incarnation, &reason, now);
        self.call(Durability::Hard, call).await
    }

    /// As [`Registry::vacate`].
    ///
    /// # Errors
    /// As there.
    pub async fn vacate(&self, id: String, reason: String) -> Result<bool, Error> {
        let call = move |core: &mut Core, now| core.registry.vacate(&id, &reason, now);
        self.call(Durability::Hard, call).await
    }

    /// How often a component is told to beat, and how long it may be silent.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn timing_of(&self, id: String) -> Result<(Duration, Duration), Error> {
        let call = move |core: &mut Core, _| {
            Ok((core.registry.beat_every(&id), core.registry.unhealthy_after(&id)))
        };
        self.call(Durability::Soft, call).await
    }

    /// As [`Registry::pace`].
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn pace(&self) -> Result<Pace, Error> {
        self.call(Durability::Soft, |core: &mut Core, _| Ok(core.registry.pace())).await
    }

    /// As [`Registry::watched`].
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn watched(&self) -> Result<Vec<Watched>, Error> {
        self.call(Durability::Soft, |core: &mut Core, _| Ok(core.registry.watched())).await
    }

    /// As [`Registry::polled`].
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn polled(&self, id: String, fence: u64, polled: Polled) -> Result<(), Error> {
        self.shared.metrics.polled(&polled);
        let call = move |core: &mut Core, now| {
            core.registry.polled(&id, fence, &polled, now);
            Ok(())
        };
        self.call(Durability::Soft, call).await
    }

    /// As [`Registry::check`]; it also writes down what is not on disk yet, where
    /// that works. Health is told without a disk too.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn check(&self) -> Result<(), Error> {
        let call = |core: &mut Core, now| {
            core.registry.check(now);
            Ok(())
        };
        self.call(Durability::Flush, call).await
    }

    /// One component.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn component(&self, id: String) -> Result<Arc<Component>, Error> {
        let call = move |core: &mut Core, _| core.registry.component(&id).cloned();
        self.call(Durability::Soft, call).await
    }

    /// All components that the filter selects.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn select(&self, filter: Filter) -> Result<Vec<Arc<Component>>, Error> {
        let call = move |core: &mut Core, _| Ok(core.registry.select(&filter).cloned().collect());
        self.call(Durability::Soft, call).await
    }

    /// As [`Registry::page`].
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn page(&self, filter: Filter, after: String, most: usize) -> Result<Page, Error> {
        let call = move |core: &mut Core, _| Ok(core.registry.page(&filter, &after, most));
        self.call(Durability::Soft, call).await
    }

    /// What there is, and every change from then on: nothing lies in between.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where there are too many readers.
    pub async fn watch(&self, filter: Filter) -> Result<Events, Error> {
        let call = move |core: &mut Core, _| {
            let changes = core.watchers.add(filter.clone())?;
            let current = core.registry.select(&filter).cloned().collect();
            Ok(Events { current, changes })
        };
        self.call(Durability::Soft, call).await
    }

    /// As [`Registry::plan`].
    ///
    /// # Errors
    /// As there.
    pub async fn plan(&self, plan: Plan) -> Result<(), Error> {
        self.call(Durability::Hard, |core, now| core.registry.plan(plan, now)).await
    }

    /// As [`Registry::replan`].
    ///
    /// # Errors
    /// As there.
    pub async fn replan(&self, plan: Plan, changes: String) -> Result<u32, Error> {
        let call = move |core: &mut Core, now| core.registry.replan(plan, &changes, now);
        self.call(Durability::Hard, call).await
    }

    /// As [`Registry::begin_run`].
    ///
    /// # Errors
    /// As there.
    pub async fn begin_run(&self, id: String) -> Result<u64, Error> {
        self.call(Durability::Hard, move |core, now| core.registry.begin_run(&id, now)).await
    }

    /// As [`Registry::set_pipeline_state`].
    ///
    /// # Errors
    /// As there.
    pub async fn set_pipeline_state(
        &self,
        id: String,
        state: PipelineState,
        reason: String,
    ) -> Result<(), Error> {
        let call =
            move |core: &mut Core, now| core.registry.set_pipeline_state(&id, state, &reason, now);
        self.call(Durability::Hard, call).await
    }

    /// As [`Registry::remove_pipeline`].
    ///
    /// # Errors
    /// As there.
    pub async fn remove_pipeline(&self, id: String) -> Result<(), Error> {
        self.call(Durability::Hard, move |core, now| core.registry.remove_pipeline(&id, now)).await
    }

    /// One pipeline.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn pipeline(&self, id: String) -> Result<Arc<Pipeline>, Error> {
        let call = move |core: &mut Core, _| core.registry.pipeline(&id).cloned();
        self.call(Durability::Soft, call).await
    }

    /// All pipelines, in the order of their ids.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn pipelines(&self) -> Result<Vec<Arc<Pipeline>>, Error> {
        let call = |core: &mut Core, _| Ok(core.registry.pipelines().cloned().collect());
        self.call(Durability::Soft, call).await
    }

    /// Ends it: writes down everything, beats included, and lets go of the file.
    /// Later calls are refused with `draining`, and readers of changes see the end.
    ///
    /// # Errors
    /// [`Error::State`] where the last write failed; the file is let go of anyway.
    pub async fn close(&self) -> Result<(), Error> {
        let (reply, replied) = tokio::sync::oneshot::channel();
        match self.shared.jobs.send(Job::Close(reply)).await {
            Ok(()) => replied.await.unwrap_or(Ok(())),
            // It was closed before.
            Err(_) => Ok(()),
        }
    }
}

impl fmt::Debug for ControlPlane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ControlPlane").field("run", &self.shared.run).finish_non_exhaustive()
    }
}

/// Takes in what was stored, pipelines first: they have the places. Answers who
/// was left out.
fn load(
    registry: &mut Registry,
    pipelines: Vec<Pipeline>,
    components: Vec<Component>,
    now: Now,
) -> Vec<String> {
    for pipeline in pipelines {
        registry.load_pipeline(pipeline, now);
    }
    let mut stray = Vec::new();
    for component in components {
        let id = component.id.clone();
        if !registry.load_component(component, now) {
            tracing::warn!(id, "a stored component has no place in any plan: it is left out");
            stray.push(id);
        }
    }
    stray
}

pub(super) fn closed() -> Error {
    let problem = "is shutting down and takes no calls any more".to_owned();
    Error::Unavailable { problem, code: Code::Draining }
}
