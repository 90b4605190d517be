//! What becomes of components.

use std::sync::Arc;
use std::time::Duration;

use sheaf_flight::Secret;
use sheaf_retry::HumanDuration;

use super::error::{Error, invalid};
use super::model::{
    Beat, Component, Connections, Counted, Held, Kind, Now, Registered, Registration, Status,
    Totals,
};
use super::{Registry, limits, schema, token};
use crate::health::Endpoint;

/// How the reason begins for which a component deregisters that could not go on.
const FAILED: &str = "failed";

/// What a look at a health endpoint has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Polled {
    /// It says that it is well.
    Well,
    /// It does not answer, or says that it is not.
    Not(String),
}

impl Registry {
    /// A component takes its place, a worker joins, or either says again what it
    /// said before.
    ///
    /// # Errors
    /// [`Error::Invalid`], [`Error::Limit`], [`Error::Full`];
    /// [`Error::NotFound`] where no plan has the place;
    /// [`Error::Refused`] for another token than that of the place;
    /// [`Error::Taken`] while another incarnation lives;
    /// [`Error::Stale`] where this incarnation has left already.
    pub fn register(&mut self, asked: Registration, now: Now) -> Result<Registered, Error> {
        limits::registration(&asked)?;
        let endpoint = Endpoint::checked(&asked.health_endpoint, &asked.address)?;
        self.admit(&asked)?;
        let there = self.components.get(&asked.id).cloned();
        let is_same = there.as_ref().is_some_and(|there| is_holder(there, &asked.incarnation));
        if let Some(there) = &there {
            self.may_take(there, is_same, now)?;
        }
        let mut metadata = asked.metadata;
        let ports = metadata.inputs.iter_mut().chain(&mut metadata.outputs);
        for port in ports {
            *port = schema::read(std::mem::take(port))?;
        }
        let id = asked.id.clone();
        let component = Component {
            id: asked.id,
            kind: asked.kind,
            status: Status::Healthy,
            reason: String::new(),
            address: asked.address,
            health_endpoint: endpoint.map(|endpoint| endpoint.to_string()).unwrap_or_default(),
            endpoints: asked.endpoints,
            last_heartbeat: now.wall,
            registered_at: now.wall,
            metadata,
            connections: Connections::default(),
            pipeline: String::new(),
            component: String::new(),
            replica: 0,
            fence: 0,
            progress: 0,
            load: asked.load,
            restarts: 0,
            totals: None,
            held: Held { incarnation: asked.incarnation, ..Held::nobody(now) },
        };
        self.has_room_for(component.kind, component.weight(), there.as_deref())?;
        Ok(self.take_place(&id, component, there, is_same, now))
    }

    /// Whether who asks may be this component at all.
    fn admit(&self, asked: &Registration) -> Result<(), Error> {
        let Some((pipeline, index)) = self.places.get(&asked.id) else {
            if asked.kind != Kind::Worker {
                return Err(Error::NotFound { what: "place", id: asked.id.clone() });
            }
            return match self.worker_token {
                Some(token) if !token.is_of(&asked.token) => {
                    let hint = "workers register with the token that the control plane was given";
                    Err(Error::Refused { id: asked.id.clone(), hint })
                }
                _ => Ok(()),
            };
        };
        let pipeline = self.pipelines.get(pipeline);
        let place = pipeline.and_then(|pipeline| pipeline.plan.places.get(*index));
        let Some(place) = place else {
            return Err(Error::NotFound { what: "place", id: asked.id.clone() });
        };
        // The token first: who has none is told nothing of the place.
        if !place.token.is_of(&asked.token) {
            let hint = "use the one that its process was started with";
            return Err(Error::Refused { id: asked.id.clone(), hint });
        }
        if place.kind != asked.kind {
            let (planned, said) = (place.kind.as_str(), asked.kind.as_str());
            return Err(invalid("type", format!("{} is a {planned}, not a {said}", asked.id)));
        }
        Ok(())
    }

