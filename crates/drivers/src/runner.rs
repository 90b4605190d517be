//! Brings pipelines up, keeps them up, and brings them down.
//!
//! A [`Runner`] takes the text of a file, checks it, gives its places to the registry of a
//! [`ControlPlane`], and has a [`Driver`] start an instance for each place, readers first.
//! From then on it listens: to the registry, which knows who registered and who is silent, and
//! to the driver, which knows who has ended. What ended or hangs is started again as its
//! `restart` says. What has come to its end by itself is done; when all have, the run is over.
//!
//! | state | when |
//! |---|---|
//! | `starting` | until every instance has registered |
//! | `running` | from then on |
//! | `stopping` | it was told to stop, or an instance cannot be had |
//! | `stopped` | it was stopped, or everything has come to its end |
//! | `failed` | an instance cannot be had: the reason says which, and why |
//!
//! What it needs to go on after its own end is kept by the control plane, and in a folder for
//! each pipeline: [`Runner::adopt`] takes up what was under way.

mod actor;
mod assign;
mod change;
mod environment;
mod error;
mod event;
mod inner;
mod model;
mod node;
mod overseen;
mod secrets;
mod spans;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sheaf_pipeline::check::check;
use sheaf_pipeline::control::ControlPlane;
use sheaf_pipeline::diagnostics::Report;
use sheaf_pipeline::plan::Plan;
use sheaf_pipeline::registry::{self, PipelineState};
use sheaf_proto::SharedTracer;
use sheaf_retry::{HumanDuration, SharedClock};
use tokio::sync::{mpsc, watch};

pub use error::Error;
pub use node::store_of;
pub use secrets::Hold;

use crate::Authority;
use crate::driver::{Disturbance, Driver, DriverError};
use crate::planned;
use crate::process::Programs;
use actor::{Message, Request};
use event::Event;
use inner::Prepared;
use model::Model;

/// Messages that may wait for one run.
const MAILBOX: usize = 4_096;
/// Things to be told of a run that nobody has read yet; further ones are dropped.
const NOTES: usize = 1_024;

/// How pipelines are run.
#[derive(Clone)]
pub struct Options {
    /// The folder with what is kept of every pipeline.
    pub folder: PathBuf,
    /// The host on which instances serve.
    pub host: String,
    /// Where they find the control plane: `grpc://HOST:PORT`.
    pub control: String,
    /// The variables that references may name.
    pub environment: BTreeMap<String, String>,
    /// Who signs the certificates of instances; without it nothing is encrypted.
    pub authority: Option<Arc<Authority>>,
    /// Variables that every instance gets, where its file does not say otherwise.
    pub variables: Vec<(String, String)>,
    /// Where batches of durable edges wait.
    pub durable: DurableOptions,
    /// Who records a span for each start of an instance.
    pub tracer: Option<SharedTracer>,
}

/// The store and the coordinator of durable edges. Without an address each run has a process
/// of its own for them, with a folder that outlives runs: the process driver starts it.
#[derive(Clone)]
pub struct DurableOptions {
    /// Those that run already: `grpc://HOST:PORT`.
    pub address: Option<String>,
    /// The token for them.
    pub token: Option<String>,
    /// Whether that may go to another machine unencrypted.
    pub insecure: bool,
    /// How long batches are kept after they were completed.
    pub retention: Duration,
    /// Where the program of the process is looked for.
    pub programs: Programs,
}

/// How long batches are kept after they were completed, where nothing is said.
pub const DEFAULT_RETENTION: Duration = Duration::from_secs(60);

impl Default for DurableOptions {
    fn default() -> Self {
        DurableOptions {
            address: None,
            token: None,
            insecure: false,
            retention: DEFAULT_RETENTION,
            programs: Programs::default(),
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Variables may be secrets.
        let Options { folder, host, control, .. } = self;
        f.debug_struct("Options")
            .field("folder", folder)
            .field("host", host)
            .field("control", control)
            .finish_non_exhaustive()
    }
}

/// How a run has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// `stopped` or `failed`.
    pub state: PipelineState,
    /// Why, for people.
    pub reason: String,
}

/// Something to be told of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The instance, as the plan calls it; empty for the pipeline.
    pub instance: String,
    /// For people.
    pub text: String,
}

