//! What becomes of pipelines.

use std::collections::BTreeSet;
use std::sync::Arc;

use sheaf_retry::Timestamp;

use super::error::Error;
use super::limits;
use super::model::{Component, Held, Kind, Metadata, Now, RunTotals, Status};
use super::pipeline::{Generation, MAX_GENERATIONS, Pipeline, PipelineState, Place, Plan, Run};
use super::{Change, Registry};

/// A place that nobody has taken.
pub(super) fn expected(pipeline: &str, place: &Place, now: Now) -> Component {
    Component {
        id: place.id.clone(),
        kind: place.kind,
        status: Status::Expected,
        reason: String::new(),
        address: String::new(),
        health_endpoint: String::new(),
        endpoints: Vec::new(),
        last_heartbeat: Timestamp::EPOCH,
        registered_at: Timestamp::EPOCH,
        metadata: Metadata::default(),
        connections: place.connections.clone(),
        pipeline: pipeline.to_owned(),
        component: place.component.clone(),
        replica: place.replica,
        fence: 0,
        progress: 0,
        load: None,
        restarts: 0,
        totals: None,
        held: Held::nobody(now),
    }
}

impl Registry {
    /// Gives out the places of a plan, in place of those of the pipeline's plan
    /// before, if it has one.
    ///
    /// Who holds a place that is in both plans, and is of the same kind, keeps
    /// it; tokens are those of the new plan, so a place whose holder is to stay is
    /// given the digest that it had, which the plan before has. Places that are in the old one only
    /// are gone, and what their holders say is refused.
    ///
    /// # Errors
    /// [`Error::Invalid`] and [`Error::Limit`] for a plan of the wrong form, or
    /// with the id of another pipeline's place or of a worker; [`Error::Full`].
    pub fn plan(&mut self, plan: Plan, now: Now) -> Result<(), Error> {
        limits::plan(&plan, &self.limits)?;
        let id = plan.id.clone();
        let old = self.pipelines.get(&id).cloned();
        let old_places = old.iter().flat_map(|old| &old.plan.places);
        let old_ids: BTreeSet<String> = old_places.map(|place| place.id.clone()).collect();
        for place in &plan.places {
            if !old_ids.contains(&place.id) && self.components.contains_key(&place.id) {
                let problem = format!("{} is the id of another component", place.id);
                return Err(Error::Invalid { field: "place.id", problem });
            }
        }
        let pipeline = match &old {
            Some(old) => Pipeline { plan, ..Pipeline::clone(old) },
            None => Pipeline::new(plan, now.wall),
        };
        self.has_room(&pipeline, old.as_deref(), old_ids.len())?;
        let new_ids: BTreeSet<&str> = pipeline.plan.places.iter().map(|place| &*place.id).collect();
        for id in old_ids.iter().filter(|id| !new_ids.contains(&***id)) {
            self.take_out(id, now);
        }
        for place in &pipeline.plan.places {
            self.place(&id, place, now);
        }
        self.put_pipeline(&id, Some(Arc::new(pipeline)));
        Ok(())
    }

    /// As [`Registry::plan`], for a pipeline that runs: its run remembers that it goes on with
    /// another plan. Answers which generation that is. The same plan is no other generation.
    ///
    /// # Errors
    /// As there; [`Error::NotFound`], and [`Error::Precondition`] where no run is under way.
    pub fn replan(&mut self, plan: Plan, changes: &str, now: Now) -> Result<u32, Error> {
        limits::text("changes", changes)?;
        let id = plan.id.clone();
        let before = self.pipeline(&id)?;
        if before.state.is_over() {
            let problem = "does not run: start it".to_owned();
            return Err(Error::Precondition { id, problem });
        }
        let is_same = before.plan.plan_hash == plan.plan_hash;
        let plan_hash = plan.plan_hash.clone();
        self.plan(plan, now)?;
        let mut pipeline = Pipeline::clone(self.pipeline(&id)?);
        let Some(run) = pipeline.runs.last_mut() else { return Ok(1) };
        if is_same {
            return Ok(run.generation());
        }
        let number = run.generation().saturating_add(1);
        let changes = changes.to_owned();
        run.generations.push(Generation { number, plan_hash, since: now.wall, changes });
        let excess = run.generations.len().saturating_sub(MAX_GENERATIONS);
        run.generations.drain(..excess);
        self.put_pipeline(&id, Some(Arc::new(pipeline)));
        Ok(number)
    }

    fn has_room(
        &self,
        new: &Pipeline,
        old: Option<&Pipeline>,
        old_places: usize,
    ) -> Result<(), Error> {
        let full = |what, held: usize, more: usize, limit: usize| match held + more > limit {
            true => {
                Err(Error::Full { what, held: held as u64, more: more as u64, limit: limit as u64 })
            }
            false => Ok(()),
        };
        let others = self.components.len().saturating_sub(old_places);
        full("components", others, new.plan.places.len(), self.limits.components)?;
        let bytes = self.bytes.saturating_sub(old.map_or(0, Pipeline::weight));
        full("bytes", bytes, new.weight(), self.limits.bytes)?;
        let more = usize::from(old.is_none());
        full("pipelines", self.pipelines.len(), more, self.limits.pipelines)
    }

