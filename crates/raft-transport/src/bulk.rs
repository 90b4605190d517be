//! Bulk transfers: a stream of Arrow messages, and one answer when all of it is there.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream;
use sheaf_flight::{Message, MessageStream};

use crate::context::Context;
use crate::frame::{Frame, Kind, Order, Packer, Reason, decode};
use crate::packet::{Lane, Packet};
use crate::peer::Link;
use crate::serve::{NAMESPACE, of_peer};
use crate::{Error, NodeId};

/// Sends a bulk transfer; returns what the peer's engine answers when it has all.
pub(crate) async fn send(
    context: &Arc<Context>,
    link: &Arc<Link>,
    kind: &str,
    meta: Bytes,
    messages: MessageStream,
) -> Result<Bytes, Error> {
    let peer = link.peer;
    let _place = link.gate.enter(meta.len()).await;
    let in_use = link.route().await?;
    let (packer, session) = context.packer(peer, Lane::Bulk);
    let sealing = Sealing { context: Arc::clone(context), packer, meta: Some(meta) };
    let path = [NAMESPACE, kind];
    let options = of_peer();
    let connection = in_use.connection();
    let put = connection.put(&path, &options, sealing.messages(messages));
    let answer = tokio::select! {
        biased;
        answer = put => answer.map_err(|error| in_use.failed(Error::peer(peer, error)))?,
        _ = link.closed() => return Err(Error::Ended { peer }),
    };
    let message = Message { app_metadata: answer, ..Message::default() };
    let reply = decode(message, context.config.max_frame_bytes());
    let reply = reply.and_then(|frame| {
        Order::new(context.ends_to(peer).turned(), session, Kind::Reply).accept(&frame)?;
        Ok(frame.packets.into_iter().next().unwrap_or_default().meta)
    });
    reply.map_err(|error| in_use.failed(error))
}

/// Puts a frame around each message, and one at the end.
struct Sealing {
    context: Arc<Context>,
    packer: Packer,
    /// Goes with the first message.
    meta: Option<Bytes>,
}

impl Sealing {
    fn messages(self, messages: MessageStream) -> MessageStream {
        stream::unfold(Some((self, messages)), |state| async move {
            let (mut sealing, mut messages) = state?;
            match messages.next().await {
                Some(Ok(message)) => {
                    let sealed = sealing.seal(message);
                    Some((sealed.map_err(sheaf_flight::Error::from), Some((sealing, messages))))
                }
                Some(Err(error)) => Some((Err(error), None)),
                None => {
                    let end = sealing.packer.frame(Kind::BulkEnd, &[Packet::default()]);
                    Some((Ok(end.message), None))
                }
            }
        })
        .boxed()
    }

    fn seal(&mut self, message: Message) -> Result<Message, Error> {
        let limit = self.context.config.max_bulk_message_bytes;
        if message.len() > limit {
            let (what, limit_name) = ("an Arrow message", "max_bulk_message_bytes");
            return Err(Error::TooLarge { what, actual: message.len(), limit, limit_name });
        }
        self.context.metrics.bulk_sent(message.len());
        let own = Packet::of(message.app_metadata.clone());
        let packets = match self.meta.take() {
            Some(meta) => vec![own, Packet::of(self.context.hello.to_bytes()), Packet::of(meta)],
            None => vec![own],
        };
        Ok(self.packer.around(Kind::Bulk, message, &packets))
    }
}

/// The first message of a bulk transfer, as it was before it was sealed.
pub(crate) struct Opened {
    pub(crate) frame: Frame,
    message: Message,
}

impl Opened {
    /// # Errors
    /// A bad frame.
    pub(crate) fn read(context: &Context, message: Message) -> Result<Self, Error> {
        let limit = context.config.max_bulk_message_bytes + (64 << 10);
        let bare = Message { app_metadata: Bytes::new(), ..message.clone() };
        let frame = decode(message, limit)?;
        context.metrics.bulk_received(bare.len());
        Ok(Opened { frame, message: bare })
    }

    /// What the sender's hello and meta are.
    ///
    /// # Errors
    /// [`Reason::Malformed`] where it is no first message.
    pub(crate) fn first(&self) -> Result<(Bytes, Bytes), Error> {
        match self.frame.packets.as_slice() {
            [_, hello, meta] => Ok((hello.meta.clone(), meta.meta.clone())),
            _ => Err(Error::frame(Reason::Malformed, "the first message has no hello")),
        }
    }

    fn unsealed(self) -> Message {
        let own = self.frame.packets.into_iter().next().unwrap_or_default();
        Message { app_metadata: own.meta, ..self.message }
    }
}

/// The messages of a transfer as its sender had them. Whether it is whole shows
/// at the end: without it, the last item is an error.
pub(crate) fn unsealed(
    context: Arc<Context>,
    first: Opened,
    order: Order,
    messages: MessageStream,
) -> MessageStream {
    let first = stream::iter([Ok(first.unsealed())]);
    let state = Some((context, order, messages));
    let rest = stream::unfold(state, |state| async move {
        let (context, mut order, mut messages) = state?;
        let next = match messages.next().await {
            Some(Ok(message)) => next(&context, &mut order, message),
            Some(Err(error)) => return Some((Err(error), None)),
            None => {
                let text = "the transfer ends without its last frame";
                Err(Error::frame(Reason::Truncated, text))
            }
        };
        match next {
            Ok(Some(message)) => Some((Ok(message), Some((context, order, messages)))),
            Ok(None) => None,
            Err(error) => Some((Err(context.count(error).into()), None)),
        }
    });
    first.chain(rest).boxed()
}

/// `None` is the end of it.
fn next(context: &Context, order: &mut Order, message: Message) -> Result<Option<Message>, Error> {
    let is_end = message.header.is_empty();
    if is_end {
        order.turn(Kind::BulkEnd);
    }
    let opened = Opened::read(context, message)?;
    order.accept(&opened.frame)?;
    Ok((!is_end).then(|| opened.unsealed()))
}

/// The answer to a transfer.
pub(crate) fn answer(context: &Context, peer: NodeId, session: u64, reply: Bytes) -> Bytes {
    let compression = context.compression(Lane::Control);
    let mut packer = Packer::new(context.ends_to(peer), session, compression);
    let packet = Packet::of(reply);
    packer.frame(Kind::Reply, std::slice::from_ref(&packet)).message.app_metadata
}