/// A run that has begun.
#[derive(Debug)]
pub struct Started {
    /// The pipeline.
    pub pipeline: String,
    /// Which run of it.
    pub run: u64,
    /// Whether it goes on where the run before was broken off: what has come to its end then
    /// stays there.
    pub goes_on: bool,
    /// How many instances it has.
    pub instances: usize,
    /// What the file may not have meant; empty where there is nothing.
    pub warnings: String,
    /// What happens, as far as it is read.
    pub notes: mpsc::Receiver<Note>,
    /// How it has ended, when it has.
    pub outcome: watch::Receiver<Option<Outcome>>,
}

/// What became of a run that was brought to another plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reloaded {
    /// The pipeline.
    pub pipeline: String,
    /// Which run of it.
    pub run: u64,
    /// Which plan of the run holds now, from 1; the one before where nothing has changed.
    pub generation: u32,
    /// Instances that were drained and started anew, as the plan calls them.
    pub restarted: Vec<String>,
    /// Instances that were not there before.
    pub started: Vec<String>,
    /// Instances that were drained and are not there any more.
    pub stopped: Vec<String>,
    /// How many went on.
    pub kept: usize,
    /// What the file may not have meant; empty where there is nothing.
    pub warnings: String,
}

/// See the module. Cheap to clone; clones are the same one.
#[derive(Clone)]
pub struct Runner {
    inner: Arc<Inner>,
}

struct Inner {
    plane: ControlPlane,
    driver: Arc<dyn Driver>,
    clock: SharedClock,
    options: Options,
    runs: Mutex<HashMap<String, Run>>,
    /// Pipelines whose instances others start.
    overseen: Mutex<BTreeSet<String>>,
    /// Tells runs what the driver says has ended; it goes with the runner.
    dispatch: Mutex<Option<tokio::task::JoinHandle<()>>>,
}

/// A run under way.
#[derive(Clone)]
struct Run {
    mailbox: mpsc::Sender<Message>,
    outcome: watch::Receiver<Option<Outcome>>,
    components: watch::Receiver<Components>,
}

/// Components, and a place of each of their instances.
type Components = Arc<Vec<(String, String)>>;

impl Runner {
    /// A runner that runs nothing yet. Call it on a tokio runtime.
    pub fn new(
        plane: ControlPlane,
        driver: Arc<dyn Driver>,
        options: Options,
        clock: SharedClock,
    ) -> Self {
        let (runs, overseen, dispatch) = (Mutex::default(), Mutex::default(), Mutex::default());
        let inner = Inner { plane, driver, clock, options, runs, overseen, dispatch };
        let inner = Arc::new(inner);
        let (driver, weak) = (Arc::clone(&inner.driver), Arc::downgrade(&inner));
        let task = tokio::spawn(async move {
            loop {
                let ended = driver.ended().await;
                let Some(inner) = weak.upgrade() else { return };
                inner.tell(ended).await;
            }
        });
        *inner.dispatch.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
        Runner { inner }
    }

    /// Checks a file and begins a run of its pipeline. With `fresh` it forgets what a run left
    /// that was broken off, such as how far sources had come.
    ///
    /// # Errors
    /// [`Error::Spec`] with all that is wrong with the file; [`Error::Durable`] where there is no
    /// store, [`Error::FreshElsewhere`]; [`Error::Runs`] and
    /// [`Error::Held`] where the pipeline runs; those of the registry and of the folder.
    pub async fn start(&self, file: &str, text: &str, fresh: bool) -> Result<Started, Error> {
        let checked = check(file, text).map_err(Error::Spec)?;
        let plan = Plan::new(&checked.pipeline);
        let name = plan.pipeline.clone();
        if self.inner.run(&name).is_some() {
            return Err(Error::Runs { pipeline: name });
        }
        let store = self.inner.store(&plan, fresh)?;
        let folder = self.inner.take_folder(&name).await?;
        let prepared = self.inner.prepare(&plan, file, text, folder, (fresh, store)).await?;
        let warnings = warnings(&checked.warnings);
        let instances = plan.instance_count();
        let (run, goes_on) = (prepared.secrets.run, prepared.goes_on);
        let model = Model::new(assign::planned(&plan, &prepared.secrets), seed(run, &name));
        let (notes, outcome) = self.inner.begin(prepared, model, true).await?;
        Ok(Started { pipeline: name, run, goes_on, instances, warnings, notes, outcome })
    }

