//! Whether the process is well, and whether it takes work.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

/// Where the process is in its life; it only goes forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Opening its parts.
    Starting,
    /// Takes work.
    Ready,
    /// Finishes what it has and takes nothing new.
    Draining,
}

/// How a component is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Whether it works.
    pub up: bool,
    /// For people: figures, or what is wrong.
    pub detail: String,
}

impl Status {
    /// It works.
    pub fn up(detail: impl Into<String>) -> Self {
        Status { up: true, detail: detail.into() }
    }

    /// It does not, and why.
    pub fn down(detail: impl Into<String>) -> Self {
        Status { up: false, detail: detail.into() }
    }
}

/// A component by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Component {
    /// Which.
    pub name: String,
    /// How it is.
    #[serde(flatten)]
    pub status: Status,
}

/// The state of the process at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Where it is in its life.
    pub phase: Phase,
    /// In the order of registration.
    pub components: Vec<Component>,
}

impl Report {
    /// Whether every component works.
    pub fn is_healthy(&self) -> bool {
        self.components.iter().all(|component| component.status.up)
    }

    /// Why it takes no work now; empty when it does.
    pub fn reasons(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        match self.phase {
            Phase::Starting => reasons.push("starting".to_owned()),
            Phase::Ready => {}
            Phase::Draining => reasons.push("draining".to_owned()),
        }
        let down = self.components.iter().filter(|component| !component.status.up);
        reasons.extend(down.map(|down| format!("{}: {}", down.name, down.status.detail)));
        reasons
    }
}

type Check = Box<dyn Fn() -> Status + Send>;

struct Inner {
    phase: Phase,
    checks: Vec<(String, Check)>,
}

/// Gathers the health of a process; clones share one state.
///
/// Checks run at each request of the admin port: they answer at once, from
/// what the component knows already, and never block.
#[derive(Clone)]
pub struct Health(Arc<Mutex<Inner>>);

impl Health {
    /// Starting, without components.
    pub fn new() -> Self {
        Health(Arc::new(Mutex::new(Inner { phase: Phase::Starting, checks: Vec::new() })))
    }

    /// Adds a component; one of the same name is replaced.
    pub fn register(&self, name: impl Into<String>, check: impl Fn() -> Status + Send + 'static) {
        let name = name.into();
        let mut inner = self.lock();
        inner.checks.retain(|(known, _)| *known != name);
        inner.checks.push((name, Box::new(check)));
    }

    /// Takes work from now on, unless it drains already.
    pub fn ready(&self) {
        self.advance(Phase::Ready);
    }

    /// Takes no new work any more.
    pub fn draining(&self) {
        self.advance(Phase::Draining);
    }

    /// Asks every component.
    pub fn report(&self) -> Report {
        let inner = self.lock();
        let components = inner
            .checks
            .iter()
            .map(|(name, check)| Component { name: name.clone(), status: check() })
            .collect();
        Report { phase: inner.phase, components }
    }

    fn advance(&self, to: Phase) {
        let mut inner = self.lock();
        inner.phase = inner.phase.max(to);
    }

    /// A check that panicked leaves nothing half-done here.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Health {
    fn default() -> Self {
        Health::new()
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Health").field(&self.report()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn the_phase_only_goes_forward() {
        let health = Health::new();
        assert_eq!(health.report().reasons(), ["starting"]);
        health.ready();
        assert!(health.report().reasons().is_empty());
        health.draining();
        health.ready();
        assert_eq!(health.report().reasons(), ["draining"]);
    }

    #[test]
    fn checks_are_asked_each_time_and_replaced_by_name() {
        let (health, up) = (Health::new(), Arc::new(AtomicBool::new(true)));
        let seen = up.clone();
        health.register("store", || Status::down("first"));
        health.register("store", move || match seen.load(Ordering::Relaxed) {
            true => Status::up("fine"),
            false => Status::down("disk full"),
        });
        health.ready();
        assert!(health.report().is_healthy());
        up.store(false, Ordering::Relaxed);
        assert_eq!(health.report().reasons(), ["store: disk full"]);
        assert_eq!(health.report().components.len(), 1);
    }
}
