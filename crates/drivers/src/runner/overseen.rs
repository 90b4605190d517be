//! Pipelines whose instances somebody else starts, as a cluster does.
//!
//! The control plane has their places and tokens, hears who is there and how they are, and
//! says where the run stands. It starts and stops nothing: who is silent or ends is started
//! again by whoever started it.

use std::collections::{BTreeMap, BTreeSet};

use sheaf_pipeline::check::check;
use sheaf_pipeline::control::{ControlPlane, Events};
use sheaf_pipeline::plan::Plan;
use sheaf_pipeline::registry::{self, Filter, PipelineState, Status};

use super::secrets::RunSecrets;
use super::{Error, Runner, assign};
use crate::{Tokens, planned};

/// Why a run ended that nobody ended.
const ALL_DONE: &str = "everything has come to its end";

impl Runner {
    /// Watches over the pipeline of a file whose instances others start, with these tokens.
    /// Answers its name.
    ///
    /// A run that was under way goes on. One begins where none was, and where the last one has
    /// ended and the plan is another one now.
    ///
    /// # Errors
    /// [`Error::Spec`] with all that is wrong with the file; [`Error::Durable`];
    /// [`Error::Tokens`] where tokens and plan have other places; those of the registry.
    pub async fn oversee(&self, file: &str, text: &str, tokens: &Tokens) -> Result<String, Error> {
        let checked = check(file, text).map_err(Error::Spec)?;
        let plan = Plan::new(&checked.pipeline);
        let name = plan.pipeline.clone();
        let durable = plan.edges.iter().find(|edge| edge.durable);
        if let (Some(edge), None) = (durable, &self.inner.options.durable.address) {
            let why = "components that others start are told of it when they are rendered: name \
                       it with --durable-store there and here, or write `durable: false`";
            return Err(Error::Durable { edge: edge.id.clone(), why: why.to_owned() });
        }
        agree(&plan, tokens)?;
        let secrets = RunSecrets {
            file: file.to_owned(),
            tokens: places(tokens),
            data_token: tokens.data().to_owned(),
            ..RunSecrets::default()
        };
        let plane = &self.inner.plane;
        let before = match plane.pipeline(name.clone()).await {
            Ok(found) => Some(found),
            Err(registry::Error::NotFound { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        let new = assign::registry_plan(&plan, text, &secrets);
        let begins = before.is_none_or(|before| {
            let is_other = before.plan.plan_hash != new.plan_hash || before.last_run == 0;
            before.state.is_over() && is_other
        });
        plane.plan(new).await?;
        if begins {
            plane.begin_run(name.clone()).await?;
        }
        let filter = Filter { pipeline: name.clone(), ..Filter::default() };
        let events = plane.watch(filter.clone()).await?;
        let planned = plan.components.iter().flat_map(|one| &one.instances);
        let planned = planned.map(|one| planned::place(&name, &one.id)).collect();
        let overseer = Overseer { name: name.clone(), plane: plane.clone(), filter, planned };
        self.inner.overseen().insert(name.clone());
        tokio::spawn(overseer.run(events));
        Ok(name)
    }
}

/// Tokens of another plan would let nobody in, and an empty one would let everybody in.
fn agree(plan: &Plan, tokens: &Tokens) -> Result<(), Error> {
    let of_plan = plan.components.iter().flat_map(|one| &one.instances);
    let of_plan = of_plan.map(|one| planned::place(&plan.pipeline, &one.id));
    let missing: Vec<String> =
        of_plan.filter(|place| tokens.place(place).trim().is_empty()).collect();
    match missing.is_empty() {
        true => Ok(()),
        false => Err(Error::Tokens { pipeline: plan.pipeline.clone(), missing }),
    }
}

fn places(tokens: &Tokens) -> BTreeMap<String, String> {
    let all = tokens.places.iter();
    all.map(|(place, token)| (place.clone(), token.secret().expose().to_owned())).collect()
}

struct Overseer {
    name: String,
    plane: ControlPlane,
    filter: Filter,
    planned: BTreeSet<String>,
}

impl Overseer {
    /// Until the control plane is closed.
    async fn run(self, mut events: Events) {
        loop {
            // What is the case now is all that matters, however many changes there were.
            if let Err(error) = self.look().await {
                tracing::warn!(pipeline = self.name, %error, "where the run stands cannot be kept");
            }
            if events.changes.recv().await.is_none() {
                return;
            }
            while events.changes.try_recv().is_ok() {}
        }
    }

    async fn look(&self) -> Result<(), registry::Error> {
        let state = self.plane.pipeline(self.name.clone()).await?.state;
        let components = self.plane.select(self.filter.clone()).await?;
        let planned = components.iter().filter(|one| self.planned.contains(&one.id));
        let seen: Vec<Seen> = planned.map(|one| Seen::of(one.status, &one.reason)).collect();
        let Some((next, reason)) = next(state, self.planned.len(), &seen) else { return Ok(()) };
        tracing::info!(pipeline = self.name, state = next.as_str(), reason, "pipeline");
        self.plane.set_pipeline_state(self.name.clone(), next, reason.to_owned()).await
    }
}

/// How one component is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Up,
    Done,
    Away,
}

impl Seen {
    fn of(status: Status, reason: &str) -> Self {
        match status {
            Status::Healthy => Seen::Up,
            Status::Stopped if reason.starts_with(sheaf_dataflow::DONE) => Seen::Done,
            _ => Seen::Away,
        }
    }
}

/// Where a run goes from where it is, if it goes anywhere. What comes back to a run that is
/// over finds that it is done, and leaves again.
fn next(
    state: PipelineState,
    planned: usize,
    seen: &[Seen],
) -> Option<(PipelineState, &'static str)> {
    let all = |is: fn(&Seen) -> bool| seen.iter().filter(|one| is(one)).count() == planned;
    if state.is_over() || state == PipelineState::Stopping {
        return None;
    }
    if all(|one| *one == Seen::Done) {
        return Some((PipelineState::Stopped, ALL_DONE));
    }
    let is_up = all(|one| *one != Seen::Away);
    (state == PipelineState::Starting && is_up).then_some((PipelineState::Running, ""))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sheaf_pipeline::control::Options;
    use sheaf_retry::SystemClock;

    use super::*;
    use crate::Elsewhere;

    const TEXT: &str = "
apiVersion: sheaf.dev/v1
kind: Pipeline
metadata: {name: p}
sources: [{id: a, command: [x]}]
sinks: [{id: b, kind: stdout, inputs: [a]}]
";

    fn tokens(text: &str) -> Tokens {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        Tokens::read(&path).unwrap()
    }

    fn runner() -> Runner {
        runner_with(crate::runner::DurableOptions::default())
    }

    fn runner_with(durable: crate::runner::DurableOptions) -> Runner {
        let plane = ControlPlane::open(Options::default(), SystemClock::shared()).unwrap();
        let options = crate::runner::Options {
            folder: std::path::PathBuf::new(),
            host: String::new(),
            control: String::new(),
            environment: BTreeMap::new(),
            authority: None,
            durable,
            variables: Vec::new(),
            tracer: None,
        };
        Runner::new(plane, Arc::new(Elsewhere), options, SystemClock::shared())
    }

    #[tokio::test]
    async fn every_place_of_the_plan_needs_a_token() {
        let runner = runner();
        let of_one = tokens(r#"{"dataToken": "d", "places": {"p:a": "1"}}"#);
        let error = runner.oversee("p.yaml", TEXT, &of_one).await.unwrap_err().to_string();
        assert!(error.contains("no token for p:b"), "{error}");
        assert_eq!(runner.plane().pipelines().await.unwrap().len(), 0, "nothing was taken in");
        let of_all = tokens(r#"{"dataToken": "d", "places": {"p:a": "1", "p:b": "2"}}"#);
        assert_eq!(runner.oversee("p.yaml", TEXT, &of_all).await.unwrap(), "p");
        let pipeline = runner.plane().pipeline("p".to_owned()).await.unwrap();
        assert_eq!((pipeline.state, pipeline.last_run), (PipelineState::Starting, 1));
        // Said again, as after a restart, it is the same run.
        runner.oversee("p.yaml", TEXT, &of_all).await.unwrap();
        assert_eq!(runner.plane().pipeline("p".to_owned()).await.unwrap().last_run, 1);
        let error = runner.stop("p", false, "x").await.unwrap_err().to_string();
        assert!(error.contains("started by others"), "{error}");
    }

    #[tokio::test]
    async fn durable_edges_need_a_store_that_their_components_were_told_of() {
        let text = TEXT.replace("inputs: [a]", "inputs: [{from: a, durable: true}]");
        let text = text.replace(
            "command: [x]",
            "kind: generate, config: {columns: [{name: n, values: sequence}]}",
        );
        let of_all = tokens(r#"{"dataToken": "d", "places": {"p:a": "1", "p:b": "2"}}"#);
        let error = runner().oversee("p.yaml", &text, &of_all).await.unwrap_err().to_string();
        assert!(error.contains("edge a:b") && error.contains("--durable-store"), "{error}");
        let store = Some("grpc://store:1".to_owned());
        let durable = crate::runner::DurableOptions { address: store, ..Default::default() };
        let told = runner_with(durable).oversee("p.yaml", &text, &of_all).await;
        assert_eq!(told.unwrap(), "p");
    }

    #[test]
    fn a_run_is_up_when_all_are_and_over_when_all_are_done() {
        let up = Seen::of(Status::Healthy, "");
        let done = Seen::of(Status::Stopped, "done with pass 1");
        let left = Seen::of(Status::Stopped, "stopped");
        let silent = Seen::of(Status::Unhealthy, "done with pass 1");
        let go = |state, seen: &[Seen]| next(state, 2, seen).map(|(state, _)| state);
        use PipelineState::{Running, Starting, Stopped};
        assert_eq!(go(Starting, &[up]), None);
        assert_eq!(go(Starting, &[up, silent]), None);
        assert_eq!(go(Starting, &[up, up]), Some(Running));
        assert_eq!(go(Starting, &[done, up]), Some(Running));
        assert_eq!(go(Running, &[done, left]), None);
        assert_eq!(go(Running, &[done, done]), Some(Stopped));
        assert_eq!(go(Stopped, &[up, up]), None);
    }
}
