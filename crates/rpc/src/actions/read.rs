//! Reading.

use bytes::Bytes;
use sheaf_coordinator::{Answer, CoordinatorExt as _, Page, Query};
use sheaf_flight::Error;
use sheaf_proto::BatchId;
use sheaf_retry::Code;

use super::CoordinatorActions;
use super::body::{bounded, invalid, parse, reply};
use crate::json::{
    BatchRecord, InfoInput, InfoOutput, LineageInput, LineageOutput, ListInput, PageOutput,
    SelectInput, StatsInput, StatsOutput, WatchInput,
};
use crate::waits::closing;

impl CoordinatorActions {
    pub(super) async fn get(&self, action: &str, body: &[u8]) -> Result<Vec<Bytes>, Error> {
        let input: SelectInput = parse(action, body)?;
        if input.queue.is_some() {
            return Err(invalid(action, "queue: GetBatch goes by batch_id; ListBatches by queue"));
        }
        match selection(action, input)? {
            Selection::One(id) => {
                match self.coordinator.get(&id).await.map_err(Error::from_error)? {
                    Some(batch) => reply(action, &BatchRecord::from(batch)),
                    None => Err(no_batch(action, &id)),
                }
            }
            Selection::Many(ids) => {
                let batches = self.coordinator.get_all(ids).await.map_err(Error::from_error)?;
                reply(action, &page_output(Page { batches, next_cursor: String::new() }))
            }
        }
    }

    pub(super) async fn list(&self, action: &str, body: &[u8]) -> Result<Vec<Bytes>, Error> {
        let input: ListInput = parse(action, body)?;
        let page = self.coordinator.list(input.into()).await.map_err(Error::from_error)?;
        reply(action, &page_output(page))
    }

    pub(super) async fn lineage(&self, action: &str, body: &[u8]) -> Result<Vec<Bytes>, Error> {
        let input: LineageInput = parse(action, body)?;
        match self.coordinator.query(Query::Lineage(input.into())).await {
            Ok(Answer::Lineage(lineage)) => reply(action, &LineageOutput::from(lineage)),
            Ok(_) => Err(another_kind(action)),
            Err(error) => Err(Error::from_error(error)),
        }
    }

    pub(super) async fn stats(&self, action: &str, body: &[u8]) -> Result<Vec<Bytes>, Error> {
        let input: StatsInput = parse(action, body)?;
        let queues = self.coordinator.stats(input.queue.as_deref()).await;
        reply(action, &StatsOutput::from(queues.map_err(Error::from_error)?))
    }

    pub(super) async fn info(&self, action: &str, body: &[u8]) -> Result<Vec<Bytes>, Error> {
        let InfoInput {} = parse(action, body)?;
        let history = self.coordinator.history().await.map_err(Error::from_error)?;
        reply(action, &InfoOutput::from(history))
    }

    pub(super) async fn watch_events(
        &self,
        action: &str,
        body: &[u8],
    ) -> Result<Vec<Bytes>, Error> {
        let input: WatchInput = parse(action, body)?;
        let watch = self.watches.call(action, self.coordinator.as_ref(), input);
        let output = tokio::select! {
            biased;
            output = watch => output?,
            () = self.waits.ended() => return Err(Error::from_error(closing())),
        };
        reply(action, &output)
    }
}

/// What a request names.
pub(super) enum Selection {
    /// `batch_id`: an error if it does not fit.
    One(BatchId),
    /// `batch_ids`: a verdict for each.
    Many(Vec<BatchId>),
}

/// Exactly one of `batch_id` and `batch_ids`.
pub(super) fn selection(action: &str, input: SelectInput) -> Result<Selection, Error> {
    match (input.batch_id, input.batch_ids) {
        (Some(id), None) => Ok(Selection::One(id)),
        (None, Some(ids)) => {
            bounded(action, "batch_ids", &ids)?;
            Ok(Selection::Many(ids))
        }
        (Some(_), Some(_)) => Err(invalid(action, "batch_id: give it or batch_ids, not both")),
        (None, None) => Err(invalid(action, "missing field `batch_id`")),
    }
}

pub(super) fn no_batch(action: &str, id: &BatchId) -> Error {
    Error::new(Code::NotFound, format!("{action}: no batch {id}"))
}

/// The coordinator broke its contract.
pub(super) fn another_kind(action: &str) -> Error {
    let problem = "the coordinator's answer is of another kind than the question";
    Error::new(Code::Internal, format!("{action}: {problem}"))
}

fn page_output(page: Page) -> PageOutput {
    PageOutput {
        batches: page.batches.into_iter().map(BatchRecord::from).collect(),
        next_cursor: (!page.next_cursor.is_empty()).then_some(page.next_cursor),
    }
}
