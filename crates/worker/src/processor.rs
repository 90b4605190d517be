//! What is done with a batch.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use async_trait::async_trait;
use futures::stream::{self, BoxStream, StreamExt};
use sheaf_coordinator::{BatchSpec, Fence};
use sheaf_flight::MessageStream;
use sheaf_flight::ipc::{Bounds, decode_stream};
use tokio_util::sync::CancellationToken;

use crate::error::ProcessError;

/// A stream of record batches of one schema.
pub type RowStream = BoxStream<'static, Result<RecordBatch, ProcessError>>;

/// Does the work on one batch.
///
/// 1. It may run more than once for a batch: a worker that dies is replaced.
///    Effects outside the returned rows must bear that; the rows themselves
///    reach the sink exactly once.
/// 2. It may be dropped at any await, when the lease is lost or the process ends.
/// 3. A panic fails the attempt, not the worker.
/// 4. It runs on a thread of its own: blocking and computing are allowed.
#[async_trait]
pub trait Processor: Send + Sync + 'static {
    /// Takes one batch; its rows go to the worker's sink.
    ///
    /// # Errors
    /// [`ProcessError`] says whether the batch is tried again.
    async fn process(&self, job: Job) -> Result<Output, ProcessError>;

    /// What it does, for people: without secrets.
    fn describe(&self) -> String;

    /// Whether [`Output::batches`] is ever filled. Where it never is, an
    /// attempt that finds the rows of an earlier one committed is done;
    /// otherwise it calls [`Processor::process`] again for the batches alone,
    /// and drops the rows unread.
    fn makes_batches(&self) -> bool {
        true
    }
}

/// One attempt at one batch.
pub struct Job {
    /// The batch as registered.
    pub spec: BatchSpec,
    /// The token of this attempt's lease.
    pub fence: Fence,
    /// 1 for the first attempt.
    pub attempt: u32,
    /// The payload as it was put: the schema first.
    pub messages: MessageStream,
    /// The partitions that its task reads in place of the payload's rows; mostly
    /// none, see [`Shuffle`](crate::Shuffle).
    pub inputs: Vec<Input>,
    /// Cancelled when the lease is lost.
    pub cancelled: CancellationToken,
    /// Where to say how far the work is.
    pub progress: ProgressHandle,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job")
            .field("id", &self.spec.id)
            .field("fence", &self.fence)
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}

impl Job {
    /// The schema and the rows that this job is about: those of the payload, with
    /// full validation; where its task reads partitions, theirs, one after the other.
    ///
    /// # Errors
    /// Permanent where the payload is malformed, and for partitions of several
    /// schemas, which are for [`Job::into_inputs`]; transient where it cannot be
    /// read now.
    pub async fn into_rows(self) -> Result<Output, ProcessError> {
        let mut inputs = self.into_inputs().await?.into_iter();
        // There is always one.
        let Some(Input { schema, rows }) = inputs.next() else {
            return Err(ProcessError::permanent("the job has no rows to read"));
        };
        let mut all = vec![rows];
        for input in inputs {
            if input.schema != schema {
                return Err(ProcessError::permanent(
                    "the task reads partitions of several schemas, and its processor one input",
                ));
            }
            all.push(input.rows);
        }
        Ok(Output::new(schema, stream::iter(all).flatten().boxed()))
    }

    /// Each input by itself: the partitions that its task reads, in their order, or
    /// else the payload alone.
    ///
    /// # Errors
    /// As [`Job::into_rows`] for the payload.
    pub async fn into_inputs(self) -> Result<Vec<Input>, ProcessError> {
        let progress = self.progress.clone();
        let inputs = match self.inputs.is_empty() {
            true => vec![rows_of(self.messages).await?],
            false => self.inputs,
        };
        let counted = |Input { schema, rows }| {
            let progress = progress.clone();
            let count = move |batch: &Result<RecordBatch, _>| {
                if let Ok(batch) = batch {
                    progress.add_rows(batch.num_rows() as u64);
                }
            };
            Input { schema, rows: rows.inspect(count).boxed() }
        };
        Ok(inputs.into_iter().map(counted).collect())
    }
}