    /// Whether the place is free for whoever asks.
    fn may_take(&self, there: &Component, is_same: bool, now: Now) -> Result<(), Error> {
        if is_same && !there.status.is_held() {
            let problem = "this incarnation has left its place";
            return Err(Error::Stale { id: there.id.clone(), problem });
        }
        if is_same || !there.status.is_held() {
            return Ok(());
        }
        let silent = now.elapsed.saturating_sub(there.held.heard);
        let limit = self.unhealthy_after(&there.id);
        if silent > limit {
            return Ok(());
        }
        // It has to be silent for longer than that.
        let after = (limit - silent).saturating_add(Duration::from_millis(1));
        Err(Error::Taken { id: there.id.clone(), after })
    }

    fn has_room_for(
        &self,
        kind: Kind,
        weight: usize,
        there: Option<&Component>,
    ) -> Result<(), Error> {
        let full = |what, held: usize, limit: usize| match there.is_none() && held >= limit {
            true => {
                let (held, limit) = (held as u64, limit as u64);
                Err(Error::Full { what, held, more: 1, limit })
            }
            false => Ok(()),
        };
        full("components", self.components.len(), self.limits.components)?;
        if kind == Kind::Worker && there.is_none() {
            let workers = self.components.values().filter(|there| there.kind == Kind::Worker);
            full("workers", workers.count(), self.limits.workers)?;
        }
        let others = self.bytes.saturating_sub(there.map_or(0, Component::weight));
        if others.saturating_add(weight) > self.limits.bytes {
            let (what, held, more) = ("bytes", others as u64, weight as u64);
            return Err(Error::Full { what, held, more, limit: self.limits.bytes as u64 });
        }
        Ok(())
    }

    /// Whether its last incarnation came in the run that its pipeline had last, or it has none.
    fn is_of_run(&self, component: &Component) -> bool {
        let pipeline = self.pipelines.get(&component.pipeline);
        let began = pipeline.and_then(|pipeline| pipeline.started_at);
        began.is_none_or(|began| component.registered_at >= began)
    }

    fn take_place(
        &mut self,
        id: &str,
        mut new: Component,
        there: Option<Arc<Component>>,
        is_same: bool,
        now: Now,
    ) -> Registered {
        if let Some(there) = &there {
            new.connections = there.connections.clone();
            new.pipeline.clone_from(&there.pipeline);
            new.component.clone_from(&there.component);
            new.replica = there.replica;
            if self.is_of_run(there) {
                (new.restarts, new.totals) = (there.restarts, there.totals);
            }
        }
        match &there {
            Some(there) if is_same => {
                // What it says of itself is new; how it is, is not (rule 4).
                (new.status, new.reason) = (there.status, there.reason.clone());
                (new.fence, new.progress) = (there.fence, there.progress);
                new.last_heartbeat = there.last_heartbeat;
                new.registered_at = there.registered_at;
                new.held = there.held.clone();
                new.held.said = now.elapsed;
            }
            Some(there) => {
                let is_restart = self.is_of_run(there) && has_failed(there);
                new.restarts = new.restarts.saturating_add(u32::from(is_restart));
                new.fence = self.next_fence();
            }
            None => new.fence = self.next_fence(),
        }
        let registered = Registered {
            fence: new.fence,
            created: !is_same,
            connections: new.connections.clone(),
        };
        let new = Arc::new(new);
        self.put_component(id, Some(Arc::clone(&new)));
        let before = there.as_ref().map(|there| there.status);
        let moved = there.is_some_and(|there| there.address != new.address);
        if !is_same || moved {
            self.change(&new, before, now);
        }
        registered
    }

