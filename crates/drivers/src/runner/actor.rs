//! One run: does what the model says, and tells it what happens.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use sheaf_dataflow::Assignment;
use sheaf_flight::Secret;
use sheaf_pipeline::control::{ControlPlane, Events};
use sheaf_pipeline::registry::{self, Component, Filter, PipelineState, Status};
use sheaf_retry::SharedClock;
use tokio::sync::{mpsc, watch};

use super::environment;
use super::event::{Effect, Event};
use super::model::Model;
use super::secrets::{Folder, RunSecrets};
use super::{Inner, Note, Outcome, Prepared, cut};
use crate::driver::{Driver, DriverError, Ended, Launch, LaunchId};
use crate::lookup::LookUp;

/// After so long it is tried again to stop what could not be stopped.
const AGAIN: Duration = Duration::from_secs(5);
/// How long a driver may take to tell the end of what it has stopped.
const TOLD: Duration = Duration::from_secs(2);

/// What a run is told.
#[derive(Debug)]
pub(super) enum Message {
    Happened(Event),
}

impl Message {
    pub(super) fn ended(ended: Ended) -> Self {
        let final_ = ended.is_configuration();
        let Ended { id: LaunchId { place, attempt }, success, why } = ended;
        Message::Happened(Event::Ended { place, attempt, success, final_, why })
    }
}

/// Where the variables of instances come from.
struct Variables {
    /// What references mean.
    own: LookUp,
    /// What every instance gets.
    all: Vec<(String, String)>,
}

pub(super) struct Actor {
    name: String,
    plane: ControlPlane,
    driver: Arc<dyn Driver>,
    clock: SharedClock,
    variables: Arc<Variables>,
    folder: Folder,
    secrets: RunSecrets,
    assignments: BTreeMap<String, Assignment>,
    model: Model,
    mailbox: mpsc::Sender<Message>,
    notes: mpsc::Sender<Note>,
    /// Whether the driver has answered a start: a stop waits for that.
    starts: HashMap<LaunchId, watch::Receiver<bool>>,
    outcome: Outcome,
}

impl Actor {
    pub(super) fn new(
        inner: &Arc<Inner>,
        name: String,
        prepared: Prepared,
        model: Model,
        mailbox: mpsc::Sender<Message>,
        notes: mpsc::Sender<Note>,
    ) -> Self {
        let Prepared { folder, secrets, assignments } = prepared;
        Actor {
            name,
            plane: inner.plane.clone(),
            driver: Arc::clone(&inner.driver),
            clock: Arc::clone(&inner.clock),
            variables: Arc::new(Variables {
                own: LookUp::new(inner.options.environment.clone(), Arc::clone(&inner.clock)),
                all: inner.options.variables.clone(),
            }),
            folder,
            secrets,
            assignments,
            model,
            mailbox,
            notes,
            starts: HashMap::new(),
            outcome: Outcome { state: PipelineState::Stopped, reason: String::new() },
        }
    }

    /// What there is of this pipeline, and every change.
    pub(super) async fn watch(&self) -> Result<Events, registry::Error> {
        let filter = Filter { pipeline: self.name.clone(), ..Filter::default() };
        self.plane.watch(filter).await
    }

    /// Until nothing of the run runs any more.
    pub(super) async fn run(
        mut self,
        mut messages: mpsc::Receiver<Message>,
        mut events: Events,
        is_new: bool,
    ) -> Outcome {
        if is_new {
            self.happened(Event::Begin).await;
        } else {
            for component in std::mem::take(&mut events.current) {
                self.changed(&component).await;
            }
            self.happened(Event::Tick).await;
        }
        while !self.model.is_over() {
            let now = self.clock.elapsed();
            let left = self.model.due().map(|due| due.saturating_sub(now));
            let clock = Arc::clone(&self.clock);
            tokio::select! {
                Some(Message::Happened(event)) = messages.recv() => self.happened(event).await,
                change = events.changes.recv() => match change {
                    Some(registry::Event::Changed(change)) => self.changed(&change.component).await,
                    Some(_) => self.look().await,
                    None => return self.closed(),
                },
                () = clock.sleep(left.unwrap_or_default()), if left.is_some() => {
                    self.happened(Event::Tick).await;
                }
            }
        }
        // Where all was taken in and written there is nothing to go on with.
        let forget = self.outcome.state == PipelineState::Stopped && self.is_complete();
        if forget && let Err(error) = self.folder.forget_state() {
            tracing::warn!(pipeline = self.name, %error, "the state of a run that is over cannot be removed");
        }
        if let Err(error) = self.driver.remove(&self.name, forget).await {
            tracing::warn!(pipeline = self.name, %error, "something of a run that is over is left");
        }
        self.outcome
    }

    fn is_complete(&self) -> bool {
        self.model.is_complete()
    }

    fn closed(self) -> Outcome {
        let reason = "the control plane was closed".to_owned();
        Outcome { state: PipelineState::Failed, reason }
    }

