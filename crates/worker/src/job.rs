//! One attempt at one batch: payload, processor, sink, in that order.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::StreamExt;
use sheaf_connectors::{CommitKey, PreparedWrite, Sink};
use sheaf_coordinator::{
    BatchSpec, Coordinator, Extension, Failure, Lease, LeaseRef, Outcome, Resolution, Verdict,
};
use sheaf_flight::MessageStream;
use sheaf_proto::SharedTracer;
use sheaf_retry::{Code, Retry, RetryPolicy, Retryable, SharedClock, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::board::reference;
use crate::error::ProcessError;
use crate::payloads::Payloads;
use crate::processor::{Job, Output, Processor, ProgressHandle};
use crate::rest::Rests;
use crate::spans;

/// What every attempt of a pool needs.
pub(crate) struct Tools {
    pub(crate) clock: SharedClock,
    pub(crate) coordinator: Arc<dyn Coordinator>,
    pub(crate) payloads: Arc<dyn Payloads>,
    pub(crate) processor: Arc<dyn Processor>,
    pub(crate) sink: Option<Arc<dyn Sink>>,
    pub(crate) rests: Rests,
    pub(crate) tracer: Option<SharedTracer>,
}

/// How an attempt ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// To be settled; with rows done.
    Settle(Outcome, u64),
    /// The lease is lost: nothing may be said or written any more.
    Lost,
}

enum Fault {
    Failed(ProcessError),
    Lost,
    /// The payload cannot be had now: what was tried, and how long to rest.
    Away(Outage, Duration),
}

impl From<ProcessError> for Fault {
    fn from(error: ProcessError) -> Self {
        Fault::Failed(error)
    }
}

/// Runs one attempt to its end, or until `cancelled`.
pub(crate) async fn run(
    tools: &Tools,
    lease: Lease,
    cancelled: CancellationToken,
    progress: ProgressHandle,
) -> Ended {
    let span = spans::begin(tools.tracer.as_ref(), &lease);
    let stop = cancelled.clone();
    let source = Source::of(&lease.spec);
    let ended = tokio::select! {
        biased;
        () = stop.cancelled() => Ended::Lost,
        result = attempt(tools, &lease, &source, cancelled, progress) => {
            match result.map_err(|fault| source.blame(fault, &tools.rests)) {
                Ok((rows, mut batches)) => {
                    spans::carry_on(&span, &mut batches);
                    Ended::Settle(completed(&lease, batches), rows)
                }
                Err(Fault::Lost) => Ended::Lost,
                Err(Fault::Failed(error)) => Ended::Settle(failed(&reference(&lease), error), 0),
                Err(Fault::Away(outage, rest)) => {
                    tracing::debug!(id = %lease.spec.id, ?outage, ?rest, "given back");
                    Ended::Settle(rested(&reference(&lease), outage, rest), 0)
                }
            }
        }
    };
    match &ended {
        Ended::Settle(outcome, _) => spans::end(span, outcome),
        Ended::Lost => spans::lost(span),
    }
    ended
}

/// Why a payload cannot be had now.
#[derive(Clone, Debug)]
struct Outage {
    code: Code,
    message: String,
}

impl Outage {
    /// An error of the way to the payload, not of the payload.
    fn of(error: &sheaf_flight::Error) -> Option<Self> {
        let code = error.code();
        // Credentials too: what the server refuses today says nothing about the
        // batch, and its operator is about to see it.
        let away = [
            Code::Unavailable,
            Code::Draining,
            Code::DeadlineExceeded,
            Code::Overloaded,
            Code::MemoryFull,
            Code::Io,
            Code::Cancelled,
            Code::Unauthenticated,
            Code::PermissionDenied,
            Code::FailedPrecondition,
        ];
        let message = || format!("its payload cannot be had now: {}", error.message());
        away.contains(&code).then(|| Outage { code, message: message() })
    }
}

