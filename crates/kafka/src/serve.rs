//! Topics as Flight streams.

mod actions;
mod entry;
mod rows;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt as _};
use sheaf_flight::{
    CallContext, Descriptor, Error, Fallback, FlightEntry, Handler, MessageStream, RawDescriptor,
    invalid,
};
use sheaf_retry::Code;

use crate::streams::Streams;
use crate::ticket::{NAMESPACE, Ticket};
pub use actions::TopicActions;

/// Serves streams: as the namespace `topics`, and as the fallback that takes the
/// name of a topic alone.
///
/// | call | with |
/// |---|---|
/// | ListFlights | nothing, or the beginning of a topic's name |
/// | GetFlightInfo, GetSchema | `[T]` or `["topics", T]`: one endpoint for the whole topic; `[T, "*"]`: one for each partition; `[T, "3"]`: one for that partition |
/// | DoGet | a [`Ticket`] |
///
/// A snapshot ends where the stream ended when it was asked for; with
/// `follow=true` it goes on as long as the client reads. A stream has one
/// schema: where that of the topic changes, a follower is told so with
/// `failed_precondition` after the last rows of the old one, and asks again with
/// the `from=~N` that the message ends with. Nothing can be put.
#[derive(Clone)]
pub struct TopicHandler {
    streams: Arc<Streams>,
}

impl TopicHandler {
    /// Serves these streams.
    pub fn new(streams: Arc<Streams>) -> Self {
        TopicHandler { streams }
    }

    /// What a path without the namespace names.
    fn entry(&self, path: &[String]) -> Result<FlightEntry, Error> {
        let (topic, partition) = match path {
            [topic] => (topic, None),
            [topic, partition] => (topic, Some(partition.as_str())),
            _ => {
                let text = format!(
                    "path {path:?} names no topic: use [\"T\"], [\"T\", \"*\"] or [\"T\", \"3\"]"
                );
                return Err(invalid(text));
            }
        };
        let stream = self.streams.get(topic)?;
        let tickets = entry::tickets(&stream, partition)?;
        Ok(entry::entry(&stream, path.to_vec(), &tickets))
    }

    fn read(&self, ticket: &str) -> Result<MessageStream, Error> {
        let ticket: Ticket = ticket.parse()?;
        let stream = self.streams.get(&ticket.topic)?;
        Ok(rows::messages(stream, ticket))
    }

    fn listed(&self, criteria: &[u8]) -> Vec<Result<FlightEntry, Error>> {
        let all = self.streams.all();
        let named = all.iter().filter(|stream| stream.topic().as_bytes().starts_with(criteria));
        let entry = |stream: &Arc<crate::stream::TopicStream>| {
            let path = vec![stream.topic().to_string()];
            let tickets = entry::tickets(stream, None)?;
            Ok(entry::entry(stream, path, &tickets))
        };
        named.map(entry).collect()
    }
}

fn nothing_is_put() -> Error {
    let text = "topics are read here and not written: produce to Kafka";
    Error::new(Code::Unimplemented, text)
}

#[async_trait]
impl Handler for TopicHandler {
    async fn put(
        &self,
        _context: &CallContext,
        _descriptor: Descriptor,
        _messages: MessageStream,
    ) -> Result<Bytes, Error> {
        Err(nothing_is_put())
    }

    async fn get(&self, _context: &CallContext, ticket: &str) -> Result<MessageStream, Error> {
        self.read(ticket)
    }

    async fn list(
        &self,
        _context: &CallContext,
        criteria: &[u8],
    ) -> Result<BoxStream<'static, Result<FlightEntry, Error>>, Error> {
        Ok(stream::iter(self.listed(criteria)).boxed())
    }

    async fn info(
        &self,
        _context: &CallContext,
        descriptor: Descriptor,
    ) -> Result<FlightEntry, Error> {
        let mut entry = self.entry(&descriptor.path[1..])?;
        entry.path.insert(0, NAMESPACE.to_owned());
        Ok(entry)
    }
}

#[async_trait]
impl Fallback for TopicHandler {
    async fn info(
        &self,
        _context: &CallContext,
        descriptor: RawDescriptor,
    ) -> Result<FlightEntry, Error> {
        match descriptor {
            RawDescriptor::Path(path) => self.entry(&path),
            RawDescriptor::Command(command) => {
                let topic = String::from_utf8(command.to_vec())
                    .map_err(|_| invalid("a command is the name of a topic, in UTF-8"))?;
                self.entry(&[topic])
            }
        }
    }
}
