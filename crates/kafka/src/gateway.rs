//! A gateway: what reads Kafka, what it is read into, and what serves that.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sheaf_flight::Budget;
use sheaf_retry::SharedClock;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::consume::{Consumer, ConsumerOptions, Outlet, Places, channel};
use crate::convert::{Converter, Schemas, Way, dead};
use crate::decode::{Decoder, DecoderOptions};
use crate::error::Error;
use crate::metrics::{Figures, Metrics};
use crate::persist::{Persister, Stored, Turn, Writer};
use crate::registry::Registry;
use crate::serve::{TopicActions, TopicHandler};
use crate::sink::TopicSink;
use crate::stream::{StreamOptions, TopicStream};
use crate::streams::Streams;
use crate::tracker::Tracker;

/// What is added to the name of a topic for the stream of its dead letters.
pub(crate) const DEAD_LETTERS: &str = ".dead-letters";

/// How often old rows are looked for.
const EXPIRE_EVERY: Duration = Duration::from_millis(500);

/// How a gateway is set up.
#[derive(Clone, Debug)]
pub struct GatewayOptions {
    /// How Kafka is read.
    pub consumer: ConsumerOptions,
    /// How messages become columns.
    pub decoder: DecoderOptions,
    /// The same of topics that differ, by their names.
    pub decoders: BTreeMap<String, DecoderOptions>,
    /// Whom to ask for the schemas that messages name.
    pub registry: Option<Arc<Registry>>,
    /// How each topic is kept.
    pub stream: StreamOptions,
    /// Where rows are written besides.
    pub sink: Option<Arc<dyn TopicSink>>,
}

/// A running gateway: reads topics into streams, which [`Gateway::handler`]
/// serves. What cannot be a row is in the stream of its topic's name with
/// `.dead-letters` behind it.
///
/// An offset is committed once all rows before it are in their streams, and
/// dead letters in theirs; with a [`TopicSink`], once they are there too. It knows
/// how far each partition is, and a start goes on from that.
///
/// While a schema registry is down, topics wait whose messages name schemas that
/// are not known yet; nothing of them is committed. Messages become dead letters
/// where the registry has no such schema, or one that is no use; what it said is
/// believed for a minute, then it is asked again.
pub struct Gateway {
    streams: Arc<Streams>,
    consumer: Consumer,
    tracker: Arc<Tracker>,
    tasks: TaskTracker,
    end: CancellationToken,
}

impl Gateway {
    /// Starts to read once Kafka has answered; all streams together have `memory`.
    ///
    /// # Errors
    /// Where Kafka does not answer or lacks a topic, and where an option is not
    /// one.
    pub async fn start(
        options: GatewayOptions,
        memory: Arc<Budget>,
        metrics: Metrics,
        clock: SharedClock,
    ) -> Result<Self, Error> {
        let GatewayOptions { consumer, decoder, decoders, registry, stream, sink } = options;
        // Before anything runs: an option that is none is an error now.
        for options in decoders.values().chain([&decoder]) {
            drop(Decoder::try_new("", options.clone())?);
        }
        let streams = Streams::new(stream, memory, metrics.clone(), Arc::clone(&clock));
        for topic in consumer.topics.iter().filter(|topic| !topic.starts_with('^')) {
            if topic.ends_with(DEAD_LETTERS) {
                let why = format!("a topic whose name ends with {DEAD_LETTERS} cannot be read");
                return Err(Error::Invalid(format!("--topics {topic}: {why}")));
            }
            drop(streams.open(&Arc::from(topic.as_str())));
            drop(dead_letters(&streams, topic));
        }
        let (tasks, end) = (TaskTracker::new(), CancellationToken::new());
        let tracker = Arc::new(Tracker::default());
        let (runtime, turn) = (tokio::runtime::Handle::current(), Turn::default());
        let persister = match &sink {
            None => None,
            Some(sink) => {
                for stream in streams.all() {
                    let place = sink.place_of(stream.topic())?;
                    tracing::info!(topic = %stream.topic(), place, "persisted");
                }
                let writer = Writer {
                    sink: Arc::clone(sink),
                    turn: Arc::clone(&turn),
                    tracker: Arc::clone(&tracker),
                    streams: Arc::clone(&streams),
                    metrics: metrics.clone(),
                    clock: Arc::clone(&clock),
                };
                let (persister, jobs) = Persister::channel();
                tasks.spawn(writer.run(jobs));
                Some(persister)
            }
        };
        let places = sink.map(|sink| {
            let (runtime, clock) = (runtime.clone(), Arc::clone(&clock));
            Box::new(Stored { sink, turn, runtime, clock }) as Box<dyn Places>
        });
        let opening = Opening {
            streams: Arc::clone(&streams),
            tracker: Arc::clone(&tracker),
            tasks: tasks.clone(),
            runtime,
            decoder,
            decoders,
            registry,
            end: end.clone(),
            clock: Arc::clone(&clock),
            persister,
        };
        let open = Box::new(move |topic: &Arc<str>| opening.open(topic));
        let (known, time) = (Arc::clone(&tracker), Arc::clone(&clock));
        let begin = move || Consumer::start(consumer, known, (open, places), metrics, time);
        let begun = tokio::task::spawn_blocking(begin).await;
        let consumer = begun.map_err(|_| Error::TaskLost)??;
        let (aging, over) = (Arc::clone(&streams), end.clone());
        tasks.spawn(async move {
            while over.run_until_cancelled(clock.sleep(EXPIRE_EVERY)).await.is_some() {
                aging.expire();
            }
        });
        Ok(Gateway { streams, consumer, tracker, tasks, end })
    }

