//! Streams to a peer: pipelined, batched, held back by a window.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use sheaf_flight::MessageStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::batch::{Batches, Queue};
use crate::context::Context;
use crate::frame::{Kind, Order, Reason, decode};
use crate::packet::{Lane, Packet};
use crate::peer::{InUse, Link, Outstanding};
use crate::serve::{NAMESPACE, of_peer};
use crate::window::Place;
use crate::{Error, NodeId};

/// A request that has no reply yet.
#[derive(Debug)]
struct Unanswered {
    sent: Duration,
    place: Place,
    _outstanding: Outstanding,
}

/// What both halves of a stream share.
#[derive(Debug)]
struct Shared {
    context: Arc<Context>,
    peer: NodeId,
    link: Arc<Link>,
    in_use: InUse,
    /// `None` once there will be no more replies.
    unanswered: Mutex<Option<VecDeque<Unanswered>>>,
}

impl Shared {
    fn unanswered(&self) -> MutexGuard<'_, Option<VecDeque<Unanswered>>> {
        // Single pushes and pops: whole after a panic elsewhere.
        self.unanswered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long the oldest request has waited.
    fn oldest(&self) -> Option<Duration> {
        let sent = self.unanswered().as_ref()?.front()?.sent;
        Some(self.context.clock.elapsed().saturating_sub(sent))
    }
}

/// The sending half of a stream. Dropping it ends the requests in good order:
/// those sent before are still answered.
#[derive(Debug)]
pub struct StreamSender {
    shared: Arc<Shared>,
    packets: mpsc::Sender<Packet>,
}

impl StreamSender {
    /// Sends a request. Returns once it is on its way, and waits while as much is
    /// under way as the window allows: it is replies that make room, so receive them
    /// meanwhile. Dropping the future sends nothing.
    ///
    /// # Errors
    /// [`Error::TooLarge`]; [`Error::Ended`] where the stream is over: the receiving
    /// half says why.
    pub async fn send(&mut self, packet: Packet) -> Result<(), Error> {
        let shared = &self.shared;
        shared.context.check_size(&packet)?;
        let bytes = packet.len();
        let place = tokio::select! {
            biased;
            () = self.packets.closed() => return Err(Error::Ended { peer: shared.peer }),
            place = self.shared.link.gate.enter(bytes) => place,
        };
        let permit = self.packets.reserve().await;
        let permit = permit.map_err(|_| Error::Ended { peer: shared.peer })?;
        let sent = shared.context.clock.elapsed();
        let outstanding = shared.in_use.outstanding(bytes);
        let unanswered = Unanswered { sent, place, _outstanding: outstanding };
        match &mut *shared.unanswered() {
            Some(waiting) => waiting.push_back(unanswered),
            None => return Err(Error::Ended { peer: shared.peer }),
        }
        permit.send(packet);
        Ok(())
    }

    /// Requests and bytes that may be under way on this lane now.
    pub fn window(&self) -> (usize, usize) {
        self.shared.link.gate.limits()
    }
}

/// The receiving half of a stream. Dropping it breaks the stream off.
pub struct StreamReceiver {
    shared: Arc<Shared>,
    /// `None` once the stream is over.
    answers: Option<MessageStream>,
    order: Order,
    ready: Queue,
}

impl std::fmt::Debug for StreamReceiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamReceiver").field("peer", &self.shared.peer).finish_non_exhaustive()
    }
}

impl Drop for StreamReceiver {
    fn drop(&mut self) {
        // Their places are free.
        self.shared.unanswered().take();
    }
}

impl StreamReceiver {
    /// The reply to the earliest request that has none yet; `None` when the peer has
    /// ended the stream in good order. Cancel-safe.
    ///
    /// # Errors
    /// What the peer says, a bad frame, a broken connection, or
    /// [`Error::Deadline`] where a request had no reply for
    /// [`reply_timeout`](crate::Config::reply_timeout). The stream is over then.
    pub async fn next(&mut self) -> Option<Result<Packet, Error>> {
        loop {
            if let Some(packet) = self.ready.pop_front() {
                return Some(self.answered(packet));
            }
            let answers = self.answers.as_mut()?;
            match receive(&self.shared, answers).await {
                Ok(Some(message)) => {
                    if let Err(error) = self.unpack(message) {
                        return Some(Err(self.fail(error)));
                    }
                }
                Ok(None) => {
                    self.end();
                    return None;
                }
                Err(error) => return Some(Err(self.fail(error))),
            }
        }
    }

