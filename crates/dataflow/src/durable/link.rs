//! The store and the coordinator of a component: calls that are made until they succeed.

mod held;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arrow_array::RecordBatch;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use sheaf_coordinator::{
    BatchSpec, Claim, ClaimRequest, Coordinator, Lease, LeaseRef, Outcome, Resolution, SettleReply,
    SettleRequest, State, Verdict,
};
use sheaf_flight::{ChannelPool, ClientConfig, ClientSecurity, Secret, TokenSource};
use sheaf_proto::{BatchId, TraceContext};
use sheaf_retry::{Code, Disposition, Jitter, RetryPolicy, Retryable, SharedClock};
use sheaf_rpc::{RpcCoordinator, RpcOptions};
use sheaf_store::{ClientPut, Durability, FlightClient};

use super::fate::Fate;
use super::leases::{LEASE, Leases};
use crate::assignment::{Assignment, DurableAssignment};
use crate::error::ComponentError;

/// When a server that is not there is tried again.
const RETRY: RetryPolicy =
    RetryPolicy { max_retries: u32::MAX, base_ms: 100, cap_ms: 2_000, ..RetryPolicy::TRANSFER };
/// How often a batch is tried again that its reader cannot take; then it has failed for good.
const BATCH_RETRY: RetryPolicy =
    RetryPolicy { max_retries: 3, base_ms: 200, cap_ms: 5_000, ..RetryPolicy::QUEUE };
/// Payloads that are put at the same time.
const PUTS: usize = 8;
/// A payload that is not registered is kept for as long as this at least: the store's own
/// limit is longer. After that it is put once more.
const UNREGISTERED: Duration = Duration::from_secs(15);

/// What all that a component does over durable edges goes through.
pub(crate) struct Link {
    pub(super) coordinator: Arc<dyn Coordinator>,
    pub(super) store: FlightClient,
    pub(super) clock: SharedClock,
    pub(super) place: String,
    pub(super) pass: u64,
    pub(super) graph: u64,
    pub(super) epoch: u64,
    /// How long what is done with is kept.
    pub(super) retention: Duration,
    /// This process, as the coordinator knows it.
    worker: String,
    /// Where payloads are, where that is not beside the coordinator.
    locations: Vec<String>,
    requests: AtomicU64,
    pub(super) leases: Leases,
    pub(crate) fate: Fate,
}

/// What is on its way into the store.
pub(super) struct Payload {
    pub(super) id: BatchId,
    pub(super) queue: String,
    pub(super) batches: Vec<RecordBatch>,
    /// What it goes on with.
    pub(super) trace: Option<TraceContext>,
}

impl Link {
    /// What the assignment names; nothing is called yet.
    pub(crate) fn new(
        assignment: &Assignment,
        durable: &DurableAssignment,
        epoch: u64,
        clock: SharedClock,
    ) -> Result<Self, ComponentError> {
        let link = Link::to(durable, &assignment.place, assignment.pass, epoch, clock)?;
        Ok(Link { graph: assignment.graph, ..link })
    }