/// Decodes a payload.
pub(crate) async fn rows_of(messages: MessageStream) -> Result<Input, ProcessError> {
    let (schema, batches) = decode_stream(messages, Bounds::default())
        .await
        .map_err(|error| ProcessError::from_error(&error))?;
    let rows = batches.map(|batch| batch.map_err(|error| ProcessError::from_error(&error))).boxed();
    Ok(Input { schema, rows })
}

/// What a job reads.
pub struct Input {
    /// Schema of all rows.
    pub schema: SchemaRef,
    /// The rows.
    pub rows: RowStream,
}

impl std::fmt::Debug for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Input").field("schema", &self.schema).finish_non_exhaustive()
    }
}

/// What a processor made of a batch.
pub struct Output {
    /// Schema of all rows.
    pub schema: SchemaRef,
    /// The rows, for the sink.
    pub rows: RowStream,
    /// Batches made from this one, registered together with its completion.
    /// Their payloads must be stored already. Where the coordinator refuses
    /// one of them for good, this batch fails with that error.
    pub batches: Vec<BatchSpec>,
    /// So many rows are where they belong already: nothing goes to the sink, and
    /// `rows` are read for their errors only.
    pub written: Option<u64>,
}

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Output").field("schema", &self.schema).finish_non_exhaustive()
    }
}

impl Output {
    /// Rows for the sink, and no new batches.
    pub fn new(schema: SchemaRef, rows: RowStream) -> Self {
        Output { schema, rows, batches: Vec::new(), written: None }
    }

    /// These rows, and no new batches.
    ///
    /// ```
    /// use arrow_array::{ArrayRef, Int64Array, RecordBatch};
    /// use async_trait::async_trait;
    /// use futures::StreamExt as _;
    /// use sheaf_worker::{Job, Output, ProcessError, Processor};
    ///
    /// /// One row for each batch: how many it had.
    /// struct Count;
    ///
    /// #[async_trait]
    /// impl Processor for Count {
    ///     async fn process(&self, job: Job) -> Result<Output, ProcessError> {
    ///         let mut rows = job.into_rows().await?.rows;
    ///         let mut count = 0;
    ///         while let Some(batch) = rows.next().await {
    ///             count += batch?.num_rows() as i64;
    ///         }
    ///         let column = std::sync::Arc::new(Int64Array::from(vec![count])) as ArrayRef;
    ///         Ok(Output::from_batch(RecordBatch::try_from_iter([("rows", column)])?))
    ///     }
    ///
    ///     fn describe(&self) -> String {
    ///         "count".to_owned()
    ///     }
    ///
    ///     fn makes_batches(&self) -> bool {
    ///         false
    ///     }
    /// }
    /// ```
    pub fn from_batch(rows: RecordBatch) -> Self {
        let schema = rows.schema();
        Output::new(schema, futures::stream::iter([Ok(rows)]).boxed())
    }

    /// Applies `change` to every record batch; `schema` is that of the results.
    #[must_use]
    pub fn map<F>(self, schema: SchemaRef, mut change: F) -> Self
    where
        F: FnMut(RecordBatch) -> Result<RecordBatch, ProcessError> + Send + 'static,
    {
        let rows = self.rows.map(move |batch| batch.and_then(&mut change)).boxed();
        Output { schema, rows, ..self }
    }
}

/// How far an attempt is; its heartbeats carry it.
#[derive(Clone, Debug, Default)]
pub struct ProgressHandle(Arc<AtomicU64>);

impl ProgressHandle {
    /// So many rows more are done.
    pub fn add_rows(&self, rows: u64) {
        self.0.fetch_add(rows, Ordering::Relaxed);
    }

    /// Rows done so far.
    pub fn rows(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Hands the rows on unchanged, after full validation.
#[derive(Clone, Copy, Debug, Default)]
pub struct PassThrough;

#[async_trait]
impl Processor for PassThrough {
    async fn process(&self, job: Job) -> Result<Output, ProcessError> {
        job.into_rows().await
    }

    fn describe(&self) -> String {
        "pass-through".to_owned()
    }

    fn makes_batches(&self) -> bool {
        false
    }
}
