//! One run: does what the model says, and tells it what happens.

mod reload;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use sheaf_dataflow::{Assignment, CLOSED};
use sheaf_flight::Secret;
use sheaf_pipeline::control::{ControlPlane, Events};
use sheaf_pipeline::plan::Plan;
use sheaf_pipeline::registry::{self, Component, Filter, PipelineState, Status};
use sheaf_retry::SharedClock;
use tokio::sync::{mpsc, oneshot, watch};

use super::event::{Effect, Event};
use super::model::Model;
use super::node::{self, After, Node};
use super::secrets::{Folder, RunSecrets};
use super::{
    Components, Error, Inner, Note, Options, Outcome, Prepared, assign, environment, spans,
};
use crate::driver::{Driver, DriverError, Ended, Launch, LaunchId};
use crate::lookup::LookUp;

/// After so long it is tried again to stop what could not be stopped.
const AGAIN: Duration = Duration::from_secs(5);
/// How long a driver may take to tell the end of what it has stopped.
const TOLD: Duration = Duration::from_secs(2);

use reload::Reloading;
pub(super) use reload::Request;

/// What a run is told.
pub(super) enum Message {
    Happened(Event),
    /// It is to be brought to another plan.
    Reload(Box<Request>),
    /// Which starts run in these places; they are to be disturbed, and how, for people.
    Disturb(Vec<String>, String, oneshot::Sender<Vec<LaunchId>>),
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
    options: Options,
    folder: Folder,
    /// What holds: the plan, the file that it was made of, and what instances are told.
    plan: Plan,
    text: String,
    secrets: RunSecrets,
    assignments: BTreeMap<String, Assignment>,
    /// Components and their places, for whoever asks.
    components: watch::Sender<Components>,
    reloading: Option<Reloading>,
    waiting: VecDeque<Request>,
    model: Model,
    /// The process of its durable edges, where it has one.
    node: Option<Node>,
    mailbox: mpsc::Sender<Message>,
    notes: mpsc::Sender<Note>,
    /// Whether the driver has answered a start: a stop waits for that.
    starts: HashMap<LaunchId, watch::Receiver<bool>>,
    outcome: Outcome,
}

impl Actor {
    pub(super) fn new(
        inner: &Arc<Inner>,
        prepared: Prepared,
        model: Model,
        mailbox: mpsc::Sender<Message>,
        notes: mpsc::Sender<Note>,
    ) -> Self {
        let Prepared { plan, text, folder, secrets, assignments, node, .. } = prepared;
        Actor {
            name: plan.pipeline.clone(),
            plane: inner.plane.clone(),
            driver: Arc::clone(&inner.driver),
            clock: Arc::clone(&inner.clock),
            variables: Arc::new(Variables {
                own: LookUp::new(inner.options.environment.clone(), Arc::clone(&inner.clock)),
                all: inner.options.variables.clone(),
            }),
            options: inner.options.clone(),
            folder,
            components: watch::Sender::new(assign::components(&plan)),
            plan,
            text,
            secrets,
            assignments,
            reloading: None,
            waiting: VecDeque::new(),
            model,
            node,
            mailbox,
            notes,
            starts: HashMap::new(),
            outcome: Outcome { state: PipelineState::Stopped, reason: String::new() },
        }
    }

    /// Components and their places, as the plan has them that holds.
    pub(super) fn components(&self) -> watch::Receiver<Components> {
        self.components.subscribe()
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
        self.start_node().await;
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
            let due = [self.model.due(), self.node.as_ref().and_then(Node::due)];
            let left = due.into_iter().flatten().min().map(|due| due.saturating_sub(now));
            let clock = Arc::clone(&self.clock);
            tokio::select! {
                Some(message) = messages.recv() => self.told(message).await,
                change = events.changes.recv() => match change {
                    Some(registry::Event::Changed(change)) => self.changed(&change.component).await,
                    Some(_) => self.look().await,
                    None => return self.closed(),
                },
                () = clock.sleep(left.unwrap_or_default()), if left.is_some() => {
                    self.start_due_node().await;
                    self.happened(Event::Tick).await;
                }
            }
        }
        self.drop_reloads();
        self.stop_node().await;
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

    /// Starts the process of the durable edges, where it does not run: before the components,
    /// which wait for it.
    async fn start_node(&mut self) {
        let Some(node) = self.node.as_mut().filter(|node| node.running().is_none()) else { return };
        let launch = node.launch(self.clock.elapsed());
        let id = launch.id.clone();
        self.secrets.attempts.insert(id.place.clone(), id.attempt);
        if let Err(error) = self.folder.write(&self.secrets) {
            tracing::warn!(component = id.place, %error, "the attempt cannot be kept");
        }
        if let Err(error) = self.driver.start(launch).await {
            self.node_ended(id.attempt, &error.why).await;
        }
    }

    async fn start_due_node(&mut self) {
        let now = self.clock.elapsed();
        if self.node.as_ref().and_then(Node::due).is_some_and(|due| due <= now) {
            self.start_node().await;
        }
    }

