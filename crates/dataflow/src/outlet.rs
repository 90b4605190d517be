//! What a component sends: its edges, their streams, and what of them is acknowledged.

mod disk;
mod queue;
mod serve;
mod stream;
mod tap;

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arrow_array::{Array as _, RecordBatch};
use arrow_schema::SchemaRef;
use bytes::Bytes;
use sheaf_coordinator::LeaseRef;
use sheaf_exchange::{Column, hash_partition_data};
use sheaf_pipeline::plan;
use sheaf_pipeline::spec::{Partitioning, Policy};
use sheaf_proto::TraceContext;
use sheaf_retry::{Code, Retryable as _, SharedClock};
use tokio::sync::Notify;

pub(crate) use queue::Entry;
pub(crate) use serve::Serving;
pub(crate) use stream::{Next, Stream};
use stream::{Outgoing, StreamOptions};
use tap::Tap;

use crate::assignment::{Assignment, OutputAssignment};
use crate::durable::{self, Commits, Output, Queue, Staged, Step};
use crate::error::ComponentError;
use crate::ledger::Ledger;
use crate::options::Options;
use crate::pace::Pace;
use crate::spans::either;

/// How long a full stream is waited for before the loop says that it lives.
const ROUND: Duration = Duration::from_millis(200);
/// What a batch takes besides its buffers, about.
const BATCH_BYTES: u64 = 256;

/// One edge that leads out.
pub(crate) struct Edge {
    pub(crate) id: Arc<str>,
    partitioning: Partitioning,
    /// Those that begin at this instance, by the reader's index.
    pub(crate) streams: Vec<Arc<Stream>>,
    pub(crate) tap: Tap,
    /// Of its batches, once one was sent.
    pub(crate) schema: OnceLock<SchemaRef>,
}

/// All of them. Only the component's loop has it.
pub(crate) struct Outlets {
    pub(crate) edges: Vec<Arc<Edge>>,
    /// All streams of all edges.
    pub(crate) streams: Vec<Arc<Stream>>,
    /// Of each edge the stream whose turn it is, and the schema that all batches have.
    turns: Vec<(usize, Option<SchemaRef>)>,
    clock: SharedClock,
    /// Told when a reader has acknowledged something.
    pub(crate) progress: Arc<Notify>,
    /// Where all is registered in the step that completes what it came of.
    pub(crate) commits: Option<Commits>,
    /// What is to be in the next step.
    staged: Vec<Staged>,
    staged_bytes: u64,
}

impl Outlets {
    /// The streams that begin at the place of this assignment.
    pub(crate) fn new(
        assignment: &Assignment,
        options: &Options,
        epoch: u64,
        clock: SharedClock,
    ) -> Result<Self, ComponentError> {
        let progress = Arc::new(Notify::new());
        let folder = assignment.state_dir.join("streams");
        let count = assignment.outputs.iter().map(|output| output.to.len()).sum::<usize>().max(1);
        let memory_bytes = options.retain_memory_bytes / count as u64;
        let mut edges = Vec::new();
        let mut number = 0;
        for output in &assignment.outputs {
            let facts = &output.edge;
            let id: Arc<str> = facts.id.as_str().into();
            let mut streams = Vec::new();
            for peer in &output.to {
                let is_meant =
                    |one: &plan::Stream| (one.from, one.to) == (assignment.index, peer.index);
                if !facts.streams.iter().any(is_meant) {
                    continue;
                }
                let stream = StreamOptions {
                    edge: Arc::clone(&id),
                    from: assignment.index,
                    to: peer.index,
                    reader: peer.place.clone(),
                    policy: facts.policy,
                    waiting: facts.credits.max(1) as usize,
                    memory_bytes,
                    disk_bytes: disk_bytes(facts, options),
                    folder: stream_folder(&folder, facts, peer.index),
                    epoch,
                    number,
                    queue: facts.durable.then(|| queue_to(assignment, output, peer.index, options)),
                };
                number += 1;
                streams.push(Arc::new(Stream::new(stream, Arc::clone(&progress))?));
            }
            let partitioning = facts.partitioning.clone();
            let (tap, schema) = (Tap::default(), OnceLock::new());
            edges.push(Arc::new(Edge { id, partitioning, streams, tap, schema }));
        }
        let streams = edges.iter().flat_map(|edge| &edge.streams).cloned().collect();
        let turns = edges.iter().map(|_| (0, None)).collect();
        Ok(Outlets {
            edges,
            streams,
            turns,
            clock,
            progress,
            commits: None,
            staged: Vec::new(),
            staged_bytes: 0,
        })
    }