    /// Makes one place, or brings it to what its plan says now.
    fn place(&mut self, pipeline: &str, place: &Place, now: Now) {
        let component = match self.components.get(&place.id) {
            Some(there) if there.kind == place.kind => {
                let mut there = Component::clone(there);
                there.connections = place.connections.clone();
                there.component = place.component.clone();
                there.replica = place.replica;
                there
            }
            _ => expected(pipeline, place, now),
        };
        let before = self.components.get(&place.id).map(|there| there.status);
        let is_same = self.components.get(&place.id).is_some_and(|there| **there == component);
        if is_same {
            return;
        }
        let component = Arc::new(component);
        self.put_component(&place.id, Some(Arc::clone(&component)));
        self.change(&component, before, now);
    }

    /// Takes out a component and says so.
    pub(super) fn take_out(&mut self, id: &str, now: Now) {
        let Some(component) = self.components.get(id).cloned() else { return };
        self.put_component(id, None);
        let before = Some(component.status);
        self.changes.push(Change { component, before, at: now.wall, removed: true });
    }

    /// Begins a run of a pipeline that stands still, and answers its number.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Precondition`] where one is under way.
    pub fn begin_run(&mut self, id: &str, now: Now) -> Result<u64, Error> {
        let mut pipeline = Pipeline::clone(self.pipeline(id)?);
        if !pipeline.state.is_over() {
            let state = pipeline.state.as_str();
            let problem = format!("is {state}: stop it first");
            return Err(Error::Precondition { id: id.to_owned(), problem });
        }
        let number = pipeline.last_run.saturating_add(1);
        pipeline.last_run = number;
        (pipeline.state, pipeline.reason) = (PipelineState::Starting, String::new());
        (pipeline.started_at, pipeline.stopped_at) = (Some(now.wall), None);
        let plan_hash = pipeline.plan.plan_hash.clone();
        let (started_at, reason) = (now.wall, String::new());
        pipeline.runs.push(Run {
            number,
            plan_hash,
            started_at,
            end: None,
            reason,
            generations: Vec::new(),
            totals: None,
        });
        let excess = pipeline.runs.len().saturating_sub(self.limits.runs.max(1));
        pipeline.runs.drain(..excess);
        let pipeline = Arc::new(pipeline);
        self.put_pipeline(id, Some(Arc::clone(&pipeline)));
        for place in &pipeline.plan.places {
            self.begin_anew(&place.id, now);
        }
        Ok(number)
    }

    /// Forgets what was counted in the run before, and how who is gone has left it.
    fn begin_anew(&mut self, id: &str, now: Now) {
        let Some(there) = self.components.get(id).cloned() else { return };
        let mut new = Component { restarts: 0, totals: None, ..Component::clone(&there) };
        if there.status == Status::Stopped {
            (new.status, new.reason) = (Status::Exited, "another run begins".to_owned());
        }
        if new == *there {
            return;
        }
        let new = Arc::new(new);
        self.put_component(id, Some(Arc::clone(&new)));
        if new.status != there.status {
            self.change(&new, Some(there.status), now);
        }
    }

    /// What has gone through a pipeline in its run, as far as it was said.
    fn totals(&self, plan: &Plan) -> RunTotals {
        let mut all = RunTotals::default();
        let places = plan.places.iter().filter_map(|place| self.components.get(&place.id));
        for there in places {
            all.restarts = all.restarts.saturating_add(there.restarts);
            let Some(own) = there.totals else { continue };
            let add = |sum: &mut u64, more: u64| *sum = sum.saturating_add(more);
            add(&mut all.failed_batches, own.failed_batches);
            match there.kind {
                Kind::Source => {
                    add(&mut all.rows_read, own.rows_out.unwrap_or(0));
                    add(&mut all.batches_read, own.batches_out.unwrap_or(0));
                }
                Kind::Sink => {
                    add(&mut all.rows_written, own.rows_in.unwrap_or(0));
                    add(&mut all.batches_written, own.batches_in.unwrap_or(0));
                }
                Kind::Processor | Kind::Worker => {}
            }
        }
        all
    }

    /// Says where the run of a pipeline stands; said twice it is as said once.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Precondition`] where it cannot go there
    /// from where it is; [`Error::Limit`] for a long reason.
    pub fn set_pipeline_state(
        &mut self,
        id: &str,
        state: PipelineState,
        reason: &str,
        now: Now,
    ) -> Result<(), Error> {
        limits::text("reason", reason)?;
        let mut pipeline = Pipeline::clone(self.pipeline(id)?);
        if pipeline.state == state {
            return Ok(());
        }
        if !pipeline.state.may_become(state) {
            let (from, to) = (pipeline.state.as_str(), state.as_str());
            let problem = format!("is {from} and cannot become {to}");
            return Err(Error::Precondition { id: id.to_owned(), problem });
        }
        (pipeline.state, pipeline.reason) = (state, reason.to_owned());
        if state.is_over() {
            pipeline.stopped_at = Some(now.wall);
            let totals = self.totals(&pipeline.plan);
            if let Some(run) = pipeline.runs.last_mut() {
                run.totals = Some(totals);
                (run.end, run.reason) = (Some((now.wall, state)), reason.to_owned());
            }
        }
        self.put_pipeline(id, Some(Arc::new(pipeline)));
        Ok(())
    }

    /// Forgets a pipeline that stands still, its places and its runs.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Precondition`] where a run is under way.
    pub fn remove_pipeline(&mut self, id: &str, now: Now) -> Result<(), Error> {
        let pipeline = Arc::clone(self.pipeline(id)?);
        if !pipeline.state.is_over() {
            let problem = format!("is {}: stop it first", pipeline.state.as_str());
            return Err(Error::Precondition { id: id.to_owned(), problem });
        }
        for place in &pipeline.plan.places {
            self.take_out(&place.id, now);
        }
        self.put_pipeline(id, None);
        Ok(())
    }
}
