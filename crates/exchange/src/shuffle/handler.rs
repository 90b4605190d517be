//! The namespace `shuffle` of a Flight port.

mod conversation;

use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};
use serde::{Deserialize, Serialize};
use sheaf_flight::{
    ActionHandler, CallContext, Descriptor, EndpointEntry, FlightEntry, Handler, Message,
    MessageStream, Need, Right, RouterBuilder,
};
use sheaf_retry::Code;

use super::engine::{Exchange, Promise, ReadOptions};
use super::error::Error;
use super::key::{PartitionKey, Sender};
use super::wire::fragments::{Gathering, Part};
use super::wire::{
    ATTEMPT, CHECKSUMS, Commit, MAX_MESSAGE_BYTES, NAMESPACE, PutAnswer, SENDER, SENDERS, Sent,
    ShuffleTicket, json, key_of, message, parse, read_hexadecimal, stage_of,
};
use conversation::Conversation;

/// Serves an [`Exchange`] as the namespace `shuffle`.
///
/// | call | with |
/// |---|---|
/// | DoPut | `["shuffle", QUERY, STAGE, PARTITION]`; headers `sheaf-shuffle-sender`, `sheaf-shuffle-attempt` and `sheaf-shuffle-senders`, numbers; answers a [`PutAnswer`] as JSON |
/// | DoExchange | `["shuffle", QUERY, STAGE]` and the same headers: all partitions of a sender |
/// | DoGet | a [`ShuffleTicket`]; one that consumes needs the right to change |
/// | GetFlightInfo | `["shuffle", QUERY, STAGE, PARTITION]`; its `app_metadata` is an [`AvailablePartition`](super::AvailablePartition) as JSON |
/// | ListFlights | `shuffle/QUERY`, `shuffle/` for all queries, or nothing for what all namespaces have |
/// | `GetAvailablePartitions` | `{"query", "stage"}`; answers [`AvailablePartitions`](super::AvailablePartitions) |
/// | `ShuffleStats` | `{"query"}` or `{}`; answers [`ShuffleStats`](super::ShuffleStats) |
/// | `WorkerLoad` | `{}`; answers a [`WorkerLoad`](super::WorkerLoad) |
/// | `CleanupQueryData` | `{"query"}`; answers `{"query", "partitions"}` |
///
/// # A put
/// The schema comes first. Each message after it is a chunk and says in its
/// `app_metadata` which, and the CRC32C (Castagnoli) of its header and then its
/// body, as they are on the wire: `{"sequence":0,"crc32c":"0a1b2c3d"}`. A message
/// of metadata only ends the attempt with what was sent in all:
/// `{"commit":{"chunks":3,"rows":1000}}`.
///
/// An attempt may be sent in several puts, each of which begins with the schema
/// and goes on where the last one ended. What a put that fails has brought in
/// before stays: the same chunks may be sent again, in any put, and are taken
/// once. A put that ends before the commit has not ended the attempt, which its
/// answer says; no complete reader sees it. What an attempt leaves that nobody
/// goes on with, goes when the sender begins another one, or the query is cleaned up.
///
/// A chunk over 32 MiB, which is one row or one dictionary, comes in fragments: the
/// first has the header, each some of the body, and all of them say the checksum
/// of the whole, and `"part":{"fragment":0,"of":3,"bytes":40000000}` besides. Up to
/// 2 GiB it is put together within the memory budget, and read as one message by
/// whoever takes such long ones, if the server's own limit allows it.
///
/// With the header `sheaf-shuffle-checksums: none` chunks need no metadata:
/// they are numbered as they come, from 0, and not checked. The commit is needed
/// all the same. So writes pyarrow.
///
/// # A conversation
/// What both sides say is JSON in `app_metadata`. The sender begins with the
/// schema message and `{"begin":{"partitions":[0,3]}}`; the answer is which chunk
/// is next of each: `{"begun":[{"partition":0,"next_sequence":0},…]}`. It announces
/// the sizes of its next chunks, header and body: `{"want":[4194304,100]}`, and
/// sends them in that order once there is credit: `{"credit":4194404}`. Credit is
/// for whole chunks, and there is memory for what has credit. Where there is none
/// the answer is `{"full":{"needed":4194304,"used":60000000,"limit":64000000}}`,
/// and credit comes when there is room, with nothing to ask for meanwhile.
///
/// A chunk is a message with
/// `{"chunk":{"partition":0,"sequence":7,"crc32c":"0a1b2c3d"}}`, its receipt
/// `{"taken":{"partition":0,"next_sequence":8}}`. A partition ends with
/// `{"commit":{"partition":0,"chunks":8,"rows":1000}}` and
/// `{"committed":{"partition":0}}`. An error ends the conversation, behind
/// `{"failed":{"partition":0}}` where it is about one partition. A sender that
/// comes again begins as before, and sends again what it has no receipt for. A chunk
/// in fragments is announced as one, and its fragments follow each other, each with
/// `"part"` as in a put.
///
/// # A get
/// The schema has the `app_metadata` `{"incarnation":4}`: who goes on reading later
/// says so in the ticket, and is refused where the worker was restarted meanwhile.
/// Chunks have the `app_metadata` `{"sequence":0,"sender":2,"crc32c":"0a1b2c3d"}`,
/// where `sequence` is the position in the partition. The last message has
/// metadata only: `{"end":{"chunks":3,"rows":1000}}`, of all senders together, or
/// `{"more":{"next_sequence":2}}` where `max_bytes` was reached. Without one of
/// them the stream was broken off.
#[derive(Clone, Debug)]
pub struct ShuffleHandler {
    exchange: Exchange,
}