    /// It has ended, or could not be started.
    async fn node_ended(&mut self, attempt: u64, why: &str) {
        let Some(node) = &mut self.node else { return };
        let place = node.place().to_owned();
        match node.ended(attempt, why, self.clock.elapsed()) {
            After::Nothing => {}
            After::Pause(text) => self.note(&place, text),
            After::GiveUp(text) => {
                self.note(&place, text.clone());
                self.happened(Event::Fail(text)).await;
            }
        }
    }

    /// When nothing of the run needs it any more.
    async fn stop_node(&mut self) {
        let Some(id) = self.node.as_ref().and_then(Node::running) else { return };
        if let Err(DriverError { what, why }) = self.driver.stop(&id, node::DRAIN).await {
            tracing::error!(component = id.place, why, "{what}");
            self.note(&id.place, why);
        }
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
            Status::Stopped => match component.reason.strip_prefix(CLOSED) {
                Some(why) => Event::Closed(place, why.to_owned()),
                None => Event::Left(place),
            },
            Status::Expected | Status::Exited => return,
        };
        self.happened(event).await;
    }

    async fn told(&mut self, message: Message) {
        let event = match message {
            Message::Happened(event) => Some(event),
            Message::Reload(request) => self.requested(*request),
            Message::Disturb(places, how, reply) => {
                let found = self.disturbed(places, &how);
                // Whoever asked may have gone.
                drop(reply.send(found));
                None
            }
        };
        if let Some(event) = event {
            self.happened(event).await;
        }
    }

    fn disturbed(&self, places: Vec<String>, how: &str) -> Vec<LaunchId> {
        let running = places.into_iter().filter_map(|place| {
            let attempt = self.model.attempt(&place)?;
            self.note(&place, format!("is disturbed by hand: {how}"));
            Some(LaunchId { place, attempt })
        });
        running.collect()
    }

    /// Until nothing more comes of it.
    async fn happened(&mut self, event: Event) {
        if let Event::Ended { place, attempt, why, .. } = &event
            && self.node.as_ref().is_some_and(|node| node.place() == place)
        {
            let (attempt, why) = (*attempt, why.clone());
            return Box::pin(self.node_ended(attempt, &why)).await;
        }
        let mut next = Some(event);
        while let Some(event) = next {
            next = None;
            let now = self.clock.elapsed();
            for effect in self.model.on(event, now) {
                next = self.act(effect).await.or(next);
            }
            if next.is_none() && self.reloading.is_some() && !self.model.is_reloading() {
                // It is being stopped, or has failed.
                self.drop_reloads();
            }
            next = next.or_else(|| self.next_reload());
        }
    }

    /// Does it; answers what came of it, where that is to be told at once.
    async fn act(&mut self, effect: Effect) -> Option<Event> {
        match effect {
            Effect::Hand(places) => self.hand(&places),
            Effect::Replan(told) => return Some(self.replan(&told).await),
            Effect::Reloaded(result) => self.reloaded(result),
            Effect::GoBack(why) => return self.go_back(why),
            Effect::Start { place, attempt } => self.start(place, attempt),
            Effect::Stop { place, attempt, drain } => self.stop(LaunchId { place, attempt }, drain),
            Effect::Vacate { place, reason } => {
                if let Err(error) =
                    self.plane.vacate(place.clone(), registry::reason(&reason)).await
                {
                    tracing::warn!(component = place, %error, "a place cannot be vacated");
                }
            }
            Effect::State(state, reason) => {
                // First: who is told that it is over may begin another run at once.
                if self.model.is_complete() && !self.secrets.complete {
                    self.secrets.complete = true;
                    if let Err(error) = self.write(&self.secrets) {
                        let pipeline = &self.name;
                        tracing::error!(pipeline, %error, "its end is not kept: run it once more");
                    }
                }
                self.state(state, registry::reason(&reason)).await;
            }
            Effect::Note { place, text } => self.note(&place, text),
        }
        None
    }

    fn write(&self, secrets: &RunSecrets) -> Result<(), Error> {
        let written = self.folder.write(secrets);
        written.map_err(|error| Error::folder(&self.options.folder, error))
    }

    fn assignments_of(
        &self,
        plan: &Plan,
        secrets: &RunSecrets,
    ) -> Result<BTreeMap<String, Assignment>, Error> {
        assign::told(plan, secrets, &self.folder, &self.options)
    }

    /// What is told to end by hand is not to be taken for what ends by itself.
    fn hand(&mut self, places: &[String]) {
        let mut is_news = false;
        for place in places {
            let attempt = self.secrets.attempts.get(place).copied().unwrap_or_default();
            is_news |= self.secrets.handed.insert(place.clone(), attempt) != Some(attempt);
        }
        if !is_news {
            return;
        }
        if let Err(error) = self.write(&self.secrets) {
            // A later control plane may not start it again; this one does.
            tracing::warn!(pipeline = self.name, %error, "what is started again cannot be kept");
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
        self.secrets.handed.remove(&place);
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
        let tracer = self.options.tracer.as_ref();
        let span = spans::launch(tracer, driver.name(), &id, &assignment);
        tokio::spawn(async move {
            let started = launch(&*driver, id, assignment, &variables).await;
            spans::end(span, &started);
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
