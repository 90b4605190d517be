//! From one plan to another while the run goes on.
//!
//! | step | what happens |
//! |---|---|
//! | draining | who is to leave is told to end, group after group: senders first, while their readers still run |
//! | planning | nobody is in the places: the other plan takes the place of the one before |
//! | proving | readers before senders are started, until all of them have registered and go on for a second: what a component is told it looks at after that |

use std::collections::BTreeSet;
use std::time::Duration;

use sheaf_pipeline::health::{Ending, Restarts};

use super::{Effect, Instance, Model, Phase, Planned, Standing, Then};

/// How long what was started has to go on before it counts as had.
pub(super) const PROBATION: Duration = Duration::from_secs(1);

/// How long who has not drained in its time is given to say so.
pub(super) const LAST_WORD: Duration = Duration::from_secs(3);

/// Another plan on its way.
#[derive(Debug)]
pub(super) struct Reload {
    leaving: BTreeSet<String>,
    /// Those that ran, and were told to end.
    told: BTreeSet<String>,
    can_go_back: bool,
    step: Step,
}

#[derive(Debug, PartialEq, Eq)]
enum Step {
    Draining,
    Planning,
    /// These are started; all of them have registered and are to go on until then.
    Proving {
        places: BTreeSet<String>,
        until: Option<Duration>,
    },
    /// They have, or one cannot.
    Over,
}

impl Model {
    pub(super) fn reload(&mut self, leaving: BTreeSet<String>, can_go_back: bool) {
        if self.is_stopping() {
            return;
        }
        self.effects.push(Effect::Hand(leaving.iter().cloned().collect()));
        // More of them may have to leave than was thought at first.
        let told = self.reload.take().map(|before| before.told).unwrap_or_default();
        self.reload = Some(Reload { leaving, told, can_go_back, step: Step::Draining });
    }

    /// Whether the holder of a place is replaced by another plan in any case.
    pub(super) fn is_leaving(&self, place: &str) -> bool {
        let leaves =
            |reload: &Reload| reload.step == Step::Draining && reload.leaving.contains(place);
        self.reload.as_ref().is_some_and(leaves)
    }

    /// Does what is due for another plan.
    pub(super) fn go_on_with_reload(&mut self, now: Duration) {
        if self.is_stopping() {
            return;
        }
        let Some(reload) = &mut self.reload else { return };
        match &mut reload.step {
            Step::Draining => self.drain(),
            Step::Proving { places, until } => {
                let instances = &self.instances;
                let is_there = |place| instances.get(place).is_none_or(is_there);
                if !places.iter().all(is_there) {
                    return;
                }
                let probation = if places.is_empty() { Duration::ZERO } else { PROBATION };
                if now >= *until.get_or_insert(now + probation) {
                    self.effects.push(Effect::Reloaded(Ok(())));
                    self.reload = None;
                }
            }
            Step::Planning => {}
            Step::Over => self.reload = None,
        }
    }

    /// Tells the next group to end, where those before it have.
    fn drain(&mut self) {
        let Some(reload) = &mut self.reload else { return };
        let leaving =
            self.instances.iter_mut().filter(|(place, _)| reload.leaving.contains(*place));
        let (running, others): (Vec<_>, Vec<_>) =
            leaving.map(|(_, instance)| instance).partition(|instance| runs(instance));
        let depth = running.iter().map(|instance| instance.planned.depth).min();
        for instance in others {
            match instance.standing {
                // Its senders drain into it still, when its pause is over.
                Standing::Waiting | Standing::Pausing { .. }
                    if depth.is_some_and(|depth| depth < instance.planned.depth) => {}
                Standing::Waiting | Standing::Pausing { .. } => {
                    instance.standing = Standing::Held { is_done: false };
                }
                Standing::Over { success } => {
                    instance.standing = Standing::Held { is_done: success };
                }
                _ => {}
            }
        }
        let Some(depth) = depth else {
            reload.step = Step::Planning;
            self.effects.push(Effect::Replan(std::mem::take(&mut reload.told)));
            return;
        };
        let mut stops = Vec::new();
        for instance in running.into_iter().filter(|one| one.planned.depth == depth) {
            let (since, is_told) = match &instance.standing {
                Standing::Ending { since, .. } => (*since, true),
                Standing::Up { since, .. } | Standing::Starting { since, .. } => (*since, false),
                _ => continue,
            };
            instance.standing = Standing::Ending { since, then: Then::Hold };
            if !is_told {
                // What it does after its own time it should be able to say.
                let drain = instance.planned.drain + LAST_WORD;
                stops.push((instance.planned.place.clone(), instance.attempt, drain));
            }
        }
        if stops.is_empty() {
            return;
        }
        // It may be another attempt than when the reload began.
        self.effects.push(Effect::Hand(stops.iter().map(|(place, ..)| place.clone()).collect()));
        for (place, attempt, drain) in stops {
            reload.told.insert(place.clone());
            let text = "drains for another plan".to_owned();
            self.effects.push(Effect::Note { place: place.clone(), text });
            self.effects.push(Effect::Stop { place, attempt, drain });
        }
    }

    /// It was told to end for another plan, and has.
    pub(super) fn held(&mut self, place: &str, why: String) {
        self.effects.push(Effect::Vacate { place: place.to_owned(), reason: why });
        self.hold(place);
    }

