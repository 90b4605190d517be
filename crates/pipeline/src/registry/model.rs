//! Components, as the registry knows them.

use std::time::Duration;

use sheaf_flight::Secret;
use sheaf_retry::Timestamp;

pub use sheaf_proto::control::v1::{Connections, Load, Metadata, PortSchema, RunTotals, Totals};

/// What a component does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Makes batches.
    Source,
    /// Makes batches of batches.
    Processor,
    /// Takes batches.
    Sink,
    /// Works for whoever asks, in no pipeline.
    Worker,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 4] = [Kind::Source, Kind::Processor, Kind::Sink, Kind::Worker];

    /// The word for it, such as `source`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Source => "source",
            Kind::Processor => "processor",
            Kind::Sink => "sink",
            Kind::Worker => "worker",
        }
    }
}

/// How a component is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Status {
    /// A place that nobody has taken yet.
    Expected,
    /// It beats, and answers.
    Healthy,
    /// It is silent, its loop stands still, or its health endpoint says so.
    Unhealthy,
    /// It deregistered.
    Stopped,
    /// Its process ended without that.
    Exited,
}

impl Status {
    /// Every status.
    pub const ALL: [Status; 5] =
        [Status::Expected, Status::Healthy, Status::Unhealthy, Status::Stopped, Status::Exited];

    /// The word for it, such as `healthy`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Status::Expected => "expected",
            Status::Healthy => "healthy",
            Status::Unhealthy => "unhealthy",
            Status::Stopped => "stopped",
            Status::Exited => "exited",
        }
    }

    /// Whether somebody holds the place who has not left it.
    pub const fn is_held(self) -> bool {
        matches!(self, Status::Healthy | Status::Unhealthy)
    }
}

/// The time of an event, both ways of telling it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// For people and records.
    pub wall: Timestamp,
    /// For decisions: it never goes back, and is of this process only.
    pub elapsed: Duration,
}

impl Now {
    /// The beginning of a process.
    pub const fn start(wall: Timestamp) -> Self {
        Now { wall, elapsed: Duration::ZERO }
    }

    /// What a clock shows.
    pub fn of(clock: &dyn sheaf_retry::Clock) -> Self {
        Now { wall: clock.now(), elapsed: clock.elapsed() }
    }

    /// Later by so much.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        Now { wall: self.wall.plus(by), elapsed: self.elapsed.saturating_add(by) }
    }
}

/// A component, a worker, or a place that nobody has taken.
#[derive(Clone, Debug, PartialEq)]
pub struct Component {
    /// Its id, which no other one has.
    pub id: String,
    /// What it does.
    pub kind: Kind,
    /// How it is.
    pub status: Status,
    /// Why it is not healthy, for people.
    pub reason: String,
    /// Where it serves Flight.
    pub address: String,
    /// Host and port of its `GET /health`; empty where it has none.
    pub health_endpoint: String,
    /// Further addresses of the same server.
    pub endpoints: Vec<String>,
    /// The last beat that counted.
    pub last_heartbeat: Timestamp,
    /// When this incarnation registered.
    pub registered_at: Timestamp,
    /// What it says of itself.
    pub metadata: Metadata,
    /// Who it is connected with, as the plan has it.
    pub connections: Connections,
    /// Its pipeline; empty for a worker.
    pub pipeline: String,
    /// Its name in the file of the pipeline.
    pub component: String,
    /// Which of its replicas it is, from 0.
    pub replica: u32,
    /// Ascends with every incarnation; 0 before the first.
    pub fence: u64,
    /// How far its loop has come.
    pub progress: u64,
    /// What a worker has to do.
    pub load: Option<Load>,
    /// New incarnations in this run after one that had failed.
    pub restarts: u32,
    /// What went through those that have left the place in this run.
    pub totals: Option<Totals>,
    pub(crate) held: Held,
}

impl Component {
    /// Whether its place is given up for this reason, and nobody has taken it since.
    pub fn has_left(&self, reason: &str) -> bool {
        self.status == Status::Stopped && self.reason == reason
    }
}

/// What nobody is shown of a component.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Held {
    pub(crate) incarnation: Secret,
    /// Number of the last beat.
    pub(crate) sequence: u64,
    /// When the last beat came that counted: process time.
    pub(crate) heard: Duration,
    /// When it last said anything at all.
    pub(crate) said: Duration,
    /// Looks at its health endpoint that failed, one after another.
    pub(crate) polls_failed: u32,
    /// It was ill when it left.
    pub(crate) left_ill: bool,
}