    /// Events were missed: what is the case now is all that matters.
    async fn look(&mut self) {
        let filter = Filter { pipeline: self.name.clone(), ..Filter::default() };
        match self.plane.select(filter).await {
            Ok(all) => {
                for component in all {
                    self.changed(&component).await;
                }
            }
            Err(error) => {
                tracing::warn!(pipeline = self.name, %error, "the registry cannot be read")
            }
        }
    }

    async fn changed(&mut self, component: &Component) {
        let place = component.id.clone();
        let event = match component.status {
            Status::Healthy => Event::Registered(place),
            Status::Unhealthy => Event::Unhealthy(place, component.reason.clone()),
            Status::Stopped => Event::Left(place),
            Status::Expected | Status::Exited => return,
        };
        self.happened(event).await;
    }

    async fn happened(&mut self, event: Event) {
        let now = self.clock.elapsed();
        for effect in self.model.on(event, now) {
            self.act(effect).await;
        }
    }

    async fn act(&mut self, effect: Effect) {
        match effect {
            Effect::Start { place, attempt } => self.start(place, attempt),
            Effect::Stop { place, attempt, drain } => self.stop(LaunchId { place, attempt }, drain),
            Effect::Vacate { place, reason } => {
                if let Err(error) = self.plane.vacate(place.clone(), cut(&reason)).await {
                    tracing::warn!(component = place, %error, "a place cannot be vacated");
                }
            }
            Effect::State(state, reason) => self.state(state, cut(&reason)).await,
            Effect::Note { place, text } => self.note(&place, text),
        }
    }

    fn note(&self, place: &str, text: String) {
        tracing::info!(component = place, text, "component");
        let instance = place.split_once(':').map_or("", |(_, instance)| instance).to_owned();
        // Nobody has to read it.
        drop(self.notes.try_send(Note { instance, text }));
    }

    async fn state(&mut self, state: PipelineState, reason: String) {
        tracing::info!(pipeline = self.name, state = state.as_str(), reason, "pipeline");
        if state.is_over() {
            self.outcome = Outcome { state, reason: reason.clone() };
        }
        let text = match reason.is_empty() {
            true => state.as_str().to_owned(),
            false => format!("{}: {reason}", state.as_str()),
        };
        self.note("", text);
        if let Err(error) = self.plane.set_pipeline_state(self.name.clone(), state, reason).await {
            tracing::error!(pipeline = self.name, %error, "the state of a pipeline cannot be kept");
        }
    }

    fn start(&mut self, place: String, attempt: u64) {
        let id = LaunchId { place: place.clone(), attempt };
        self.secrets.attempts.insert(place.clone(), attempt);
        if let Err(error) = self.folder.write(&self.secrets) {
            // A later control plane may not find this one; this one goes on.
            tracing::warn!(component = place, %error, "the attempt cannot be kept");
        }
        let Some(assignment) = self.assignments.get(&place).cloned() else { return };
        let (answered, is_answered) = watch::channel(false);
        self.starts.retain(|_, answered| !*answered.borrow());
        self.starts.insert(id.clone(), is_answered);
        let driver = Arc::clone(&self.driver);
        let (variables, mailbox) = (Arc::clone(&self.variables), self.mailbox.clone());
        tokio::spawn(async move {
            let started = launch(&*driver, id, assignment, &variables).await;
            let event = match started {
                Ok(()) => Event::Started(place, attempt),
                Err(why) => Event::NotStarted(place, attempt, why),
            };
            answered.send_replace(true);
            // The run may be over.
            drop(mailbox.send(Message::Happened(event)).await);
        });
    }

    fn stop(&self, id: LaunchId, drain: Duration) {
        let (driver, clock) = (Arc::clone(&self.driver), Arc::clone(&self.clock));
        let (mailbox, notes) = (self.mailbox.clone(), self.notes.clone());
        let answered = self.starts.get(&id).cloned();
        tokio::spawn(async move {
            if let Some(mut answered) = answered {
                // An error: the task of the start has gone.
                drop(answered.wait_for(|answered| *answered).await);
            }
            let mut drain = drain;
            while let Err(DriverError { what, why }) = driver.stop(&id, drain).await {
                tracing::error!(component = id.place, why, "{what}");
                drop(notes.try_send(Note { instance: id.place.clone(), text: why }));
                drain = Duration::ZERO;
                clock.sleep(AGAIN).await;
                if mailbox.is_closed() {
                    return;
                }
            }
            // Its end is told by the driver. Where it had ended before, it was told before;
            // and where the driver knows nothing of it, nothing is told.
            clock.sleep(TOLD).await;
            let LaunchId { place, attempt } = id;
            let why = "stopped".to_owned();
            let event = Event::Ended { place, attempt, success: false, final_: false, why };
            drop(mailbox.send(Message::Happened(event)).await);
        });
    }
}

async fn launch(
    driver: &dyn Driver,
    id: LaunchId,
    assignment: Assignment,
    variables: &Variables,
) -> Result<(), String> {
    let definition = &assignment.definition;
    let own = environment::resolve(definition, driver.name(), &variables.own).await?;
    let all = variables.all.iter().map(|(name, value)| (name.clone(), Secret::new(value.clone())));
    let environment = all.chain(own).collect();
    let launch = Launch { id, assignment, environment };
    driver.start(launch).await.map_err(|error| error.why)
}
