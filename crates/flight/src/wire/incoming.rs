//! The messages of a request or an answer, as its bytes come.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use arrow_flight::FlightDescriptor;
use bytes::Bytes;
use futures::Stream;
use futures::future::BoxFuture;
use http::HeaderMap;
use http_body::Body as _;
use tonic::Status;
use tonic::body::Body;

use super::decode::{Decoder, Received};
use super::memory::Memory;
use super::{no_room, too_slow};
use crate::error::Error;
use crate::metrics::Copies;

/// How a stream fails: its bytes are wrong, or no more of them come.
#[derive(Debug)]
pub(crate) enum Failure {
    /// What came is no stream of messages.
    Wrong(Error),
    /// gRPC says that the stream has failed.
    Status(Status),
    /// The stream ends within a message.
    Cut,
}

/// Whether a stream with this descriptor may go on.
pub(super) type Admit = Box<dyn FnOnce(&FlightDescriptor) -> Result<(), Error> + Send>;

/// Reads the messages of a body, and its trailers.
pub(crate) struct Incoming {
    body: Body,
    decoder: Decoder,
    piece: Bytes,
    /// While room is made for so many bytes more of a message.
    room: Option<(u64, BoxFuture<'static, bool>)>,
    /// Says whether a stream with this descriptor may go on.
    admit: Option<Admit>,
    /// What came behind the messages.
    trailers: Option<HeaderMap>,
    over: bool,
}

impl Incoming {
    /// The messages of `body`, each of at most `limit` bytes.
    pub(crate) fn new(body: Body, limit: usize, memory: Memory, copies: Copies) -> Self {
        let decoder = Decoder::new(limit, &memory, copies);
        let (piece, room, admit, trailers) = (Bytes::new(), None, None, None);
        Incoming { body, decoder, piece, room, admit, trailers, over: false }
    }

    /// Has the descriptor looked at as soon as it is there: what comes behind it
    /// may be long.
    pub(super) fn admitting(self, admit: Admit) -> Self {
        Incoming { admit: Some(admit), ..self }
    }

    /// Looks at the descriptor, if it is there and nobody has.
    fn check_descriptor(&mut self) -> Result<(), Error> {
        let Some(descriptor) = self.decoder.descriptor() else { return Ok(()) };
        self.admit.take().map_or(Ok(()), |admit| admit(descriptor))
    }

    /// What came behind the messages, once they are over.
    pub(crate) fn trailers(&self) -> Option<&HeaderMap> {
        self.trailers.as_ref()
    }

    /// Waits for the room that is being made for what is coming.
    ///
    /// # Errors
    /// `memory_full` where there is none, or the stream ends for others.
    fn poll_room(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.decoder.receiving().is_ended(context) {
            return Poll::Ready(Err(too_slow()));
        }
        let Some((bytes, room)) = &mut self.room else { return Poll::Ready(Ok(())) };
        let is_made = ready!(room.as_mut().poll(context));
        let error = no_room(*bytes);
        self.room = None;
        Poll::Ready(if is_made { Ok(()) } else { Err(error) })
    }

    /// It ends with this error, and what it held is free.
    fn fail(&mut self, error: Error) -> Failure {
        (self.over, self.room) = (true, None);
        self.decoder.give_up();
        Failure::Wrong(error)
    }

    fn end(&mut self) -> Option<Result<Received, Failure>> {
        self.over = true;
        let status = self.trailers.as_ref().and_then(Status::from_header_map);
        let has_failed = status.is_some_and(|status| status.code() != tonic::Code::Ok);
        // What the other end says of its failure is more than where it was.
        let is_whole = has_failed || self.decoder.is_between_messages();
        (!is_whole).then_some(Err(Failure::Cut))
    }
}

impl Stream for Incoming {
    type Item = Result<Received, Failure>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if this.over {
                return Poll::Ready(None);
            }
            match this.decoder.next(&mut this.piece) {
                Ok(Some(received)) => return Poll::Ready(Some(Ok(received))),
                Ok(None) => {}
                Err(error) => return Poll::Ready(Some(Err(this.fail(error)))),
            }
            if let Err(error) = this.check_descriptor() {
                return Poll::Ready(Some(Err(this.fail(error))));
            }
            if let Some(bytes) = this.decoder.lacking()
                && this.room.is_none()
            {
                this.room = Some((bytes, this.decoder.receiving().make_room(bytes)));
            }
            let is_short = this.room.is_some();
            if let Err(error) = ready!(this.poll_room(context)) {
                return Poll::Ready(Some(Err(this.fail(error))));
            }
            if is_short {
                continue;
            }
            // Nothing of the last piece is kept while the next one is waited for.
            this.piece = Bytes::new();
            match ready!(Pin::new(&mut this.body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(piece) => this.piece = piece,
                    Err(frame) => {
                        this.trailers = frame.into_trailers().ok();
                        return Poll::Ready(this.end());
                    }
                },
                Some(Err(status)) => {
                    this.over = true;
                    return Poll::Ready(Some(Err(Failure::Status(status))));
                }
                None => return Poll::Ready(this.end()),
            }
        }
    }
}