/// Where the payload of one attempt comes from.
#[derive(Clone, Debug)]
struct Source {
    /// What rests when none of it answers: all servers that have the payload;
    /// empty for the default one.
    place: String,
    /// What broke the stream after it was opened.
    broken: Arc<OnceLock<Outage>>,
}

impl Source {
    fn of(batch: &BatchSpec) -> Self {
        Source { place: batch.locations.join(" "), broken: Arc::default() }
    }

    /// Opens the payload, unless its server rests, and remembers what breaks it.
    async fn open(&self, tools: &Tools, batch: &BatchSpec) -> Result<MessageStream, Fault> {
        if let Some(left) = tools.rests.left(&self.place) {
            let message = match self.place.as_str() {
                "" => "its payload was not to be had a moment ago".to_owned(),
                place => format!("the server {place:?} of its payload did not answer"),
            };
            return Err(Fault::Away(Outage { code: Code::Unavailable, message }, left));
        }
        match tools.payloads.open(batch).await {
            Ok(messages) => {
                tools.rests.reached(&self.place);
                let broken = Arc::clone(&self.broken);
                Ok(messages
                    .inspect(move |message| {
                        if let Err(error) = message
                            && let Some(outage) = Outage::of(error)
                        {
                            broken.get_or_init(|| outage);
                        }
                    })
                    .boxed())
            }
            Err(error) => match Outage::of(&error) {
                Some(outage) => Err(Fault::Away(outage, tools.rests.failed(&self.place))),
                None => Err(payload_error(&error).into()),
            },
        }
    }

    /// A failure after the stream broke is the stream's.
    fn blame(&self, fault: Fault, rests: &Rests) -> Fault {
        match (fault, self.broken.get()) {
            (Fault::Failed(_), Some(outage)) => {
                Fault::Away(outage.clone(), rests.failed(&self.place))
            }
            (fault, _) => fault,
        }
    }
}

async fn attempt(
    tools: &Tools,
    lease: &Lease,
    source: &Source,
    cancelled: CancellationToken,
    progress: ProgressHandle,
) -> Result<(u64, Vec<BatchSpec>), Fault> {
    let key = CommitKey { id: lease.spec.id.clone(), fence: lease.fence.0 };
    // An earlier attempt may have died between its commit and its settle.
    if lease.attempt > 1
        && let Some(sink) = &tools.sink
        && let Some(winner) =
            sink.committed(&key.id).await.map_err(|error| ProcessError::from_error(&error))?
    {
        tracing::info!(id = %key.id, fence = winner.fence, "adopting the rows of an earlier attempt");
        if !tools.processor.makes_batches() {
            return Ok((winner.rows, Vec::new()));
        }
        // The rows are there, the batches made with them were never registered.
        let output = process(tools, lease, source, cancelled, progress).await?;
        return Ok((winner.rows, output.batches));
    }
    let output = process(tools, lease, source, cancelled, progress).await?;
    let Some(sink) = tools.sink.as_ref().filter(|_| output.written.is_none()) else {
        return Ok(drain(output).await?);
    };
    let mut write = sink
        .prepare(&key, output.schema.clone())
        .await
        .map_err(|error| ProcessError::from_error(&error))?;
    let batches = match fill(write.as_mut(), output).await {
        Ok(batches) => batches,
        Err(error) => {
            abort(write, &key).await;
            return Err(error.into());
        }
    };
    if let Err(fault) = prove_lease(tools, lease).await {
        abort(write, &key).await;
        return Err(fault);
    }
    let committed = write.commit().await.map_err(|error| ProcessError::from_error(&error))?;
    if !committed.created {
        tracing::info!(id = %key.id, fence = committed.fence, "another attempt had committed");
    }
    Ok((committed.rows, batches))
}

async fn process(
    tools: &Tools,
    lease: &Lease,
    source: &Source,
    cancelled: CancellationToken,
    progress: ProgressHandle,
) -> Result<Output, Fault> {
    let messages = source.open(tools, &lease.spec).await?;
    let job = Job {
        spec: lease.spec.clone(),
        fence: lease.fence,
        attempt: lease.attempt,
        messages,
        inputs: Vec::new(),
        cancelled,
        progress,
    };
    Ok(tools.processor.process(job).await?)
}

