//! Rows as batches of a Flight store, registered with a coordinator.
//!
//! Each chunk becomes a batch that is named by the offset where it begins, and
//! says where the next one does. So the batches of a partition are a chain.
//!
//! What has to hold:
//! - No offset is in two batches. A name can be taken once, whoever comes first:
//!   the store refuses other content under it, the coordinator another
//!   specification. Whoever comes second goes on where the first one's batch ends.
//! - Only ends of batches are committed, for a start looks for the chain there.
//! - A payload whose writer died before it was registered is registered by the one
//!   that finds it: what it holds is what that offset begins with.
//! - Dead letters are batches beside the chain, registered before the batch of the
//!   chain that reaches over them is stored; that of a chunk without rows is empty.

mod chain;
mod names;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arrow_array::RecordBatch;
use async_trait::async_trait;
use futures::FutureExt as _;
use futures::stream::{self, StreamExt as _};
use sheaf_coordinator::{BatchSpec, Coordinator, DEFAULT_QUEUE};
use sheaf_flight::ipc::{Compression, encode_stream};
use sheaf_proto::{BatchId, Begin, SharedTracer, Span, Value};
use sheaf_retry::{Code, Retryable as _};
use sheaf_store::{ClientPut, FlightClient, PutReceipt};

use super::{Portion, TopicRows, TopicSink};
use crate::convert::dead;
use crate::error::Error;
use crate::stream::rows_from_offset;
use crate::tracker::TopicPartition;
use names::{Extent, Names};

/// What is handed over at once: all that is there, without waiting for more.
const PORTION: Portion = Portion { rows: 64 << 10, bytes: 32 << 20, linger: Duration::ZERO };
/// Partitions that are worked on at once.
const PARTITIONS: usize = 16;
/// Payloads of one partition that are under way at once.
const PUTS: usize = 8;

/// How batches are registered.
#[derive(Clone, Debug)]
pub struct BatchSinkOptions {
    /// The consumer group, by which batches are named.
    pub group: String,
    /// The queue of rows; dead letters are in the one with `.dead-letters` behind it.
    pub queue: String,
    /// Flight addresses of the store for those who work; none where it is beside
    /// the coordinator.
    pub locations: Vec<String>,
    /// Who records a span for each batch, with which its trace begins.
    pub tracer: Option<SharedTracer>,
}

impl BatchSinkOptions {
    /// Of a group, in the default queue, with the store beside the coordinator.
    pub fn new(group: impl Into<String>) -> Self {
        let queue = DEFAULT_QUEUE.to_owned();
        BatchSinkOptions { group: group.into(), queue, locations: Vec::new(), tracer: None }
    }
}

/// Puts each chunk into a Flight store and registers it with a coordinator, so that
/// workers process it. Offsets are committed after that.
///
/// A batch is named `GROUP:TOPIC:PARTITION:OFFSET` by its first offset. Every message
/// is in one batch, whenever the gateway is killed, as long as it is started again
/// before the coordinator forgets the batches it registered last (an hour after
/// their end, unless it is told otherwise); after that, messages of about the last
/// second may be in two.
#[derive(Debug)]
pub struct BatchSink {
    store: FlightClient,
    coordinator: Calls,
    names: Names,
    locations: Vec<String>,
    tracer: Option<SharedTracer>,
    state: Mutex<HashMap<TopicPartition, Place>>,
}

/// How far a partition is.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// Where the chain ends.
    next: i64,
    /// Dead letters of messages before this are registered.
    dead_until: i64,
}

/// A coordinator that can be shown.
struct Calls(Arc<dyn Coordinator>);

impl std::fmt::Debug for Calls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Coordinator")
    }
}

/// A batch to be put and registered.
struct Link {
    id: BatchId,
    extent: Extent,
    batch: RecordBatch,
}

impl BatchSink {
    /// Hands over to these. Nothing is called yet.
    pub fn new(
        store: FlightClient,
        coordinator: Arc<dyn Coordinator>,
        options: BatchSinkOptions,
    ) -> Self {
        let BatchSinkOptions { group, queue, locations, tracer } = options;
        let (names, state) = (Names { group, queue }, Mutex::default());
        BatchSink { store, coordinator: Calls(coordinator), names, locations, tracer, state }
    }

