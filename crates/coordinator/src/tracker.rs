//! Tracking batches by name, without handling tokens.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sheaf_proto::BatchId;
use sheaf_retry::{Code, Timestamp};

use crate::contract::{Coordinator, Error};
use crate::ext::CoordinatorExt as _;
use crate::limits::MAX_PAGE;
use crate::model::{Batch, BatchSpec, Failure, Fence, Resolution, State};
use crate::request::{
    ClaimRequest, Control, Extension, LeaseRef, ListFilter, Outcome, Registered, SettleRequest,
    Verdict,
};

/// Most batches that one tracker holds at once.
pub const MAX_TRACKED: usize = 65_536;

/// Calls by name of batch over any [`Coordinator`].
///
/// `mark_processing` takes a batch for this tracker and keeps the fencing
/// token; the other `mark_` calls, `increment_retry` and `heartbeat_batch` use
/// the token kept, and fail without one. A tracker that is dropped lets its
/// leases run out.
///
/// ```
/// use std::{sync::Arc, time::Duration};
///
/// use sheaf_coordinator::embedded::{Config, Embedded};
/// use sheaf_coordinator::{BatchSpec, BatchTracker, State};
/// use sheaf_retry::SystemClock;
///
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// let coordinator = Arc::new(Embedded::open(Config::memory(), SystemClock::shared())?);
/// let tracker = BatchTracker::new(coordinator, "loader-1", Duration::from_secs(30));
/// let id = "orders:1".parse()?;
/// tracker.register_batch(BatchSpec::new("orders:1".parse()?)).await?;
/// tracker.mark_processing(&id).await?;
/// assert_eq!(tracker.mark_completed(&id).await?, State::Completed);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct BatchTracker {
    coordinator: Arc<dyn Coordinator>,
    worker: Arc<str>,
    lease: Duration,
    claims: Arc<AtomicU64>,
    tokens: Arc<Mutex<HashMap<BatchId, Fence>>>,
}

impl std::fmt::Debug for BatchTracker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BatchTracker").field("worker", &self.worker).finish_non_exhaustive()
    }
}

impl BatchTracker {
    /// Tracks for `worker`, a name that is unique per process start, with
    /// leases of this duration. Clones share the tokens.
    pub fn new(
        coordinator: Arc<dyn Coordinator>,
        worker: impl Into<Arc<str>>,
        lease: Duration,
    ) -> Self {
        BatchTracker {
            coordinator,
            worker: worker.into(),
            lease,
            claims: Arc::default(),
            tokens: Arc::default(),
        }
    }

