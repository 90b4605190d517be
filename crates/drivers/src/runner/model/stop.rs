//! The end of a run: group after group, in the order of the plan.

use std::collections::BTreeMap;
use std::time::Duration;

use sheaf_pipeline::registry::PipelineState;

use super::{Effect, Instance, Model, Phase, Standing, Then};

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
            self.phase = Phase::Stopping { group: group + 1, failed, reason };
            self.stop_group(false);
        }
    }
}
