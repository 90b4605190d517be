//! Steps: what was read is completed and what came of it is registered, all or nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arrow_array::RecordBatch;
use bytes::Bytes;
use sheaf_coordinator::{BatchSpec, Control, LeaseRef, PurgeFilter, SettleRequest, State};
use sheaf_proto::{BatchId, TraceContext};
use sheaf_retry::Code;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};

use super::journal::{self, Journal, Position};
use super::link::{Link, Payload, completed};
use super::names::StreamName;
use super::queue::Queue;
use crate::error::ComponentError;
use crate::spans::either;

/// Steps that wait for the one under way.
const WAITING: usize = 64;
/// Bytes of what wants to be registered, all steps together.
const WAITING_BYTES: u64 = 64 << 20;
/// Bytes of one permit.
const UNIT: u64 = 1 << 10;
/// How often positions that are over are removed.
const PURGE_EVERY: Duration = Duration::from_secs(30);

/// A stream over a durable edge.
#[derive(Clone)]
pub(crate) struct Output {
    pub(crate) queue: Arc<Queue>,
    pub(crate) name: Arc<StreamName>,
}

/// Batches of one payload.
pub(crate) struct Staged {
    /// The place of the stream.
    pub(crate) stream: usize,
    pub(crate) batches: Vec<RecordBatch>,
    /// What they go on with.
    pub(crate) trace: Option<TraceContext>,
}

/// What belongs together.
#[derive(Default)]
pub(crate) struct Step {
    /// What is done with.
    pub(crate) inputs: Vec<LeaseRef>,
    /// What came of it, each for another stream.
    pub(crate) outputs: Vec<Staged>,
    /// Of a source: where to go on after it.
    pub(crate) offset: Option<Bytes>,
    /// Nothing comes after it.
    pub(crate) is_end: bool,
}

/// Hands steps to the task that takes them. Only the component's loop has it.
pub(crate) struct Commits {
    sender: mpsc::Sender<(Step, OwnedSemaphorePermit)>,
    room: Arc<Semaphore>,
    given: u64,
    taken: Arc<AtomicU64>,
}

impl Commits {
    /// Takes steps for the streams of a component: of a source with its journal, and where that
    /// is now. `progress` is told of each step that was taken.
    pub(crate) fn start(
        link: Arc<Link>,
        streams: Vec<Output>,
        journal: Option<(Journal, Option<Bytes>)>,
        progress: Arc<Notify>,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (sender, receiver) = mpsc::channel(WAITING);
        let taken = Arc::new(AtomicU64::new(0));
        let (journal, offset) = match journal {
            Some((journal, offset)) => (Some(journal), offset),
            None => (None, None),
        };
        let task = Committer {
            purge_at: link.clock.elapsed(),
            link,
            streams,
            journal,
            offset,
            number: 0,
            taken: Arc::clone(&taken),
            progress,
        };
        let room = Arc::new(Semaphore::new(units(WAITING_BYTES) as usize));
        (Commits { sender, room, given: 0, taken }, task.run(receiver))
    }

    /// Hands a step over, once there is room for it. Cancel-safe: it is handed over, or not.
    pub(crate) async fn push(&mut self, step: Step, bytes: u64) {
        let wanted = units(bytes.min(WAITING_BYTES));
        let Ok(permit) = Arc::clone(&self.room).acquire_many_owned(wanted).await else { return };
        // The task ends only with an error, which ends the component.
        if self.sender.send((step, permit)).await.is_ok() {
            self.given += 1;
        }
    }

    /// How many steps were taken.
    pub(crate) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Acquire)
    }

    /// Whether all that were handed over were taken.
    pub(crate) fn is_idle(&self) -> bool {
        self.taken() == self.given
    }
}

fn units(bytes: u64) -> u32 {
    u32::try_from(bytes / UNIT).unwrap_or(u32::MAX).max(1)
}

struct Committer {
    link: Arc<Link>,
    streams: Vec<Output>,
    journal: Option<Journal>,
    /// Of a source: where it is.
    offset: Option<Bytes>,
    number: u64,
    taken: Arc<AtomicU64>,
    progress: Arc<Notify>,
    purge_at: Duration,
}

impl Committer {
    async fn run(mut self, mut receiver: mpsc::Receiver<(Step, OwnedSemaphorePermit)>) {
        while let Some(first) = receiver.recv().await {
            let mut steps = vec![first];
            while steps.len() < WAITING
                && let Ok(more) = receiver.try_recv()
            {
                steps.push(more);
            }
            let (steps, permits): (Vec<Step>, Vec<_>) = steps.into_iter().unzip();
            let count = steps.len() as u64;
            let taken = match self.journal.take() {
                Some(journal) => self.advance(journal, steps).await,
                None => self.pass_on(steps).await,
            };
            if let Err(error) = taken {
                return self.link.fate.fail(error);
            }
            drop(permits);
            self.taken.fetch_add(count, Ordering::AcqRel);
            self.progress.notify_one();
        }
    }

