//! Registering, claiming, extending, settling.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sheaf_coordinator::{CoordinatorExt as _, LeaseRef, Outcome, SettleRequest, Standing};
use sheaf_flight::Error;
use sheaf_retry::{Code, Retryable as _};

use super::CoordinatorActions;
use super::body::{bounded, has_batches, invalid, parse, reply};
use super::read::another_kind;
use crate::json::{
    ClaimInput, ClaimOutput, ExtendInput, ExtendOutput, ExtendedRecord, OutcomeInput,
    RecoveredRecord, RecoveryInput, RecoveryOutput, RegisteredRecord, SettleInput, SettleOutput,
    SpecInput,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Batches {
    batches: Vec<SpecInput>,
}

#[derive(Serialize)]
struct RegisteredBatches {
    batches: Vec<RegisteredRecord>,
}

impl CoordinatorActions {
    pub(super) async fn register(&self, action: &str, body: &[u8]) -> Result<Vec<Bytes>, Error> {
        if has_batches(body) {
            let input: Batches = parse(action, body)?;
            bounded(action, "batches", &input.batches)?;
            let name = |index| format!("batches[{index}]");
            let batches = self.register_all(action, input.batches, name).await?;
            return reply(action, &RegisteredBatches { batches });
        }
        let input: SpecInput = parse(action, body)?;
        bounded(action, "parents", &input.parents)?;
        bounded(action, "depends_on", &input.depends_on)?;
        let mut batches = self.register_all(action, vec![input], |_| String::new()).await?;
        match batches.pop() {
            Some(one) => reply(action, &one),
            None => Err(another_kind(action)),
        }
    }

    async fn register_all(
        &self,
        action: &str,
        inputs: Vec<SpecInput>,
        name: impl Fn(usize) -> String,
    ) -> Result<Vec<RegisteredRecord>, Error> {
        let specs = self.resolve(action, inputs, name).await?;
        let registered = self.payloads().register(specs).await?;
        Ok(registered.into_iter().map(RegisteredRecord::from).collect())
    }

    pub(super) async fn claim(&self, action: &str, body: &[u8]) -> Result<Vec<Bytes>, Error> {
        let input: ClaimInput = parse(action, body)?;
        bounded_claim(action, &input)?;
        let request = input.resolve(self.lease);
        let (wait, claim) = (request.wait, self.coordinator.claim(request));
        let claim = self.waits.bound(wait, claim).await;
        reply(action, &ClaimOutput::from(claim.map_err(Error::from_error)?))
    }

    pub(super) async fn extend(&self, action: &str, body: &[u8]) -> Result<Vec<Bytes>, Error> {
        let input: ExtendInput = parse(action, body)?;
        bounded(action, "leases", &input.leases)?;
        let leases = input.leases.into_iter().map(Into::into).collect();
        let extended = self.coordinator.extend(leases).await.map_err(Error::from_error)?;
        let leases = extended.into_iter().map(ExtendedRecord::from).collect();
        reply(action, &ExtendOutput { leases })
    }

    pub(super) async fn settle(&self, action: &str, body: &[u8]) -> Result<Vec<Bytes>, Error> {
        let input: SettleInput = parse(action, body)?;
        bounded(action, "outcomes", &input.outcomes)?;
        bounded(action, "started", &input.started)?;
        for (index, outcome) in input.outcomes.iter().enumerate() {
            bounded(action, &format!("outcomes[{index}].outputs"), &outcome.outputs)?;
        }
        if let Some(claim) = &input.claim {
            bounded_claim(action, claim)?;
        }
        let request = SettleRequest {
            outcomes: self.outcomes(action, input.outcomes).await?,
            started: input.started.into_iter().map(LeaseRef::from).collect(),
            claim: input.claim.map(|claim| claim.resolve(self.lease)),
        };
        let wait = request.claim.as_ref().map_or(Duration::ZERO, |claim| claim.wait);
        let payloads = self.payloads();
        let answer =
            self.waits.bound(wait, payloads.settle(request)).await.map_err(Error::from_error)?;
        reply(action, &SettleOutput::from(answer))
    }

    /// The outcomes, their outputs completed from the directory.
    async fn outcomes(
        &self,
        action: &str,
        inputs: Vec<OutcomeInput>,
    ) -> Result<Vec<Outcome>, Error> {
        let mut outcomes = Vec::with_capacity(inputs.len());
        for (index, input) in inputs.into_iter().enumerate() {
            let error = input.failure();
            let lease = LeaseRef { id: input.batch_id, fence: input.fence.0 };
            let outputs = input.outputs.into_iter().map(|output| output.0).collect();
            let name = |output| format!("outcomes[{index}].outputs[{output}]");
            let outputs = match self.resolve(action, outputs, name).await {
                Ok(outputs) => outputs,
                // Sent again after its outputs were worked off and forgotten:
                // the answer does not depend on them any more.
                Err(error) if error.code() == Code::NotFound && self.is_over(&lease).await? => {
                    Vec::new()
                }
                Err(error) => return Err(error),
            };
            let delay = Duration::from_millis(input.delay_ms);
            outcomes.push(Outcome { lease, resolution: input.result, error, outputs, delay });
        }
        Ok(outcomes)
    }

    /// Whether a settle of this lease changes nothing any more.
    async fn is_over(&self, lease: &LeaseRef) -> Result<bool, Error> {
        let recovered = self.coordinator.recovery(vec![lease.clone()]).await;
        let recovered = recovered.map_err(Error::from_error)?;
        Ok(recovered.iter().all(|recovered| recovered.standing != Standing::Current))
    }

    pub(super) async fn recovery(&self, action: &str, body: &[u8]) -> Result<Vec<Bytes>, Error> {
        let input: RecoveryInput = parse(action, body)?;
        bounded(action, "leases", &input.leases)?;
        let leases = input.leases.into_iter().map(LeaseRef::from).collect();
        let recovered = self.coordinator.recovery(leases).await.map_err(Error::from_error)?;
        let leases = recovered.into_iter().map(RecoveredRecord::from).collect();
        reply(action, &RecoveryOutput { leases })
    }
}

fn bounded_claim(action: &str, claim: &ClaimInput) -> Result<(), Error> {
    if claim.request_id.as_ref().is_some_and(String::is_empty) {
        return Err(invalid(action, "request_id: leave it out rather than empty"));
    }
    bounded(action, "queue", &claim.queue.0)?;
    bounded(action, "batch_id", &claim.batch_id.0)?;
    bounded(action, "locations", &claim.locations)
}