fn payload_error(error: &sheaf_flight::Error) -> ProcessError {
    let mut failure = ProcessError::from_error(error);
    if error.code() == Code::NotFound {
        failure.code = Code::PayloadLost;
        failure.permanent = true;
    }
    failure
}

async fn drain(mut output: Output) -> Result<(u64, Vec<BatchSpec>), ProcessError> {
    let mut rows = output.written.unwrap_or(0);
    while let Some(batch) = output.rows.next().await {
        rows += batch?.num_rows() as u64;
    }
    Ok((rows, output.batches))
}

async fn fill(
    write: &mut dyn PreparedWrite,
    mut output: Output,
) -> Result<Vec<BatchSpec>, ProcessError> {
    while let Some(batch) = output.rows.next().await {
        let batch = batch?;
        write.write(&batch).await.map_err(|error| ProcessError::from_error(&error))?;
    }
    write.finish().await.map_err(|error| ProcessError::from_error(&error))?;
    Ok(output.batches)
}

async fn abort(write: Box<dyn PreparedWrite>, key: &CommitKey) {
    if let Err(error) = write.abort().await {
        tracing::warn!(id = %key.id, %error, "could not remove an aborted write");
    }
}

/// Nothing is committed under a lease that may have been lost.
///
/// A coordinator that does not answer is asked again until the lease has run
/// out by the pool's clock, which cancels the attempt: the work is done, and
/// an attempt thrown away would be charged.
async fn prove_lease(tools: &Tools, lease: &Lease) -> Result<(), Fault> {
    let extension =
        Extension { lease: reference(lease), started: true, progress: None, duration: None };
    let answers = Retry::new(&patience(), lease.fence.0, tools.clock.clone())
        .run(|_| tools.coordinator.extend(vec![extension.clone()]))
        .await
        .map_err(|error| Fault::Failed(transient(&error.into_last())))?;
    match answers.first() {
        Some(answer) if answer.verdict == Verdict::Applied && !answer.cancelled => Ok(()),
        Some(_) => Err(Fault::Lost),
        None => Err(Fault::Failed(ProcessError::transient(
            "the coordinator gave no answer for the lease",
        ))),
    }
}

/// Between calls to a coordinator that does not answer: without end, soon again.
pub(crate) fn patience() -> RetryPolicy {
    RetryPolicy {
        max_retries: u32::MAX,
        base_ms: 50,
        factor: 2.0,
        cap_ms: 2_000,
        jitter: 0.0,
        deadline_ms: None,
    }
}

/// A coordinator that cannot be asked says nothing about the data.
fn transient(error: &sheaf_coordinator::Error) -> ProcessError {
    let mut failure = ProcessError::from_error(error);
    failure.permanent = false;
    failure
}

fn completed(lease: &Lease, outputs: Vec<BatchSpec>) -> Outcome {
    Outcome {
        lease: reference(lease),
        resolution: Resolution::Completed,
        error: None,
        outputs,
        delay: Duration::ZERO,
    }
}

/// The outcome of a failed attempt.
pub(crate) fn failed(lease: &LeaseRef, error: ProcessError) -> Outcome {
    let error = Failure {
        code: error.code,
        message: error.message,
        permanent: error.permanent,
        at: Timestamp::EPOCH,
    };
    Outcome {
        lease: lease.clone(),
        resolution: Resolution::Failed,
        error: Some(error),
        outputs: Vec::new(),
        delay: Duration::ZERO,
    }
}

/// The outcome of work that cannot be done now: given back, and left alone for a while.
fn rested(lease: &LeaseRef, outage: Outage, rest: Duration) -> Outcome {
    let Outage { code, message } = outage;
    let error = Failure { code, message, permanent: false, at: Timestamp::EPOCH };
    Outcome { error: Some(error), delay: rest, ..Outcome::released(lease.clone()) }
}