    // Nothing panics while it holds the lock.
    fn tokens(&self) -> MutexGuard<'_, HashMap<BatchId, Fence>> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn token(&self, id: &BatchId) -> Result<LeaseRef, Error> {
        let fence = self.tokens().get(id).copied();
        let fence = fence.ok_or_else(|| Error::Precondition {
            id: id.to_string(),
            problem: "is not held by this client; mark it as processing first".to_owned(),
        })?;
        Ok(LeaseRef { id: id.clone(), fence })
    }

    /// Registers a batch; again with the same content changes nothing.
    ///
    /// # Errors
    /// Those of [`Coordinator::register`].
    pub async fn register_batch(&self, spec: BatchSpec) -> Result<Registered, Error> {
        let id = spec.id.clone();
        let mut registered = self.coordinator.register(vec![spec]).await?;
        registered.pop().ok_or_else(|| Error::NotFound { id: id.to_string() })
    }

    /// Takes this batch, which must be pending, and charges the attempt.
    ///
    /// # Errors
    /// `NotFound`; `Precondition` where it is not pending or its queue is
    /// paused; `Limit` where this tracker holds too many.
    pub async fn mark_processing(&self, id: &BatchId) -> Result<(), Error> {
        crate::limits::at_most("tracked batches", self.tokens().len() + 1, MAX_TRACKED)?;
        let number = self.claims.fetch_add(1, Ordering::Relaxed);
        let request_id = format!("{}:{number}", self.worker);
        let request = ClaimRequest {
            ids: vec![id.clone()],
            start: true,
            ..ClaimRequest::new(&*self.worker, request_id, 1, self.lease)
        };
        let claim = self.coordinator.claim(request).await?;
        if let Some(lease) = claim.leases.first() {
            self.tokens().insert(id.clone(), lease.fence);
            return Ok(());
        }
        let state = self.get_batch_metadata(id).await?.state;
        let problem = match state {
            State::Pending => "is in a queue that is paused; resume it first".to_owned(),
            state => format!("is {state}, not pending"),
        };
        Err(Error::Precondition { id: id.to_string(), problem })
    }

    /// Ends the attempt well.
    ///
    /// # Errors
    /// `Precondition` without a token; `Backend` with
    /// [`Code::StaleFence`] where the lease was lost.
    pub async fn mark_completed(&self, id: &BatchId) -> Result<State, Error> {
        self.settle(id, Resolution::Completed, None).await
    }

    /// Ends the batch for good, with its error; it is not tried again.
    ///
    /// # Errors
    /// As [`BatchTracker::mark_completed`].
    pub async fn mark_failed(&self, id: &BatchId, error: &str) -> Result<State, Error> {
        self.settle(id, Resolution::Failed, Some((error, true))).await
    }

    /// Ends the attempt; the batch's policy says whether and when it is tried
    /// again: the state is then `scheduled`, else `failed`.
    ///
    /// # Errors
    /// As [`BatchTracker::mark_completed`].
    pub async fn increment_retry(&self, id: &BatchId) -> Result<State, Error> {
        self.settle(id, Resolution::Failed, Some(("the attempt failed", false))).await
    }

    async fn settle(
        &self,
        id: &BatchId,
        resolution: Resolution,
        error: Option<(&str, bool)>,
    ) -> Result<State, Error> {
        let lease = self.token(id)?;
        let error = error.map(|(message, permanent)| Failure {
            code: Code::ProcessorFailed,
            message: message.to_owned(),
            permanent,
            at: Timestamp::EPOCH,
        });
        let outcome = Outcome {
            lease: lease.clone(),
            resolution,
            error,
            outputs: Vec::new(),
            delay: Duration::ZERO,
        };
        let request = SettleRequest { outcomes: vec![outcome], ..SettleRequest::default() };
        let reply = self.coordinator.settle(request).await?;
        self.forget(&lease);
        match reply.outcomes.first() {
            Some(settled) => match (settled.verdict, settled.state) {
                (Verdict::Applied | Verdict::AlreadyDone, Some(state)) => Ok(state),
                (Verdict::NotFound, _) => Err(Error::NotFound { id: id.to_string() }),
                _ => Err(lost(id)),
            },
            None => Err(Error::NotFound { id: id.to_string() }),
        }
    }

    /// Drops the token that was used, not one that came since.
    fn forget(&self, lease: &LeaseRef) {
        let mut tokens = self.tokens();
        if tokens.get(&lease.id) == Some(&lease.fence) {
            tokens.remove(&lease.id);
        }
    }

    /// Prolongs the lease by its duration; says until when it now lasts.
    ///
    /// # Errors
    /// As [`BatchTracker::mark_completed`].
    pub async fn heartbeat_batch(&self, id: &BatchId) -> Result<Timestamp, Error> {
        let lease = self.token(id)?;
        let extension =
            Extension { lease: lease.clone(), started: false, progress: None, duration: None };
        let extended = self.coordinator.extend(vec![extension]).await?;
        if let Some(deadline) = extended.first().and_then(|extended| extended.deadline) {
            return Ok(deadline);
        }
        self.forget(&lease);
        Err(lost(id))
    }

    /// Pending and scheduled batches in order of registration, at most
    /// `limit` (1 to 10,000).
    ///
    /// # Errors
    /// Those of [`Coordinator::query`].
    pub async fn list_pending_batches(&self, limit: u32) -> Result<Vec<Batch>, Error> {
        let filter = ListFilter {
            states: vec![State::Pending, State::Scheduled],
            limit: limit.clamp(1, MAX_PAGE),
            ..ListFilter::default()
        };
        Ok(self.coordinator.list(filter).await?.batches)
    }

    /// All that is known of a batch.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn get_batch_metadata(&self, id: &BatchId) -> Result<Batch, Error> {
        let found = self.coordinator.get(id).await?;
        found.ok_or_else(|| Error::NotFound { id: id.to_string() })
    }

    /// Expires pending and scheduled batches registered at least `age` ago;
    /// says how many.
    ///
    /// # Errors
    /// Those of [`Coordinator::control`].
    pub async fn expire_old_batches(&self, age: Duration) -> Result<u64, Error> {
        Ok(self.coordinator.control(Control::Expire(age)).await?.count)
    }
}

fn lost(id: &BatchId) -> Error {
    Error::Backend {
        operation: format!("batch {id} is no longer held by this client"),
        code: Code::StaleFence,
        source: None,
    }
}
