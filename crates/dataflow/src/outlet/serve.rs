//! The calls of readers: streams and taps over Flight.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use sheaf_flight::ipc::{Compression, Encoder};
use sheaf_flight::{
    CallContext, Descriptor, Error, FlightEntry, Handler, Message, MessageStream, Secret, invalid,
};
use sheaf_pipeline::registry::{OPERATOR_NAME, certificate_name};
use sheaf_retry::Code;
use subtle::ConstantTimeEq as _;

use super::Edge;
use super::queue::{Entry, Place};
use super::stream::{Next, Stream};
use super::tap;
use crate::wire::{self, EDGES, End, ReaderHello, SenderHello, TAPS, TOKEN_HEADER, VERSION};

/// Serves the streams and taps of one component.
pub(crate) struct Serving {
    token: Secret,
    /// The run that certificates of readers have to be for, under TLS.
    names: Option<u64>,
    streams: HashMap<(Arc<str>, u32, u32), Arc<Stream>>,
    edges: HashMap<Arc<str>, Arc<Edge>>,
}

impl Serving {
    /// Serves these edges to who has the token.
    pub(crate) fn new(token: Secret, names: Option<u64>, edges: &[Arc<Edge>]) -> Self {
        // Those of durable edges are not read here.
        let streams = edges.iter().flat_map(|edge| &edge.streams);
        let streams = streams.filter(|stream| stream.options.queue.is_none()).map(|stream| {
            let options = &stream.options;
            ((Arc::clone(&options.edge), options.from, options.to), Arc::clone(stream))
        });
        let by_id = edges.iter().map(|edge| (Arc::clone(&edge.id), Arc::clone(edge)));
        Serving { token, names, streams: streams.collect(), edges: by_id.collect() }
    }

    /// Under TLS, whether the caller's certificate is for whom it has to be for.
    fn check_name(
        &self,
        context: &CallContext,
        name: impl FnOnce(u64) -> String,
    ) -> Result<(), Error> {
        let Some(run) = self.names else { return Ok(()) };
        let (name, found) = (name(run), context.certificate_names().unwrap_or_default());
        if found.contains(&name) {
            return Ok(());
        }
        let text = format!("the certificate of the caller is not for {name}");
        Err(Error::new(Code::PermissionDenied, text))
    }

    fn check(&self, context: &CallContext) -> Result<(), Error> {
        let shown = context.header(TOKEN_HEADER).unwrap_or_default();
        if shown.as_bytes().ct_eq(self.token.expose().as_bytes()).into() {
            return Ok(());
        }
        let text = format!("header {TOKEN_HEADER} has not the data token of this run");
        Err(Error::new(Code::Unauthenticated, text))
    }

    fn stream(&self, path: &[String]) -> Result<&Arc<Stream>, Error> {
        let [_, edge, from, to] = path else {
            return Err(invalid(format!("{path:?}: write [\"{EDGES}\", EDGE, FROM, TO]")));
        };
        let number = |text: &String| {
            text.parse::<u32>()
                .map_err(|_| invalid(format!("{text:?} is no number of an instance")))
        };
        let key = (Arc::from(edge.as_str()), number(from)?, number(to)?);
        self.streams.get(&key).ok_or_else(|| {
            let mut there: Vec<String> = self.streams.values().map(|one| one.name()).collect();
            there.sort_unstable();
            let there = there.join(", ");
            let text = format!("no stream {edge} {from}->{to} here; there are: {there}");
            Error::new(Code::NotFound, text)
        })
    }
}

#[async_trait]
impl Handler for Serving {
    async fn put(
        &self,
        _: &CallContext,
        descriptor: Descriptor,
        _: MessageStream,
    ) -> Result<Bytes, Error> {
        let name = &descriptor.path[0];
        Err(Error::new(Code::Unimplemented, format!("nothing is put into {name}: readers ask")))
    }