    /// The streams.
    pub fn streams(&self) -> &Arc<Streams> {
        &self.streams
    }

    /// Serves the streams as the namespace [`TOPICS`](crate::TOPICS), and as the
    /// fallback of a Flight port.
    pub fn handler(&self) -> TopicHandler {
        TopicHandler::new(Arc::clone(&self.streams))
    }

    /// Serves `health`, `listTopics` and `stats`.
    pub fn actions(&self) -> TopicActions {
        TopicActions::new(Arc::clone(&self.streams), self.ended())
    }

    /// Cancelled when Kafka is not read any more: it was stopped, or cannot go on,
    /// which the log tells. What is in the streams is served nevertheless.
    pub fn ended(&self) -> CancellationToken {
        self.consumer.ended()
    }

    /// How far it is, in figures.
    pub fn figures(&self) -> Figures {
        let mut figures = Figures::default();
        self.streams.all().iter().for_each(|stream| figures.add(stream.metrics()));
        figures
    }

    /// How far each partition is.
    pub fn tracker(&self) -> &Arc<Tracker> {
        &self.tracker
    }

    /// Reads no more, commits what is done, and ends the streams: their readers
    /// get what is there.
    pub async fn stop(self) {
        let Gateway { streams, consumer, tasks, end, tracker: _ } = self;
        if tokio::task::spawn_blocking(move || consumer.stop()).await.is_err() {
            tracing::error!("the end of the consumer panicked");
        }
        end.cancel();
        streams.close();
        tasks.close();
        tasks.wait().await;
    }
}

/// The stream of a topic's dead letters, whose columns are known before any.
fn dead_letters(streams: &Streams, topic: &str) -> Arc<TopicStream> {
    let stream = streams.open(&Arc::from(format!("{topic}{DEAD_LETTERS}")));
    stream.begin(&Arc::new(dead::schema()), dead::VERSION);
    stream
}

/// Makes the way of a topic's messages, when its first one comes.
struct Opening {
    streams: Arc<Streams>,
    tracker: Arc<Tracker>,
    tasks: TaskTracker,
    runtime: tokio::runtime::Handle,
    decoder: DecoderOptions,
    decoders: BTreeMap<String, DecoderOptions>,
    registry: Option<Arc<Registry>>,
    end: CancellationToken,
    clock: SharedClock,
    persister: Option<Persister>,
}

impl Opening {
    fn open(&self, topic: &Arc<str>) -> Outlet {
        let stream = self.streams.open(topic);
        let dead = dead_letters(&self.streams, topic);
        let (sender, chunks) = channel();
        let options = self.decoders.get(topic.as_ref()).unwrap_or(&self.decoder);
        match Decoder::try_new(topic.as_ref(), options.clone()) {
            Ok(decoder) => {
                let (stream, tracker) = (Arc::clone(&stream), Arc::clone(&self.tracker));
                let persister = self.persister.clone();
                let way = Way { stream, dead, tracker, persister };
                let (registry, clock) = (self.registry.clone(), Arc::clone(&self.clock));
                let schemas = Schemas::new(registry, self.end.clone(), clock);
                let converter = Converter { way, schemas, decoder: Some(decoder) };
                self.tasks.spawn_on(converter.run(chunks), &self.runtime);
            }
            // The same options were good at the start.
            Err(error) => tracing::error!(%error, %topic, "no decoder"),
        }
        Outlet { chunks: sender, stream }
    }
}
