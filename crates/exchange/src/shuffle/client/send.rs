//! Rows to partitions, partitions to workers.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::pin::pin;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use futures::{Stream, StreamExt as _};
use sheaf_flight::Message;
use sheaf_flight::ipc::{Kind, inspect};
use sheaf_retry::Code;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinError, JoinSet};

use super::ExchangeClient;
use super::put::Segment;
use super::talk::{self, Order, Reply, Topic};
use crate::shuffle::error::Error;
use crate::shuffle::key::{PartitionKey, Sender, Totals};
use crate::shuffle::wire::MAX_MESSAGE_BYTES;
use crate::shuffle::wire::fragments::MAX_CHUNK_BYTES;
use crate::{MAX_PARTITIONS, Partitioner, Partitioning, Sealed};

/// Segments on their way to a conversation.
const QUEUED: usize = 16;

/// Where the partitions of one stage go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShufflePlan {
    /// The query.
    pub query: String,
    /// The stage.
    pub stage: u32,
    /// Who sends.
    pub sender: Sender,
    /// URIs of workers: partition `n` goes to the one at `n` modulo their number.
    pub workers: Vec<String>,
    /// How many partitions.
    pub partitions: u32,
}

impl ShufflePlan {
    /// The worker of a partition; `None` where there are no workers.
    pub fn worker_of(&self, partition: u32) -> Option<&str> {
        let at = (partition as usize).checked_rem(self.workers.len())?;
        self.workers.get(at).map(String::as_str)
    }

    /// The worker of each partition.
    pub(crate) fn targets(&self) -> Result<Vec<(String, PartitionKey)>, Error> {
        let partitions = self.partitions as usize;
        if partitions == 0 || partitions > MAX_PARTITIONS {
            return Err(crate::Error::no_partition_count(partitions).into());
        }
        let nobody = || Error::Argument("a shuffle needs at least one worker".to_owned());
        let target = |partition| {
            let worker = self.worker_of(partition).ok_or_else(nobody)?.to_owned();
            Ok((worker, PartitionKey::try_new(&self.query, self.stage, partition)?))
        };
        (0..self.partitions).map(target).collect()
    }
}

/// A partition that was sent and committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentPartition {
    /// Which.
    pub key: PartitionKey,
    /// Who has it.
    pub peer: String,
    /// Chunks and rows of this sender.
    pub totals: Totals,
    /// Bytes of headers and bodies.
    pub bytes: u64,
}

/// What is to be sent to one partition.
struct Lane {
    sent: SentPartition,
    pending: VecDeque<Message>,
    /// The sequence of the first that is pending.
    next: u64,
    is_busy: bool,
    is_committed: bool,
    /// Its rows are sent; otherwise they are dropped.
    is_wanted: bool,
}

/// Chunks on their way to all partitions of one sender. What it holds is bounded
/// by the caller, who asks for [`Lanes::held`].
struct Lanes {
    client: ExchangeClient,
    sender: Sender,
    schema: Message,
    lanes: Vec<Lane>,
    /// By worker: where it holds a conversation.
    talks: HashMap<String, mpsc::Sender<Order>>,
    /// Dropped, they end.
    calls: JoinSet<Ended>,
    /// Those that are of segments.
    busy: usize,
    held: usize,
    is_closing: bool,
}

/// A call that has ended.
enum Ended {
    /// Of the lane at this place, with so many bytes.
    Segment(usize, usize, Result<(), Error>),
    Talk(Result<(), Error>),
}