    async fn get(&self, context: &CallContext, ticket: &str) -> Result<MessageStream, Error> {
        self.check(context)?;
        self.check_name(context, |_| OPERATOR_NAME.to_owned())?;
        let edge = ticket.strip_prefix(TAPS).and_then(|rest| rest.strip_prefix('/'));
        let edge =
            edge.ok_or_else(|| invalid(format!("{ticket:?}: what can be got is {TAPS}/EDGE")))?;
        let found = self.edges.get(edge).ok_or_else(|| {
            let mut there: Vec<&str> = self.edges.keys().map(|id| &**id).collect();
            there.sort_unstable();
            let text = format!("no edge {edge:?} here; there are: {}", there.join(", "));
            Error::new(Code::NotFound, text)
        })?;
        Ok(tap::messages(Arc::clone(found)))
    }

    async fn list(
        &self,
        _: &CallContext,
        _: &[u8],
    ) -> Result<BoxStream<'static, Result<FlightEntry, Error>>, Error> {
        Ok(stream::empty().boxed())
    }

    async fn info(&self, _: &CallContext, descriptor: Descriptor) -> Result<FlightEntry, Error> {
        let name = &descriptor.path[0];
        Err(Error::new(Code::Unimplemented, format!("{name} are read by DoExchange and DoGet")))
    }

    async fn exchange(
        &self,
        context: &CallContext,
        descriptor: Descriptor,
        mut messages: MessageStream,
    ) -> Result<MessageStream, Error> {
        self.check(context)?;
        if descriptor.path[0] != EDGES {
            return Err(invalid(format!("taps are read by DoGet of {TAPS}/EDGE")));
        }
        let stream = Arc::clone(self.stream(&descriptor.path)?);
        self.check_name(context, |run| certificate_name(&stream.options.reader, run))?;
        let mut first = messages.next().await.transpose()?;
        if first.as_ref().is_some_and(|first| first.app_metadata.is_empty()) {
            // The descriptor alone, as clients of Arrow C++ begin.
            first = messages.next().await.transpose()?;
        }
        let first = first.ok_or_else(|| invalid("the reader ended before it said hello"))?;
        let hello: ReaderHello = wire::read("the reader's hello", &first.app_metadata)?;
        wire::check_version(hello.version)?;
        let number = stream.attach(&hello)?;
        tracing::info!(stream = stream.name(), fence = hello.fence, "reader connected");
        tokio::spawn(listen(Arc::clone(&stream), number, messages));
        let greeting = SenderHello { version: VERSION, epoch: stream.options.epoch };
        let ready = VecDeque::from([wire::say(&greeting)?]);
        let attached = Attachment { stream, number };
        let call = Call { attached, traces: hello.traces, encoder: None, ready, over: false };
        Ok(stream::unfold(call, Call::next).boxed())
    }
}

/// Takes what the reader says until it says no more.
async fn listen(stream: Arc<Stream>, number: u64, mut messages: MessageStream) {
    while let Some(message) = messages.next().await {
        let heard = message.and_then(|message| {
            let feedback = wire::read("feedback", &message.app_metadata)?;
            stream.feedback(number, feedback)
        });
        if let Err(error) = heard {
            tracing::debug!(stream = stream.name(), %error, "reader not heard any more");
            break;
        }
    }
    stream.detach(number);
}

/// Gives the place back when the call is dropped.
struct Attachment {
    stream: Arc<Stream>,
    number: u64,
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.stream.detach(self.number);
    }
}

/// The answer of one call.
struct Call {
    attached: Attachment,
    /// The reader takes the traces of batches.
    traces: bool,
    /// Dictionaries are known to one call only, so that each has an encoder of its own.
    encoder: Option<Encoder>,
    ready: VecDeque<Message>,
    over: bool,
}

impl Call {
    async fn next(mut self) -> Option<(Result<Message, Error>, Self)> {
        if self.over {
            return None;
        }
        if self.ready.is_empty()
            && let Err(error) = self.more().await
        {
            self.over = true;
            return Some((Err(error), self));
        }
        let message = self.ready.pop_front()?;
        Some((Ok(message), self))
    }