    /// A sign of life.
    ///
    /// # Errors
    /// [`Error::NotFound`] where nobody of that id has registered: register
    /// (again); [`Error::Stale`] from any incarnation but the holder.
    pub fn beat(&mut self, beat: Beat, now: Now) -> Result<(Counted, Status), Error> {
        let there = Arc::clone(self.holder(&beat.id, &beat.incarnation)?);
        if beat.load.is_some() && there.kind != Kind::Worker {
            return Err(invalid("load", "only workers have one"));
        }
        if beat.sequence <= there.held.sequence {
            return Ok((Counted::Repeated, there.status));
        }
        let is_real = beat.progress > there.progress;
        let mut new = Component::clone(&there);
        (new.held.sequence, new.held.said) = (beat.sequence, now.elapsed);
        new.load = beat.load.or(new.load);
        if is_real {
            (new.progress, new.held.heard) = (beat.progress, now.elapsed);
            new.last_heartbeat = now.wall;
            if new.status == Status::Unhealthy && !self.is_ill(&new) {
                (new.status, new.reason) = (Status::Healthy, String::new());
            }
        }
        let status = self.replace(&there, new, now);
        Ok((if is_real { Counted::Yes } else { Counted::Stalled }, status))
    }

    /// A component leaves in good order. Said twice it is as said once.
    ///
    /// # Errors
    /// As [`Registry::beat`], and [`Error::Limit`] for a long reason.
    pub fn deregister(
        &mut self,
        id: &str,
        incarnation: &Secret,
        reason: &str,
        totals: Option<Totals>,
        now: Now,
    ) -> Result<(), Error> {
        limits::text("reason", reason)?;
        let there = Arc::clone(self.component(id)?);
        if there.status == Status::Stopped && is_holder(&there, incarnation) {
            return Ok(());
        }
        let there = Arc::clone(self.holder(id, incarnation)?);
        let mut last = Component::clone(&there);
        last.held.left_ill = there.status == Status::Unhealthy;
        last.totals = match (there.totals, totals) {
            (Some(before), Some(more)) => Some(sum(&before, &more)),
            (before, more) => more.or(before),
        };
        self.leave(&Arc::new(last), Status::Stopped, reason, now);
        Ok(())
    }

    /// Whoever runs the process says that it has ended. Answers whether that
    /// was the holder of the place; if not, nothing is changed.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Limit`] for a long reason.
    pub fn exited(
        &mut self,
        id: &str,
        incarnation: &Secret,
        reason: &str,
        now: Now,
    ) -> Result<bool, Error> {
        limits::text("reason", reason)?;
        let there = Arc::clone(self.component(id)?);
        let is_it = there.status.is_held() && is_holder(&there, incarnation);
        if is_it {
            self.leave(&there, Status::Exited, reason, now);
        }
        Ok(is_it)
    }

    /// Whoever runs the processes of a place says that none of them runs any more. Answers
    /// whether somebody held it.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Limit`] for a long reason.
    pub fn vacate(&mut self, id: &str, reason: &str, now: Now) -> Result<bool, Error> {
        limits::text("reason", reason)?;
        let there = Arc::clone(self.component(id)?);
        let is_held = there.status.is_held();
        if is_held {
            self.leave(&there, Status::Exited, reason, now);
        }
        Ok(is_held)
    }

    /// A place stays, a worker that has left is gone.
    fn leave(&mut self, there: &Arc<Component>, status: Status, reason: &str, now: Now) {
        let mut new = Component::clone(there);
        (new.status, new.reason) = (status, reason.to_owned());
        self.replace(there, new, now);
        if there.kind == Kind::Worker {
            self.take_out(&there.id, now);
        }
    }

    /// A health endpoint was looked at; `fence` is that of whoever it was.
    pub fn polled(&mut self, id: &str, fence: u64, polled: &Polled, now: Now) {
        let Some(there) = self.components.get(id).cloned() else { return };
        if there.fence != fence || !there.status.is_held() {
            return;
        }
        let mut new = Component::clone(&there);
        match polled {
            Polled::Well => {
                new.held.polls_failed = 0;
                let silent = now.elapsed.saturating_sub(new.held.heard);
                if new.status == Status::Unhealthy && silent <= self.unhealthy_after(id) {
                    (new.status, new.reason) = (Status::Healthy, String::new());
                }
            }
            Polled::Not(why) => {
                new.held.polls_failed = new.held.polls_failed.saturating_add(1);
                if new.status == Status::Healthy && self.is_ill(&new) {
                    let (times, at) = (new.held.polls_failed, &new.health_endpoint);
                    let path = self.path_of(id);
                    let reason = format!("GET http://{at}{path} failed {times} times: {why}");
                    (new.status, new.reason) = (Status::Unhealthy, limits::reason(&reason));
                }
            }
        }
        self.replace(&there, new, now);
    }

