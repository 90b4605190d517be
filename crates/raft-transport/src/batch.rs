//! What waits at a sender goes out together.

use std::collections::VecDeque;
use std::task::Poll;

use futures::StreamExt as _;
use futures::stream::{BoxStream, Stream};
use sheaf_flight::{Message, MessageStream};

use crate::context::Context;
use crate::engine::PacketStream;
use crate::frame::{Kind, MAX_PACKETS, Packer};
use crate::packet::Packet;
use crate::{Error, NodeId};
use std::sync::Arc;

/// Turns the packets of a stream into frames: all that are ready at a time into
/// one, up to [`Config::batch_bytes`](crate::Config::batch_bytes).
pub(crate) struct Batches {
    pub(crate) context: Arc<Context>,
    pub(crate) peer: NodeId,
    pub(crate) packer: Packer,
    pub(crate) kind: Kind,
}

impl Batches {
    /// The frames of `packets`, ending with their first error.
    pub(crate) fn frames(self, packets: PacketStream) -> MessageStream {
        let gathered = Gathered {
            packets: Some(packets),
            max_bytes: self.context.config.batch_bytes,
            failed: None,
        };
        let state = (self, gathered);
        futures::stream::unfold(state, |(mut batches, mut gathered)| async move {
            match gathered.next().await? {
                Ok(packets) => {
                    let message = batches.frame(&packets);
                    Some((Ok(message), (batches, gathered)))
                }
                Err(error) => Some((Err(error.into()), (batches, gathered))),
            }
        })
        .boxed()
    }

    /// One frame, counted.
    pub(crate) fn frame(&mut self, packets: &[Packet]) -> Message {
        let written = self.packer.frame(self.kind, packets);
        let metrics = &self.context.metrics;
        metrics.sent(packets);
        if let Some(unpacked) = written.unpacked {
            metrics.compressed(unpacked, written.message.body_len());
        }
        for packet in packets {
            tracing::debug!(target: "transport", bytes = packet.len(), "message sent to {}", self.peer);
        }
        written.message
    }
}

/// Packets that are ready at the same time.
struct Gathered {
    packets: Option<BoxStream<'static, Result<Packet, Error>>>,
    max_bytes: usize,
    failed: Option<Error>,
}

impl Gathered {
    async fn next(&mut self) -> Option<Result<Vec<Packet>, Error>> {
        std::future::poll_fn(|context| std::pin::Pin::new(&mut *self).poll_next(context)).await
    }
}

impl Stream for Gathered {
    type Item = Result<Vec<Packet>, Error>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> Poll<Option<Self::Item>> {
        if let Some(error) = self.failed.take() {
            return Poll::Ready(Some(Err(error)));
        }
        let max_bytes = self.max_bytes;
        let Some(packets) = &mut self.packets else { return Poll::Ready(None) };
        let (mut gathered, mut bytes) = (Vec::new(), 0_usize);
        while gathered.len() < MAX_PACKETS && bytes < max_bytes {
            match packets.poll_next_unpin(context) {
                Poll::Ready(Some(Ok(packet))) => {
                    bytes = bytes.saturating_add(cost(&packet));
                    gathered.push(packet);
                }
                Poll::Ready(Some(Err(error))) => {
                    (self.packets, self.failed) = (None, Some(error));
                    break;
                }
                Poll::Ready(None) => {
                    self.packets = None;
                    break;
                }
                Poll::Pending => break,
            }
        }
        if !gathered.is_empty() {
            return Poll::Ready(Some(Ok(gathered)));
        }
        match (self.failed.take(), &self.packets) {
            (Some(error), _) => Poll::Ready(Some(Err(error))),
            (None, None) => Poll::Ready(None),
            (None, Some(_)) => Poll::Pending,
        }
    }
}

/// Bytes of a frame that a packet takes.
fn cost(packet: &Packet) -> usize {
    packet.len().saturating_add(8).saturating_add(packet.payloads.len().saturating_mul(4))
}

/// Packets of frames, one after the other.
pub(crate) type Queue = VecDeque<Packet>;
