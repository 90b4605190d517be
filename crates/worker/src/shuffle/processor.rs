//! A processor between partitions.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow_array::{RecordBatch, RecordBatchOptions};
use arrow_schema::SchemaRef;
use async_trait::async_trait;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use sheaf_exchange::Partitioning;
use sheaf_exchange::shuffle::{Error, ExchangeClient, ReadOptions};
use sheaf_flight::ipc::decode_schema;
use sheaf_retry::{Code, Retryable as _};

use super::task::{ShuffleTask, SpreadBy, TaskInput, TaskOutput, without_task};
use crate::error::ProcessError;
use crate::processor::{Input, Job, Output, Processor, RowStream};

/// How long a task waits for a partition that is not complete yet.
const WAIT: Duration = Duration::from_secs(60);

/// Wraps a processor so that it works between partitions: see [the module](crate::shuffle).
///
/// What fails of the way to a partition fails the attempt, and is tried again as
/// its code says: a worker that cannot be reached, later; a partition that is gone
/// with its worker, never, since only the stage that sent it can bring it back. The
/// error names worker and partition.
pub struct Shuffle {
    client: ExchangeClient,
    inner: Arc<dyn Processor>,
    named: HashMap<String, Partitioning>,
    wait: Duration,
}

impl std::fmt::Debug for Shuffle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shuffle").field("inner", &self.inner.describe()).finish_non_exhaustive()
    }
}

impl Shuffle {
    /// Reads and sends with `client`; `inner` does the work.
    pub fn new(client: ExchangeClient, inner: Arc<dyn Processor>) -> Self {
        Shuffle { client, inner, named: HashMap::new(), wait: WAIT }
    }

    /// A partitioning that tasks may name, such as by ranges or by a function.
    #[must_use]
    pub fn with_partitioning(
        mut self,
        name: impl Into<String>,
        partitioning: Partitioning,
    ) -> Self {
        self.named.insert(name.into(), partitioning);
        self
    }

    /// How long a task waits for a partition whose senders have not all committed;
    /// 60 s where nothing is said.
    #[must_use]
    pub fn with_wait(self, wait: Duration) -> Self {
        Shuffle { wait, ..self }
    }

    async fn open(&self, input: &TaskInput) -> Result<Input, ProcessError> {
        let options = ReadOptions { wait: self.wait, ..ReadOptions::default() };
        let (worker, key) = (&input.worker, input.key()?);
        let reader = self
            .client
            .request_data_from_worker(worker, &key, None, options)
            .await
            .map_err(|error| fetch_error(&error))?;
        let schema = reader.schema();
        let rows = reader.into_stream().map_err(|error| fetch_error(&error)).boxed();
        Ok(Input { schema, rows })
    }

    fn partitioning(&self, by: &SpreadBy) -> Result<Partitioning, ProcessError> {
        Ok(match by {
            SpreadBy::Hash(columns) => Partitioning::hash(columns.iter().map(String::as_str)),
            SpreadBy::RoundRobin => Partitioning::RoundRobin,
            SpreadBy::Broadcast => Partitioning::Broadcast,
            SpreadBy::Single => Partitioning::Single,
            SpreadBy::Named(name) => self.named.get(name).cloned().ok_or_else(|| {
                let mut known: Vec<_> = self.named.keys().map(String::as_str).collect();
                known.sort_unstable();
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                ProcessError {
                    code: Code::InvalidArgument,
                    message: format!(
                        "the task spreads its rows by {name:?}, and this worker knows {known}: \
                         give it one with Shuffle::with_partitioning"
                    ),
                    permanent: true,
                }
            })?,
        })
    }

    /// Sends all rows; how many there were.
    async fn send(
        &self,
        output: &TaskOutput,
        attempt: u64,
        schema: SchemaRef,
        rows: RowStream,
    ) -> Result<u64, ProcessError> {
        let partitioning = self.partitioning(&output.by)?;
        let failure = Arc::new(Mutex::new(None));
        let kept = Arc::clone(&failure);
        let rows = rows.map_err(move |error| {
            let said = Error::Argument(error.to_string());
            *kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            said
        });
        let plan = output.plan(attempt);
        let sent = match output.by {
            SpreadBy::Broadcast => self.client.perform_broadcast(&plan, schema, rows).await,
            _ if output.only.is_empty() => {
                self.client.perform_shuffle(&plan, partitioning, schema, rows).await
            }
            _ => {
                let only = &output.only;
                self.client.perform_shuffle_of(&plan, only, partitioning, schema, rows).await
            }
        };
        let failed = failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(error) = failed {
            return Err(error);
        }
        let sent = sent.map_err(|error| send_error(&error))?;
        Ok(sent.iter().map(|partition| partition.totals.rows).sum())
    }
}

#[async_trait]
impl Processor for Shuffle {
    async fn process(&self, mut job: Job) -> Result<Output, ProcessError> {
        let task = take_task(&mut job).await?;
        for input in &task.inputs {
            job.inputs.push(self.open(input).await?);
        }
        let attempt = job.fence.0;
        let Output { schema, rows, batches, written } = self.inner.process(job).await?;
        let (schema, rows) = stripped(&schema, rows);
        let Some(output) = &task.output else {
            return Ok(Output { schema, rows, batches, written });
        };
        let sent = self.send(output, attempt, schema.clone(), rows).await?;
        Ok(Output { batches, written: Some(sent), ..Output::new(schema, stream::empty().boxed()) })
    }

    fn describe(&self) -> String {
        self.inner.describe()
    }

    fn makes_batches(&self) -> bool {
        self.inner.makes_batches()
    }
}

/// Looks at the schema of the payload, which the job keeps.
async fn take_task(job: &mut Job) -> Result<ShuffleTask, ProcessError> {
    let mut messages = std::mem::replace(&mut job.messages, stream::empty().boxed());
    let Some(first) = messages.next().await else { return Ok(ShuffleTask::default()) };
    let first = first.map_err(|error| ProcessError::from_error(&error))?;
    // What cannot be decoded is for the processor to refuse.
    let task = match decode_schema(&first.header) {
        Ok(schema) => ShuffleTask::of(&schema)?,
        Err(_) => None,
    };
    job.messages = stream::once(std::future::ready(Ok(first))).chain(messages).boxed();
    Ok(task.unwrap_or_default())
}

/// Rows whose schema has no task.
fn stripped(schema: &SchemaRef, rows: RowStream) -> (SchemaRef, RowStream) {
    let plain = without_task(schema);
    if Arc::ptr_eq(&plain, schema) {
        return (plain, rows);
    }
    let of = Arc::clone(&plain);
    let rows = rows.and_then(move |batch| {
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let columns = batch.columns().to_vec();
        let batch = RecordBatch::try_new_with_options(Arc::clone(&of), columns, &options);
        std::future::ready(batch.map_err(ProcessError::from))
    });
    (plain, rows.boxed())
}

/// A worker that was restarted has nothing any more of what it had taken: the next
/// attempt sends all of it again.
fn send_error(error: &Error) -> ProcessError {
    let failure = ProcessError::from_error(error);
    ProcessError { permanent: failure.permanent && error.code() != Code::PayloadLost, ..failure }
}

/// A partition that its worker does not have, or of a query that it has dropped, is as
/// lost as a payload.
fn fetch_error(error: &Error) -> ProcessError {
    let mut failure = ProcessError::from_error(error);
    if matches!(error.code(), Code::NotFound | Code::FailedPrecondition) {
        failure.code = Code::PayloadLost;
    }
    failure
}
