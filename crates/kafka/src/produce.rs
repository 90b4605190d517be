//! Writes messages to topics.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};
use sheaf_retry::{Code, SharedClock};
use tokio::sync::Notify;

use crate::error::Error;

/// How long to wait where librdkafka has no room for one more message.
const NO_ROOM: Duration = Duration::from_millis(10);
/// How long messages may take that are still under way at the end.
const FLUSH: Duration = Duration::from_secs(5);

/// How Kafka is written to.
#[derive(Clone, Debug)]
pub struct ProducerOptions {
    /// Addresses to begin with, `HOST:PORT`, separated by commas.
    pub brokers: String,
    /// Properties of librdkafka, as its documentation has them.
    pub librdkafka: Vec<(String, String)>,
    /// How long a message may take, with everything that is tried again.
    pub patience: Duration,
}

/// One message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutgoingMessage {
    /// The key: messages of one key are in one partition.
    pub key: Option<Vec<u8>>,
    /// The value.
    pub value: Vec<u8>,
}

/// Writes messages, several at a time.
///
/// 1. After the `Ok` of `send` all of its messages are on every replica that is in sync.
/// 2. After an `Err` some of them may be there.
/// 3. Those of one partition are there in their order, and once for each call, whatever
///    is tried again within it.
pub struct Producer {
    producer: ThreadedProducer<Deliveries>,
    clock: SharedClock,
}

/// What is known of the messages of one call.
#[derive(Default)]
struct Call {
    /// Messages that are under way.
    left: AtomicUsize,
    failed: Mutex<Option<KafkaError>>,
    done: Notify,
}

impl Call {
    fn fail(&self, error: KafkaError) {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.get_or_insert(error);
    }

    fn is_broken(&self) -> bool {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }
}

/// Tells each call what becomes of its messages.
struct Deliveries;

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Arc<Call>;

    fn delivery(&self, result: &DeliveryResult<'_>, call: Arc<Call>) {
        if let Err((error, _)) = result {
            call.fail(error.clone());
        }
        if call.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            call.done.notify_one();
        }
    }
}

impl Producer {
    /// Sets up a client; brokers are called when there is something to write.
    ///
    /// # Errors
    /// [`Error::Kafka`] where an option means nothing to librdkafka.
    pub fn open(options: &ProducerOptions, clock: SharedClock) -> Result<Self, Error> {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &options.brokers)
            .set("client.id", "sheaf")
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("linger.ms", "5")
            .set("queue.buffering.max.kbytes", "65536")
            .set("message.timeout.ms", options.patience.as_millis().max(1).to_string());
        for (name, value) in &options.librdkafka {
            config.set(name, value);
        }
        let producer = config.create_with_context(Deliveries);
        let producer =
            producer.map_err(|source| failed("set up the Kafka client".to_owned(), source))?;
        Ok(Producer { producer, clock })
    }

    /// Writes messages to a topic, and waits until they are there.
    ///
    /// # Errors
    /// [`Error::Kafka`] with the first thing that went wrong.
    pub async fn send(&self, topic: &str, messages: &[OutgoingMessage]) -> Result<(), Error> {
        let call = Arc::new(Call::default());
        // One more, which is this call itself until all are on their way.
        call.left.store(1, Ordering::Release);
        for message in messages {
            if call.is_broken() {
                break;
            }
            self.hand_over(topic, message, &call).await;
        }
        if call.left.fetch_sub(1, Ordering::AcqRel) != 1 {
            call.done.notified().await;
        }
        let failure = call.failed.lock().unwrap_or_else(PoisonError::into_inner).take();
        match failure {
            None => Ok(()),
            Some(source) => Err(failed(format!("write to the topic {topic}"), source)),
        }
    }

    async fn hand_over(&self, topic: &str, message: &OutgoingMessage, call: &Arc<Call>) {
        loop {
            let record = BaseRecord::with_opaque_to(topic, Arc::clone(call));
            let record = record.payload(&message.value);
            let record = match &message.key {
                Some(key) => record.key(key),
                None => record,
            };
            call.left.fetch_add(1, Ordering::AcqRel);
            let Err((error, _)) = self.producer.send::<Vec<u8>, Vec<u8>>(record) else { return };
            call.left.fetch_sub(1, Ordering::AcqRel);
            if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                return call.fail(error);
            }
            self.clock.sleep(NO_ROOM).await;
        }
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        if let Err(error) = self.producer.flush(FLUSH) {
            tracing::debug!(%error, "messages were under way at the end");
        }
    }
}

impl std::fmt::Debug for Producer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Producer")
    }
}

fn failed(operation: String, source: KafkaError) -> Error {
    use RDKafkaErrorCode as Of;

    let code = match source.rdkafka_error_code() {
        Some(Of::MessageSizeTooLarge | Of::InvalidMessageSize) => Code::LimitExceeded,
        Some(Of::UnknownTopic | Of::UnknownTopicOrPartition | Of::UnknownPartition) => {
            Code::NotFound
        }
        Some(Of::InvalidArgument | Of::InvalidTopic | Of::InvalidRecord) => Code::InvalidArgument,
        Some(Of::TopicAuthorizationFailed | Of::ClusterAuthorizationFailed) => {
            Code::PermissionDenied
        }
        Some(Of::Authentication | Of::SaslAuthenticationFailed) => Code::Unauthenticated,
        None => Code::InvalidArgument,
        Some(_) => Code::Unavailable,
    };
    Error::Kafka { operation, code, source }
}
