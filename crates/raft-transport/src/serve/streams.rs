//! Streams that come.

use std::sync::Arc;

use futures::StreamExt as _;
use futures::stream;
use sheaf_flight::{CallContext, MessageStream};
use tokio::sync::oneshot;

use super::{Service, of_engine, only};
use crate::batch::{Batches, Queue};
use crate::context::Context;
use crate::engine::PacketStream;
use crate::frame::{Kind, Order, Packer, Reason, decode};
use crate::packet::{Lane, Packet};
use crate::{Error, NodeId};

impl Service {
    pub(super) async fn take_stream(
        &self,
        caller: &CallContext,
        kind: &str,
        mut messages: MessageStream,
    ) -> Result<MessageStream, sheaf_flight::Error> {
        let Some(first) = messages.next().await.transpose()? else {
            let error = Error::frame(Reason::Truncated, "the stream has no hello");
            return Err(self.refuse(caller, error));
        };
        let limit = self.context.config.max_frame_bytes();
        let greeted = decode(first, limit).and_then(|frame| {
            let hello = only(frame.packets.clone())?;
            let greeted = self.greet(caller, &frame, hello.meta, Kind::Hello)?;
            Ok((greeted, frame.header.wants_plain))
        });
        let ((from, session, mut order), wants_plain) =
            greeted.map_err(|error| self.refuse(caller, error))?;
        let lane = if wants_plain { Lane::Control } else { Lane::Data };
        order.turn(Kind::Request);
        let (failed, failure) = oneshot::channel();
        let requests = Requests {
            context: Arc::clone(&self.context),
            from,
            messages,
            order,
            ready: Queue::new(),
            failed: Some(failed),
        };
        let requests = requests.packets();
        let replies = self.engine.stream(from, kind, requests).await.map_err(of_engine)?;
        let context = Arc::clone(&self.context);
        let packer = Packer::new(context.ends_to(from), session, context.compression(lane));
        let mut batches = Batches { context, peer: from, packer, kind: Kind::Hello };
        let hello = batches.hello();
        batches.kind = Kind::Reply;
        let replies = batches.frames(until_failed(Arc::clone(&self.context), replies, failure));
        Ok(stream::iter([Ok(hello)]).chain(replies).boxed())
    }
}

/// The requests of a stream, as their frames come.
struct Requests {
    context: Arc<Context>,
    from: NodeId,
    messages: MessageStream,
    order: Order,
    ready: Queue,
    /// Where it is told that they broke off.
    failed: Option<oneshot::Sender<Error>>,
}

impl Requests {
    fn packets(self) -> PacketStream {
        stream::unfold(self, |mut requests| async move {
            let next = requests.next().await?;
            Some((next, requests))
        })
        .boxed()
    }

    async fn next(&mut self) -> Option<Result<Packet, Error>> {
        loop {
            if let Some(packet) = self.ready.pop_front() {
                tracing::debug!(target: "transport", bytes = packet.len(), "message received from {}", self.from);
                return Some(Ok(packet));
            }
            // After a failure there is nothing more.
            self.failed.as_ref()?;
            let read = match self.messages.next().await? {
                Ok(message) => self.unpack(message),
                Err(error) => Err(Error::Flight(error)),
            };
            if let Err(error) = read {
                let error = self.context.count(error);
                let (here, there) = twice(error);
                if let Some(failed) = self.failed.take() {
                    // Nobody listens where the replies are over.
                    drop(failed.send(there));
                }
                return Some(Err(here));
            }
        }
    }

    fn unpack(&mut self, message: sheaf_flight::Message) -> Result<(), Error> {
        let frame = decode(message, self.context.config.max_frame_bytes())?;
        self.order.accept(&frame)?;
        self.context.metrics.received(&frame.packets);
        self.ready.extend(frame.packets);
        Ok(())
    }
}

/// An error for two.
fn twice(error: Error) -> (Error, Error) {
    use sheaf_retry::Retryable as _;
    let copy = match &error {
        Error::Frame { reason, problem } => Error::frame(*reason, problem.clone()),
        other => Error::engine(other.code(), other.to_string()),
    };
    (error, copy)
}

/// The replies, until they end or the requests break off: with that error then,
/// whatever the engine made of it.
fn until_failed(
    context: Arc<Context>,
    replies: PacketStream,
    failure: oneshot::Receiver<Error>,
) -> PacketStream {
    let state = Some((context, replies, failure));
    stream::unfold(state, |state| async {
        let (context, mut replies, mut failure) = state?;
        tokio::select! {
            biased;
            Ok(error) = &mut failure, if !failure.is_terminated() => Some((Err(error), None)),
            reply = replies.next() => match (reply, failure.try_recv()) {
                (_, Ok(error)) => Some((Err(error), None)),
                (Some(Ok(reply)), Err(_)) => match context.check_size(&reply) {
                    Ok(()) => Some((Ok(reply), Some((context, replies, failure)))),
                    Err(error) => Some((Err(error), None)),
                },
                (Some(Err(error)), Err(_)) => Some((Err(error), None)),
                (None, Err(_)) => None,
            },
        }
    })
    .boxed()
}
