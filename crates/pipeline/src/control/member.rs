//! A component that beats.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sheaf_flight::Error;
use sheaf_retry::{Class, Code, Disposition, HumanDuration, Retry, RetryPolicy, Retryable};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::client::{ControlClient, Joined};
use crate::registry::{self, Beat, Connections, Load, Metadata, Registration, Totals};

/// The step counter of a component's own loop. Cheap to clone.
///
/// The loop ticks each time that it comes round, also when it waited for batches in vain:
/// what does not tick for longer than the control plane allows counts as hung.
#[derive(Clone, Debug, Default)]
pub struct Pulse(Arc<AtomicU64>);

impl Pulse {
    /// The loop has come round.
    pub fn tick(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// How often it has.
    pub fn progress(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How a member stands to its control plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is registered, and its beats are answered.
    Member,
    /// The control plane does not answer, or does not know the place at the
    /// moment. Data goes on flowing; it is tried again with every beat.
    Away {
        /// For people.
        why: String,
    },
    /// Its place is not its own any more: the process has to end without
    /// writing anything else.
    Lost {
        /// For people.
        why: String,
    },
    /// It has deregistered.
    Left,
}

/// A registered component. It beats until it leaves.
///
/// When the control plane was started again, it registers again, with the same
/// incarnation. Dropping it deregisters in the background, as far as there still
/// is a runtime; [`Member::leave`] waits for that.
#[derive(Debug)]
pub struct Member {
    client: ControlClient,
    state: Arc<State>,
    joined: Joined,
    standing: watch::Receiver<Standing>,
    task: Option<JoinHandle<()>>,
}

/// Says more of a member than it knew when it joined. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Describer {
    client: ControlClient,
    state: Arc<State>,
}

impl Describer {
    /// Says this of the member, now and whenever it has to register again.
    ///
    /// # Errors
    /// As [`ControlClient::register`]; what was said before stays then.
    pub async fn describe(&self, metadata: Metadata) -> Result<(), Error> {
        let asked = Registration { metadata: metadata.clone(), ..self.state.now() };
        self.client.register(&asked).await?;
        *self.state.metadata.lock().unwrap_or_else(PoisonError::into_inner) = metadata;
        Ok(())
    }
}

#[derive(Debug)]
struct State {
    asked: Registration,
    pulse: Pulse,
    load: Mutex<Option<Load>>,
    /// What it says of itself by now.
    metadata: Mutex<Metadata>,
    fence: AtomicU64,
    standing: watch::Sender<Standing>,
}

impl State {
    /// What it registers with by now.
    fn now(&self) -> Registration {
        let load = *self.load.lock().unwrap_or_else(PoisonError::into_inner);
        let metadata = self.metadata.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Registration { load, metadata, ..self.asked.clone() }
    }
}

impl Member {
    pub(super) async fn join(client: ControlClient, asked: Registration) -> Result<Self, Error> {
        let joined = register(&client, &asked).await?;
        let (standing, seen) = watch::channel(Standing::Member);
        let load = Mutex::new(asked.load);
        let fence = AtomicU64::new(joined.registered.fence);
        let (metadata, pulse) = (Mutex::new(asked.metadata.clone()), Pulse::default());
        let state = Arc::new(State { asked, pulse, load, metadata, fence, standing });
        let beats = Beats {
            client: client.clone(),
            state: Arc::clone(&state),
            run: joined.run,
            every: joined.beat_every,
            sequence: 0,
        };
        let task = Some(tokio::spawn(beats.run()));
        Ok(Member { client, state, joined, standing: seen, task })
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.state.asked.id
    }

    /// Its fence: to be shown where older incarnations must not act. It is another
    /// one only after a control plane that forgot everything was started again.
    pub fn fence(&self) -> u64 {
        self.state.fence.load(Ordering::Relaxed)
    }

    /// Who it is connected with, as it was told when it joined.
    pub fn connections(&self) -> &Connections {
        &self.joined.registered.connections
    }

    /// What its loop ticks.
    pub fn pulse(&self) -> Pulse {
        self.state.pulse.clone()
    }

    /// What it can say more of itself with.
    pub fn describer(&self) -> Describer {
        Describer { client: self.client.clone(), state: Arc::clone(&self.state) }
    }

    /// What goes with the next beat of a worker.
    pub fn set_load(&self, load: Load) {
        let mut held = self.state.load.lock().unwrap_or_else(PoisonError::into_inner);
        *held = Some(load);
    }

    /// How it stands now, and when that changes.
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.clone()
    }

    /// Deregisters, with the retries of the client.
    ///
    /// # Errors
    /// Those of the connection; a place that was lost meanwhile is none.
    pub async fn leave(self, reason: &str) -> Result<(), Error> {
        self.leave_with(reason, None).await
    }

