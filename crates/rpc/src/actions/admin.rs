//! Changes by hand.

use std::time::Duration;

use bytes::Bytes;
use sheaf_coordinator::{Control, ControlReply, Verdict};
use sheaf_flight::Error;
use sheaf_proto::BatchId;
use sheaf_retry::Code;

use super::CoordinatorActions;
use super::body::{bounded, invalid, parse, reply};
use super::read::{Selection, no_batch, selection};
use crate::json::{
    ConfigureInput, ControlOutput, ExpireInput, PurgeInput, QueueInput, SelectInput,
};

impl CoordinatorActions {
    pub(super) async fn requeue(&self, action: &str, body: &[u8]) -> Result<Vec<Bytes>, Error> {
        let mut input: SelectInput = parse(action, body)?;
        if let Some(queue) = input.queue.take() {
            if input.batch_id.is_some() || input.batch_ids.is_some() {
                return Err(invalid(action, "queue: give it or batches, not both"));
            }
            return self.control(action, Control::RequeueFailed(queue)).await;
        }
        self.select(action, input, Control::Requeue).await
    }

    pub(super) async fn cancel(&self, action: &str, body: &[u8]) -> Result<Vec<Bytes>, Error> {
        let input: SelectInput = parse(action, body)?;
        if input.queue.is_some() {
            return Err(invalid(action, "queue: CancelBatch goes by batch_id or batch_ids"));
        }
        self.select(action, input, Control::Cancel).await
    }

    pub(super) async fn purge(&self, action: &str, body: &[u8]) -> Result<Vec<Bytes>, Error> {
        let input: PurgeInput = parse(action, body)?;
        bounded(action, "state", &input.state.0)?;
        if !input.is_clear() {
            let problem = "give at least one of queue, state and finished_before_ms, or all: true alone for every terminal batch";
            return Err(invalid(action, problem));
        }
        self.control(action, Control::Purge(input.into())).await
    }

    pub(super) async fn expire(&self, action: &str, body: &[u8]) -> Result<Vec<Bytes>, Error> {
        let input: ExpireInput = parse(action, body)?;
        let age = Duration::from_millis(input.older_than_ms);
        self.control(action, Control::Expire(age)).await
    }

    pub(super) async fn queue(&self, action: &str, body: &[u8]) -> Result<Vec<Bytes>, Error> {
        let QueueInput { queue } = parse(action, body)?;
        let control = match action {
            "PauseQueue" => Control::Pause(queue),
            "ResumeQueue" => Control::Resume(queue),
            _ => Control::Drain(queue),
        };
        self.control(action, control).await
    }

    pub(super) async fn configure(&self, action: &str, body: &[u8]) -> Result<Vec<Bytes>, Error> {
        let input: ConfigureInput = parse(action, body)?;
        let (queue, policy) = input.into_parts();
        self.control(action, Control::Configure(queue, policy)).await
    }

    async fn control(&self, action: &str, control: Control) -> Result<Vec<Bytes>, Error> {
        self.payloads().before(&control).await?;
        let answer = self.coordinator.control(control).await.map_err(Error::from_error)?;
        reply(action, &ControlOutput::from(answer))
    }

    async fn select(
        &self,
        action: &str,
        input: SelectInput,
        control: impl FnOnce(Vec<BatchId>) -> Control,
    ) -> Result<Vec<Bytes>, Error> {
        let (ids, one) = match selection(action, input)? {
            Selection::One(id) => (vec![id.clone()], Some(id)),
            Selection::Many(ids) => (ids, None),
        };
        let control = control(ids);
        self.payloads().before(&control).await?;
        let answer = self.coordinator.control(control).await.map_err(Error::from_error)?;
        if let Some(id) = one {
            fits(action, &id, &answer)?;
        }
        reply(action, &ControlOutput::from(answer))
    }
}

/// A change of one batch that did not come about is an error.
fn fits(action: &str, id: &BatchId, answer: &ControlReply) -> Result<(), Error> {
    let Some(settled) = answer.batches.first() else {
        return Err(no_batch(action, id));
    };
    match (settled.verdict, settled.state) {
        (Verdict::NotFound, _) => Err(no_batch(action, id)),
        (Verdict::Stale, Some(state)) => Err(Error::new(
            Code::FailedPrecondition,
            format!("{action}: batch {id} is {state}, which does not allow it"),
        )),
        _ => Ok(()),
    }
}
