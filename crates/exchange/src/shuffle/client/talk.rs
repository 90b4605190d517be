//! One conversation with a worker: all partitions that one sender has for it.

mod queue;

use std::collections::VecDeque;
use std::pin::Pin;
use std::time::Duration;

use futures::{StreamExt as _, stream};
use sheaf_flight::{CallOptions, Full, Message, MessageStream};
use sheaf_retry::{Code, Delays as _, Disposition, Failure, Retryable as _};
use tokio::sync::{Mutex, OwnedSemaphorePermit, mpsc};

pub(super) use queue::{Order, Reply};
use queue::{Queue, Step};

use super::{ExchangeClient, Shared};
use crate::shuffle::chunk::crc32c_of;
use crate::shuffle::error::Error;
use crate::shuffle::governor::InFlight;
use crate::shuffle::key::{PartitionKey, Sender};
use crate::shuffle::wire::fragments::cut;
use crate::shuffle::wire::talk::{Answer, Said};
use crate::shuffle::wire::{NAMESPACE, headers, hexadecimal};

/// Messages on their way to the call.
const QUEUED: usize = 4;

/// Longest time that a worker without memory is waited for, whatever the policy.
const MAX_PATIENCE: Duration = Duration::from_secs(24 * 3_600);

/// Who talks about what.
pub(super) struct Topic {
    pub(super) peer: String,
    pub(super) query: String,
    pub(super) stage: u32,
    pub(super) sender: Sender,
    pub(super) schema: Message,
    pub(super) partitions: Vec<u32>,
}

/// What outlives a connection.
struct State {
    orders: mpsc::Receiver<Order>,
    is_closed: bool,
    queue: Queue,
    /// The partition that the last error was about.
    failed: Option<u32>,
}

/// How a connection ended.
enum End {
    /// All was taken.
    Over,
    /// It broke after it had brought something through.
    Broken,
    /// The worker holds no conversations.
    Unknown,
    Failed(Error),
}

/// Has a worker take what comes, until nothing comes any more.
///
/// Where a connection breaks, chunks without a receipt are sent again on the
/// next one. Retries are counted anew whenever something was taken.
pub(super) async fn hold(
    client: ExchangeClient,
    topic: Topic,
    orders: mpsc::Receiver<Order>,
    _line: OwnedSemaphorePermit,
) -> Result<(), Error> {
    let (queue, is_closed, failed) = (Queue::new(&topic.partitions), false, None);
    let state = Mutex::new(State { orders, is_closed, queue, failed });
    let (by, of, about) = (&client, &state, &topic);
    let ended = loop {
        let ended = client.calls.with_retries(&about.peer, || {
            Box::pin(async move { of.lock().await.one_connection(by, about).await })
        });
        match ended.await {
            Ok(End::Broken) => client.calls.retried(&topic.peer),
            Ok(other) => break other,
            Err(error) => break End::Failed(error),
        }
    };
    let mut state = state.into_inner();
    match ended {
        End::Over | End::Broken => Ok(()),
        End::Unknown => {
            state.give_back().await;
            Ok(())
        }
        End::Failed(cause) => {
            let partition = state.failed.unwrap_or_else(|| state.queue.some_partition());
            let key = PartitionKey::try_new(&topic.query, topic.stage, partition)?;
            Err(client.calls.send_failed(&topic.peer, &key, cause))
        }
    }
}

impl State {
    /// Whether there is anything to say, once somebody has something.
    async fn has_work(&mut self) -> bool {
        if self.queue.is_empty() && !self.is_closed {
            match self.orders.recv().await {
                Some(order) => self.queue.add(order),
                None => self.is_closed = true,
            }
        }
        !self.queue.is_empty()
    }

    /// All that comes is to go another way.
    async fn give_back(&mut self) {
        let back = |order: Order| drop(order.done.send(Reply::Put(Box::new(order.segment))));
        self.queue.orders().into_iter().for_each(back);
        while let Some(order) = self.orders.recv().await {
            back(order);
        }
    }

    async fn one_connection(
        &mut self,
        client: &ExchangeClient,
        topic: &Topic,
    ) -> Result<End, Error> {
        if !self.has_work().await {
            return Ok(End::Over);
        }
        self.queue.begin_anew();
        self.failed = None;
        let mut call = match Call::open(client, topic).await {
            Err(error) if error.code() == Code::Unimplemented => return Ok(End::Unknown),
            call => call?,
        };
        let ended = call.run(self, topic).await;
        if ended.is_err() {
            self.failed.get_or_insert_with(|| self.queue.some_partition());
        }
        // What was sent on it counts no more.
        self.queue.begin_anew();
        let has_brought = call.has_brought || self.queue.is_empty();
        match ended {
            Err(Stop::For(error)) => Ok(End::Failed(error)),
            Err(Stop::Now(error)) => match error.disposition() {
                Disposition::Transient { .. }
                    if has_brought && error.code() != Code::MemoryFull =>
                {
                    Ok(End::Broken)
                }
                _ => Err(error),
            },
            Ok(()) => {
                call.finish().await;
                Ok(End::Over)
            }
        }
    }
}