    /// The replies as a stream.
    pub fn into_stream(self) -> BoxStream<'static, Result<Packet, Error>> {
        stream::unfold(self, |mut replies| async move { Some((replies.next().await?, replies)) })
            .boxed()
    }

    fn unpack(&mut self, message: sheaf_flight::Message) -> Result<(), Error> {
        let context = &self.shared.context;
        let frame = decode(message, context.config.max_frame_bytes())?;
        self.order.accept(&frame)?;
        context.metrics.received(&frame.packets);
        if let Some(waited) = self.shared.oldest() {
            self.shared.in_use.answered_after(waited);
        }
        self.ready.extend(frame.packets);
        Ok(())
    }

    /// A reply to the earliest request.
    fn answered(&mut self, packet: Packet) -> Result<Packet, Error> {
        let shared = &self.shared;
        let request = shared.unanswered().as_mut().and_then(VecDeque::pop_front);
        let Some(request) = request else {
            let text = "it has a reply to a request that was not made";
            return Err(self.fail(Error::frame(Reason::Sequence, text)));
        };
        let now = shared.context.clock.elapsed();
        request.place.answered(now.saturating_sub(request.sent), now);
        tracing::debug!(target: "transport", bytes = packet.len(), "message received from {}", shared.peer);
        Ok(packet)
    }

    fn end(&mut self) {
        self.answers = None;
        self.ready.clear();
        self.shared.unanswered().take();
    }

    fn fail(&mut self, error: Error) -> Error {
        self.end();
        self.shared.in_use.failed(error)
    }
}

/// The next message, unless a request waits too long for its reply.
async fn receive(
    shared: &Shared,
    answers: &mut MessageStream,
) -> Result<Option<sheaf_flight::Message>, Error> {
    let limit = shared.context.config.reply_timeout;
    loop {
        let waited = shared.oldest().unwrap_or_default();
        tokio::select! {
            biased;
            message = answers.next() => {
                return message.transpose().map_err(|error| Error::peer(shared.peer, error));
            }
            _ = shared.link.closed() => return Err(Error::Ended { peer: shared.peer }),
            () = shared.context.clock.sleep(limit.saturating_sub(waited)) => {
                if shared.oldest().is_some_and(|waited| waited >= limit) {
                    let what = "a request of a stream".to_owned();
                    return Err(Error::Deadline { peer: shared.peer, what, after: limit });
                }
            }
        }
    }
}

/// Opens a stream.
pub(crate) async fn open(
    context: &Arc<Context>,
    link: &Arc<Link>,
    lane: Lane,
    kind: &str,
) -> Result<(StreamSender, StreamReceiver), Error> {
    let peer = link.peer;
    let in_use = link.route().await?;
    let (packer, session) = context.packer(peer, lane);
    let (sender, receiver) = mpsc::channel(context.config.window.max_requests);
    let mut batches = Batches { context: Arc::clone(context), peer, packer, kind: Kind::Hello };
    let hello = batches.hello();
    batches.kind = Kind::Request;
    let packets = ReceiverStream::new(receiver).map(Ok).boxed();
    let requests = stream::iter([Ok(hello)]).chain(batches.frames(packets)).boxed();
    let limit = context.config.connect_timeout;
    let opening = async {
        let options = of_peer().deadline(limit);
        let connection = in_use.connection();
        let answers = connection.exchange(&[NAMESPACE, kind], &options, requests).await;
        let mut answers = answers.map_err(|error| Error::peer(peer, error))?;
        let mut order = Order::new(context.ends_to(peer).turned(), session, Kind::Hello);
        match answers.next().await {
            Some(Ok(hello)) => order.accept(&decode(hello, context.config.max_frame_bytes())?)?,
            Some(Err(error)) => return Err(Error::peer(peer, error)),
            None => return Err(Error::Ended { peer }),
        }
        order.turn(Kind::Reply);
        Ok((answers, order))
    };
    let opened = context.within(limit, peer, kind, opening).await;
    let (answers, order) = opened.map_err(|error| in_use.failed(error))?;
    let unanswered = Mutex::new(Some(VecDeque::new()));
    let (context, link) = (Arc::clone(context), Arc::clone(link));
    let shared = Arc::new(Shared { context, peer, link, in_use, unanswered });
    let sender = StreamSender { shared: Arc::clone(&shared), packets: sender };
    Ok((sender, StreamReceiver { shared, answers: Some(answers), order, ready: Queue::new() }))
}

impl Batches {
    /// The first frame of a stream.
    pub(crate) fn hello(&mut self) -> sheaf_flight::Message {
        let hello = Packet::of(self.context.hello.to_bytes());
        self.packer.frame(Kind::Hello, std::slice::from_ref(&hello)).message
    }
}