    fn state(&self) -> MutexGuard<'_, HashMap<TopicPartition, Place>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores what is new of one partition; the number of its rows.
    async fn append_to(&self, of: &TopicPartition, chunks: Vec<&TopicRows>) -> Result<u64, Error> {
        let place = self.state().get(of).copied();
        let place = place.ok_or_else(|| fenced(of, 0))?;
        let (mut next, mut dead) = (place.next, Vec::new());
        let mut links = Vec::new();
        let nothing = RecordBatch::new_empty(Arc::new(dead::schema()));
        for chunk in chunks.into_iter().filter(|chunk| chunk.end > place.next) {
            dead.extend(chunk.dead_letters.as_ref().map(|letters| (letters, chunk.end)));
            // Messages without rows: their end may be committed, so it is a link.
            let batch = chunk.rows.as_ref().unwrap_or(&nothing);
            let is_dead = chunk.rows.is_none();
            let extent = Extent { of: of.clone(), start: next, next: chunk.end, is_dead };
            links.push(Link { id: self.names.link(&extent)?, extent, batch: batch.clone() });
            next = chunk.end;
        }
        let (letters, dead_until) = self.put_dead(of, place.dead_until, &dead).await?;
        self.register(of, place.next, letters).await?;
        if let Some(place) = self.state().get_mut(of) {
            place.dead_until = dead_until;
        }
        let puts: Vec<_> = links.into_iter().map(|link| self.put_link(link).boxed()).collect();
        let mut puts = stream::iter(puts).buffered(PUTS);
        let (mut specs, mut rows) = (Vec::new(), 0);
        while let Some((spec, is_new)) = puts.next().await.transpose()? {
            rows += if is_new { spec.rows } else { 0 };
            specs.push(spec);
        }
        self.register(of, place.next, specs).await?;
        if let Some(place) = self.state().get_mut(of) {
            place.next = next;
        }
        Ok(rows)
    }