    /// For whoever is in this place.
    pub(super) fn to(
        durable: &DurableAssignment,
        place: &str,
        pass: u64,
        epoch: u64,
        clock: SharedClock,
    ) -> Result<Self, ComponentError> {
        let wrong = |what: &str, uri: &str, error: sheaf_flight::Error| {
            let text = format!("the {what} of durable edges, {uri:?}");
            ComponentError::new(Code::InvalidArgument, text).because(error)
        };
        let token = match &durable.token {
            Some(token) => TokenSource::Fixed(Secret::new(token.as_str())),
            None => TokenSource::None,
        };
        let security =
            ClientSecurity { token, insecure: durable.insecure, ..ClientSecurity::default() };
        let config = ClientConfig { security, ..ClientConfig::default() };
        let pool = ChannelPool::new(config.clone(), clock.clone());
        let uri = &durable.coordinator;
        let target = uri.parse().map_err(|error| wrong("coordinator", uri, error))?;
        // Whoever calls here calls again: what is put meanwhile is not to grow old in between.
        let retry = RetryPolicy { max_retries: 1, ..RpcOptions::default().retry };
        let options = RpcOptions { retry, ..RpcOptions::default() };
        let coordinator = RpcCoordinator::new(pool.clone(), target, options, clock.clone());
        let uri = &durable.store;
        let store = FlightClient::with_pool(pool, uri, config.retry, clock.clone())
            .map_err(|error| wrong("store", uri, error))?;
        let is_beside = durable.store == durable.coordinator;
        Ok(Link {
            coordinator: Arc::new(coordinator),
            store,
            clock,
            place: place.to_owned(),
            pass,
            graph: 0,
            epoch,
            retention: Duration::from_millis(durable.retention_ms),
            worker: format!("{place}/{epoch:016x}"),
            locations: if is_beside { Vec::new() } else { vec![durable.store.clone()] },
            requests: AtomicU64::new(0),
            leases: Leases::default(),
            fate: Fate::default(),
        })
    }

