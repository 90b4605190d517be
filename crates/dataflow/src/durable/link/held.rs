//! What is held: kept, completed, given back, taken over.

use sheaf_coordinator::{
    Batch, BatchSpec, CoordinatorExt as _, Extension, Failure, Fence, LeaseRef, ListFilter,
    Outcome, Resolution, SettleRequest, Standing, State, Verdict,
};
use sheaf_proto::BatchId;
use sheaf_retry::{Code, Timestamp};

use super::{Link, Payload, completed};
use crate::component::BatchLease;
use crate::durable::leases::LEASE;
use crate::error::ComponentError;

/// Batches of a queue that are looked at in one call.
const PAGE: u32 = 1_000;
/// Outcomes of one call.
const AT_ONCE: usize = 1_000;

impl Link {
    pub(super) fn lost(&self, lease: &LeaseRef) -> ComponentError {
        let text = format!(
            "{} has lost its lease of {}: it was silent for longer than {}s, or another process \
             has its place",
            self.place,
            lease.id,
            LEASE.as_secs()
        );
        ComponentError::new(Code::StaleFence, text)
    }

    /// Completes these, and registers what came of all of them, in one step.
    pub(in crate::durable) async fn step(
        &self,
        inputs: &[LeaseRef],
        payloads: &[Payload],
    ) -> Result<(), ComponentError> {
        let Some((last, others)) = inputs.split_last() else {
            return self.register(payloads).await;
        };
        if !others.is_empty() && !payloads.is_empty() {
            // All of these have to stand, or nothing may be registered.
            self.extend(inputs).await?;
        }
        let request = |specs: &[BatchSpec]| {
            let mut outcomes: Vec<Outcome> =
                others.iter().map(|lease| completed(lease, Vec::new())).collect();
            outcomes.push(completed(last, specs.to_vec()));
            SettleRequest { outcomes, ..SettleRequest::default() }
        };
        self.settle_with(payloads, request).await.map(|_| ())
    }

    /// Completes these.
    pub(in crate::durable) async fn complete(
        &self,
        leases: Vec<LeaseRef>,
    ) -> Result<(), ComponentError> {
        for some in leases.chunks(AT_ONCE) {
            let outcomes = some.iter().map(|lease| completed(lease, Vec::new())).collect();
            self.settle(SettleRequest { outcomes, ..SettleRequest::default() }).await?;
        }
        Ok(())
    }

    /// Gives these back: they are pending again, each in its place.
    async fn release(&self, leases: &[LeaseRef]) -> Result<(), ComponentError> {
        for some in leases.chunks(AT_ONCE) {
            let outcomes = some.iter().cloned().map(Outcome::released).collect();
            self.settle(SettleRequest { outcomes, ..SettleRequest::default() }).await?;
        }
        Ok(())
    }

    /// Gives back everything that is held.
    pub(crate) async fn release_all(&self) {
        if let Err(error) = self.release(&self.leases.all()).await {
            tracing::warn!(
                place = self.place,
                why = error.chain(),
                "not all batches were given back"
            );
        }
    }

    /// As [`Link::failed`], of a batch that a component was given; `false` where it is not held
    /// any more.
    pub(crate) async fn failed_named(&self, lease: &BatchLease, message: &str) -> bool {
        let Ok(id) = BatchId::try_new(&lease.id) else { return false };
        let lease = LeaseRef { id, fence: Fence(lease.fence) };
        if !self.leases.has(&lease) {
            return false;
        }
        self.failed(&lease, Code::ProcessorFailed, message.to_owned()).await;
        true
    }

    /// The reader cannot take it: it is tried again after a while, and not for ever.
    pub(in crate::durable) async fn failed(&self, lease: &LeaseRef, code: Code, message: String) {
        let permanent = code == Code::PayloadLost;
        let error = Failure { code, message, permanent, at: Timestamp::EPOCH };
        let outcome = Outcome {
            resolution: Resolution::Failed,
            error: Some(error),
            ..completed(lease, Vec::new())
        };
        let request = SettleRequest { outcomes: vec![outcome], ..SettleRequest::default() };
        if let Err(error) = self.settle(request).await {
            tracing::warn!(id = %lease.id, why = error.chain(), "its failure could not be told");
        }
    }

    /// Prolongs leases; an error where one is lost.
    pub(in crate::durable) async fn extend(
        &self,
        leases: &[LeaseRef],
    ) -> Result<(), ComponentError> {
        let extensions: Vec<Extension> = leases
            .iter()
            .map(|lease| Extension {
                lease: lease.clone(),
                started: false,
                progress: None,
                duration: None,
            })
            .collect();
        let extend = || self.coordinator.extend(extensions.clone());
        let extended = self.insist("extend leases", extend).await?;
        let mut doubtful = Vec::new();
        for (lease, answer) in leases.iter().zip(extended) {
            if answer.cancelled {
                self.leases.remove(lease);
            } else if answer.verdict != Verdict::Applied && self.leases.has(lease) {
                doubtful.push(lease.clone());
            }
        }
        if doubtful.is_empty() {
            return Ok(());
        }
        // It may have been settled a moment ago.
        let ask = || self.coordinator.recovery(doubtful.clone());
        for (lease, found) in doubtful.iter().zip(self.insist("ask for leases", ask).await?) {
            if found.standing != Standing::Settled && self.leases.has(lease) {
                return Err(self.lost(lease));
            }
        }
        Ok(())
    }

    /// What is not over in a queue, in the order of registration.
    pub(in crate::durable) async fn live(
        &self,
        queue: &str,
        states: &[State],
    ) -> Result<Vec<Batch>, ComponentError> {
        let mut filter = ListFilter {
            states: states.to_vec(),
            queue: Some(queue.to_owned()),
            limit: PAGE,
            ..ListFilter::default()
        };
        let mut found = Vec::new();
        loop {
            let list = || self.coordinator.list(filter.clone());
            let page = self.insist("list the batches of a queue", list).await?;
            found.extend(page.batches);
            if page.next_cursor.is_empty() {
                return Ok(found);
            }
            filter.cursor = page.next_cursor;
        }
    }

    /// Gives back what an earlier process in this place held. That one has lost its place in
    /// the registry, and with this its leases.
    pub(in crate::durable) async fn take_over(&self, queue: &str) -> Result<(), ComponentError> {
        let held = self.live(queue, &[State::Processing]).await?;
        let before = format!("{}/", self.place);
        let leases = held.into_iter().filter_map(|batch| {
            let lease = batch
                .lease
                .filter(|held| held.worker.starts_with(&before) && held.worker != self.worker)?;
            Some(LeaseRef { id: batch.spec.id, fence: lease.fence })
        });
        let leases: Vec<LeaseRef> = leases.collect();
        if !leases.is_empty() {
            tracing::info!(queue, batches = leases.len(), "taken over from the process before");
        }
        self.release(&leases).await
    }
}