impl ShuffleHandler {
    /// Serves this exchange.
    pub fn new(exchange: Exchange) -> Self {
        ShuffleHandler { exchange }
    }

    /// Adds namespace, message limit and actions to a router.
    pub fn serve(self, router: RouterBuilder) -> RouterBuilder {
        let handler = Arc::new(self);
        router.handler_with_limit(NAMESPACE, handler.clone(), MAX_MESSAGE_BYTES).actions(handler)
    }

    fn entry(&self, key: &PartitionKey) -> Result<FlightEntry, Error> {
        let one = self.exchange.available(key)?;
        let known = |count: u64| i64::try_from(count).ok().filter(|_| one.ready).unwrap_or(-1);
        let ticket = ShuffleTicket { key: key.clone(), options: ReadOptions::default() };
        let path = [NAMESPACE, key.query(), &key.stage().to_string(), &key.partition().to_string()];
        Ok(FlightEntry {
            path: path.map(str::to_owned).to_vec(),
            command: None,
            schema: self.exchange.schema(key)?.header,
            total_records: known(one.rows),
            total_bytes: known(one.bytes),
            endpoints: vec![EndpointEntry::new(ticket.to_string())],
            ordered: true,
            app_metadata: json(&one)?,
        })
    }
}

/// One put under way.
struct Put<'a> {
    exchange: &'a Exchange,
    key: PartitionKey,
    sender: Sender,
    is_checked: bool,
    /// The number of the next chunk that does not say its own.
    next: u64,
    gathering: Gathering,
    promise: Promise,
    answer: PutAnswer,
}

impl Put<'_> {
    fn take(&mut self, message: Message) -> Result<(), Error> {
        if self.answer.committed {
            return Err(Error::Protocol("a message comes after the commit".to_owned()));
        }
        if message.header.is_empty() && message.body.is_empty() {
            let Commit { commit } = parse("the commit", &message.app_metadata)?;
            self.exchange.commit(&self.key, self.sender, commit)?;
            self.answer.committed = true;
            return Ok(());
        }
        let sent = match (&message.app_metadata[..], self.is_checked) {
            ([], false) => Sent { sequence: self.next, crc32c: None, part: None },
            ([], true) => {
                let text = format!(
                    "a chunk says nothing of itself; send its sequence and crc32c, \
                     or the header {CHECKSUMS}: none"
                );
                return Err(Error::Protocol(text));
            }
            (metadata, _) => parse("a chunk", metadata)?,
        };
        let Sent { sequence, crc32c, part } = sent;
        if let Some(Part { fragment: 0, bytes, .. }) = part {
            // It is counted before it is whole.
            let claim = self.exchange.claim(self.key.query(), self.key.stage(), self.sender.index);
            self.promise.add(bytes, claim).map_err(Error::Memory)?;
        }
        let crc = crc32c.map(|text| read_hexadecimal(sequence, &text)).transpose()?;
        if crc.is_none() && self.is_checked {
            return Err(Error::Protocol(format!("chunk {sequence} comes without its crc32c")));
        }
        let at = (self.key.partition(), sequence);
        let Some(message) = self.gathering.add(at, part, message)? else { return Ok(()) };
        if let Some(Part { bytes, .. }) = part {
            self.promise.kept(bytes);
        }
        self.exchange.admit(&self.key, self.sender, &message)?;
        self.exchange.push(&self.key, self.sender, sequence, crc, message)?;
        self.next = sequence + 1;
        self.answer.next_sequence = self.answer.next_sequence.max(self.next);
        Ok(())
    }
}

