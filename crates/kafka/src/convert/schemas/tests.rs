//! Decoding with a registry that is wrong, down, or not asked at all.

use std::sync::Arc;

use sheaf_retry::{ManualClock, Timestamp};
use sheaf_testkit::{RegisteredSchema, RegistryFault, SchemaRegistry};

use super::*;
use crate::decode::DecoderOptions;
use crate::format::Format;
use crate::messages::Messages;
use crate::registry::RegistryOptions;
use crate::tracker::TopicPartition;

/// A topic whose messages name schema 1.
struct Topic {
    server: SchemaRegistry,
    clock: Arc<ManualClock>,
    tracker: Arc<Tracker>,
    end: CancellationToken,
    schemas: Schemas,
    decoder: Option<Decoder>,
    value: &'static [u8],
}

const GOOD: &[u8] = b"\0\0\0\0\x01\x06ulm";

/// A record of one field.
fn record(of: &str) -> String {
    format!(r#"{{"type":"record","name":"R","fields":[{{"name":"a","type":"{of}"}}]}}"#)
}

fn orders() -> TopicPartition {
    TopicPartition { topic: "orders".into(), partition: 0 }
}

impl Topic {
    async fn new() -> Self {
        let server = SchemaRegistry::start().unwrap();
        let clock = ManualClock::new(Timestamp::EPOCH);
        let options = RegistryOptions { url: server.url(), login: None, ca: None };
        let registry = Registry::open(options, clock.clone()).await.unwrap();
        let (tracker, end) = (Arc::<Tracker>::default(), CancellationToken::new());
        tracker.assign(orders());
        let schemas = Schemas::new(Some(Arc::new(registry)), end.clone(), clock.clone());
        let options = DecoderOptions { format: Format::Avro, ..DecoderOptions::default() };
        let decoder = Some(Decoder::try_new("orders", options).unwrap());
        Topic { server, clock, tracker, end, schemas, decoder, value: GOOD }
    }

    fn register(&self) {
        assert_eq!(
            self.server.register("orders-value", RegisteredSchema::avro(record("string"))),
            1
        );
    }

    /// Rows and rejected ones of a message; none where it is not decoded.
    async fn decode(&mut self) -> Result<Option<(usize, Vec<String>)>, Error> {
        let mut messages = Messages::default();
        messages.push(0, None, None, Some(self.value), []);
        let span = self.tracker.begin(&orders(), 1).unwrap();
        let chunk = Chunk { span, messages: messages.into(), end: 1 };
        let decoder = self.decoder.take().unwrap();
        let (decoder, _, batch) = self.schemas.decode(decoder, chunk, &self.tracker).await?;
        self.decoder = Some(decoder);
        Ok(batch.map(|decoded| {
            let rows = decoded.batch.map_or(0, |rows| rows.num_rows());
            (rows, decoded.rejected.into_iter().map(|one| one.error).collect())
        }))
    }
}

#[tokio::test]
async fn what_a_registry_does_not_have_is_asked_for_again_a_minute_later() {
    let mut topic = Topic::new().await;
    let (rows, errors) = topic.decode().await.unwrap().unwrap();
    assert!(rows == 0 && errors[0].contains("Schema not found"), "{errors:?}");
    topic.register();
    topic.clock.advance(BELIEVED - Duration::from_millis(1));
    assert_eq!(topic.decode().await.unwrap().unwrap().0, 0);
    assert_eq!(topic.server.requests().len(), 1);
    topic.clock.advance(Duration::from_millis(1));
    assert_eq!(topic.decode().await.unwrap().unwrap(), (1, Vec::new()));
    topic.clock.advance(BELIEVED);
    assert_eq!(topic.decode().await.unwrap().unwrap(), (1, Vec::new()));
    assert_eq!(topic.server.requests().len(), 2, "what is good is known");
}

#[tokio::test]
async fn a_wrong_schema_costs_messages_for_a_minute() {
    let mut topic = Topic::new().await;
    topic.register();
    topic.server.fault(RegistryFault::Schema(record("boolean")));
    let (rows, errors) = topic.decode().await.unwrap().unwrap();
    assert_eq!((rows, errors.len()), (0, 1));
    topic.server.heal();
    topic.clock.advance(BELIEVED);
    let (rows, errors) = topic.decode().await.unwrap().unwrap();
    assert_eq!((rows, errors.len()), (1, 0), "{errors:?}");
}

/// A poisonous message makes no topic wait that could be read.
#[tokio::test]
async fn what_is_known_is_used_while_the_registry_is_down() {
    let mut topic = Topic::new().await;
    topic.register();
    topic.value = b"\0\0\0\0\x01\x06ul";
    assert_eq!(topic.decode().await.unwrap().unwrap().0, 0);
    topic.server.stop();
    topic.clock.advance(BELIEVED);
    topic.value = GOOD;
    assert_eq!(topic.decode().await.unwrap().unwrap(), (1, Vec::new()));
}

#[tokio::test]
async fn messages_wait_for_a_registry_until_their_partition_goes_or_the_gateway_ends() {
    let mut topic = Topic::new().await;
    topic.server.stop();
    let clock = topic.clock.clone();
    // Of the retry, and of the look at the partition.
    let asleep = || async {
        while clock.sleepers() < 2 {
            tokio::task::yield_now().await;
        }
    };
    let tracker = Arc::clone(&topic.tracker);
    let (decoded, ()) = tokio::join!(topic.decode(), async {
        asleep().await;
        tracker.revoke(&orders());
        clock.advance(LOOK);
    });
    assert!(decoded.unwrap().is_none());
    topic.tracker.assign(orders());
    let end = topic.end.clone();
    let (decoded, ()) = tokio::join!(topic.decode(), async {
        asleep().await;
        end.cancel();
    });
    assert!(matches!(decoded, Err(Error::StreamOver)), "{decoded:?}");
}