    /// Calls until there is an answer, or an error that stays.
    pub(super) async fn insist<T, E, F, Fut>(
        &self,
        what: &str,
        mut call: F,
    ) -> Result<T, ComponentError>
    where
        E: Retryable + std::error::Error + Send + Sync + 'static,
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let mut failures = 0;
        loop {
            let error = match call().await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            self.rest(what, error, &mut failures).await?;
        }
    }

    /// Waits after an error that passes; gives back any other.
    pub(super) async fn rest<E>(
        &self,
        what: &str,
        error: E,
        failures: &mut u32,
    ) -> Result<(), ComponentError>
    where
        E: Retryable + std::error::Error + Send + Sync + 'static,
    {
        let Disposition::Transient { after } = error.disposition() else {
            let code = error.code();
            return Err(ComponentError::new(code, format!("cannot {what}")).because(error));
        };
        let delay = RETRY.delay_seeded((*failures).min(16), Jitter::seed_of(&self.worker));
        let rest = after.or(delay).unwrap_or(Duration::from_secs(1));
        *failures = failures.saturating_add(1);
        let why = ComponentError::new(error.code(), format!("cannot {what}")).because(error);
        tracing::warn!(place = self.place, why = why.chain(), ?rest, "trying again");
        self.clock.sleep(rest).await;
        Ok(())
    }

    /// Puts a payload into the store, and says how it is to be registered.
    async fn put(&self, payload: &Payload) -> Result<BatchSpec, ComponentError> {
        let Payload { id, queue, batches, trace } = payload;
        let Some(first) = batches.first() else {
            return Err(ComponentError::new(Code::Internal, format!("{id} is nothing")));
        };
        let options = ClientPut::default().with_durability(Durability::Disk);
        let what = format!("put {id} into the store");
        let put = || self.store.put(Some(id), first.schema(), batches, options);
        let receipt = self.insist(&what, put).await?;
        tracing::debug!(edge = queue, %id, rows = receipt.rows, "sending event");
        Ok(BatchSpec {
            queue: queue.clone(),
            retry: Some(BATCH_RETRY),
            locations: self.locations.clone(),
            rows: receipt.rows,
            bytes: receipt.bytes,
            checksum: receipt.checksum,
            trace_context: trace.map(|trace| trace.to_string()).unwrap_or_default(),
            ..BatchSpec::new(id.clone())
        })
    }

    async fn put_all(&self, payloads: &[Payload]) -> Result<Vec<BatchSpec>, ComponentError> {
        let puts: Vec<_> = payloads.iter().map(|one| self.put(one)).collect();
        stream::iter(puts).buffered(PUTS).try_collect().await
    }

    /// Puts these, and makes a call about them until it succeeds. Where that takes long they are
    /// put once more: the store does not keep for ever what is not registered.
    async fn put_and<T, F, Fut>(
        &self,
        payloads: &[Payload],
        mut call: F,
    ) -> Result<T, ComponentError>
    where
        F: FnMut(&[BatchSpec]) -> Fut,
        Fut: Future<Output = Result<T, sheaf_coordinator::Error>>,
    {
        let mut put_at = self.clock.elapsed();
        let specs = self.put_all(payloads).await?;
        let mut failures = 0;
        loop {
            match call(&specs).await {
                Ok(answer) => return Ok(answer),
                Err(error) => self.rest("register batches", error, &mut failures).await?,
            }
            if self.clock.elapsed() > put_at + UNREGISTERED {
                put_at = self.clock.elapsed();
                self.put_all(payloads).await?;
            }
        }
    }

    /// Puts these and registers them.
    pub(super) async fn register(&self, payloads: &[Payload]) -> Result<(), ComponentError> {
        let register = |specs: &[BatchSpec]| self.coordinator.register(specs.to_vec());
        self.put_and(payloads, register).await.map(|_| ())
    }

    /// Puts these, and settles what registers them.
    pub(super) async fn settle_with(
        &self,
        payloads: &[Payload],
        request: impl Fn(&[BatchSpec]) -> SettleRequest,
    ) -> Result<Option<Claim>, ComponentError> {
        let mut asked = None;
        let reply = self.put_and(payloads, |specs| {
            let request = asked.get_or_insert_with(|| request(specs)).clone();
            async move { self.coordinator.settle(request).await }
        });
        let reply = reply.await?;
        self.settled(&asked.unwrap_or_default(), reply)
    }

    /// A claim that has not been made.
    pub(super) fn request(&self, queue: &str, max: u32) -> ClaimRequest {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        ClaimRequest {
            queues: vec![queue.to_owned()],
            ..ClaimRequest::new(
                self.worker.as_str(),
                format!("{}:{number}", self.worker),
                max,
                LEASE,
            )
        }
    }

    pub(super) async fn claim(&self, request: ClaimRequest) -> Result<Vec<Lease>, ComponentError> {
        let claim = || self.coordinator.claim(request.clone());
        let claim = self.insist("take batches from the coordinator", claim).await?;
        self.hold(&claim);
        Ok(claim.leases)
    }

    pub(super) fn hold(&self, claim: &Claim) {
        claim.leases.iter().for_each(|lease| self.leases.add(&reference(lease)));
    }

    /// Ends attempts in one step; an error where a lease is not ours any more.
    pub(super) async fn settle(
        &self,
        request: SettleRequest,
    ) -> Result<Option<Claim>, ComponentError> {
        let settle = || self.coordinator.settle(request.clone());
        let reply = self.insist("settle batches", settle).await?;
        self.settled(&request, reply)
    }

    /// What the answer to a settle says of the leases.
    pub(super) fn settled(
        &self,
        request: &SettleRequest,
        reply: SettleReply,
    ) -> Result<Option<Claim>, ComponentError> {
        for (outcome, settled) in request.outcomes.iter().zip(&reply.outcomes) {
            self.leases.remove(&outcome.lease);
            match settled.verdict {
                Verdict::Applied | Verdict::AlreadyDone => {}
                // Taken out by hand: what came of it was not registered either.
                _ if settled.state == Some(State::Cancelled) => {
                    tracing::warn!(id = %settled.id, "the batch was cancelled");
                }
                // It is somebody else's now, as it was to become.
                _ if outcome.resolution != Resolution::Completed => {}
                _ => return Err(self.lost(&outcome.lease)),
            }
        }
        if let Some(claim) = &reply.claim {
            self.hold(claim);
        }
        Ok(reply.claim)
    }
}

/// The lease as it is named in calls.
pub(super) fn reference(lease: &Lease) -> LeaseRef {
    LeaseRef { id: lease.spec.id.clone(), fence: lease.fence }
}

/// Done with, and these came of it.
pub(super) fn completed(lease: &LeaseRef, outputs: Vec<BatchSpec>) -> Outcome {
    Outcome {
        lease: lease.clone(),
        resolution: Resolution::Completed,
        error: None,
        outputs,
        delay: Duration::ZERO,
    }
}
