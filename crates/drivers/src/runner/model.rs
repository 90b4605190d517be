//! What is to be done about a run: a function of what happened and when.
//!
//! # What holds
//! 1. An instance is started only when the one before it in its place has ended, with a
//!    higher attempt.
//! 2. What is said of an attempt that is not the last one changes nothing.
//! 3. Once the run is being stopped, nothing is started any more.
//! 4. Groups are stopped one after another, in the order of the plan: the next when nothing of
//!    the one before runs any more.
//! 5. The run is over when nothing of it runs, and not before.
//! 6. Once the run is being stopped, who sends to nobody but those that are gone for good is ended
//!    at once: nothing of what it holds can be taken any more.
//! 7. For another plan, those that are to leave do so in the order of their groups, senders
//!    first, and nobody takes their places before that plan does.

mod reload;
mod stop;

use std::collections::BTreeMap;
use std::time::Duration;

use sheaf_pipeline::health::{Decision, Ending, Restarts};
use sheaf_retry::HumanDuration;

use super::event::{Effect, Event, Planned};
use reload::Reload;

/// How long a component that was started may take to register.
pub(super) const REGISTER_TIME: Duration = Duration::from_secs(60);
/// How long an unhealthy one is given to end by itself.
pub(super) const UNHEALTHY_GRACE: Duration = Duration::from_secs(1);
/// How long the end of an instance may take to be told that ran before and does not any more.
const LOST_TIME: Duration = Duration::from_secs(2);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Standing {
    Waiting,
    Starting {
        since: Duration,
        registered: bool,
    },
    Up {
        since: Duration,
        registered: bool,
        deadline: Option<(Duration, String)>,
    },
    /// It was asked to end, and why it is to be started again, if it is.
    Ending {
        since: Duration,
        then: Then,
    },
    Pausing {
        due: Duration,
    },
    /// It does not run, and waits for another plan; whether it came to its end by itself.
    Held {
        is_done: bool,
    },
    Over {
        success: bool,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Then {
    /// It had to be ended: that counts as a failure.
    Failed(String),
    ByHand,
    /// Another plan comes.
    Hold,
    Leave,
}

#[derive(Debug)]
struct Instance {
    planned: Planned,
    standing: Standing,
    attempt: u64,
    restarts: Restarts,
    has_registered: bool,
    /// It failed for good, or nobody takes what it writes.
    is_gone: bool,
    /// It was ended since it sends to nobody but those that are gone.
    is_cut_off: bool,
}

impl Instance {
    fn new(planned: Planned, seed: u64) -> Self {
        Instance {
            standing: Standing::Waiting,
            attempt: planned.attempt,
            restarts: Restarts::new(planned.policy.clone(), seed),
            has_registered: false,
            is_gone: false,
            is_cut_off: false,
            planned,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    Starting,
    Running,
    Stopping { group: usize, failed: bool, reason: String },
    Over,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Model {
    instances: BTreeMap<String, Instance>,
    phase: Phase,
    /// It was not stopped.
    is_complete: bool,
    reload: Option<Reload>,
    seed: u64,
    effects: Vec<Effect>,
}

impl Model {
    /// A run that has not begun.
    pub(super) fn new(planned: Vec<Planned>, seed: u64) -> Self {
        let instances = planned
            .into_iter()
            .zip(seed..)
            .map(|(planned, seed)| (planned.place.clone(), Instance::new(planned, seed)));
        Model {
            instances: instances.collect(),
            phase: Phase::Starting,
            is_complete: false,
            reload: None,
            seed,
            effects: Vec::new(),
        }
    }

    /// A run that was under way: who is `running`, by place, with its attempt and whether it is
    /// registered; who was `handed`, with the attempt that was to end.
    pub(super) fn resume(
        &mut self,
        running: &BTreeMap<String, (u64, bool)>,
        handed: &BTreeMap<String, u64>,
        is_starting: bool,
        now: Duration,
    ) {
        for (place, instance) in &mut self.instances {
            let attempt = running.get(place).map_or(instance.attempt, |(attempt, _)| *attempt);
            if handed.get(place) == Some(&attempt) {
                instance.attempt = attempt;
                instance.standing = match running.contains_key(place) {
                    true => {
                        let (place, drain) = (place.clone(), instance.planned.drain);
                        self.effects.push(Effect::Stop { place, attempt, drain });
                        Standing::Ending { since: now, then: Then::ByHand }
                    }
                    // How it ended does not matter.
                    false => {
                        let reason = "it was told to end, and has".to_owned();
                        self.effects.push(Effect::Vacate { place: place.clone(), reason });
                        Standing::Waiting
                    }
                };
                continue;
            }
            let (registered, deadline) = match running.get(place) {
                Some((attempt, registered)) => {
                    instance.attempt = *attempt;
                    (*registered, (!registered).then(|| register_deadline(now)))
                }
                None => {
                    let why =
                        "it ran before the control plane was started again, and does not any more";
                    (true, Some((now + LOST_TIME, why.to_owned())))
                }
            };
            instance.has_registered = registered;
            instance.standing = Standing::Up { since: now, registered, deadline };
        }
        self.phase = if is_starting { Phase::Starting } else { Phase::Running };
        self.launch(now);
    }

    /// Whether nothing is left to do.
    pub(super) fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    /// Whether every instance has come to its end by itself, and with success.
    pub(super) fn is_complete(&self) -> bool {
        let done = Standing::Over { success: true };
        self.is_complete && self.instances.values().all(|instance| instance.standing == done)
    }

    /// When to come again at the latest.
    pub(super) fn due(&self) -> Option<Duration> {
        let due = self.instances.values().filter_map(|instance| match &instance.standing {
            Standing::Pausing { due } => Some(*due),
            Standing::Up { deadline, .. } => deadline.as_ref().map(|(due, _)| *due),
            _ => None,
        });
        due.chain(self.probation()).min()
    }

    /// The instances that a name means: a component, or one instance.
    pub(super) fn named(&self, name: &str) -> Vec<String> {
        let is_meant = |instance: &&Instance| {
            let planned = &instance.planned;
            planned.component == name
                || planned.place.split_once(':').is_some_and(|(_, id)| id == name)
        };
        self.instances.values().filter(is_meant).map(|found| found.planned.place.clone()).collect()
    }

    /// Whether another plan is on its way.
    pub(super) fn is_reloading(&self) -> bool {
        self.reload.is_some()
    }

    /// The attempt in a place that runs, if one does and was not told to end.
    pub(super) fn attempt(&self, place: &str) -> Option<u64> {
        let instance = self.instances.get(place)?;
        let runs = matches!(instance.standing, Standing::Up { .. } | Standing::Starting { .. });
        runs.then_some(instance.attempt)
    }

    /// Takes in what happened, and says what to do.
    pub(super) fn on(&mut self, event: Event, now: Duration) -> Vec<Effect> {
        match event {
            Event::Begin => self.launch(now),
            Event::Started(place, attempt) => self.started(&place, attempt, now),
            Event::NotStarted(place, attempt, why) => self.not_started(&place, attempt, why, now),
            Event::Ended { place, attempt, success, final_, why } => {
                self.ended(&place, attempt, success, final_, why, now);
            }
            Event::Registered(place) => self.registered(&place),
            Event::Left(place) => self.left(&place, now),
            Event::Closed(place, why) => self.closed(&place, &why, now),
            Event::Unhealthy(place, why) => self.unhealthy(&place, why),
            Event::Stop { at_once, reason } => self.stop(at_once, false, reason),
            Event::Fail(reason) => self.stop(false, true, reason),
            Event::Restart(name) => self.restart(&name, now),
            Event::Reload { leaving, can_go_back } => self.reload(leaving, can_go_back),
            Event::Replanned { next, done } => self.replanned(next, &done, now),
            Event::NotReplanned => self.not_replanned(now),
            Event::Tick => {}
        }
        self.look_at_the_time(now);
        self.settle(now);
        std::mem::take(&mut self.effects)
    }

    fn is_stopping(&self) -> bool {
        matches!(self.phase, Phase::Stopping { .. } | Phase::Over)
    }

    fn note(&mut self, place: &str, text: impl Into<String>) {
        self.effects.push(Effect::Note { place: place.to_owned(), text: text.into() });
    }

    /// Starts the deepest group of which nobody was started yet: readers before senders.
    fn launch(&mut self, now: Duration) {
        if self.is_stopping() {
            return;
        }
        let is_starting =
            |instance: &Instance| matches!(instance.standing, Standing::Starting { .. });
        if self.phase == Phase::Starting && self.instances.values().any(is_starting) {
            return;
        }
        let waiting = self.instances.values().filter(|one| one.standing == Standing::Waiting);
        let Some(depth) = waiting.map(|one| one.planned.depth).max() else { return };
        let group: Vec<String> = self
            .instances
            .values()
            .filter(|one| one.standing == Standing::Waiting && one.planned.depth == depth)
            .map(|one| one.planned.place.clone())
            .collect();
        for place in group {
            self.start(&place, now);
        }
    }

    fn start(&mut self, place: &str, now: Duration) {
        let Some(instance) = self.instances.get_mut(place) else { return };
        instance.attempt += 1;
        instance.standing = Standing::Starting { since: now, registered: false };
        let attempt = instance.attempt;
        self.effects.push(Effect::Start { place: place.to_owned(), attempt });
    }

    /// The instance, if this is what it is about.
    fn current(&mut self, place: &str, attempt: u64) -> Option<&mut Instance> {
        self.instances.get_mut(place).filter(|instance| instance.attempt == attempt)
    }

    fn started(&mut self, place: &str, attempt: u64, now: Duration) {
        let Some(instance) = self.current(place, attempt) else { return };
        if let Standing::Starting { since, registered } = instance.standing {
            let deadline = (!registered).then(|| register_deadline(now));
            instance.standing = Standing::Up { since, registered, deadline };
        }
        self.launch(now);
    }

    fn not_started(&mut self, place: &str, attempt: u64, why: String, now: Duration) {
        let Some(instance) = self.current(place, attempt) else { return };
        // What was never there is not there the next time either; what ran may run again.
        let is_final = !instance.has_registered;
        self.ended(place, attempt, false, is_final, why, now);
    }

    fn ended(
        &mut self,
        place: &str,
        attempt: u64,
        success: bool,
        is_final: bool,
        why: String,
        now: Duration,
    ) {
        let is_stopping = self.is_stopping();
        let Some(instance) = self.current(place, attempt) else { return };
        let (since, ending) = match instance.standing.clone() {
            Standing::Waiting
            | Standing::Pausing { .. }
            | Standing::Held { .. }
            | Standing::Over { .. } => return,
            Standing::Ending { then: Then::Hold, .. } if !is_stopping => {
                return self.held(place, why);
            }
            Standing::Ending { then: Then::ByHand, .. } if !is_stopping => {
                let reason = "it is started again by hand".to_owned();
                self.effects.push(Effect::Vacate { place: place.to_owned(), reason });
                return self.start(place, now);
            }
            Standing::Ending { since, then: Then::Failed(why) } => (since, Ending::Failed(why)),
            Standing::Starting { since, .. }
            | Standing::Up { since, .. }
            | Standing::Ending { since, .. }
                if success =>
            {
                (since, Ending::Done)
            }
            Standing::Starting { since, .. }
            | Standing::Up { since, .. }
            | Standing::Ending { since, .. } => (since, Ending::Failed(why.clone())),
        };
        self.effects.push(Effect::Vacate { place: place.to_owned(), reason: why.clone() });
        if is_stopping {
            return self.over(place, success, &why);
        }
        let is_leaving = self.is_leaving(place);
        if is_final && !success {
            if is_leaving {
                return self.hold(place);
            }
            return self.no_use(place, why);
        }
        self.failed_in_reload(place, &ending);
        let ran = now.saturating_sub(since);
        let Some(instance) = self.instances.get_mut(place) else { return };
        match instance.restarts.decide(&ending, ran, now) {
            Decision::Leave => self.over(place, true, &why),
            // It is to be replaced in any case.
            Decision::GiveUp { .. } if is_leaving => self.hold(place),
            Decision::GiveUp { why } => self.give_up(place, why),
            Decision::Restart { after, number } => {
                instance.standing = Standing::Pausing { due: now + after };
                let most = instance.planned.policy.most;
                let why = match ending {
                    Ending::Failed(why) => why,
                    Ending::Done => why,
                };
                let after = HumanDuration(after);
                self.note(place, format!("{why}; again in {after} (restart {number} of {most})"));
            }
        }
    }

    fn over(&mut self, place: &str, success: bool, why: &str) {
        if let Some(instance) = self.instances.get_mut(place) {
            instance.standing = Standing::Over { success };
        }
        let is_cut_off = self.instances.get(place).is_some_and(|one| one.is_cut_off);
        let text = match success {
            true => "done".to_owned(),
            false if is_cut_off => "ended: nobody is left to take what it sends".to_owned(),
            false => format!("ended: {why}"),
        };
        self.note(place, text);
    }

    /// It writes what nobody takes any more: the end of the run.
    fn closed(&mut self, place: &str, why: &str, now: Duration) {
        let Some(instance) = self.instances.get_mut(place) else { return };
        // Else somebody else said it, before this run.
        let is_its_word = match instance.standing {
            Standing::Starting { registered, .. } | Standing::Up { registered, .. } => registered,
            Standing::Ending { .. } => true,
            _ => false,
        };
        if !is_its_word {
            return;
        }
        instance.is_gone = true;
        self.left(place, now);
        let name = place.split_once(':').map_or(place, |(_, instance)| instance);
        self.stop(false, false, format!("{name}: {why}"));
    }

    fn give_up(&mut self, place: &str, why: String) {
        self.reload = None;
        if let Some(instance) = self.instances.get_mut(place) {
            instance.standing = Standing::Over { success: false };
            instance.is_gone = true;
        }
        self.note(place, format!("failed: {why}"));
        let name = place.split_once(':').map_or(place, |(_, instance)| instance);
        self.stop(false, true, format!("{name}: {why}"));
    }

    fn registered(&mut self, place: &str) {
        let Some(instance) = self.instances.get_mut(place) else { return };
        match &mut instance.standing {
            Standing::Up { registered, deadline, .. } if !*registered => {
                (*registered, *deadline) = (true, None);
                instance.has_registered = true;
                self.note(place, "registered");
            }
            // It may be quicker than the driver's answer.
            Standing::Starting { registered, .. } if !*registered => {
                (*registered, instance.has_registered) = (true, true);
                self.note(place, "registered");
            }
            _ => {}
        }
    }

    fn left(&mut self, place: &str, now: Duration) {
        let Some(instance) = self.instances.get_mut(place) else { return };
        let time = instance.planned.drain;
        if let Standing::Up { registered: true, deadline, .. } = &mut instance.standing
            && deadline.is_none()
        {
            let time_shown = HumanDuration(time);
            let why = format!("it deregistered and did not end within {time_shown}");
            *deadline = Some((now + time, why));
        }
    }

    fn unhealthy(&mut self, place: &str, why: String) {
        let Some(instance) = self.instances.get_mut(place) else { return };
        if let Standing::Up { since, .. } = instance.standing {
            instance.standing = Standing::Ending { since, then: Then::Failed(why.clone()) };
            let (place, attempt) = (place.to_owned(), instance.attempt);
            self.note(&place, format!("unhealthy: {why}"));
            self.effects.push(Effect::Stop { place, attempt, drain: UNHEALTHY_GRACE });
        }
    }

    fn restart(&mut self, name: &str, now: Duration) {
        if self.is_stopping() {
            return;
        }
        for place in self.named(name) {
            let Some(instance) = self.instances.get_mut(&place) else { continue };
            instance.restarts.forget();
            match instance.standing {
                Standing::Up { since, .. } | Standing::Starting { since, .. } => {
                    instance.standing = Standing::Ending { since, then: Then::ByHand };
                    let (attempt, drain) = (instance.attempt, instance.planned.drain);
                    self.note(&place, "is started again by hand");
                    self.effects.push(Effect::Hand(vec![place.clone()]));
                    self.effects.push(Effect::Stop { place, attempt, drain });
                }
                // That it is to leave is stronger than that it is to come back.
                Standing::Ending { then: Then::Hold, .. } => {}
                Standing::Ending { since, .. } => {
                    instance.standing = Standing::Ending { since, then: Then::ByHand };
                }
                Standing::Pausing { .. } | Standing::Over { .. } => self.start(&place, now),
                Standing::Waiting | Standing::Held { .. } => {}
            }
        }
    }

    fn look_at_the_time(&mut self, now: Duration) {
        let mut due = Vec::new();
        for (place, instance) in &mut self.instances {
            match &instance.standing {
                Standing::Pausing { due: at } if *at <= now => due.push((place.clone(), None)),
                Standing::Up { deadline: Some((at, why)), .. } if *at <= now => {
                    due.push((place.clone(), Some(why.clone())));
                }
                _ => {}
            }
        }
        for (place, late) in due {
            match late {
                None => self.start(&place, now),
                Some(why) => self.unhealthy(&place, why),
            }
        }
    }
}

fn register_deadline(now: Duration) -> (Duration, String) {
    let why = format!("it has not registered within {}", HumanDuration(REGISTER_TIME));
    (now + REGISTER_TIME, why)
}

#[cfg(test)]
#[path = "model_tests.rs"]
mod tests;