/// Partitions a stream and sends it; commits every partition at its end, also
/// those without rows.
///
/// With `only`, just these are sent and committed.
pub(super) async fn run(
    client: &ExchangeClient,
    targets: Vec<(String, PartitionKey)>,
    only: Option<&[u32]>,
    sender: Sender,
    partitioning: Partitioning,
    schema: SchemaRef,
    batches: impl Stream<Item = Result<RecordBatch, Error>> + Send,
) -> Result<Vec<SentPartition>, Error> {
    sender.check()?;
    let options = &client.shared.options;
    let mut partitioner =
        Partitioner::try_new(schema, partitioning, targets.len(), options.partitioner)?;
    let first = partitioner.schema_message();
    let mut lanes = Lanes::new(client, targets, only, sender, first);
    let mut batches = pin!(batches);
    loop {
        while lanes.held > options.pending_bytes {
            lanes.settle_one().await?;
        }
        tokio::select! {
            biased;
            settled = lanes.settle_one(), if !lanes.calls.is_empty() => settled?,
            batch = batches.next() => match batch {
                Some(batch) => {
                    let batch = batch?;
                    client.calls.progress.rows_in(batch.num_rows());
                    lanes.take(partitioner.push(&batch)?)?;
                }
                None => break,
            },
        }
    }
    lanes.take(partitioner.finish()?)?;
    lanes.close().await
}

impl Lanes {
    fn new(
        client: &ExchangeClient,
        targets: Vec<(String, PartitionKey)>,
        only: Option<&[u32]>,
        sender: Sender,
        schema: Message,
    ) -> Self {
        let only: Option<HashSet<u32>> = only.map(|only| only.iter().copied().collect());
        let lane = |(peer, key): (String, PartitionKey)| Lane {
            is_wanted: only.as_ref().is_none_or(|only| only.contains(&key.partition())),
            sent: SentPartition { key, peer, totals: Totals::default(), bytes: 0 },
            pending: VecDeque::new(),
            next: 0,
            is_busy: false,
            is_committed: false,
        };
        let lanes: Vec<Lane> = targets.into_iter().map(lane).collect();
        client.calls.progress.begun(lanes.iter().filter(|lane| lane.is_wanted).count());
        let (client, talks, calls) = (client.clone(), HashMap::new(), JoinSet::new());
        let (busy, held, is_closing) = (0, 0, false);
        let mut this =
            Lanes { client, sender, schema, lanes, talks, calls, busy, held, is_closing };
        this.begin_talks();
        this
    }

    /// One conversation with each worker, where there is a line for it.
    fn begin_talks(&mut self) {
        let mut topics = BTreeMap::new();
        for SentPartition { key, peer, .. } in
            self.lanes.iter().filter(|lane| lane.is_wanted).map(|lane| &lane.sent)
        {
            let topic = || Topic {
                peer: peer.clone(),
                query: key.query().to_owned(),
                stage: key.stage(),
                sender: self.sender,
                schema: self.schema.clone(),
                partitions: Vec::new(),
            };
            topics.entry(peer).or_insert_with(topic).partitions.push(key.partition());
        }
        for (peer, topic) in topics {
            if self.client.local(peer).is_some() {
                continue;
            }
            let Some(line) = self.client.shared.talks.try_acquire(peer) else { continue };
            let (orders, queued) = mpsc::channel(QUEUED);
            self.talks.insert(peer.clone(), orders);
            let talk = talk::hold(self.client.clone(), topic, queued, line);
            self.calls.spawn(async move { Ended::Talk(talk.await) });
        }
    }

    fn take(&mut self, sealed: Vec<Sealed>) -> Result<(), Error> {
        for Sealed { partition, rows: _, messages } in sealed {
            let at = partition as usize;
            if !self.lanes[at].is_wanted {
                continue;
            }
            for message in messages {
                self.add(at, message)?;
            }
            self.go_on(at);
        }
        Ok(())
    }

    fn add(&mut self, at: usize, message: Message) -> Result<(), Error> {
        let bytes = message.len();
        let sent = &mut self.lanes[at].sent;
        let is_short = message.header.len() < MAX_MESSAGE_BYTES / 2;
        if bytes > MAX_CHUNK_BYTES || !is_short {
            let limit = if is_short { MAX_CHUNK_BYTES } else { MAX_MESSAGE_BYTES / 2 };
            return Err(Error::TooLarge { key: sent.key.clone(), bytes, limit });
        }
        let outline = inspect(&message.header)?;
        if outline.kind == Kind::RecordBatch {
            sent.totals.rows += outline.rows;
            self.client.calls.progress.sealed(outline.rows);
        }
        sent.totals.chunks += 1;
        sent.bytes += bytes as u64;
        self.held += bytes;
        self.lanes[at].pending.push_back(message);
        Ok(())
    }

