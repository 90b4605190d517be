//! Reads Kafka, on a thread of its own.
//!
//! What has to hold:
//! - No offset is committed before all messages up to it are as durable as
//!   asked, and none of a partition after that was taken away.
//! - Kafka is polled at all times, also while streams are full: who does not
//!   poll loses its partitions. What a full stream cannot take waits, and its
//!   partitions are paused until there is room again.
//! - What waits is bounded: a few chunks for each topic, and librdkafka's own
//!   queue, whose size is set.

mod begin;
mod buffers;
mod client;
mod commit;
mod context;
mod leave;
mod options;
mod pausing;
mod pool;
mod progress;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use sheaf_retry::SharedClock;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use self::buffers::Buffers;
pub(crate) use self::client::refused;
use self::client::{client, look};
use self::context::GroupContext;
pub(crate) use self::context::Places;
use self::pausing::Pausing;
pub(crate) use self::pool::Pooled;
use self::progress::Progress;
use crate::error::Error;
use crate::metrics::Metrics;
use crate::stream::TopicStream;
use crate::tracker::{SpanId, TopicPartition, Tracker};
pub use options::{ConsumerOptions, From};

/// How long one poll waits for a message.
const POLL: Duration = Duration::from_millis(20);
/// The same while something waits for room.
const POLL_WAITING: Duration = Duration::from_millis(2);
/// How long nothing is read where so much waits to be converted that it is enough.
/// Only then its topic is paused: a pause throws away what was fetched ahead, and
/// Kafka gives nothing for a while after it.
const HOLD: Duration = Duration::from_millis(250);
/// How often it is looked meanwhile whether less waits.
const HOLD_LOOK: Duration = Duration::from_millis(1);
/// Messages between two looks at the clock.
const LOOK: u32 = 256;
/// How often offsets are committed.
const COMMIT_EVERY: Duration = Duration::from_secs(1);
/// How long a seek may take.
const SEEK: Duration = Duration::from_secs(1);
/// Chunks that wait to be converted, for each topic.
const CHUNKS: usize = 2;

/// Messages of one partition, read one after the other.
#[derive(Debug)]
pub(crate) struct Chunk {
    /// To be reported when they are as durable as asked.
    pub(crate) span: SpanId,
    /// The messages.
    pub(crate) messages: Pooled,
    /// The offset behind the last one.
    pub(crate) end: i64,
}

/// Where chunks of a topic go.
pub(crate) struct Outlet {
    /// To whoever converts them.
    pub(crate) chunks: mpsc::Sender<Chunk>,
    /// What they are converted into.
    pub(crate) stream: Arc<TopicStream>,
}

/// Makes the outlet of a topic when its first message comes.
pub(crate) type OpenOutlet = Box<dyn Fn(&Arc<str>) -> Outlet + Send>;

/// Chunks of one topic that may wait to be converted.
pub(crate) fn channel() -> (mpsc::Sender<Chunk>, mpsc::Receiver<Chunk>) {
    mpsc::channel(CHUNKS)
}

/// A running consumer; it ends when this is dropped, or told to.
pub(crate) struct Consumer {
    stop: Arc<AtomicBool>,
    ended: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Consumer {
    /// Joins the group, after it was seen that Kafka answers and the topics are
    /// there.
    ///
    /// # Errors
    /// [`Error::Kafka`] where that is not so, or an option means nothing to
    /// librdkafka.
    pub(crate) fn start(
        options: ConsumerOptions,
        tracker: Arc<Tracker>,
        (open, places): (OpenOutlet, Option<Box<dyn Places>>),
        metrics: Metrics,
        clock: SharedClock,
    ) -> Result<Self, Error> {
        let context = GroupContext::new(Arc::clone(&tracker), &options, places, metrics.clone());
        let consumer: BaseConsumer<GroupContext> = client(&options)
            .create_with_context(context)
            .map_err(|source| refused("set up the Kafka client".to_owned(), source))?;
        look(&consumer, &options)?;
        let topics: Vec<&str> = options.topics.iter().map(String::as_str).collect();
        consumer
            .subscribe(&topics)
            .map_err(|source| refused(format!("subscribe to {}", topics.join(", ")), source))?;
        let stop = Arc::new(AtomicBool::new(false));
        let running = Loop {
            buffers: Buffers::new(&options),
            pausing: Pausing::default(),
            progress: Progress::default(),
            outlets: HashMap::new(),
            consumer: Arc::new(consumer),
            tracker,
            open,
            metrics,
            clock,
            stop: Arc::clone(&stop),
            drain: options.drain,
            behind_since: None,
            held_since: None,
            looked_at: Duration::ZERO,
            epoch: 0,
        };
        let thread = std::thread::Builder::new().name("kafka-consumer".to_owned());
        let ended = CancellationToken::new();
        let guard = ended.clone().drop_guard();
        let run = move || {
            let _tells_also_of_a_panic = guard;
            running.run();
        };
        let thread = thread.spawn(run).map_err(|_| Error::TaskLost)?;
        Ok(Consumer { stop, ended, thread: Some(thread) })
    }

    /// Cancelled when it reads no more, whyever.
    pub(crate) fn ended(&self) -> CancellationToken {
        self.ended.clone()
    }

    /// Reads no more, waits for what is under way, commits and leaves the group.
    /// Blocks as long as that takes.
    pub(crate) fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that reads Kafka panicked");
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.end();
    }
}