/// Why a connection is given up.
enum Stop {
    /// It may be tried again.
    Now(Error),
    /// It was waited for as long as is to be waited.
    For(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Stop::Now(error)
    }
}

/// What happens on a connection.
enum Event {
    Answer(Option<Result<Message, sheaf_flight::Error>>),
    /// The governor lets the next chunk go.
    Permit(Option<InFlight>),
    Order(Option<Order>),
    /// A message went out.
    Place,
    TooLate,
}

/// The next chunk, once the process may have it in flight.
type Permit = Pin<Box<dyn Future<Output = Option<InFlight>> + Send>>;

/// One connection.
struct Call<'a> {
    client: &'a ExchangeClient,
    out: mpsc::Sender<Message>,
    answers: MessageStream,
    /// What goes out as soon as there is a place.
    outbox: VecDeque<Message>,
    waiting: Option<((u32, usize), Permit)>,
    has_begun: bool,
    has_brought: bool,
    /// When the worker last said something.
    heard: Duration,
    /// It has no memory, and until when that is waited for.
    full: Option<(Duration, Full)>,
}

impl<'a> Call<'a> {
    async fn open(client: &'a ExchangeClient, topic: &Topic) -> Result<Call<'a>, Error> {
        let Shared { pool, options, clock, .. } = &*client.shared;
        let stage = topic.stage.to_string();
        let mut call = CallOptions::default().deadline(options.call_deadline);
        for (name, value) in headers(topic.sender) {
            call = call.header(name, value);
        }
        let begin = Said::Begin { partitions: topic.partitions.clone() };
        let begin = begin.with(topic.schema.clone())?;
        let (out, queued) = mpsc::channel(QUEUED);
        let queued = stream::unfold(queued, |mut queued| async move {
            queued.recv().await.map(|message| (Ok(message), queued))
        });
        let messages = stream::once(async { Ok(begin) }).chain(queued).boxed();
        let path = [NAMESPACE, &topic.query, &stage];
        let answers = pool.connection(&topic.peer)?.exchange(&path, &call, messages).await?;
        let (heard, full, waiting) = (clock.elapsed(), None, None);
        let (outbox, has_begun, has_brought) = (VecDeque::new(), false, false);
        Ok(Call { client, out, answers, outbox, waiting, has_begun, has_brought, heard, full })
    }

    /// Talks until all was taken and no more comes.
    async fn run(&mut self, state: &mut State, topic: &Topic) -> Result<(), Stop> {
        loop {
            if self.has_begun {
                self.prepare(&mut state.queue)?;
            }
            if state.is_closed && state.queue.is_empty() {
                return Ok(());
            }
            let left = self.left(&state.queue);
            match self.event(state, left).await {
                Event::Answer(answer) => {
                    let answer = answer.ok_or_else(super::reading::broken_off)?;
                    self.hear(&answer.map_err(Error::from)?, state, topic)?;
                }
                Event::Permit(permit) => self.send(&topic.peer, &mut state.queue, permit)?,
                Event::Order(Some(order)) => state.queue.add(order),
                Event::Order(None) => state.is_closed = true,
                // A long chunk is on its way.
                Event::Place => self.heard = self.client.shared.clock.elapsed(),
                Event::TooLate => return Err(self.too_late(topic)),
            }
        }
    }

    /// What happens next. Nothing is lost where this is dropped.
    async fn event(&mut self, state: &mut State, left: Option<Duration>) -> Event {
        let clock = &self.client.shared.clock;
        tokio::select! {
            biased;
            answer = self.answers.next() => Event::Answer(answer),
            permit = permit(&mut self.waiting), if self.waiting.is_some() => Event::Permit(permit),
            // Where it is closed the call is over; why, is what the answers say.
            place = self.out.reserve(), if !self.outbox.is_empty() && !self.out.is_closed() => {
                if let Ok(place) = place && let Some(message) = self.outbox.pop_front() {
                    place.send(message);
                }
                Event::Place
            }
            order = state.orders.recv(), if !state.is_closed => Event::Order(order),
            () = clock.sleep(left.unwrap_or(MAX_PATIENCE)), if left.is_some() => Event::TooLate,
        }
    }

    /// Announces what is new, and readies what has credit.
    fn prepare(&mut self, queue: &mut Queue) -> Result<(), Error> {
        let ahead = 2 * self.client.shared.options.segment_bytes as u64;
        let sizes = queue.announce(ahead.max(1));
        if !sizes.is_empty() {
            self.outbox.push_back(Said::Want(sizes).with(Message::default())?);
        }
        while self.waiting.is_none() {
            match queue.next() {
                None => break,
                Some(Step::Commit { partition, totals }) => {
                    let commit =
                        Said::Commit { partition, chunks: totals.chunks, rows: totals.rows };
                    self.outbox.push_back(commit.with(Message::default())?);
                    queue.sent(partition, None);
                }
                Some(Step::Chunk { partition, at }) => {
                    let bytes = queue.chunk(partition, at).map_or(0, |(_, chunk)| chunk.len());
                    let governor = self.client.shared.governor.clone();
                    let permit = Box::pin(async move { governor.acquire(bytes).await });
                    self.waiting = Some(((partition, at), permit));
                }
            }
        }
        Ok(())
    }

    /// The process may have the next chunk in flight.
    fn send(
        &mut self,
        peer: &str,
        queue: &mut Queue,
        permit: Option<InFlight>,
    ) -> Result<(), Error> {
        let Some(((partition, at), _)) = self.waiting.take() else { return Ok(()) };
        let Some((sequence, chunk)) = queue.chunk(partition, at) else { return Ok(()) };
        let crc32c = hexadecimal(crc32c_of(chunk));
        self.client.calls.sent(peer, 1, chunk.len());
        for (part, piece) in cut(chunk) {
            let crc32c = crc32c.clone();
            let said = Said::Chunk { partition, sequence, crc32c, part };
            self.outbox.push_back(said.with(piece)?);
        }
        queue.sent(partition, permit);
        Ok(())
    }

    fn hear(&mut self, message: &Message, state: &mut State, topic: &Topic) -> Result<(), Error> {
        let answer = Answer::read(message)?;
        self.heard = self.client.shared.clock.elapsed();
        self.has_brought |= state.queue.answered(&answer)?;
        match answer {
            Answer::Begun(places) => {
                state.queue.check((&topic.query, topic.stage), topic.sender, &places)?;
                self.has_begun = true;
            }
            Answer::Full { needed, used, limit } => {
                self.client.calls.metrics.memory_refusals.inc();
                let full = Full { needed, used, limit };
                let end = self.heard + patience(self.client);
                self.full = Some((self.full.map_or(end, |(before, _)| before), full));
            }
            Answer::Failed { partition } => state.failed = Some(partition),
            Answer::Credit(_) => self.full = None,
            Answer::Taken(_) | Answer::Committed { .. } => {}
        }
        Ok(())
    }

    /// How long the worker may be waited for; `None` where it is not.
    fn left(&self, queue: &Queue) -> Option<Duration> {
        let now = self.client.shared.clock.elapsed();
        let end = match &self.full {
            Some((end, _)) => *end,
            None if !self.has_begun || queue.waits_for_worker() => {
                self.heard + self.client.shared.options.call_deadline
            }
            None => return None,
        };
        Some(end.saturating_sub(now))
    }

    /// Ends in order: nothing is left that could be lost.
    async fn finish(self) {
        let Call { client, out, mut answers, .. } = self;
        drop(out);
        let Shared { clock, options, .. } = &*client.shared;
        tokio::select! {
            () = async { while let Some(Ok(_)) = answers.next().await {} } => {}
            () = clock.sleep(options.call_deadline) => {}
        }
    }

    fn too_late(&self, topic: &Topic) -> Stop {
        if let Some((_, full)) = self.full {
            return Stop::For(Error::Memory(full));
        }
        let deadline = self.client.shared.options.call_deadline.as_millis();
        let text = format!("{}: nothing was taken within {deadline} ms", topic.peer);
        Stop::Now(sheaf_flight::Error::new(Code::DeadlineExceeded, text).into())
    }
}

/// What the governor says about the next chunk.
async fn permit(waiting: &mut Option<((u32, usize), Permit)>) -> Option<InFlight> {
    match waiting {
        Some((_, permit)) => permit.await,
        None => std::future::pending().await,
    }
}

/// As long as single puts would be tried again for want of memory.
fn patience(client: &ExchangeClient) -> Duration {
    let options = &client.shared.options;
    let mut delays = options.room.schedule(options.seed);
    let mut sum = Duration::ZERO;
    while let Ok(delay) = delays.next_delay(Failure { elapsed: sum, hint: None }) {
        sum += delay.max(Duration::from_millis(1));
        if sum >= MAX_PATIENCE {
            break;
        }
    }
    sum.min(MAX_PATIENCE)
}
