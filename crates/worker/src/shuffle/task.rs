//! What a task of a stage says of itself.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::{RecordBatch, RecordBatchOptions};
use arrow_schema::{ArrowError, Schema, SchemaRef};
use serde::{Deserialize, Serialize};
use sheaf_exchange::MAX_PARTITIONS;
use sheaf_exchange::shuffle::{MAX_SENDERS, PartitionKey, Sender, ShufflePlan};
use sheaf_retry::Code;

use crate::error::ProcessError;

/// Key of the metadata of a schema under which a task is written, as JSON.
pub const SHUFFLE_TASK: &str = "sheaf.shuffle";

/// Most inputs of a task.
const MAX_INPUTS: usize = 65_536;

/// One task of a stage: what is read, and where the rows go.
///
/// As JSON, each part may be left out:
/// `{"inputs":[{"worker":"grpc://HOST:PORT","query":"q7","stage":1,"partition":2}],
/// "output":{"query":"q7","stage":2,"sender":0,"senders":8,"workers":["grpc://HOST:PORT"],
/// "partitions":16,"by":{"hash":["origin"]}}}`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShuffleTask {
    /// The partitions that are read in place of the payload's rows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<TaskInput>,
    /// Where the rows go in place of the sink.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<TaskOutput>,
}

/// A partition that is read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskInput {
    /// URI of the worker that has it.
    pub worker: String,
    /// The query.
    pub query: String,
    /// The stage that sent it.
    pub stage: u32,
    /// Which of its partitions.
    pub partition: u32,
}

impl TaskInput {
    pub(super) fn key(&self) -> Result<PartitionKey, ProcessError> {
        PartitionKey::try_new(&self.query, self.stage, self.partition)
            .map_err(|error| ProcessError::from_error(&error))
    }
}

/// Partitions to which rows go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskOutput {
    /// The query.
    pub query: String,
    /// This stage.
    pub stage: u32,
    /// Which task of the stage this is, from 0.
    pub sender: u32,
    /// How many tasks the stage has.
    pub senders: u32,
    /// URIs of workers: partition `n` goes to the one at `n` modulo their number.
    /// All tasks of a stage name the same, in the same order.
    pub workers: Vec<String>,
    /// How many partitions; for [`SpreadBy::Broadcast`] as many as there are workers.
    pub partitions: u32,
    /// Which row goes where.
    pub by: SpreadBy,
    /// Where it is not empty, of all partitions just these are sent: those of a
    /// server that is gone, to another one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub only: Vec<u32>,
}

impl TaskOutput {
    /// `attempt` is the fencing token of the lease.
    pub(super) fn plan(&self, attempt: u64) -> ShufflePlan {
        ShufflePlan {
            query: self.query.clone(),
            stage: self.stage,
            sender: Sender { index: self.sender, attempt, senders: self.senders },
            workers: self.workers.clone(),
            partitions: self.partitions,
        }
    }
}

/// Which row goes to which partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SpreadBy {
    /// By the hash of these columns.
    Hash(Vec<String>),
    /// One after the other.
    RoundRobin,
    /// Every row to each worker.
    Broadcast,
    /// All to the one there is.
    Single,
    /// As the worker was told with [`Shuffle::with_partitioning`](super::Shuffle::with_partitioning).
    Named(String),
}

impl ShuffleTask {
    /// A task that sends the rows of its payload.
    pub fn sending(output: TaskOutput) -> Self {
        ShuffleTask { inputs: Vec::new(), output: Some(output) }
    }

    /// A task that reads; its rows go to the sink.
    pub fn reading(inputs: Vec<TaskInput>) -> Self {
        ShuffleTask { inputs, output: None }
    }

    /// The task of a payload with this schema, if it has one.
    ///
    /// # Errors
    /// Permanent where there is one that cannot be read.
    pub fn of(schema: &Schema) -> Result<Option<Self>, ProcessError> {
        let Some(json) = schema.metadata().get(SHUFFLE_TASK) else { return Ok(None) };
        let read = serde_json::from_str(json).map_err(|error| error.to_string());
        let task = read.and_then(|task: Self| task.check().map(|()| task));
        task.map(Some).map_err(|problem| ProcessError {
            code: Code::InvalidArgument,
            message: format!("metadata {SHUFFLE_TASK:?} of the payload's schema: {problem}"),
            permanent: true,
        })
    }