/// What the thread has.
struct Loop {
    consumer: Arc<BaseConsumer<GroupContext>>,
    buffers: Buffers,
    pausing: Pausing,
    progress: Progress,
    outlets: HashMap<Arc<str>, Outlet>,
    tracker: Arc<Tracker>,
    open: OpenOutlet,
    metrics: Metrics,
    clock: SharedClock,
    stop: Arc<AtomicBool>,
    /// How long to wait for what is under way at the end.
    drain: Duration,
    /// Since when offsets wait for Kafka to take them.
    behind_since: Option<Duration>,
    /// Since when nothing is read, for enough waits to be converted.
    held_since: Option<Duration>,
    /// When it was looked last at what is to be done once in a while.
    looked_at: Duration,
    /// Of the assignment that the buffers are of.
    epoch: u64,
}

impl Loop {
    fn run(mut self) {
        while !self.stop.load(Ordering::Acquire) && !self.is_lost() {
            self.read();
            let now = self.clock.elapsed();
            self.buffers.seal_old(now);
            self.hand_on();
            self.resume();
            if now.saturating_sub(self.looked_at) >= COMMIT_EVERY {
                self.looked_at = now;
                self.commit(now);
                self.take_up_anew(now);
            }
        }
        self.finish();
    }

    /// Whether somebody who converts or keeps messages gave up: what is read from
    /// here on could not be committed.
    fn is_lost(&self) -> bool {
        let is_closed = |outlet: &Outlet| outlet.chunks.is_closed();
        self.consumer.context().is_lost() || self.outlets.values().any(is_closed)
    }

    /// Takes messages until there is none, or it is time to look at the clock.
    fn read(&mut self) {
        if self.held_since.is_some() {
            std::thread::sleep(HOLD_LOOK);
            return;
        }
        let consumer = Arc::clone(&self.consumer);
        let is_held = self.pausing.is_waiting() || self.pausing.has_paused();
        let mut wait = if is_held { POLL_WAITING } else { POLL };
        for _ in 0..LOOK {
            let Some(polled) = consumer.poll(wait) else { break };
            // Only the first one is waited for.
            wait = Duration::ZERO;
            self.forget_revoked();
            match polled {
                Ok(message) => self.buffers.take(&message, &self.clock),
                Err(error) => self.tell(&error),
            }
            if self.buffers.has_full() {
                break;
            }
        }
        self.forget_revoked();
    }

    /// After a rebalance: what was read of partitions that went is somebody
    /// else's, and what was paused is not paused any more.
    fn forget_revoked(&mut self) {
        let epoch = self.consumer.context().epoch();
        if epoch == self.epoch {
            return;
        }
        self.epoch = epoch;
        let assigned = self.tracker.assigned();
        let came = self.consumer.context().take_came();
        let is_kept = |one: &TopicPartition| assigned.contains(one) && !came.contains(one);
        self.buffers.keep(is_kept);
        self.pausing.keep(is_kept);
        self.progress.forget(is_kept);
        self.pausing.apply_again(&self.consumer, &assigned);
    }

    fn tell(&self, error: &KafkaError) {
        if let KafkaError::MessageConsumptionFatal(code) = error {
            tracing::error!(%error, ?code, "Kafka does not let this member go on; reading stops");
            self.consumer.context().lose();
        } else {
            tracing::warn!(%error, "Kafka");
        }
    }

    /// Gives full buffers to those who convert them; where these have enough to
    /// do, nothing is read, and where that lasts, the topic is paused.
    fn hand_on(&mut self) {
        for read in self.buffers.take_full() {
            let topic = &read.partition.topic;
            let outlet = self.outlets.entry(Arc::clone(topic));
            let outlet = outlet.or_insert_with(|| (self.open)(topic));
            outlet.stream.metrics().messages.inc_by(read.messages.len() as u64);
            self.progress.came(&read.partition, read.end, self.clock.elapsed());
            let first = read.messages.first_offset().unwrap_or(read.end);
            if !self.tracker.follows(&read.partition, first, read.end) {
                tracing::error!(
                    partition = %read.partition,
                    offset = first,
                    "offsets went back: the topic was made anew or cut short; give it another \
                     --group; reading stops"
                );
                self.consumer.context().lose();
                continue;
            }
            self.pausing.push(read);
        }
        let (outlets, tracker) = (&self.outlets, &self.tracker);
        let stuck = self.pausing.send(|topic, read| {
            let place = outlets.get(topic).and_then(|outlet| outlet.chunks.try_reserve().ok());
            let Some(place) = place else { return Err(read) };
            // Only what is on its way is waited for when its partition goes.
            if let Some(span) = tracker.begin(&read.partition, read.end) {
                place.send(Chunk { span, messages: read.messages, end: read.end });
            }
            Ok(())
        });
        if stuck.iter().all(|topic| self.pausing.is_paused(topic)) {
            self.held_since = None;
            return;
        }
        let now = self.clock.elapsed();
        if now.saturating_sub(*self.held_since.get_or_insert(now)) < HOLD {
            return;
        }
        self.held_since = None;
        let assigned = self.tracker.assigned();
        for topic in stuck {
            self.pausing.pause(&self.consumer, &topic, &assigned);
            self.show_paused(&topic, &assigned);
        }
    }