fn sender(context: &CallContext) -> Result<Sender, Error> {
    Ok(Sender {
        index: number(context, SENDER, u32::MAX)?,
        attempt: number(context, ATTEMPT, u64::MAX)?,
        senders: number(context, SENDERS, u32::MAX)?,
    })
}

/// A number in a header, at most `limit`, which is the greatest of its type.
fn number<T: FromStr + Display>(context: &CallContext, name: &str, limit: T) -> Result<T, Error> {
    let text = context.header(name).ok_or_else(|| {
        let text =
            format!("header {name} is missing; senders, attempts and who sends it are numbers");
        Error::Argument(text)
    })?;
    text.parse().map_err(|_| {
        Error::Argument(format!("header {name} is {text:?}, not a number from 0 to {limit}"))
    })
}

fn is_checked(context: &CallContext) -> Result<bool, Error> {
    match context.header(CHECKSUMS) {
        None | Some("crc32c") => Ok(true),
        Some("none") => Ok(false),
        Some(other) => {
            Err(Error::Argument(format!("header {CHECKSUMS} is {other:?}, not none or crc32c")))
        }
    }
}

#[async_trait]
impl Handler for ShuffleHandler {
    async fn put(
        &self,
        context: &CallContext,
        descriptor: Descriptor,
        mut messages: MessageStream,
    ) -> Result<Bytes, sheaf_flight::Error> {
        let key = key_of(&descriptor.path[1..])?;
        let (sender, is_checked) = (sender(context)?, is_checked(context)?);
        let empty = || Error::Protocol("the stream is empty; the schema comes first".to_owned());
        let schema = messages.try_next().await?.ok_or_else(empty)?;
        let _under_way = self.exchange.under_way();
        let next_sequence = self.exchange.begin(&key, sender, &schema)?;
        let answer = PutAnswer { next_sequence, committed: false };
        let exchange = &self.exchange;
        let (gathering, next) = Default::default();
        let promise = exchange.promise();
        let mut put = Put { exchange, key, sender, is_checked, next, gathering, promise, answer };
        while let Some(message) = messages.try_next().await? {
            // Without it the sender is refused, and comes again.
            exchange.make_room(message.len() as u64).await;
            put.take(message)?;
        }
        Ok(json(&put.answer)?)
    }

    async fn get(
        &self,
        context: &CallContext,
        ticket: &str,
    ) -> Result<MessageStream, sheaf_flight::Error> {
        let ShuffleTicket { key, options } = ticket.parse()?;
        if options.consume {
            context.require(NAMESPACE, Right::Change)?;
        }
        let reader = self.exchange.read(key, options).await?;
        let schema = reader.schema();
        let chunks = stream::try_unfold(Some(reader), |reader| async move {
            let Some(mut reader) = reader else { return Ok(None) };
            let item = reader.next().await?;
            let is_chunk = matches!(item, super::engine::Item::Chunk { .. });
            Ok(Some((message(item)?, is_chunk.then_some(reader))))
        });
        Ok(stream::once(async { Ok(schema) }).chain(chunks).boxed())
    }

    async fn exchange(
        &self,
        context: &CallContext,
        descriptor: Descriptor,
        messages: MessageStream,
    ) -> Result<MessageStream, sheaf_flight::Error> {
        let stage = stage_of(&descriptor.path[1..])?;
        let (exchange, sender) = (self.exchange.clone(), sender(context)?);
        let begun = Conversation::begin(exchange, stage, sender, messages);
        Ok(begun.await?.answers())
    }