    /// Has the next messages ready; none where the call is over.
    async fn more(&mut self) -> Result<(), Error> {
        let stream = Arc::clone(&self.attached.stream);
        let next = match stream.next(self.attached.number) {
            Next::Wait => stream.next_or_wait(self.attached.number).await,
            next => next,
        };
        match next {
            Next::Batch(entry) => self.encode(entry).await,
            Next::End(end) => {
                tracing::debug!(edge = &*stream.options.edge, end, "sending end");
                self.ready.push_back(wire::say(&End { end })?);
                Ok(())
            }
            Next::Over | Next::Wait => Ok(()),
            Next::Replaced => {
                let text = format!("stream {}: another reader has taken it", stream.name());
                Err(Error::new(Code::StaleFence, text))
            }
        }
    }

    async fn encode(&mut self, entry: Entry) -> Result<(), Error> {
        let Entry { sequence, rows, place, trace, .. } = entry;
        let edge = &*self.attached.stream.options.edge;
        let batch = match place {
            Place::Memory(batch) => batch,
            Place::Disk(_) => place.read().await.map_err(Error::from_error)?,
        };
        tracing::debug!(edge, sequence, rows, "sending event");
        let encoder = match &mut self.encoder {
            Some(encoder) => encoder,
            none => {
                let (encoder, schema) = Encoder::try_new(batch.schema(), Compression::None)?;
                self.ready.push_back(schema);
                none.insert(encoder)
            }
        };
        self.ready.extend(encoder.encode(&batch)?);
        if let Some(last) = self.ready.back_mut() {
            last.app_metadata = wire::of_batch(sequence, trace.filter(|_| self.traces));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::RecordBatch;
    use arrow_schema::Schema;
    use sheaf_pipeline::spec::Policy;
    use sheaf_proto::TraceContext;
    use tokio::sync::Notify;

    use super::super::stream::{Outgoing, StreamOptions};
    use super::*;
    use crate::wire::Feedback;

    /// What stands beside the only batch of a stream, for a reader that says this.
    async fn metadata(traces: bool, trace: Option<TraceContext>) -> Bytes {
        let folder = tempfile::tempdir().unwrap();
        let options = StreamOptions {
            edge: "a:b".into(),
            from: 0,
            to: 0,
            reader: "p:b".to_owned(),
            policy: Policy::Block,
            waiting: 4,
            memory_bytes: 1 << 20,
            disk_bytes: 0,
            folder: folder.path().join("stream"),
            epoch: 1,
            number: 0,
            queue: None,
        };
        let stream = Arc::new(Stream::new(options, Arc::new(Notify::new())).unwrap());
        let batch = RecordBatch::new_empty(Arc::new(Schema::empty()));
        stream.try_push(Outgoing { batch: &batch, bytes: 1, trace }).unwrap();
        let feedback = Feedback { credits: 1, acknowledged: 0 };
        let (version, fence, epoch, last) = (VERSION, 0, 0, 0);
        let hello = ReaderHello { version, fence, epoch, last, traces, feedback };
        let number = stream.attach(&hello).unwrap();
        let attached = Attachment { stream, number };
        let call = Call { attached, traces, encoder: None, ready: VecDeque::new(), over: false };
        let (schema, call) = call.next().await.unwrap();
        assert!(schema.unwrap().app_metadata.is_empty());
        call.next().await.unwrap().0.unwrap().app_metadata
    }

    #[tokio::test]
    async fn a_trace_goes_only_to_readers_that_take_it() {
        let trace = TraceContext::new([1; 16], [2; 8], true);
        let told = metadata(true, trace).await;
        assert_eq!(wire::read_batch(&told).unwrap(), (1, trace));
        // As it was before there were traces.
        let alone = 1_u64.to_le_bytes();
        assert_eq!(metadata(false, trace).await.as_ref(), alone);
        assert_eq!(metadata(true, None).await.as_ref(), alone);
    }
}