impl Held {
    /// Nobody, as of now.
    pub(crate) fn nobody(now: Now) -> Self {
        Held {
            incarnation: Secret::new(""),
            sequence: 0,
            heard: now.elapsed,
            said: now.elapsed,
            polls_failed: 0,
            left_ill: false,
        }
    }
}

impl Component {
    /// Bytes that count against the limit of the registry.
    pub(super) fn weight(&self) -> usize {
        let ports = self.metadata.inputs.iter().chain(&self.metadata.outputs);
        let schemas: usize =
            ports.map(|port| port.port.len() + port.ipc_schema.len() + port.text.len()).sum();
        let endpoints: usize = self.endpoints.iter().map(String::len).sum();
        let texts = self.metadata.name.len() + self.metadata.version.len() + self.reason.len();
        schemas + endpoints + texts + self.id.len() + self.address.len()
    }
}

/// What a component asks for when it registers.
#[derive(Clone, Debug, PartialEq)]
pub struct Registration {
    /// The place as the plan names it, or the name of the worker.
    pub id: String,
    /// What it does: as the plan has it.
    pub kind: Kind,
    /// The secret of the place, or that of all workers.
    pub token: Secret,
    /// Random, made once by each process: nobody else may know it.
    pub incarnation: Secret,
    /// Where it serves Flight, such as `grpc://10.0.0.7:50051`.
    pub address: String,
    /// Host and port of its `GET /health`; empty where it has none. The host is
    /// that of the address, the port 8088 where none is written.
    pub health_endpoint: String,
    /// Further addresses of the same server.
    pub endpoints: Vec<String>,
    /// What it says of itself.
    pub metadata: Metadata,
    /// What a worker has to do.
    pub load: Option<Load>,
}

/// What a component is told when it has registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// Its fence: whoever has a lower one must not act.
    pub fence: u64,
    /// Whether this incarnation was not registered before.
    pub created: bool,
    /// Who it is connected with.
    pub connections: Connections,
}

/// A sign of life.
#[derive(Clone, Debug, PartialEq)]
pub struct Beat {
    /// The component.
    pub id: String,
    /// Which of its incarnations.
    pub incarnation: Secret,
    /// Ascends with each beat; the same one again counts once.
    pub sequence: u64,
    /// Ascends whenever the component's own loop comes round.
    pub progress: u64,
    /// What a worker has to do.
    pub load: Option<Load>,
}

/// What became of a beat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// It is the last one that counts now.
    Yes,
    /// The component's loop has not moved since the one before.
    Stalled,
    /// It came before, or a later one did.
    Repeated,
}

/// What changed about a component.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// As it is now; where it is gone, as it was last.
    pub component: std::sync::Arc<Component>,
    /// Its status before; `None` for a new one, and for one as it was when
    /// watching began.
    pub before: Option<Status>,
    /// When.
    pub at: Timestamp,
    /// It is not there any more.
    pub removed: bool,
}

/// Which components are meant; what is empty leaves nothing out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of these kinds.
    pub kinds: Vec<Kind>,
    /// With one of these.
    pub statuses: Vec<Status>,
    /// Of this pipeline.
    pub pipeline: String,
    /// Of these ids.
    pub ids: Vec<String>,
}

impl Filter {
    /// Whether it is one of them.
    pub fn selects(&self, component: &Component) -> bool {
        (self.statuses.is_empty() || self.statuses.contains(&component.status))
            && self.selects_place(component)
    }

    /// The same, whatever its status.
    fn selects_place(&self, component: &Component) -> bool {
        (self.kinds.is_empty() || self.kinds.contains(&component.kind))
            && (self.pipeline.is_empty() || self.pipeline == component.pipeline)
            && (self.ids.is_empty() || self.ids.contains(&component.id))
    }

    /// Whether a change is of interest: also that one stops being meant.
    pub(super) fn selects_change(&self, change: &Change) -> bool {
        self.selects(&change.component)
            || (self.selects_place(&change.component)
                && change.before.is_some_and(|before| self.statuses.contains(&before)))
    }
}
