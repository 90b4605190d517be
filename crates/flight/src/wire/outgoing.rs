//! The body of a request or an answer, as messages come.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use arrow_flight::FlightDescriptor;
use bytes::Bytes;
use futures::stream::{self, StreamExt as _};
use http_body::{Body, Frame};
use sheaf_retry::Code;
use tokio::sync::oneshot;
use tonic::Status;

use super::Sending;
use super::encode::Encoder;
use crate::error::Error;
use crate::handler::MessageStream;
use crate::metrics::Copies;
use crate::server::trailers;

/// Messages on their way out.
pub(super) struct Outgoing {
    messages: MessageStream,
    encoder: Encoder,
    /// Goes with the first message.
    descriptor: Option<Vec<u8>>,
    /// Whether trailers say how it ended, as an answer's do.
    is_answer: bool,
    /// How the messages ended.
    ended: Option<Result<(), Error>>,
    over: bool,
}

impl Outgoing {
    /// An answer: its trailers say how it ended.
    pub(super) fn answer(messages: MessageStream, copies: Copies, sending: Sending) -> Self {
        Self::new(messages, None, Encoder::new(copies, sending), true)
    }

    fn new(
        messages: MessageStream,
        descriptor: Option<Vec<u8>>,
        encoder: Encoder,
        is_answer: bool,
    ) -> Self {
        Outgoing { messages, encoder, descriptor, is_answer, ended: None, over: false }
    }

    /// Gathers messages until there is something to send.
    fn gather(&mut self, context: &mut Context<'_>) {
        while self.ended.is_none() && !self.encoder.is_full() {
            match self.messages.poll_next_unpin(context) {
                Poll::Ready(Some(Ok(message))) => {
                    self.encoder.push(message, self.descriptor.take().as_deref());
                }
                Poll::Ready(Some(Err(error))) => self.ended = Some(Err(error)),
                Poll::Ready(None) => self.ended = Some(Ok(())),
                Poll::Pending => break,
            }
        }
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        if this.over {
            return Poll::Ready(None);
        }
        if let Some(piece) = this.encoder.pop() {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        let gathered = this.encoder.gathered();
        if let Err(error) = ready!(this.encoder.sending.poll_counted(gathered, context)) {
            this.ended = Some(Err(error));
        }
        this.gather(context);
        // What was gathered goes out before more is waited for.
        if let Some(piece) = this.encoder.pop().or_else(|| this.encoder.cut()) {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        let Some(ended) = this.ended.take() else { return Poll::Pending };
        this.over = true;
        let status = match (ended, this.is_answer) {
            (Ok(()), false) => return Poll::Ready(None),
            (Err(error), false) => return Poll::Ready(Some(Err(Status::from(error)))),
            (Ok(()), true) => trailers(Status::ok("")),
            (Err(error), true) => trailers(Status::from(error)),
        };
        Poll::Ready(Some(Ok(Frame::trailers(status))))
    }

    fn is_end_stream(&self) -> bool {
        self.over
    }
}

/// The body of a request, the first of its messages with the descriptor.
pub(crate) fn requests(
    descriptor: &FlightDescriptor,
    messages: MessageStream,
    copies: Copies,
) -> tonic::body::Body {
    let descriptor = Some(prost::Message::encode_to_vec(descriptor));
    let encoder = Encoder::new(copies, Sending::new(None));
    tonic::body::Body::new(Outgoing::new(messages, descriptor, encoder, false))
}

/// The messages of a source up to its first error, and where that turns up; one
/// of more than `limit` bytes is an error.
///
/// An orderly end would tell the server to keep what it has. So the last item of
/// the messages is an error then, and their stream is reset, which the server
/// sees as broken off. The same where the receiver is closed: nobody waits for
/// the answer any more.
pub(crate) fn source(
    messages: MessageStream,
    limit: usize,
) -> (MessageStream, oneshot::Receiver<Error>) {
    let (failed, failure) = oneshot::channel();
    let state = Some((messages, failed));
    let sound = stream::unfold(state, move |state| async move {
        let (mut messages, mut failed) = state?;
        let next = tokio::select! {
            biased;
            () = failed.closed() => return Some((Err(broken_off()), None)),
            next = messages.next() => next?,
        };
        let checked = next.and_then(|message| message.check_size(limit).map(|()| message));
        match checked {
            Ok(message) => Some((Ok(message), Some((messages, failed)))),
            Err(error) => {
                // Nobody listens any more where the call is over already.
                drop(failed.send(error));
                Some((Err(broken_off()), None))
            }
        }
    });
    (sound.boxed(), failure)
}

fn broken_off() -> Error {
    Error::new(Code::Cancelled, "the client breaks off its stream")
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use http_body_util::BodyExt as _;

    use super::*;
    use crate::error::invalid;
    use crate::message::Message;

    fn message() -> Message {
        Message::new(Bytes::from_static(b"h"), Bytes::new())
    }

    #[tokio::test]
    async fn an_error_of_the_source_is_no_end_of_a_request() {
        let messages = stream::iter([Ok(message()), Err(invalid("broken"))]).boxed();
        let (messages, mut failure) = source(messages, 1 << 20);
        let mut body = requests(&FlightDescriptor::default(), messages, Copies::default());
        assert!(body.frame().await.unwrap().unwrap().is_data());
        assert!(body.frame().await.unwrap().is_err());
        assert_eq!(failure.try_recv().unwrap().message(), "broken");
    }

    #[tokio::test]
    async fn a_request_that_nobody_waits_for_is_broken_off() {
        let (messages, failure) = source(stream::pending().boxed(), 1 << 20);
        let mut body = requests(&FlightDescriptor::default(), messages, Copies::default());
        assert!(body.frame().now_or_never().is_none());
        drop(failure);
        assert!(body.frame().await.unwrap().is_err());
    }

    #[tokio::test]
    async fn an_answer_ends_with_its_status() {
        for (last, code) in [(None, "0"), (Some(Err(invalid("broken"))), "3")] {
            let messages = stream::iter([Some(Ok(message())), last].into_iter().flatten()).boxed();
            let mut body = Outgoing::answer(messages, Copies::default(), Sending::new(None));
            assert!(body.frame().await.unwrap().unwrap().is_data());
            let trailers = body.frame().await.unwrap().unwrap().into_trailers().unwrap();
            assert_eq!(trailers["grpc-status"], code);
            assert!(body.frame().await.is_none());
        }
    }

    #[tokio::test]
    async fn what_is_gathered_goes_out_before_more_is_waited_for() {
        let messages = stream::iter([Ok(message())]).chain(stream::pending()).boxed();
        let mut body = Outgoing::answer(messages, Copies::default(), Sending::new(None));
        assert!(body.frame().now_or_never().unwrap().unwrap().unwrap().is_data());
        assert!(body.frame().now_or_never().is_none());
    }
}