    /// It has ended, and is not started again before another plan comes.
    pub(super) fn hold(&mut self, place: &str) {
        if let Some(instance) = self.instances.get_mut(place) {
            instance.standing = Standing::Held { is_done: false };
        }
    }

    /// The other plan is the one that holds now.
    pub(super) fn replanned(&mut self, next: Vec<Planned>, done: &BTreeSet<String>, now: Duration) {
        let is_due = |reload: &Reload| reload.step == Step::Planning;
        if self.is_stopping() || !self.reload.as_ref().is_some_and(is_due) {
            return;
        }
        let done = self.done(&next, done);
        let mut before = std::mem::take(&mut self.instances);
        for (planned, seed) in next.into_iter().zip(self.seed..) {
            let there = before.remove(&planned.place);
            let is_done = done.contains(&planned.place);
            let place = planned.place.clone();
            self.instances.insert(place, replaced(there, planned, seed, is_done));
        }
        let waiting = self.instances.iter();
        let waiting = waiting.filter(|(_, one)| one.standing == Standing::Waiting);
        let places = waiting.map(|(place, _)| place.clone()).collect();
        if let Some(reload) = &mut self.reload {
            reload.step = Step::Proving { places, until: None };
        }
        self.launch(now);
    }

    /// Who has come to its end, and has nobody to read who has not. In a run nobody comes to
    /// an end twice.
    fn done(&self, next: &[Planned], done: &BTreeSet<String>) -> BTreeSet<String> {
        let mut all: Vec<&Planned> = next.iter().collect();
        all.sort_by_key(|planned| planned.depth);
        let mut found = BTreeSet::new();
        for planned in all {
            let is_done = match self.instances.get(&planned.place).map(|one| &one.standing) {
                Some(Standing::Over { success }) => *success,
                Some(Standing::Held { is_done }) => *is_done || done.contains(&planned.place),
                _ => false,
            };
            if is_done && planned.senders.iter().all(|sender| found.contains(sender)) {
                found.insert(planned.place.clone());
            }
        }
        found
    }

    /// The other plan cannot be had: who has left comes back as it was.
    pub(super) fn not_replanned(&mut self, now: Duration) {
        if self.reload.take().is_none() || self.is_stopping() {
            return;
        }
        for instance in self.instances.values_mut() {
            if let Standing::Held { is_done } = instance.standing {
                instance.standing = match is_done {
                    true => Standing::Over { success: true },
                    false => Standing::Waiting,
                };
            }
        }
        self.launch(now);
    }

    /// It cannot be started, and another start is of no use.
    pub(super) fn no_use(&mut self, place: &str, why: String) {
        let Some(reload) = self.proving(place).filter(|reload| reload.can_go_back) else {
            return self.give_up(place, why);
        };
        reload.step = Step::Over;
        if let Some(instance) = self.instances.get_mut(place) {
            instance.standing = Standing::Over { success: false };
        }
        self.note(place, format!("failed: {why}"));
        self.effects.push(Effect::GoBack(format!("{}: {why}", name(place))));
    }

    /// Whoever waits for another plan to be had need not wait for all starts of one that fails.
    pub(super) fn failed_in_reload(&mut self, place: &str, ending: &Ending) {
        let Ending::Failed(why) = ending else { return };
        let Some(reload) = self.proving(place) else { return };
        reload.step = Step::Over;
        let why = format!("{}: {why}; it is started again as its `restart` says", name(place));
        self.effects.push(Effect::Reloaded(Err(why)));
    }

    /// When a reload is over, if nothing happens until then.
    pub(super) fn probation(&self) -> Option<Duration> {
        match self.reload.as_ref()?.step {
            Step::Proving { until, .. } => until,
            _ => None,
        }
    }

    /// The reload that a place was started for, and has to prove itself.
    fn proving(&mut self, place: &str) -> Option<&mut Reload> {
        if !matches!(self.phase, Phase::Starting | Phase::Running) {
            return None;
        }
        let is_awaited = |reload: &&mut Reload| match &reload.step {
            Step::Proving { places, .. } => places.contains(place),
            _ => false,
        };
        self.reload.as_mut().filter(is_awaited)
    }
}

/// An instance of the other plan, after the one that had its place, if any.
fn replaced(there: Option<Instance>, planned: Planned, seed: u64, is_done: bool) -> Instance {
    let restarts = Restarts::new(planned.policy.clone(), seed);
    let Some(mut there) = there else { return Instance::new(planned, seed) };
    let is_held = matches!(there.standing, Standing::Held { .. });
    if is_held || planned.policy != there.planned.policy {
        there.restarts = restarts;
    }
    there.planned = planned;
    if is_held {
        there.has_registered = is_done;
        there.standing = match is_done {
            true => Standing::Over { success: true },
            false => Standing::Waiting,
        };
    }
    there
}

/// Whether there is a process, be it that it is told to end.
fn runs(instance: &Instance) -> bool {
    let standing = &instance.standing;
    matches!(standing, Standing::Starting { .. } | Standing::Up { .. } | Standing::Ending { .. })
}

/// The instance of a place.
fn name(place: &str) -> &str {
    place.split_once(':').map_or(place, |(_, instance)| instance)
}

/// Whether it has registered, or need not any more.
fn is_there(instance: &Instance) -> bool {
    instance.has_registered || matches!(instance.standing, Standing::Over { .. })
}

#[cfg(test)]
#[path = "reload_tests.rs"]
mod tests;