    /// Whoever may put a payload writes this: nothing is made of numbers without end.
    fn check(&self) -> Result<(), String> {
        let most = |what: &str, has: usize, limit: usize| match has <= limit {
            true => Ok(()),
            false => Err(format!("{has} {what}, allowed are {limit}")),
        };
        most("inputs", self.inputs.len(), MAX_INPUTS)?;
        let Some(output) = &self.output else { return Ok(()) };
        let TaskOutput { sender, senders, partitions, .. } = *output;
        most("partitions", partitions as usize, MAX_PARTITIONS)?;
        most("workers", output.workers.len(), MAX_PARTITIONS)?;
        most("partitions in `only`", output.only.len(), MAX_PARTITIONS)?;
        most("senders", senders as usize, MAX_SENDERS as usize)?;
        if sender >= senders {
            return Err(format!("sender {sender} of {senders}; they are counted from 0"));
        }
        match output.only.iter().find(|one| **one >= partitions) {
            Some(other) => Err(format!("`only` has {other}, the {partitions} are from 0 on")),
            None => Ok(()),
        }
    }

    /// The schema with this task in its metadata.
    ///
    /// # Errors
    /// None that is known: JSON of names and numbers can be written.
    pub fn on(&self, schema: &Schema) -> Result<SchemaRef, ArrowError> {
        let json = serde_json::to_string(self)
            .map_err(|error| ArrowError::ExternalError(Box::new(error)))?;
        let mut metadata = schema.metadata().clone();
        metadata.insert(SHUFFLE_TASK.to_owned(), json);
        Ok(Arc::new(schema.clone().with_metadata(metadata)))
    }

    /// A payload without columns and rows for a task that only reads.
    ///
    /// # Errors
    /// As [`ShuffleTask::on`].
    pub fn to_batch(&self) -> Result<RecordBatch, ArrowError> {
        let schema = self.on(&Schema::empty())?;
        let none = RecordBatchOptions::new().with_row_count(Some(0));
        RecordBatch::try_new_with_options(schema, Vec::new(), &none)
    }
}

/// The schema without a task: partitions and files have none.
pub(super) fn without_task(schema: &SchemaRef) -> SchemaRef {
    if !schema.metadata().contains_key(SHUFFLE_TASK) {
        return Arc::clone(schema);
    }
    let mut metadata: HashMap<_, _> = schema.metadata().clone().into();
    metadata.remove(SHUFFLE_TASK);
    Arc::new(schema.as_ref().clone().with_metadata(metadata))
}

#[cfg(test)]
mod tests {
    use arrow_schema::{DataType, Field};

    use super::*;

    #[test]
    fn a_task_is_read_back_from_the_schema_and_taken_out_of_it() {
        let plain = Arc::new(Schema::new_with_metadata(
            vec![Field::new("n", DataType::Int64, true)],
            HashMap::from([("mine".to_owned(), "kept".to_owned())]),
        ));
        assert_eq!(ShuffleTask::of(&plain).unwrap(), None);
        for by in [
            SpreadBy::Hash(vec!["n".to_owned()]),
            SpreadBy::RoundRobin,
            SpreadBy::Broadcast,
            SpreadBy::Single,
            SpreadBy::Named("mine".to_owned()),
        ] {
            let output = TaskOutput {
                query: "q".to_owned(),
                stage: 1,
                sender: 2,
                senders: 3,
                workers: vec!["grpc://a:1".to_owned()],
                partitions: 4,
                by,
                only: Vec::new(),
            };
            let task = ShuffleTask::sending(output);
            let schema = task.on(&plain).unwrap();
            assert_eq!(ShuffleTask::of(&schema).unwrap(), Some(task));
            assert_eq!(without_task(&schema), plain);
        }
    }

    fn sized(sender: u32, senders: u32, partitions: u32, only: &str) -> String {
        format!(
            r#"{{"output":{{"query":"q","stage":1,"sender":{sender},"senders":{senders},
            "workers":[],"partitions":{partitions},"by":"single","only":[{only}]}}}}"#
        )
    }

    #[test]
    fn a_task_that_cannot_be_read_says_where_it_stands() {
        for (json, why) in [
            ("{", "EOF"),
            (r#"{"input":[]}"#, "unknown field `input`"),
            (r#"{"output":{"query":"q"}}"#, "missing field"),
            (&sized(0, 1, 4_294_967_295, ""), "4294967295 partitions, allowed are 65536"),
            (&sized(0, 70_000, 1, ""), "70000 senders"),
            (&sized(2, 2, 1, ""), "sender 2 of 2"),
            (&sized(0, 1, 4, "4"), "`only` has 4"),
        ] {
            let metadata = HashMap::from([(SHUFFLE_TASK.to_owned(), json.to_owned())]);
            let schema = Schema::empty().with_metadata(metadata);
            let error = ShuffleTask::of(&schema).unwrap_err();
            assert!(error.permanent && error.code == Code::InvalidArgument);
            let text = error.to_string();
            assert!(text.contains(SHUFFLE_TASK) && text.contains(why), "{text}");
        }
    }
}