    /// Brings the run of a pipeline to what a file says now. Only instances that are told
    /// something else are drained, senders first, and started anew, readers first; answers when
    /// all of them have registered. Others wait for them or go on. Further calls wait for the
    /// ones before.
    ///
    /// # Guarantees
    /// - Nothing is lost, and nothing changes its order within a stream.
    /// - Where everything drains in its time, no row comes twice.
    /// - A file that cannot be used changes nothing. Where a component of the new plan cannot
    ///   be had at all, the plan before comes back.
    /// - Whatever ends the control plane meanwhile, the next one goes on with one of the plans.
    /// - What has come to its end in this run is not started again, unless it gets somebody to
    ///   read who has not.
    ///
    /// # Errors
    /// [`Error::Spec`]; [`Error::NotRunning`], also where the run ends
    /// meanwhile; [`Error::Reload`] where the plan before goes on, [`Error::Unproved`] where the
    /// new one does and one of its components fails; [`Error::Busy`]; those of the registry.
    pub async fn reload(&self, file: &str, text: &str) -> Result<Reloaded, Error> {
        let checked = check(file, text).map_err(Error::Spec)?;
        let plan = Plan::new(&checked.pipeline);
        let pipeline = plan.pipeline.clone();
        let run = self.inner.running(&pipeline)?;
        let (reply, answer) = tokio::sync::oneshot::channel();
        let (file, text) = (file.to_owned(), text.to_owned());
        let request = Box::new(Request { plan, file, text, reply });
        drop(run.mailbox.send(Message::Reload(request)).await);
        let answer = answer.await.unwrap_or(Err(Error::NotRunning { pipeline }));
        let warnings = warnings(&checked.warnings);
        answer.map(|reloaded| Reloaded { warnings, ..reloaded })
    }

    /// Takes up the runs that were under way when the control plane ended. Answers their
    /// pipelines; those that cannot be taken up are said to have failed.
    ///
    /// # Errors
    /// [`Error::Registry`] where the control plane is closed.
    pub async fn adopt(&self) -> Result<Vec<String>, Error> {
        let mut adopted = Vec::new();
        for pipeline in self.inner.plane.pipelines().await? {
            let name = pipeline.plan.id.clone();
            if pipeline.state.is_over() || self.inner.run(&name).is_some() {
                continue;
            }
            match self.inner.take_up(&pipeline).await {
                Ok(()) => adopted.push(name),
                Err(error) => {
                    tracing::error!(pipeline = name, %error, "a run cannot be taken up");
                    let reason = registry::reason(&format!("it cannot be taken up: {error}"));
                    let failed = PipelineState::Failed;
                    self.inner.plane.set_pipeline_state(name, failed, reason).await?;
                }
            }
        }
        Ok(adopted)
    }

    /// Stops a run, sources first, and waits until nothing of it runs. With `at_once` it
    /// waits for nothing that is on its way.
    ///
    /// # Errors
    /// [`Error::NotRunning`].
    pub async fn stop(
        &self,
        pipeline: &str,
        at_once: bool,
        reason: &str,
    ) -> Result<Outcome, Error> {
        let run = self.inner.running(pipeline)?;
        let event = Event::Stop { at_once, reason: registry::reason(reason) };
        // A run that has ended meanwhile has an outcome too.
        drop(run.mailbox.send(Message::Happened(event)).await);
        run.ended().await.ok_or_else(|| Error::NotRunning { pipeline: pipeline.to_owned() })
    }

    /// Stops all runs at the same time.
    pub async fn stop_all(&self, at_once: bool, reason: &str) {
        let all: Vec<String> = self.inner.lock().keys().cloned().collect();
        let stops = all.iter().map(|name| self.stop(name, at_once, reason));
        futures::future::join_all(stops).await;
    }

    /// Ends the instances of a component, or one instance, and starts them again; answers
    /// how many.
    ///
    /// # Errors
    /// [`Error::NotRunning`], [`Error::NoComponent`].
    pub async fn restart(&self, pipeline: &str, component: &str) -> Result<usize, Error> {
        let run = self.inner.running(pipeline)?;
        let places = self.places(pipeline, &run, component)?;
        let event = Event::Restart(component.to_owned());
        drop(run.mailbox.send(Message::Happened(event)).await);
        Ok(places.len())
    }

