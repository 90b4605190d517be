//! The end of a run: group after group, in the order of the plan.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sheaf_pipeline::registry::PipelineState;

use super::{Effect, Instance, Model, Phase, Standing, Then};

/// How long an instance is given to end of which nothing is taken any more.
const CUT_OFF_TIME: Duration = Duration::from_secs(1);

impl Model {
    pub(super) fn stop(&mut self, at_once: bool, failed: bool, reason: String) {
        match &mut self.phase {
            Phase::Over => return,
            Phase::Stopping { group, .. } => {
                // Only more haste is news.
                if !at_once {
                    return;
                }
                *group = usize::MAX;
            }
            Phase::Starting | Phase::Running => {
                let group = if at_once { usize::MAX } else { 0 };
                self.phase = Phase::Stopping { group, failed, reason: reason.clone() };
                self.effects.push(Effect::State(PipelineState::Stopping, reason));
                self.reload = None;
                self.drop_waiting();
                self.end_cut_off();
            }
        }
        self.stop_group(at_once);
    }

    /// Who does not run is over.
    fn drop_waiting(&mut self) {
        for instance in self.instances.values_mut() {
            match instance.standing {
                Standing::Held { is_done } => {
                    instance.standing = Standing::Over { success: is_done };
                }
                Standing::Waiting | Standing::Pausing { .. } => {
                    instance.standing = Standing::Over { success: false };
                }
                _ => {}
            }
        }
    }

    fn stop_group(&mut self, at_once: bool) {
        let Phase::Stopping { group, .. } = self.phase else { return };
        let mut effects = Vec::new();
        for instance in self.instances.values_mut() {
            let since = match &instance.standing {
                Standing::Up { since, .. } | Standing::Starting { since, .. } => *since,
                Standing::Ending { since, .. } if at_once => *since,
                _ => continue,
            };
            if instance.planned.depth > group {
                continue;
            }
            instance.standing = Standing::Ending { since, then: Then::Leave };
            let (place, attempt) = (instance.planned.place.clone(), instance.attempt);
            let drain = if at_once { Duration::ZERO } else { instance.planned.drain };
            effects.push(Effect::Stop { place, attempt, drain });
        }
        self.effects.extend(effects);
    }

    /// Ends at once who sends to nobody but those that are gone: it would wait for acknowledgements
    /// that cannot come.
    fn end_cut_off(&mut self) {
        let Phase::Stopping { group, .. } = self.phase else { return };
        if group == usize::MAX {
            return;
        }
        for place in self.gone() {
            let Some(instance) = self.instances.get_mut(&place) else { continue };
            let (Standing::Up { since, .. }
            | Standing::Starting { since, .. }
            | Standing::Ending { since, .. }) = instance.standing
            else {
                continue;
            };
            if instance.is_gone || instance.is_cut_off {
                continue;
            }
            instance.standing = Standing::Ending { since, then: Then::Leave };
            instance.is_cut_off = true;
            let attempt = instance.attempt;
            self.effects.push(Effect::Stop { place, attempt, drain: CUT_OFF_TIME });
        }
    }

    /// The places of those that are gone for good, and of those that send to nobody else.
    fn gone(&self) -> BTreeSet<String> {
        let is_gone =
            |one: &&Instance| one.is_gone || one.standing == Standing::Over { success: false };
        let gone = self.instances.values().filter(is_gone);
        let mut gone: BTreeSet<String> = gone.map(|one| one.planned.place.clone()).collect();
        if gone.is_empty() {
            return gone;
        }
        loop {
            let mut readers: BTreeMap<&str, bool> = BTreeMap::new();
            for one in self.instances.values() {
                let is_gone = gone.contains(&one.planned.place);
                for sender in &one.planned.senders {
                    // What goes into a queue needs nobody to take it.
                    let is_cut = is_gone && one.planned.direct.contains(sender);
                    readers.entry(sender).and_modify(|all| *all &= is_cut).or_insert(is_cut);
                }
            }
            let cut_off = readers.iter().filter(|(sender, all)| **all && !gone.contains(**sender));
            let cut_off: Vec<String> = cut_off.map(|(sender, _)| (*sender).to_owned()).collect();
            if cut_off.is_empty() {
                return gone;
            }
            gone.extend(cut_off);
        }
    }

    /// Goes on to the next group, and to the end.
    pub(super) fn settle(&mut self, now: Duration) {
        let all = |instances: &BTreeMap<String, Instance>, wanted: &dyn Fn(&Instance) -> bool| {
            instances.values().all(wanted)
        };
        let is_over = |one: &Instance| matches!(one.standing, Standing::Over { .. });
        if self.phase == Phase::Starting {
            let is_there = |one: &Instance| one.has_registered || is_over(one);
            if all(&self.instances, &is_there) {
                self.phase = Phase::Running;
                self.effects.push(Effect::State(PipelineState::Running, String::new()));
            }
        }
        self.go_on_with_reload(now);
        if self.phase == Phase::Running && self.reload.is_none() && all(&self.instances, &is_over) {
            (self.phase, self.is_complete) = (Phase::Over, true);
            let reason = "all components have come to their end".to_owned();
            self.effects.push(Effect::State(PipelineState::Stopped, reason));
        }
        self.end_cut_off();
        while let Phase::Stopping { group, failed, reason } = self.phase.clone() {
            if all(&self.instances, &is_over) {
                self.phase = Phase::Over;
                let state = if failed { PipelineState::Failed } else { PipelineState::Stopped };
                self.effects.push(Effect::State(state, reason));
                return;
            }
            let is_done = |one: &Instance| is_over(one) || one.planned.depth > group;
            if !all(&self.instances, &is_done) {
                return;
            }
            self.phase = Phase::Stopping { group: group.saturating_add(1), failed, reason };
            self.stop_group(false);
        }
    }
}