    /// The streams over durable edges, in the order of all streams.
    pub(crate) fn durable(&self, pipeline: &str) -> Vec<(Arc<Stream>, Output)> {
        let outputs = self.streams.iter().filter_map(|stream| {
            let options = &stream.options;
            let (edge, queue) = (&*options.edge, options.queue.as_ref()?);
            let output = Output::new(pipeline, edge, options.from, options.to, queue);
            Some((Arc::clone(stream), output))
        });
        outputs.collect()
    }

    /// Whether all is registered in the step that completes what it came of.
    pub(crate) fn is_transactional(&self) -> bool {
        self.commits.is_some()
    }

    /// Hands over what was pushed since the last step, with what it came of; waits where too
    /// much is on its way. Cancel-safe: dropped, nothing of it is registered.
    pub(crate) async fn commit(
        &mut self,
        inputs: Vec<LeaseRef>,
        offset: Option<Bytes>,
        is_end: bool,
        pace: &Pace,
    ) {
        let outputs = std::mem::take(&mut self.staged);
        let bytes = std::mem::take(&mut self.staged_bytes);
        let Some(commits) = &mut self.commits else { return };
        if inputs.is_empty() && outputs.is_empty() && offset.is_none() && !is_end {
            return;
        }
        let step = Step { inputs, outputs, offset, is_end };
        let mut push = std::pin::pin!(commits.push(step, bytes));
        loop {
            tokio::select! {
                biased;
                () = &mut push => return,
                () = self.clock.sleep(ROUND) => pace.round(),
            }
        }
    }

    /// So much of what came in is done with; all that came of it was pushed.
    pub(crate) fn mark(&self, ledger: &mut Ledger, done: u64) {
        if self.commits.is_none() {
            ledger.mark(done, &self.streams);
        }
    }

    /// How much of it all readers have; `None` where that is not known to be more than before.
    pub(crate) fn collect(&self, ledger: &mut Ledger) -> Option<u64> {
        match &self.commits {
            Some(commits) => Some(commits.taken()),
            None => ledger.collect(&self.streams),
        }
    }

    /// Whether nothing is on its way.
    pub(crate) fn is_settled(&self, ledger: &Ledger) -> bool {
        match &self.commits {
            Some(commits) => commits.is_idle(),
            None => ledger.is_settled(),
        }
    }

    /// Sends a batch over every edge, with what it goes on with; waits where one is full.
    pub(crate) async fn push(
        &mut self,
        batch: &RecordBatch,
        trace: Option<TraceContext>,
        pace: &Pace,
    ) -> Result<(), ComponentError> {
        for index in 0..self.edges.len() {
            let edge = Arc::clone(&self.edges[index]);
            self.check_schema(index, batch)?;
            edge.tap.show(batch);
            match &edge.partitioning {
                Partitioning::Hash(columns) => {
                    for (stream, part) in edge.streams.iter().zip(edge.parts(columns, batch)?) {
                        if part.num_rows() > 0 {
                            self.put(stream, &part, trace, pace).await?;
                        }
                    }
                }
                Partitioning::RoundRobin => {
                    let turn = self.turns[index].0;
                    if let Some(stream) = edge.streams.get(turn) {
                        self.put(stream, batch, trace, pace).await?;
                        self.turns[index].0 = (turn + 1) % edge.streams.len();
                    }
                }
                Partitioning::Forward | Partitioning::Broadcast => {
                    for stream in &edge.streams {
                        self.put(stream, batch, trace, pace).await?;
                    }
                }
            }
        }
        Ok(())
    }

    async fn put(
        &mut self,
        stream: &Stream,
        batch: &RecordBatch,
        trace: Option<TraceContext>,
        pace: &Pace,
    ) -> Result<(), ComponentError> {
        let outgoing = Outgoing { batch, bytes: size_bytes(batch), trace };
        if self.commits.is_some() {
            self.stage(stream, outgoing);
            return Ok(());
        }
        if stream.try_push(outgoing).is_some() {
            return Ok(());
        }
        let mut push = std::pin::pin!(stream.push(outgoing));
        loop {
            tokio::select! {
                biased;
                pushed = &mut push => return pushed.map(|_| ()),
                () = self.clock.sleep(ROUND) => pace.round(),
            }
        }
    }