    /// Does harm to the instances of a component, or to one instance, as
    /// [`Driver::disturb`] does it; answers which.
    ///
    /// # Errors
    /// [`Error::NotRunning`], [`Error::NoComponent`]; [`Error::Driver`] where none of them runs
    /// at the moment, or the driver cannot do it.
    pub async fn disturb(
        &self,
        pipeline: &str,
        component: &str,
        how: Disturbance,
    ) -> Result<Vec<String>, Error> {
        let run = self.inner.running(pipeline)?;
        let places = self.places(pipeline, &run, component)?;
        let (reply, answer) = tokio::sync::oneshot::channel();
        let text = match how {
            Disturbance::Kill => "killed".to_owned(),
            Disturbance::Pause { time } => format!("paused for {}", HumanDuration(time)),
            Disturbance::Slow { time, delay } => {
                format!("slowed by {} for {}", HumanDuration(delay), HumanDuration(time))
            }
        };
        drop(run.mailbox.send(Message::Disturb(places, text, reply)).await);
        let gone = || Error::NotRunning { pipeline: pipeline.to_owned() };
        let found = answer.await.map_err(|_| gone())?;
        if found.is_empty() {
            let what = format!("cannot disturb {component} of {pipeline}");
            let why = "no instance of it runs at the moment; see sheafctl status".to_owned();
            return Err(DriverError { what, why }.into());
        }
        for id in &found {
            self.inner.driver.disturb(id, how).await?;
        }
        Ok(found.iter().map(|id| assign::instance(&id.place).to_owned()).collect())
    }

    /// The places that a name means in a pipeline that runs or ran: a component, an instance,
    /// or all where it is empty.
    ///
    /// # Errors
    /// [`Error::NoComponent`]; those of the registry where there is no such pipeline.
    pub async fn named(&self, pipeline: &str, component: &str) -> Result<Vec<String>, Error> {
        let found = self.inner.plane.pipeline(pipeline.to_owned()).await?;
        let all = found.plan.places.iter().map(|place| (place.component.clone(), place.id.clone()));
        let all: Vec<(String, String)> = all.collect();
        named(pipeline, &all, component)
    }

    fn places(&self, pipeline: &str, run: &Run, component: &str) -> Result<Vec<String>, Error> {
        named(pipeline, &run.components.borrow(), component)
    }

    /// What runs.
    pub fn running(&self) -> Vec<String> {
        let mut all: Vec<String> = self.inner.lock().keys().cloned().collect();
        all.sort();
        all
    }

    /// The driver that it runs them with.
    pub fn driver(&self) -> &Arc<dyn Driver> {
        &self.inner.driver
    }

    /// The control plane that it runs them for.
    pub fn plane(&self) -> &ControlPlane {
        &self.inner.plane
    }
}

impl fmt::Debug for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runner").field("options", &self.inner.options).finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let task = self.dispatch.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            task.abort();
        }
    }
}

impl Run {
    async fn ended(mut self) -> Option<Outcome> {
        self.outcome.wait_for(Option::is_some).await.ok()?.clone()
    }
}

fn warnings(report: &Report) -> String {
    match report.is_empty() {
        true => String::new(),
        false => report.to_string(),
    }
}

fn named(pipeline: &str, all: &[(String, String)], component: &str) -> Result<Vec<String>, Error> {
    let own = planned::place(pipeline, component);
    let is_meant =
        |(of, place): &&(String, String)| component.is_empty() || of == component || *place == own;
    let found: Vec<String> = all.iter().filter(is_meant).map(|(_, place)| place.clone()).collect();
    if found.is_empty() {
        let mut known: Vec<String> = all.iter().map(|(of, _)| of.clone()).collect();
        known.dedup();
        let (pipeline, component) = (pipeline.to_owned(), component.to_owned());
        return Err(Error::NoComponent { pipeline, component, known });
    }
    Ok(found)
}

/// Spreads the delays of restarts: another one for each run.
fn seed(run: u64, pipeline: &str) -> u64 {
    twox_hash::XxHash3_64::oneshot_with_seed(run, pipeline.as_bytes())
}
