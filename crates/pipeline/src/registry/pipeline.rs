//! Pipelines, as the registry knows them.

use std::sync::Arc;
use std::time::Duration;

use sheaf_retry::Timestamp;

use super::model::{Connections, Kind, RunTotals};
use super::token::TokenDigest;

/// Where a pipeline stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PipelineState {
    /// Its components are being started.
    Starting,
    /// All of them have registered.
    Running,
    /// It drains.
    Stopping,
    /// It was stopped, came to its end, or has not begun.
    Stopped,
    /// It could not go on.
    Failed,
}

impl PipelineState {
    /// Every state.
    pub const ALL: [PipelineState; 5] = [
        PipelineState::Starting,
        PipelineState::Running,
        PipelineState::Stopping,
        PipelineState::Stopped,
        PipelineState::Failed,
    ];

    /// The word for it, such as `running`.
    pub const fn as_str(self) -> &'static str {
        match self {
            PipelineState::Starting => "starting",
            PipelineState::Running => "running",
            PipelineState::Stopping => "stopping",
            PipelineState::Stopped => "stopped",
            PipelineState::Failed => "failed",
        }
    }

    /// Whether nothing of it runs.
    pub const fn is_over(self) -> bool {
        matches!(self, PipelineState::Stopped | PipelineState::Failed)
    }

    /// Whether a run may go from here to `next`. A new run is begun, not gone to.
    pub const fn may_become(self, next: PipelineState) -> bool {
        use PipelineState::{Failed, Running, Starting, Stopped, Stopping};
        matches!(
            (self, next),
            (Starting, Running | Stopping | Stopped | Failed)
                | (Running, Stopping | Stopped | Failed)
                | (Stopping, Stopped | Failed)
        )
    }
}

/// One component of a plan, each replica by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The id that its component registers with.
    pub id: String,
    /// The name in the file.
    pub component: String,
    /// What it has to be.
    pub kind: Kind,
    /// From 0.
    pub replica: u32,
    /// Whom it gets batches from and gives them to, by id.
    pub connections: Connections,
    /// Of the token that it is taken with.
    pub token: TokenDigest,
    /// How its health is told, where not as that of all others.
    pub health: PlaceHealth,
}

/// How the health of one place is told. What is not said is as the control plane has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlaceHealth {
    /// How often its component beats, and is asked.
    pub every: Option<Duration>,
    /// Who is silent for longer than that is unhealthy.
    pub unhealthy_after: Option<Duration>,
    /// The path that is asked; empty for `/health`.
    pub path: String,
}

impl Place {
    /// The only replica of a component, not connected yet.
    pub fn new(id: impl Into<String>, kind: Kind, token: TokenDigest) -> Self {
        let id = id.into();
        let (component, connections) = (id.clone(), Connections::default());
        let health = PlaceHealth::default();
        Place { id, component, kind, replica: 0, connections, token, health }
    }
}

/// What is to run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The id of the pipeline.
    pub id: String,
    /// For people.
    pub name: String,
    /// The file that it was made of.
    pub spec: Arc<str>,
    /// The same for the same plan.
    pub plan_hash: String,
    /// All places; ids are of one registry, not of one plan.
    pub places: Vec<Place>,
}

/// From one start of a pipeline to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// From 1.
    pub number: u64,
    /// The plan that it began with.
    pub plan_hash: String,
    /// When it began.
    pub started_at: Timestamp,
    /// When and how it ended, if it has.
    pub end: Option<(Timestamp, PipelineState)>,
    /// Why, for people.
    pub reason: String,
    /// Plans that took the place of the first one while it ran, newest last, as many as
    /// [`MAX_GENERATIONS`].
    pub generations: Vec<Generation>,
    /// What went through it, once it has ended.
    pub totals: Option<RunTotals>,
}

/// A plan that took the place of another one in a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generation {
    /// From 2: the plan that the run began with is the first.
    pub number: u32,
    /// The plan.
    pub plan_hash: String,
    /// Since when it runs.
    pub since: Timestamp,
    /// What has changed, for people.
    pub changes: String,
}

/// How many plans of one run are remembered beside the first.
pub const MAX_GENERATIONS: usize = 32;

impl Run {
    /// Which generation runs, or ran last: 1 where it was never brought to another plan.
    pub fn generation(&self) -> u32 {
        self.generations.last().map_or(1, |last| last.number)
    }

    fn weight(&self) -> usize {
        let generations = self.generations.iter();
        let generations: usize = generations.map(|one| one.changes.len() + 64).sum();
        self.reason.len() + 64 + generations
    }
}

/// A pipeline, with its topology and its runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pipeline {
    /// What runs, or ran last.
    pub plan: Plan,
    /// Where it stands.
    pub state: PipelineState,
    /// Why it failed or was stopped, for people.
    pub reason: String,
    /// When its first plan came.
    pub created_at: Timestamp,
    /// When its last run began.
    pub started_at: Option<Timestamp>,
    /// When that ended.
    pub stopped_at: Option<Timestamp>,
    /// Newest last, as many as the limits say.
    pub runs: Vec<Run>,
    /// Number of the last run; 0 before the first.
    pub last_run: u64,
}

impl Pipeline {
    pub(super) fn new(plan: Plan, at: Timestamp) -> Self {
        Pipeline {
            plan,
            state: PipelineState::Stopped,
            reason: String::new(),
            created_at: at,
            started_at: None,
            stopped_at: None,
            runs: Vec::new(),
            last_run: 0,
        }
    }

    /// Bytes that count against the limit of the registry.
    pub(super) fn weight(&self) -> usize {
        let places = self.plan.places.iter();
        let places: usize = places.map(|place| place.id.len() + place.component.len() + 64).sum();
        let runs: usize = self.runs.iter().map(Run::weight).sum();
        self.plan.spec.len() + self.plan.name.len() + self.reason.len() + places + runs
    }
}
