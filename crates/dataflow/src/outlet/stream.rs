//! One stream, as its sender has it: between the component's loop and the calls of its readers.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow_array::RecordBatch;
use sheaf_flight::Error;
use sheaf_pipeline::spec::Policy;
use sheaf_proto::TraceContext;
use sheaf_retry::Code;
use tokio::sync::Notify;

use super::disk::{Disk, Record};
use super::queue::{Entry, Place, Queue};
use crate::durable;
use crate::error::ComponentError;
use crate::wire::{Feedback, ReaderHello};

/// What a stream is and may hold.
#[derive(Clone, Debug)]
pub(crate) struct StreamOptions {
    /// The edge.
    pub(crate) edge: Arc<str>,
    /// The instance that sends, and the one that reads.
    pub(crate) from: u32,
    pub(crate) to: u32,
    /// The reader's place in the registry.
    pub(crate) reader: String,
    pub(crate) policy: Policy,
    /// Batches that may wait to be sent, where the policy is not to spill.
    pub(crate) waiting: usize,
    /// Bytes of batches that may be held in memory.
    pub(crate) memory_bytes: u64,
    /// Bytes that may be held on disk.
    pub(crate) disk_bytes: u64,
    /// Where.
    pub(crate) folder: PathBuf,
    /// Of this process.
    pub(crate) epoch: u64,
    /// Which it is of all streams of the component.
    pub(crate) number: usize,
    /// Where its batches wait, where the edge is durable.
    pub(crate) queue: Option<Arc<durable::Queue>>,
}

/// One stream. The component's loop is the only one that puts batches in.
pub(crate) struct Stream {
    pub(crate) options: StreamOptions,
    state: Mutex<State>,
    /// What is acknowledged, for who need not know more.
    acknowledged: AtomicU64,
    /// The last sequence that was given.
    last: AtomicU64,
    /// Told when there may be something to send.
    ready: Notify,
    /// Told when there may be room.
    room: Notify,
    /// Told when something was acknowledged; all streams of a component share it.
    progress: Arc<Notify>,
    disk: Arc<Mutex<Disk>>,
    /// Whether it was told that it holds as much as it may.
    has_warned: AtomicBool,
    pub(crate) counts: Counts,
}

/// What was counted since the process began.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) batches: AtomicU64,
    pub(crate) rows: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) spilled_bytes: AtomicU64,
    pub(crate) connections: AtomicU64,
}

impl Counts {
    fn add(counter: &AtomicU64, more: u64) {
        counter.fetch_add(more, Ordering::Relaxed);
    }
}

#[derive(Default)]
struct State {
    queue: Queue,
    reader: Option<Attached>,
    /// The highest fence that any reader had.
    fence: u64,
    /// Ascends with each reader.
    number: u64,
}

/// A reader that is connected.
struct Attached {
    number: u64,
    credits: u64,
    sent: u64,
    end_sent: bool,
}

/// What a call has to do next.
pub(crate) enum Next {
    /// Send this.
    Batch(Entry),
    /// Say that the data ends, with this sequence.
    End(u64),
    /// Nothing at the moment.
    Wait,
    /// Nothing any more: all is acknowledged, or the reader has left.
    Over,
    /// Another call has taken its place.
    Replaced,
}

/// A batch that wants in.
#[derive(Clone, Copy)]
pub(crate) struct Outgoing<'a> {
    pub(crate) batch: &'a RecordBatch,
    /// So much it takes.
    pub(crate) bytes: u64,
    /// What it goes on with.
    pub(crate) trace: Option<TraceContext>,
}

/// What became of a batch that wants in.
enum Admission {
    In(u64),
    ToDisk,
    Full,
}

/// How a stream is, for people and metrics.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) is_connected: bool,
    pub(crate) credits: u64,
    pub(crate) waiting: u64,
    pub(crate) unacknowledged: u64,
    pub(crate) memory_bytes: u64,
    pub(crate) disk_bytes: u64,
    pub(crate) last: u64,
    pub(crate) acknowledged: u64,
    pub(crate) is_finished: bool,
    /// Batches that have failed for good, of a durable edge.
    pub(crate) failed: u64,
}