    /// Steps of a source, all in one: its batches for one stream become one payload.
    async fn advance(
        &mut self,
        mut journal: Journal,
        steps: Vec<Step>,
    ) -> Result<(), ComponentError> {
        let mut gathered: Vec<Staged> = (0..self.streams.len())
            .map(|stream| Staged { stream, batches: Vec::new(), trace: None })
            .collect();
        let mut ended = false;
        for step in steps {
            for Staged { stream, batches, trace } in step.outputs {
                let all = &mut gathered[stream];
                all.batches.extend(batches);
                all.trace = either(all.trace, trace);
            }
            self.offset = step.offset.or(self.offset.take());
            ended |= step.is_end;
        }
        gathered.retain(|staged| !staged.batches.is_empty());
        let mut payloads = self.payloads(gathered).await?;
        if ended {
            payloads.extend(self.ends()?);
        }
        let position = Position { offset: self.offset.clone(), ended };
        let (next, batch) = journal.next(&self.link, &position)?;
        let queue = journal.queue().to_owned();
        payloads.push(Payload { id: next.clone(), queue, batches: vec![batch], trace: None });
        let step = |specs: &[BatchSpec]| journal.step(&self.link, specs.to_vec(), &next);
        let reply = self.link.settle_with(&payloads, step).await?;
        journal.stepped(reply)?;
        self.purge(&journal).await?;
        self.journal = Some(journal);
        Ok(())
    }

    /// Steps of a processor, each by itself: what came of a batch is registered with the
    /// completion of that batch and of no other.
    async fn pass_on(&mut self, steps: Vec<Step>) -> Result<(), ComponentError> {
        let mut all = Vec::new();
        for step in steps {
            let mut payloads = self.payloads(step.outputs).await?;
            if step.is_end {
                payloads.extend(self.ends()?);
            }
            all.push((step.inputs, payloads, step.is_end));
        }
        let mut group: Vec<(Vec<LeaseRef>, Vec<Payload>)> = Vec::new();
        for (inputs, payloads, is_end) in all {
            if inputs.len() == 1 && !is_end {
                group.push((inputs, payloads));
                continue;
            }
            self.settle(std::mem::take(&mut group)).await?;
            match is_end {
                true => journal::finish(&self.link, inputs, payloads).await?,
                false => self.link.step(&inputs, &payloads).await?,
            }
        }
        self.settle(group).await
    }

    /// Each of these has one input, and stands by itself.
    async fn settle(
        &self,
        group: Vec<(Vec<LeaseRef>, Vec<Payload>)>,
    ) -> Result<(), ComponentError> {
        if group.is_empty() {
            return Ok(());
        }
        let (inputs, payloads): (Vec<Vec<LeaseRef>>, Vec<Vec<Payload>>) = group.into_iter().unzip();
        let counts: Vec<usize> = payloads.iter().map(Vec::len).collect();
        let payloads: Vec<Payload> = payloads.into_iter().flatten().collect();
        let request = |specs: &[BatchSpec]| {
            let mut specs = specs.iter().cloned();
            let outcomes = inputs.iter().flatten().zip(&counts);
            let outcomes = outcomes
                .map(|(lease, count)| completed(lease, specs.by_ref().take(*count).collect()));
            SettleRequest { outcomes: outcomes.collect(), ..SettleRequest::default() }
        };
        self.link.settle_with(&payloads, request).await.map(|_| ())
    }

    /// Gives batches for streams their names, once there is room in the queues.
    async fn payloads(&mut self, outputs: Vec<Staged>) -> Result<Vec<Payload>, ComponentError> {
        let mut payloads = Vec::with_capacity(outputs.len());
        for Staged { stream, batches, trace } in outputs {
            self.number += 1;
            let Output { queue, name } = &self.streams[stream];
            queue.room(&self.link).await?;
            queue.added(batches.iter().map(crate::outlet::size_bytes).sum());
            let id = named(name.batch(self.link.epoch, self.number), queue)?;
            payloads.push(Payload { id, queue: queue.name.clone(), batches, trace });
        }
        Ok(payloads)
    }

    fn ends(&self) -> Result<Vec<Payload>, ComponentError> {
        let ends = self.streams.iter().map(|Output { queue, name }| {
            let id = named(name.end(self.link.pass, self.link.graph), queue)?;
            let batches = vec![journal::end(self.link.pass)?];
            Ok(Payload { id, queue: queue.name.clone(), batches, trace: None })
        });
        ends.collect()
    }

    /// Forgets positions that are over.
    async fn purge(&mut self, journal: &Journal) -> Result<(), ComponentError> {
        let now = self.link.clock.elapsed();
        if now < self.purge_at {
            return Ok(());
        }
        self.purge_at = now + PURGE_EVERY;
        purge(&self.link, journal.queue(), PURGE_EVERY).await
    }
}

/// Forgets what was completed in a queue so long ago.
pub(super) async fn purge(
    link: &Link,
    queue: &str,
    finished_before: Duration,
) -> Result<(), ComponentError> {
    let filter = PurgeFilter {
        queue: Some(queue.to_owned()),
        states: vec![State::Completed, State::Cancelled],
        finished_before,
    };
    let purge = || link.coordinator.control(Control::Purge(filter.clone()));
    link.insist("forget completed batches", purge).await.map(|_| ())
}

/// A name that was made.
pub(super) fn named(id: Option<BatchId>, queue: &Queue) -> Result<BatchId, ComponentError> {
    id.ok_or_else(|| {
        let text = format!("no identifier can be made for a batch of {}", queue.name);
        ComponentError::new(Code::InvalidArgument, text)
    })
}

impl Output {
    /// The stream of an edge between two instances.
    pub(crate) fn new(pipeline: &str, edge: &str, from: u32, to: u32, queue: &Arc<Queue>) -> Self {
        let name = Arc::new(StreamName::new(pipeline, edge, from, to));
        Output { queue: Arc::clone(queue), name }
    }
}