    async fn list(
        &self,
        _context: &CallContext,
        criteria: &[u8],
    ) -> Result<BoxStream<'static, Result<FlightEntry, sheaf_flight::Error>>, sheaf_flight::Error>
    {
        let named = std::str::from_utf8(criteria).ok();
        let own = named.and_then(|text| text.strip_prefix(NAMESPACE)?.strip_prefix('/'));
        let queries = match (own, named) {
            (Some(""), _) | (None, Some("")) => self.exchange.queries(),
            (Some(query), _) => {
                super::key::check_query(query)?;
                vec![query.to_owned()]
            }
            // What is asked of another namespace, such as a filter as JSON, is not here.
            (None, _) => Vec::new(),
        };
        let handler = self.clone();
        let keys = queries.into_iter().flat_map(move |query| {
            let numbers = handler.exchange.partitions(&query);
            numbers.into_iter().map(move |(stage, one)| PartitionKey::try_new(&query, stage, one))
        });
        let handler = self.clone();
        // What goes while the list is sent is left out.
        let entries = keys.filter_map(move |key| match handler.entry(&key.ok()?) {
            Ok(entry) => Some(Ok(entry)),
            Err(Error::NotFound { .. } | Error::NoStage { .. } | Error::CleanedUp { .. }) => None,
            Err(error) => Some(Err(error.into())),
        });
        Ok(stream::iter(entries).boxed())
    }

    async fn info(
        &self,
        _context: &CallContext,
        descriptor: Descriptor,
    ) -> Result<FlightEntry, sheaf_flight::Error> {
        Ok(self.entry(&key_of(&descriptor.path[1..])?)?)
    }
}

/// Asks what is there of a stage.
pub(super) const GET_AVAILABLE: &str = "GetAvailablePartitions";
/// Asks what is there of each query.
pub(super) const STATS: &str = "ShuffleStats";
/// Asks how busy the worker is.
pub(super) const LOAD: &str = "WorkerLoad";
/// Drops a query.
pub(super) const CLEAN_UP: &str = "CleanupQueryData";

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StageOf {
    pub(super) query: String,
    pub(super) stage: u32,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct QueryOf {
    pub(super) query: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StatsOf {
    #[serde(default)]
    query: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// The answer of a clean-up.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct CleanedUp {
    pub(super) query: String,
    pub(super) partitions: usize,
}

fn arguments<'a, T: Deserialize<'a>>(action: &str, body: &'a [u8]) -> Result<T, Error> {
    // serde would take a list for a structure without names as well.
    if body.trim_ascii().first() != Some(&b'{') {
        return Err(Error::Argument(format!("{action}: the body is no JSON object")));
    }
    serde_json::from_slice(body).map_err(|error| Error::Argument(format!("{action}: {error}")))
}

#[async_trait]
impl ActionHandler for ShuffleHandler {
    fn actions(&self) -> Vec<(&'static str, &'static str)> {
        vec![
            (GET_AVAILABLE, "What is here of a stage: {\"query\", \"stage\"}"),
            (STATS, "What is here by query and stage: {\"query\"} or {}"),
            (LOAD, "How busy this worker is: {}"),
            (CLEAN_UP, "Drops all of a query and refuses its senders: {\"query\"}"),
        ]
    }

    fn needs(&self, action: &str) -> Need {
        let right = if [GET_AVAILABLE, STATS, LOAD].contains(&action) {
            Right::Read
        } else {
            Right::Change
        };
        Need::One(NAMESPACE, right)
    }

    async fn call(
        &self,
        _context: &CallContext,
        action: &str,
        body: Bytes,
    ) -> Result<Vec<Bytes>, sheaf_flight::Error> {
        match action {
            GET_AVAILABLE => {
                let StageOf { query, stage } = arguments(action, &body)?;
                Ok(vec![json(&self.exchange.get_available_partitions(&query, stage)?)?])
            }
            STATS => {
                let StatsOf { query } = arguments(action, &body)?;
                Ok(vec![json(&self.exchange.stats(query.as_deref()))?])
            }
            LOAD => {
                let Nothing {} = arguments(action, &body)?;
                Ok(vec![json(&self.exchange.load())?])
            }
            CLEAN_UP => {
                let QueryOf { query } = arguments(action, &body)?;
                let partitions = self.exchange.cleanup_query_data(&query)?;
                Ok(vec![json(&CleanedUp { query, partitions })?])
            }
            _ => {
                let text = format!("no action {action:?}");
                Err(sheaf_flight::Error::new(Code::Unimplemented, text))
            }
        }
    }
}