impl Stream {
    pub(crate) fn new(
        options: StreamOptions,
        progress: Arc<Notify>,
    ) -> Result<Self, ComponentError> {
        let disk = Arc::new(Mutex::new(Disk::new(options.folder.clone())?));
        Ok(Stream {
            options,
            state: Mutex::default(),
            acknowledged: AtomicU64::new(0),
            last: AtomicU64::new(0),
            ready: Notify::new(),
            room: Notify::new(),
            progress,
            disk,
            has_warned: AtomicBool::new(false),
            counts: Counts::default(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code below panics between two changes that belong together.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a batch in where there is room at once; its sequence.
    pub(crate) fn try_push(&self, outgoing: Outgoing<'_>) -> Option<u64> {
        match self.admit(outgoing) {
            Admission::In(sequence) => Some(sequence),
            Admission::ToDisk | Admission::Full => None,
        }
    }

    /// Puts a batch in, and waits for room. Cancel-safe: it is in, or not.
    pub(crate) async fn push(&self, outgoing: Outgoing<'_>) -> Result<u64, ComponentError> {
        loop {
            let mut room = std::pin::pin!(self.room.notified());
            room.as_mut().enable();
            match self.admit(outgoing) {
                Admission::In(sequence) => return Ok(sequence),
                Admission::ToDisk => {
                    let record = self.write(outgoing.batch).await?;
                    return Ok(self.put(outgoing, Place::Disk(record)));
                }
                Admission::Full => room.await,
            }
        }
    }

    fn admit(&self, outgoing: Outgoing<'_>) -> Admission {
        let bytes = outgoing.bytes;
        let StreamOptions { policy, waiting, memory_bytes, disk_bytes, .. } = &self.options;
        let mut state = self.state();
        let queue = &mut state.queue;
        if queue.is_finished() {
            // The reader has said that it needs nothing more.
            let sequence = queue.skip();
            self.store(queue);
            return Admission::In(sequence);
        }
        let has_memory = |queue: &Queue| {
            queue.memory_bytes() == 0 || queue.memory_bytes().saturating_add(bytes) <= *memory_bytes
        };
        let has_disk = |queue: &Queue| queue.disk_bytes().saturating_add(bytes) <= *disk_bytes;
        match policy {
            Policy::Block if queue.waiting() >= *waiting => return Admission::Full,
            Policy::DropOldest => {
                while queue.waiting() >= *waiting
                    || (queue.waiting() > 0 && !has_memory(queue) && !has_disk(queue))
                {
                    queue.drop_oldest();
                    Counts::add(&self.counts.dropped, 1);
                }
                if !has_memory(queue) && !has_disk(queue) {
                    Counts::add(&self.counts.dropped, 1);
                    let sequence = queue.skip();
                    self.store(queue);
                    drop(state);
                    self.progress.notify_one();
                    return Admission::In(sequence);
                }
            }
            Policy::Block | Policy::Spill => {}
        }
        // What is behind batches on disk may lie in memory: order is that of the queue.
        if has_memory(queue) {
            drop(state);
            return Admission::In(self.put(outgoing, Place::Memory(outgoing.batch.clone())));
        }
        if has_disk(queue) {
            return Admission::ToDisk;
        }
        let bytes = queue.memory_bytes().saturating_add(queue.disk_bytes());
        drop(state);
        self.warn(bytes);
        Admission::Full
    }

    /// Says once that all room is taken by what the reader holds back.
    fn warn(&self, bytes: u64) {
        if !self.has_warned.swap(true, Ordering::Relaxed) {
            let (stream, reader) = (self.name(), &self.options.reader);
            tracing::warn!(
                stream,
                bytes,
                "{reader} has not acknowledged as much as may be kept for it, and nothing more is \
                 sent until it does: where it needs all of its input before it writes, give it \
                 windows, or spill with a limit that holds all"
            );
        }
    }

    fn put(&self, outgoing: Outgoing<'_>, place: Place) -> u64 {
        let Outgoing { batch, bytes, trace } = outgoing;
        let rows = batch.num_rows() as u64;
        let mut state = self.state();
        let sequence = state.queue.push(rows, bytes, place, trace);
        // A dropped batch may have been all that was not acknowledged.
        self.store(&state.queue);
        drop(state);
        self.count(rows, bytes);
        self.ready.notify_waiters();
        sequence
    }

    /// Counts a batch as sent.
    pub(crate) fn count(&self, rows: u64, bytes: u64) {
        Counts::add(&self.counts.batches, 1);
        Counts::add(&self.counts.rows, rows);
        Counts::add(&self.counts.bytes, bytes);
    }

    fn store(&self, queue: &Queue) {
        self.last.store(queue.last(), Ordering::Release);
        self.acknowledged.store(queue.acknowledged(), Ordering::Release);
    }

    async fn write(&self, batch: &RecordBatch) -> Result<Record, ComponentError> {
        let (disk, batch) = (Arc::clone(&self.disk), batch.clone());
        let work = move || disk.lock().unwrap_or_else(PoisonError::into_inner).write(&batch);
        let result = tokio::task::spawn_blocking(work).await.map_err(|error| {
            ComponentError::new(Code::Internal, "a thread that writes to disk ended badly")
                .because(error)
        })?;
        let record = result?;
        Counts::add(&self.counts.spilled_bytes, record.size_bytes());
        Ok(record)
    }

    /// No more batches come.
    pub(crate) fn end(&self) {
        self.state().queue.end();
        self.ready.notify_waiters();
    }

    /// The reader has left for good, and needs nothing more.
    pub(crate) fn finish(&self) {
        let mut state = self.state();
        state.queue.finish();
        self.store(&state.queue);
        drop(state);
        self.tell();
    }

    /// The last sequence that was given.
    pub(crate) fn last(&self) -> u64 {
        self.last.load(Ordering::Acquire)
    }

    /// All up to this sequence is done with.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Acquire)
    }

    /// Whether the reader is done with everything up to the end.
    pub(crate) fn is_finished(&self) -> bool {
        self.state().queue.is_finished()
    }

    /// A reader is there: the number of its call.
    pub(crate) fn attach(&self, hello: &ReaderHello) -> Result<u64, Error> {
        let mut guard = self.state();
        let state = &mut *guard;
        if hello.fence < state.fence {
            let (has, seen) = (hello.fence, state.fence);
            let text = format!(
                "stream {}: its reader has the fence {has}, and one with {seen} was here",
                self.name()
            );
            return Err(Error::new(Code::StaleFence, text));
        }
        let (mut has, mut acknowledged) = (0, 0);
        if hello.epoch == self.options.epoch {
            (has, acknowledged) = (hello.last, hello.feedback.acknowledged);
        }
        self.accept(state, acknowledged)?;
        state.fence = hello.fence;
        state.number += 1;
        state.queue.rewind(has);
        let number = state.number;
        state.reader =
            Some(Attached { number, credits: hello.feedback.credits, sent: 0, end_sent: false });
        drop(guard);
        Counts::add(&self.counts.connections, 1);
        self.tell();
        Ok(number)
    }

    /// What a reader says of how far it is.
    pub(crate) fn feedback(&self, number: u64, feedback: Feedback) -> Result<(), Error> {
        let mut guard = self.state();
        let state = &mut *guard;
        let Some(reader) = &mut state.reader else { return Ok(()) };
        if reader.number != number {
            return Ok(());
        }
        let has_credits = feedback.credits > reader.credits;
        reader.credits = reader.credits.max(feedback.credits);
        let before = state.queue.len();
        self.accept(state, feedback.acknowledged)?;
        let is_less = state.queue.len() < before;
        let is_finished = state.queue.is_finished();
        drop(guard);
        if has_credits || is_finished {
            self.ready.notify_waiters();
        }
        if is_less {
            self.room.notify_waiters();
        }
        if is_less || is_finished {
            self.progress.notify_one();
        }
        Ok(())
    }

    fn accept(&self, state: &mut State, acknowledged: u64) -> Result<(), Error> {
        if !state.queue.acknowledge(acknowledged) {
            let text = format!(
                "stream {}: its reader acknowledges batch {acknowledged}, which was never sent",
                self.name()
            );
            return Err(Error::new(Code::FailedPrecondition, text));
        }
        self.store(&state.queue);
        Ok(())
    }

    /// A call is over.
    pub(crate) fn detach(&self, number: u64) {
        let mut state = self.state();
        if state.reader.as_ref().is_some_and(|reader| reader.number == number) {
            state.reader = None;
        }
        drop(state);
        self.ready.notify_waiters();
    }

    /// What a call is to do next.
    pub(crate) fn next(&self, number: u64) -> Next {
        let mut guard = self.state();
        let state = &mut *guard;
        let Some(reader) = &mut state.reader else { return Next::Over };
        if reader.number != number {
            return Next::Replaced;
        }
        if state.queue.is_finished() {
            return Next::Over;
        }
        if reader.sent < reader.credits
            && let Some(entry) = state.queue.send_next()
        {
            reader.sent += 1;
            // A full stream is filled again when half of it is gone, and not for each batch.
            let has_room = state.queue.waiting() * 2 <= self.options.waiting;
            drop(guard);
            if has_room {
                self.room.notify_waiters();
            }
            return Next::Batch(entry);
        }
        match state.queue.send_end() {
            Some(end) if !reader.end_sent => {
                reader.end_sent = true;
                Next::End(end)
            }
            _ => Next::Wait,
        }
    }

    /// As [`Stream::next`], once there is something to do.
    pub(crate) async fn next_or_wait(&self, number: u64) -> Next {
        loop {
            let mut ready = std::pin::pin!(self.ready.notified());
            ready.as_mut().enable();
            match self.next(number) {
                Next::Wait => ready.await,
                next => return next,
            }
        }
    }

    fn tell(&self) {
        self.ready.notify_waiters();
        self.room.notify_waiters();
        self.progress.notify_one();
    }

    /// `EDGE FROM->TO`, for messages.
    pub(crate) fn name(&self) -> String {
        let StreamOptions { edge, from, to, .. } = &self.options;
        format!("{edge} {from}->{to}")
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        let state = self.state();
        let queue = &state.queue;
        let reader = state.reader.as_ref();
        let there = self.options.queue.as_ref().map(|queue| queue.counts());
        let durable::Counts { pending, processing, failed, .. } = there.unwrap_or_default();
        Snapshot {
            is_connected: reader.is_some() || there.is_some(),
            credits: reader.map_or(0, |reader| reader.credits.saturating_sub(reader.sent)),
            waiting: queue.waiting() as u64 + pending,
            unacknowledged: queue.len() as u64 + pending + processing,
            memory_bytes: queue.memory_bytes(),
            disk_bytes: queue.disk_bytes(),
            last: queue.last(),
            acknowledged: queue.acknowledged(),
            is_finished: queue.is_finished(),
            failed,
        }
    }
}