    /// Keeps it for the next step.
    fn stage(&mut self, stream: &Stream, outgoing: Outgoing<'_>) {
        let Outgoing { batch, bytes, trace } = outgoing;
        let number = stream.options.number;
        match self.staged.iter_mut().find(|staged| staged.stream == number) {
            Some(staged) => {
                staged.batches.push(batch.clone());
                staged.trace = either(staged.trace, trace);
            }
            None => {
                let batches = vec![batch.clone()];
                self.staged.push(Staged { stream: number, batches, trace });
            }
        }
        self.staged_bytes += bytes;
        stream.count(batch.num_rows() as u64, bytes);
    }

    /// Batches of one stream have one schema for as long as the process lives.
    fn check_schema(&mut self, index: usize, batch: &RecordBatch) -> Result<(), ComponentError> {
        let schema = batch.schema_ref();
        match &self.turns[index].1 {
            Some(known) if Arc::ptr_eq(known, schema) || known.fields() == schema.fields() => {}
            Some(known) => {
                return Err(ComponentError::new(
                    Code::FailedPrecondition,
                    format!(
                        "edge {}: a batch with the schema {:?} after others with {:?}: a component \
                         keeps the schema of what it sends for as long as it runs",
                        self.edges[index].id,
                        schema.fields(),
                        known.fields(),
                    ),
                ));
            }
            None => {
                self.edges[index].schema.get_or_init(|| Arc::clone(schema));
                self.turns[index].1 = Some(Arc::clone(schema));
            }
        }
        Ok(())
    }

    /// No more batches come.
    pub(crate) fn end(&self) {
        self.streams.iter().for_each(|stream| stream.end());
        self.edges.iter().for_each(|edge| edge.tap.end());
    }

    /// Whether all readers are done with everything up to the end.
    pub(crate) fn are_finished(&self) -> bool {
        match &self.commits {
            Some(commits) => commits.is_idle(),
            None => self.streams.iter().all(|stream| stream.is_finished()),
        }
    }
}

impl Edge {
    fn parts(
        &self,
        columns: &[String],
        batch: &RecordBatch,
    ) -> Result<Vec<RecordBatch>, ComponentError> {
        let columns: Vec<Column> = columns.iter().map(|name| name.as_str().into()).collect();
        hash_partition_data(batch, &columns, self.streams.len()).map_err(|error| {
            let text = format!("edge {}: a batch cannot be partitioned by hash", self.id);
            ComponentError::new(error.code(), text).because(error)
        })
    }
}

/// The queue of one instance of a reader, which all senders fill.
fn queue_to(
    assignment: &Assignment,
    output: &OutputAssignment,
    to: u32,
    options: &Options,
) -> Arc<Queue> {
    let edge = &output.edge;
    let name = durable::queue_name(&assignment.pipeline, &edge.id, to);
    let senders = edge.streams.iter().filter(|stream| stream.to == to).count() as u64;
    let batches = u64::from(edge.credits).saturating_mul(senders);
    let bytes = disk_bytes(edge, options).saturating_mul(senders);
    Queue::new(name, batches, bytes)
}

fn disk_bytes(edge: &plan::Edge, options: &Options) -> u64 {
    match (edge.policy, edge.spill_limit_bytes) {
        (Policy::Spill, Some(limit)) => limit,
        _ => options.retain_disk_bytes,
    }
}

fn stream_folder(folder: &Path, edge: &plan::Edge, to: u32) -> std::path::PathBuf {
    folder.join(format!("{}.{to}", edge.id.replace(':', ".")))
}

/// Bytes of the rows of a batch; of a slice, those of the slice.
pub(crate) fn size_bytes(batch: &RecordBatch) -> u64 {
    let column = |array: &arrow_array::ArrayRef| {
        let data = array.to_data();
        data.get_slice_memory_size().unwrap_or_else(|_| array.get_array_memory_size()) as u64
    };
    BATCH_BYTES + batch.columns().iter().map(column).sum::<u64>()
}
