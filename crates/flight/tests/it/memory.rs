//! A namespace that keeps streams in memory, and misbehaves when asked by name.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};
use sheaf_flight::{
    ActionHandler, CallContext, Descriptor, EndpointEntry, Error, FlightEntry, Handler, Message,
    MessageStream,
};
use sheaf_retry::Code;
use tokio::sync::Semaphore;

pub(crate) struct Memory {
    pub(crate) namespace: &'static str,
    pub(crate) streams: Mutex<BTreeMap<String, Vec<Message>>>,
    /// How puts that a client broke off ended.
    pub(crate) broken: Mutex<Vec<Error>>,
    /// Streams and puts named `gate` go on when there are permits.
    pub(crate) gate: Semaphore,
    /// Calls that wait at the gate.
    pub(crate) waiting: AtomicUsize,
    /// Times that `flaky` was asked for.
    pub(crate) asked: AtomicUsize,
}

impl Memory {
    pub(crate) fn new(namespace: &'static str) -> Arc<Self> {
        Arc::new(Memory {
            namespace,
            streams: Mutex::default(),
            broken: Mutex::default(),
            gate: Semaphore::new(0),
            waiting: AtomicUsize::new(0),
            asked: AtomicUsize::new(0),
        })
    }

    pub(crate) async fn pass_gate(&self) {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        self.gate.acquire().await.unwrap().forget();
    }

    fn entry(&self, id: &str, messages: &[Message]) -> FlightEntry {
        FlightEntry {
            path: vec![self.namespace.to_owned(), id.to_owned()],
            command: None,
            schema: messages[0].header.clone(),
            total_records: -1,
            total_bytes: messages.iter().map(|message| message.len() as i64).sum(),
            endpoints: vec![EndpointEntry {
                expires_at_micros: Some(1_700_000_000_000_000),
                ..EndpointEntry::new(format!("{}/{id}", self.namespace))
            }],
            ordered: true,
            app_metadata: Bytes::new(),
        }
    }

    fn find(&self, id: &str) -> Result<Vec<Message>, Error> {
        let missing = || Error::new(Code::NotFound, format!("no stream {id:?}"));
        self.streams.lock().unwrap().get(id).cloned().ok_or_else(missing)
    }
}

/// `fail-CODE` names the error to fail with.
fn fail(id: &str) -> Result<(), Error> {
    match id.strip_prefix("fail-") {
        Some(word) => Err(Error::new(word.parse().unwrap(), "as asked")
            .with_retry_after(Duration::from_millis(1))),
        None => Ok(()),
    }
}

#[async_trait]
impl Handler for Memory {
    async fn put(
        &self,
        _context: &CallContext,
        descriptor: Descriptor,
        messages: MessageStream,
    ) -> Result<Bytes, Error> {
        let id = descriptor.path.get(1).map_or("unnamed", String::as_str).to_owned();
        fail(&id)?;
        assert!(id != "panic", "asked to panic");
        if id == "gate" {
            self.pass_gate().await;
        }
        match messages.try_collect::<Vec<_>>().await {
            Ok(messages) => {
                let answer = format!("{{\"messages\":{}}}", messages.len());
                self.streams.lock().unwrap().insert(id, messages);
                Ok(answer.into())
            }
            Err(error) => {
                let copy = Error::new(sheaf_retry::Retryable::code(&error), error.message());
                self.broken.lock().unwrap().push(copy);
                Err(error)
            }
        }
    }

    async fn get(&self, _context: &CallContext, ticket: &str) -> Result<MessageStream, Error> {
        let id = ticket.split_once('/').map_or("", |(_, id)| id);
        fail(id)?;
        let message = Message::new(Bytes::from_static(b"header"), vec![7; 1 << 10].into());
        match id {
            "endless-large" => {
                let body = Bytes::from(vec![7; 1 << 20]);
                let large = Message::new(Bytes::from_static(b"header"), body);
                Ok(stream::repeat_with(move || Ok(large.clone())).boxed())
            }
            "endless" => Ok(stream::repeat_with(move || Ok(message.clone())).boxed()),
            "panic" => panic!("asked to panic"),
            "panic-later" => {
                let first = stream::once(async { Ok(message) });
                Ok(first.chain(stream::once(async { panic!("asked to panic late") })).boxed())
            }
            "late-fail" => {
                let late = Error::new(Code::Corrupt, "checksum of message 1 is wrong");
                Ok(stream::iter([Ok(message), Err(late)]).boxed())
            }
            "flaky" if self.asked.fetch_add(1, Ordering::SeqCst) < 2 => {
                Err(Error::new(Code::Overloaded, "not yet"))
            }
            "flaky" => Ok(stream::iter([Ok(message)]).boxed()),
            id => Ok(stream::iter(self.find(id)?.into_iter().map(Ok)).boxed()),
        }
    }

    async fn list(
        &self,
        _context: &CallContext,
        criteria: &[u8],
    ) -> Result<BoxStream<'static, Result<FlightEntry, Error>>, Error> {
        let streams = self.streams.lock().unwrap();
        let entries: Vec<_> = streams
            .iter()
            .filter(|(id, _)| id.as_bytes().starts_with(criteria))
            .map(|(id, messages)| Ok(self.entry(id, messages)))
            .collect();
        Ok(stream::iter(entries).boxed())
    }

    async fn info(
        &self,
        _context: &CallContext,
        descriptor: Descriptor,
    ) -> Result<FlightEntry, Error> {
        let id = descriptor.path.get(1).cloned().unwrap_or_default();
        Ok(self.entry(&id, &self.find(&id)?))
    }

    async fn exchange(
        &self,
        _context: &CallContext,
        _descriptor: Descriptor,
        messages: MessageStream,
    ) -> Result<MessageStream, Error> {
        Ok(messages)
    }
}

/// One action that echoes, one that counts, one that tells its context.
#[derive(Default)]
pub(crate) struct Echo {
    pub(crate) calls: AtomicUsize,
}

#[async_trait]
impl ActionHandler for Echo {
    fn actions(&self) -> Vec<(&'static str, &'static str)> {
        vec![("Echo", "Send it back twice"), ("Flaky", "Fail"), ("Header", "Tell header x-test")]
    }

    async fn call(
        &self,
        context: &CallContext,
        action: &str,
        body: Bytes,
    ) -> Result<Vec<Bytes>, Error> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        match action {
            "Echo" => Ok(vec![body.clone(), body]),
            "Flaky" => Err(Error::new(Code::Unavailable, "fails always")),
            _ => {
                assert!(context.peer.unwrap().ip().is_loopback());
                Ok(vec![context.header("x-test").unwrap_or("none").to_owned().into()])
            }
        }
    }
}
