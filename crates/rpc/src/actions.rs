//! The coordinator as Flight actions with JSON bodies.

mod admin;
mod body;
mod none;
mod read;
mod resolve;
mod watch;
mod work;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use sheaf_coordinator::Coordinator;
use sheaf_flight::{ActionHandler, CallContext, Error, Need, Right};
use sheaf_retry::{Code, SharedClock};

use crate::{PayloadDirectory, Waits};
pub use none::NoCoordinator;
use watch::Watches;

/// The namespace in which a token needs rights to the coordinator.
pub(crate) const NAMESPACE: &str = "coordinator";

/// How long a lease lasts when a claim does not say.
pub const DEFAULT_LEASE: Duration = Duration::from_secs(30);

/// Serves the coordinator to any Flight client: one JSON object in, one out.
///
/// The forms are in [`json`](crate::json). A body is at most 16 MiB and a list
/// in it at most 10,000 entries. Errors carry their code and name the action
/// and the field. As the coordinator's own calls, every action may
/// be sent again: a `Claim` with its `request_id`, `WatchEvents` with `seen`.
///
/// Those that change nothing need the right to read in the namespace
/// `coordinator` from a token, all others the right to change there.
///
/// A client that goes away while its `Claim` waits ends the wait: the call is
/// dropped and takes nothing. Work that was claimed for it in that very moment
/// returns when its lease ends, or is given to the same `request_id` again.
pub struct CoordinatorActions {
    coordinator: Arc<dyn Coordinator>,
    directory: Option<Arc<dyn PayloadDirectory>>,
    is_bare: bool,
    lease: Duration,
    watches: Watches,
    waits: Waits,
}

impl CoordinatorActions {
    /// Actions of a server that holds no payloads: `RegisterBatch` has to say
    /// location, rows and bytes. `clock` times the waits of `WatchEvents`.
    pub fn new(coordinator: Arc<dyn Coordinator>, clock: SharedClock) -> Self {
        CoordinatorActions {
            coordinator,
            directory: None,
            is_bare: false,
            lease: DEFAULT_LEASE,
            watches: Watches::new(clock),
            waits: Waits::new(),
        }
    }

    /// Ends its waits with `waits`.
    #[must_use]
    pub fn with_waits(mut self, waits: Waits) -> Self {
        self.waits = waits;
        self
    }

    /// Fills in what `directory` knows of the payloads, and refuses to
    /// register a batch whose payload is neither there nor said to be elsewhere.
    #[must_use]
    pub fn with_directory(mut self, directory: Arc<dyn PayloadDirectory>) -> Self {
        self.directory = Some(directory);
        self
    }

    /// There is no store beside the coordinator: a batch that names no location
    /// of its payload is refused.
    #[must_use]
    pub fn without_store(mut self) -> Self {
        self.is_bare = true;
        self
    }

    /// How long a lease lasts when a claim does not say; 30 s unless set.
    #[must_use]
    pub fn with_default_lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }
}

impl fmt::Debug for CoordinatorActions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CoordinatorActions")
            .field("directory", &self.directory.is_some())
            .field("lease", &self.lease)
            .finish_non_exhaustive()
    }
}

/// Names and one-line descriptions, as ListActions shows them.
const ACTIONS: &[(&str, &str)] = &[
    (
        "RegisterBatch",
        r#"{"batch_id", "queue"?, …} or {"batches": […]}: register what is to be processed"#,
    ),
    ("GetBatch", r#"{"batch_id"} or {"batch_ids": […]}: all that is known of a batch"#),
    (
        "ListBatches",
        r#"{"state"?, "queue"?, "prefix"?, "parent"?, "limit"?, "cursor"?}: batches by page"#,
    ),
    ("Lineage", r#"{"batch_id", "direction"?, "depth"?, "limit"?}: what was made from what"#),
    ("Stats", r#"{"queue"?}: counts of every state"#),
    ("RequeueBatch", r#"{"batch_id"}, {"batch_ids": […]} or {"queue"}: start anew"#),
    ("CancelBatch", r#"{"batch_id"} or {"batch_ids": […]}: take out"#),
    (
        "PurgeBatches",
        r#"{"queue"?, "state"?, "finished_before_ms"?} or {"all": true}: forget terminal batches"#,
    ),
    ("ExpireBatches", r#"{"older_than_ms"}: expire what was not claimed"#),
    ("PauseQueue", r#"{"queue"?}: answer no claims"#),
    ("ResumeQueue", r#"{"queue"?}: undo pause and drain"#),
    ("DrainQueue", r#"{"queue"?}: take no registrations"#),
    (
        "ConfigureQueue",
        r#"{"queue"?, "max_leased"?, "max_leased_per_tenant"?, "rate"?, "max_live_bytes"?}: set limits"#,
    ),
    ("Claim", r#"{"worker", "max"?, "max_bytes"?, "wait_ms"?, …}: take work under lease"#),
    ("Extend", r#"{"leases": [{"batch_id", "fence", …}]}: prolong leases"#),
    ("Settle", r#"{"outcomes": [{"batch_id", "fence", "result", …}], "claim"?}: end attempts"#),
    ("CoordinatorInfo", r#"{}: which registrations it has seen, by the openings of its state"#),
    ("Recovery", r#"{"leases": [{"batch_id", "fence"}]}: what leases are worth"#),
    (
        "WatchEvents",
        r#"{"queue"?, "batch_ids"?, "state"?, "wait_ms"?} or {"session", "wait_ms"?}: changes of state"#,
    ),
];

/// Those of them that change nothing.
const READS: [&str; 7] =
    ["GetBatch", "ListBatches", "Lineage", "Stats", "CoordinatorInfo", "Recovery", "WatchEvents"];

/// What an action needs of its caller's token.
fn needs(action: &str) -> Need {
    let right = if READS.contains(&action) { Right::Read } else { Right::Change };
    Need::One(NAMESPACE, right)
}

#[async_trait]
impl ActionHandler for CoordinatorActions {
    fn actions(&self) -> Vec<(&'static str, &'static str)> {
        ACTIONS.to_vec()
    }

    fn needs(&self, action: &str) -> Need {
        needs(action)
    }

    async fn call(
        &self,
        _context: &CallContext,
        action: &str,
        body: Bytes,
    ) -> Result<Vec<Bytes>, Error> {
        match action {
            "RegisterBatch" => self.register(action, &body).await,
            "GetBatch" => self.get(action, &body).await,
            "ListBatches" => self.list(action, &body).await,
            "Lineage" => self.lineage(action, &body).await,
            "Stats" => self.stats(action, &body).await,
            "RequeueBatch" => self.requeue(action, &body).await,
            "CancelBatch" => self.cancel(action, &body).await,
            "PurgeBatches" => self.purge(action, &body).await,
            "ExpireBatches" => self.expire(action, &body).await,
            "PauseQueue" | "ResumeQueue" | "DrainQueue" => self.queue(action, &body).await,
            "ConfigureQueue" => self.configure(action, &body).await,
            "Claim" => self.claim(action, &body).await,
            "Extend" => self.extend(action, &body).await,
            "Settle" => self.settle(action, &body).await,
            "CoordinatorInfo" => self.info(action, &body).await,
            "Recovery" => self.recovery(action, &body).await,
            "WatchEvents" => self.watch_events(action, &body).await,
            unknown => Err(Error::new(
                Code::NotFound,
                format!("no action {unknown:?}; ListActions shows those there are"),
            )),
        }
    }
}