    /// Dead letters beside rows, each named by the first of them. Somebody may have
    /// put some of them who died before the rows: those are taken as they are.
    async fn put_dead(
        &self,
        of: &TopicPartition,
        mut until: i64,
        dead: &[(&RecordBatch, i64)],
    ) -> Result<(Vec<BatchSpec>, i64), Error> {
        let mut specs = Vec::new();
        for (letters, end) in dead {
            loop {
                let left = rows_from_offset(letters, until);
                let Some(start) = crate::stream::offsets(&left).and_then(|at| at.iter().next()?)
                else {
                    break;
                };
                let extent = Extent { of: of.clone(), start, next: *end, is_dead: true };
                let id = self.names.beside(&extent)?;
                match self.put(&id, &extent, left).await {
                    Ok(receipt) => {
                        specs.push(self.spec_of(id, &extent, &Facts::from(receipt)));
                        until = *end;
                    }
                    Err(error) if error.code() == Code::AlreadyExists => {
                        let (found, facts) = self.payload(&id).await?.ok_or(error)?;
                        if !self.knows(&id).await? {
                            specs.push(self.spec_of(id, &found, &facts));
                        }
                        until = found.next;
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Ok((specs, until))
    }

    /// Puts a batch of the chain; how it is to be registered, and whether it is new.
    async fn put_link(&self, link: Link) -> Result<(BatchSpec, bool), Error> {
        let Link { id, extent, batch } = link;
        let mut span = self.begin(&id, &extent, &batch);
        match self.put(&id, &extent, batch).await {
            Ok(receipt) => {
                let is_new = receipt.created;
                let mut spec = self.spec_of(id, &extent, &Facts::from(receipt));
                let trace = span.context().filter(|_| is_new);
                spec.trace_context = trace.map(|trace| trace.to_string()).unwrap_or_default();
                Ok((spec, is_new))
            }
            Err(error) if error.code() == Code::AlreadyExists => {
                Err(fenced(&extent.of, extent.start))
            }
            Err(error) => {
                if let Some(recording) = span.recorded() {
                    recording.fail(&error.to_string());
                }
                Err(error)
            }
        }
    }

    /// The span of what is put, with which the trace of the batch begins.
    fn begin(&self, id: &BatchId, extent: &Extent, batch: &RecordBatch) -> Span {
        let of = &extent.of.topic;
        let begin = Begin { name: "ingest", of, parent: None, ago: Duration::ZERO };
        let mut span = Span::start(self.tracer.as_ref(), begin);
        if let Some(recording) = span.recorded() {
            let number = |number: i64| Value::Number(u64::try_from(number).unwrap_or(0));
            recording.set("sheaf.batch_id", Value::Text(id.as_str()));
            recording.set("sheaf.queue", Value::Text(&self.names.queue(extent)));
            recording.set("sheaf.rows", Value::Number(batch.num_rows() as u64));
            recording.set("messaging.kafka.partition", number(extent.of.partition.into()));
            recording.set("messaging.kafka.offset", number(extent.start));
        }
        span
    }

    async fn put(
        &self,
        id: &BatchId,
        extent: &Extent,
        batch: RecordBatch,
    ) -> Result<PutReceipt, Error> {
        let schema = batch.schema();
        let rows = stream::iter([Ok(batch)]).boxed();
        let mut messages = encode_stream(schema, rows, Compression::None).map_err(Error::Flight)?;
        let first = messages.next().await.transpose().map_err(Error::Flight)?;
        let mut first = first.ok_or(Error::TaskLost)?;
        first.app_metadata = extent.to_metadata();
        let messages = stream::iter([Ok(first)]).chain(messages).boxed();
        let put = self.store.put_messages(Some(id), messages, ClientPut::default());
        put.await.map_err(Error::Flight)
    }

    /// Registers, all or none. Others may have done so before, under the same names.
    async fn register(
        &self,
        of: &TopicPartition,
        start: i64,
        specs: Vec<BatchSpec>,
    ) -> Result<(), Error> {
        if specs.is_empty() {
            return Ok(());
        }
        match self.coordinator.0.register(specs).await {
            Ok(_) => Ok(()),
            Err(sheaf_coordinator::Error::Conflict { .. }) => Err(fenced(of, start)),
            Err(error) => Err(error.into()),
        }
    }

    fn spec_of(&self, id: BatchId, extent: &Extent, facts: &Facts) -> BatchSpec {
        let mut spec = BatchSpec::new(id);
        spec.queue = self.names.queue(extent);
        spec.partition_key = extent.to_key();
        spec.locations.clone_from(&self.locations);
        (spec.rows, spec.bytes) = (facts.rows, facts.bytes);
        spec.checksum.clone_from(&facts.checksum);
        spec
    }
}

/// What a registration says of a payload.
#[derive(Clone, Debug)]
struct Facts {
    rows: u64,
    bytes: u64,
    checksum: String,
}

impl From<PutReceipt> for Facts {
    fn from(receipt: PutReceipt) -> Self {
        let PutReceipt { rows, bytes, checksum, .. } = receipt;
        Facts { rows, bytes, checksum }
    }
}

fn fenced(of: &TopicPartition, offset: i64) -> Error {
    Error::Fenced { of: of.to_string(), offset }
}

#[async_trait]
impl TopicSink for BatchSink {
    async fn claim(
        &self,
        partitions: &[TopicPartition],
        committed: &BTreeMap<TopicPartition, i64>,
    ) -> Result<BTreeMap<TopicPartition, i64>, Error> {
        let known = |one: &TopicPartition| {
            let before = self.state().get(one).map(|place| place.next);
            Some((one.clone(), committed.get(one).copied().max(before)?))
        };
        let begun: Vec<_> = partitions.iter().filter_map(known).collect();
        let ends = self.ends_of_chains(begun).await?;
        let mut state = self.state();
        for (of, next) in &ends {
            let place = state.entry(of.clone()).or_insert(Place { next: *next, dead_until: 0 });
            place.next = *next;
        }
        Ok(ends)
    }

    async fn begin(&self, places: &[(TopicPartition, i64)]) -> Result<(), Error> {
        let mut state = self.state();
        for (of, next) in places {
            state.insert(of.clone(), Place { next: *next, dead_until: 0 });
        }
        Ok(())
    }

    async fn append(&self, chunks: &[TopicRows]) -> Result<u64, Error> {
        let mut of_each: BTreeMap<&TopicPartition, Vec<&TopicRows>> = BTreeMap::new();
        for chunk in chunks {
            of_each.entry(&chunk.of).or_default().push(chunk);
        }
        let append = |(of, chunks)| self.append_to(of, chunks).boxed();
        let appends: Vec<_> = of_each.into_iter().map(append).collect();
        // All of them come to their end: one that cannot go on keeps no other back.
        let done: Vec<_> = stream::iter(appends).buffer_unordered(PARTITIONS).collect().await;
        done.into_iter().sum()
    }

    fn needs_committed(&self) -> bool {
        true
    }

    fn portion(&self) -> Portion {
        PORTION
    }

    fn place_of(&self, stream: &str) -> Result<String, Error> {
        self.names.check(stream)?;
        Ok(format!("{} of {}", self.names.group, self.store.connection().target()))
    }
}