    /// Sends what is pending of a partition, unless it does so already.
    fn go_on(&mut self, at: usize) {
        let segment_bytes = self.client.shared.options.segment_bytes;
        let lane = &mut self.lanes[at];
        let has_to_commit = self.is_closing && !lane.is_committed;
        if lane.is_busy || (lane.pending.is_empty() && !has_to_commit) {
            return;
        }
        let (mut chunks, mut bytes) = (Vec::new(), 0);
        while let Some(next) = lane.pending.front()
            && (chunks.is_empty() || bytes + next.len() <= segment_bytes)
        {
            bytes += next.len();
            chunks.extend(lane.pending.pop_front());
        }
        let is_last = self.is_closing && lane.pending.is_empty();
        let first = lane.next;
        lane.next += chunks.len() as u64;
        (lane.is_busy, lane.is_committed) = (true, is_last);
        let segment = Segment {
            peer: lane.sent.peer.clone(),
            key: lane.sent.key.clone(),
            sender: self.sender,
            schema: self.schema.clone(),
            first,
            chunks,
            commit: is_last.then_some(lane.sent.totals),
        };
        let (client, talk) = (self.client.clone(), self.talks.get(&segment.peer).cloned());
        let sent = deliver(client, talk, segment);
        self.calls.spawn(async move { Ended::Segment(at, bytes, sent.await) });
        self.busy += 1;
    }

    /// Waits for one call, and has its partition go on. Cancel-safe.
    async fn settle_one(&mut self) -> Result<(), Error> {
        let Some(settled) = self.calls.join_next().await else { return Ok(()) };
        let (at, bytes) = match settled.map_err(|error| lost(&error))? {
            Ended::Talk(result) => return result,
            Ended::Segment(at, bytes, result) => {
                result?;
                (at, bytes)
            }
        };
        self.busy -= 1;
        self.held -= bytes;
        let lane = &mut self.lanes[at];
        self.client.calls.progress.taken(&lane.sent.peer, bytes);
        if lane.is_committed {
            self.client.calls.progress.committed();
            self.client.calls.metrics.committed(lane.sent.totals.rows);
        }
        lane.is_busy = false;
        self.go_on(at);
        Ok(())
    }

    async fn close(mut self) -> Result<Vec<SentPartition>, Error> {
        self.is_closing = true;
        for at in 0..self.lanes.len() {
            if self.lanes[at].is_wanted {
                self.go_on(at);
            }
        }
        while self.busy > 0 {
            self.settle_one().await?;
        }
        self.talks.clear();
        while !self.calls.is_empty() {
            self.settle_one().await?;
        }
        let sent = self.lanes.into_iter().filter(|lane| lane.is_wanted).map(|lane| lane.sent);
        Ok(sent.collect())
    }
}

/// Has a worker take a segment.
async fn deliver(
    client: ExchangeClient,
    talk: Option<mpsc::Sender<Order>>,
    segment: Segment,
) -> Result<(), Error> {
    let Some(talk) = talk else { return client.put(&segment).await };
    let (done, reply) = oneshot::channel();
    if talk.send(Order { segment, done }).await.is_ok() {
        drop(talk);
        match reply.await {
            Ok(Reply::Taken) => return Ok(()),
            Ok(Reply::Put(segment)) => return client.put(&segment).await,
            Err(_) => {}
        }
    }
    // The conversation has failed, and says why.
    std::future::pending().await
}

/// The task of a call is gone.
fn lost(error: &JoinError) -> Error {
    let code = if error.is_cancelled() { Code::Cancelled } else { Code::Internal };
    Error::Flight(sheaf_flight::Error::new(code, format!("a call to a worker: {error}")))
}