    /// Looks who was silent for too long.
    pub fn check(&mut self, now: Now) {
        let held = self.components.values().filter(|component| component.status.is_held());
        let silent = |component: &Component| now.elapsed.saturating_sub(component.held.heard);
        let late: Vec<Arc<Component>> =
            held.filter(|there| silent(there) > self.unhealthy_after(&there.id)).cloned().collect();
        for there in late {
            let limit = self.unhealthy_after(&there.id);
            let is_forgotten = silent(&there) > self.timing.forget_after;
            if there.kind == Kind::Worker && is_forgotten {
                self.take_out(&there.id, now);
            } else if there.status == Status::Healthy {
                let mut new = Component::clone(&there);
                new.status = Status::Unhealthy;
                let time = HumanDuration(Duration::from_secs(silent(&there).as_secs()));
                let said = now.elapsed.saturating_sub(there.held.said);
                new.reason = match said > limit {
                    true => format!("it has said nothing for {time}"),
                    false => format!("it beats, but its loop has not moved for {time}"),
                };
                self.replace(&there, new, now);
            }
        }
    }

    /// Whether its health endpoint says so, beats aside.
    fn is_ill(&self, component: &Component) -> bool {
        component.held.polls_failed >= self.timing.poll_failures
    }

    /// The component, if `incarnation` holds its place.
    fn holder(&self, id: &str, incarnation: &Secret) -> Result<&Arc<Component>, Error> {
        limits::id("id", id)?;
        limits::incarnation(incarnation.expose())?;
        let there = self.component(id)?;
        let stale = |problem| Error::Stale { id: id.to_owned(), problem };
        match there.status {
            Status::Expected => Err(Error::NotFound { what: "holder of", id: id.to_owned() }),
            _ if !is_holder(there, incarnation) => Err(stale("another incarnation has its place")),
            Status::Stopped => Err(stale("this incarnation has deregistered")),
            Status::Exited => Err(stale("this incarnation was said to have ended")),
            Status::Healthy | Status::Unhealthy => Ok(there),
        }
    }

    /// Puts `new` in place of `there`, and says so where its status is another one.
    fn replace(&mut self, there: &Arc<Component>, new: Component, now: Now) -> Status {
        let (status, new) = (new.status, Arc::new(new));
        match status == there.status {
            // Beats are no reason to write to disk.
            true => self.put_quietly(&there.id, new),
            false => {
                self.put_component(&there.id, Some(Arc::clone(&new)));
                self.change(&new, Some(there.status), now);
            }
        }
        status
    }
}

/// Whether whoever takes its place is a restart: it was not told to go, and has not come to its end.
fn has_failed(there: &Component) -> bool {
    match there.status {
        Status::Expected => false,
        Status::Stopped => there.held.left_ill || there.reason.starts_with(FAILED),
        Status::Healthy | Status::Unhealthy | Status::Exited => there.fence > 0,
    }
}

fn sum(before: &Totals, more: &Totals) -> Totals {
    let add = |before: Option<u64>, more: Option<u64>| match (before, more) {
        (Some(before), Some(more)) => Some(before.saturating_add(more)),
        (before, more) => before.or(more),
    };
    Totals {
        rows_in: add(before.rows_in, more.rows_in),
        batches_in: add(before.batches_in, more.batches_in),
        rows_out: add(before.rows_out, more.rows_out),
        batches_out: add(before.batches_out, more.batches_out),
        // Those of a queue, which whoever comes next finds there still.
        failed_batches: before.failed_batches.max(more.failed_batches),
    }
}

fn is_holder(component: &Component, incarnation: &Secret) -> bool {
    component.fence > 0 && token::same(&component.held.incarnation, incarnation)
}