    /// As [`Member::leave`], and says what went through it.
    ///
    /// # Errors
    /// As there.
    pub async fn leave_with(mut self, reason: &str, totals: Option<Totals>) -> Result<(), Error> {
        if let Some(task) = self.task.take() {
            task.abort();
        }
        deregister(&self.client, &self.state, reason, totals).await
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // Nothing is left to do where it has left.
        let Some(task) = self.task.take() else { return };
        task.abort();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (client, state) = (self.client.clone(), Arc::clone(&self.state));
            runtime.spawn(async move {
                if let Err(error) = deregister(&client, &state, "it was dropped", None).await {
                    tracing::warn!(component = state.asked.id, %error, "component not deregistered");
                }
            });
        }
    }
}

async fn deregister(
    client: &ControlClient,
    state: &State,
    reason: &str,
    totals: Option<Totals>,
) -> Result<(), Error> {
    if matches!(*state.standing.borrow(), Standing::Lost { .. }) {
        return Ok(());
    }
    let asked = &state.asked;
    // Errors of foreign libraries may be of several lines.
    let reason = registry::reason(reason);
    let left = client.deregister(&asked.id, &asked.incarnation, &reason, totals).await;
    match left {
        // Somebody else has the place, or there is none: it is left either way.
        Err(error) if !matches!(error.code(), Code::StaleFence | Code::NotFound) => Err(error),
        _ => {
            state.standing.send_replace(Standing::Left);
            Ok(())
        }
    }
}

/// Registers, and waits while another incarnation counts as living, or the
/// control plane is not there.
async fn register(client: &ControlClient, asked: &Registration) -> Result<Joined, Error> {
    let caller = &client.inner.caller;
    let patience = u64::try_from(caller.options.patience.as_millis()).unwrap_or(u64::MAX);
    let policy = RetryPolicy {
        max_retries: u32::MAX,
        base_ms: 500,
        factor: 1.2,
        // The longest that the control plane may ask to wait.
        cap_ms: patience,
        jitter: 0.05,
        deadline_ms: Some(patience),
    };
    let joined = Retry::new(&policy, caller.next_seed(), Arc::clone(&caller.clock))
        .on_wait(|wait| {
            let (component, delay) = (&asked.id, HumanDuration(wait.delay));
            tracing::info!(component, %delay, "cannot register yet, waiting");
        })
        .run(|_attempt| async { client.register(asked).await.map_err(NotYet) });
    joined.await.map_err(|error| error.into_last().0)
}

/// An error of a registration, as a reason to wait.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
struct NotYet(Error);

impl Retryable for NotYet {
    fn code(&self) -> Code {
        self.0.code()
    }

    fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after()
    }

    fn disposition(&self) -> Disposition {
        let is_taken = self.code() == Code::AlreadyExists;
        match is_taken || self.code().class() == Class::Transient {
            true => Disposition::Transient { after: self.retry_after() },
            false => Disposition::Permanent,
        }
    }
}

/// What the task has.
struct Beats {
    client: ControlClient,
    state: Arc<State>,
    run: u64,
    every: Duration,
    sequence: u64,
}

impl Beats {
    /// Until its place is lost.
    async fn run(mut self) {
        loop {
            self.client.inner.caller.clock.sleep(self.every).await;
            let standing = self.beat().await;
            let is_lost = matches!(standing, Standing::Lost { .. });
            let changed = self.state.standing.send_if_modified(|now| {
                let is_other = *now != standing;
                now.clone_from(&standing);
                is_other
            });
            if changed {
                let component = &self.state.asked.id;
                match &standing {
                    Standing::Away { why } => {
                        tracing::warn!(component, why, "control plane away");
                    }
                    Standing::Lost { why } => tracing::error!(component, why, "place lost"),
                    Standing::Member | Standing::Left => {
                        tracing::info!(component, "control plane answers again");
                    }
                }
            }
            if is_lost {
                return;
            }
        }
    }

    async fn beat(&mut self) -> Standing {
        self.sequence += 1;
        let State { asked, pulse, load, .. } = &*self.state;
        let load = *load.lock().unwrap_or_else(PoisonError::into_inner);
        let (id, incarnation) = (asked.id.clone(), asked.incarnation.clone());
        let (sequence, progress) = (self.sequence, pulse.progress());
        let beat = Beat { id, incarnation, sequence, progress, load };
        match self.client.beat(&beat).await {
            Ok(beaten) if beaten.run == self.run => Standing::Member,
            // The control plane was started again: it may have forgotten what a
            // component says of itself, or all of it.
            Ok(_) => self.again().await,
            Err(error) if error.code() == Code::NotFound => self.again().await,
            Err(error) => standing(&error),
        }
    }

    async fn again(&mut self) -> Standing {
        let asked = self.state.now();
        match self.client.register(&asked).await {
            Ok(joined) => {
                tracing::info!(component = asked.id, "registered again");
                (self.run, self.every) = (joined.run, joined.beat_every);
                self.state.fence.store(joined.registered.fence, Ordering::Relaxed);
                Standing::Member
            }
            Err(error) => standing(&error),
        }
    }
}

fn standing(error: &Error) -> Standing {
    let why = error.message().to_owned();
    match error.code() {
        // Another incarnation has it, or the plan gave it a new token: somebody
        // else is to take it.
        Code::StaleFence | Code::AlreadyExists | Code::PermissionDenied => Standing::Lost { why },
        _ => Standing::Away { why },
    }
}