    fn resume(&mut self) {
        let ready = self.pausing.ready();
        if ready.is_empty() {
            return;
        }
        let assigned = self.tracker.assigned();
        for topic in ready {
            self.pausing.resume(&self.consumer, &topic);
            self.show_paused(&topic, &assigned);
        }
    }

    fn show_paused(&self, topic: &Arc<str>, assigned: &[TopicPartition]) {
        if let Some(outlet) = self.outlets.get(topic) {
            let of_topic = assigned.iter().filter(|one| one.topic == *topic).count();
            let paused = if self.pausing.is_paused(topic) { of_topic } else { 0 };
            outlet.stream.metrics().paused.set(i64::try_from(paused).unwrap_or(i64::MAX));
        }
    }

    fn commit(&mut self, now: Duration) {
        if self.consumer.context().take_acknowledged() {
            self.behind_since = None;
        }
        let offsets = self.tracker.take_committable();
        if !offsets.is_empty() {
            self.behind_since.get_or_insert(now);
            let list = offset_list(&offsets);
            if let Err(error) = commit::commit(&self.consumer, &list) {
                tracing::warn!(%error, "offsets cannot be committed");
                offsets.iter().for_each(|(partition, _)| self.tracker.not_committed(partition));
            }
        }
        let age = self.behind_since.map_or(Duration::ZERO, |since| now.saturating_sub(since));
        self.metrics.show_commit_age(age.as_secs_f64());
    }

    /// Has librdkafka fetch again of what gave nothing for long although it has
    /// messages.
    fn take_up_anew(&mut self, now: Duration) {
        let reaches = self.consumer.context().reaches();
        let (pausing, buffers) = (&self.pausing, &self.buffers);
        // Of what is on its way here the end is another one.
        let is_held = |one: &TopicPartition| {
            pausing.is_paused(&one.topic) || pausing.has(&one.topic) || buffers.has(one)
        };
        for (partition, end) in self.progress.stuck(&reaches, is_held, now) {
            let TopicPartition { topic, partition: number } = &partition;
            tracing::warn!(%partition, end, "messages are there and none comes: fetching anew");
            self.metrics.recreated();
            if let Err(error) = self.consumer.seek(topic, *number, Offset::Offset(end), SEEK) {
                tracing::warn!(%error, %partition, "it cannot be fetched anew");
            }
        }
    }

    /// Has what was read converted, commits that, and leaves.
    fn finish(mut self) {
        let until = self.clock.elapsed() + self.drain;
        let tracker = Arc::clone(&self.tracker);
        let _hurry = tracker.hurry();
        self.buffers.seal_all();
        self.hand_on();
        while self.tracker.open_in_all() > 0 && self.clock.elapsed() < until {
            // Heartbeats, and no more messages.
            let all = self.tracker.assigned();
            self.pausing.pause_all(&self.consumer, &all);
            drop(self.consumer.poll(POLL_WAITING));
            self.forget_revoked();
            self.hand_on();
        }
        let offsets = self.tracker.take_committable();
        if !offsets.is_empty() {
            let offsets = offset_list(&offsets);
            let done = commit::commit_within(&self.consumer, &offsets, self.drain);
            self.metrics.committed(done.is_ok());
            if let Err(error) = done {
                tracing::warn!(%error, "the last offsets cannot be committed");
            }
        }
        let assigned = self.tracker.assigned();
        for partition in &assigned {
            self.tracker.revoke(partition);
        }
        self.consumer.context().end();
        self.consumer.unsubscribe();
        leave::leave(self.consumer);
    }
}

/// Offsets as librdkafka wants them.
pub(crate) fn offset_list(offsets: &[(TopicPartition, i64)]) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(offsets.len());
    for (TopicPartition { topic, partition }, offset) in offsets {
        if let Err(error) = list.add_partition_offset(topic, *partition, Offset::Offset(*offset)) {
            tracing::error!(%error, %topic, partition, offset, "no offset to commit");
        }
    }
    list
}

impl Buffers {
    fn take(&mut self, message: &BorrowedMessage<'_>, clock: &SharedClock) {
        let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
        self.push((message.topic(), message.partition(), message.offset()), clock, |messages| {
            messages.push(
                message.offset(),
                message.timestamp().to_millis(),
                message.key(),
                message.payload(),
                headers.map(|header| (header.key, header.value)),
            );
        });
    }
}
