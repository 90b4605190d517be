//! The bytes of a call, both ways: watched, counted, cut.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use sheaf_retry::{Code, Retryable as _};
use tonic::Status;
use tonic::body::Body;

use super::call::{End, ended, panic_trailers, trailers};
use super::counting::Counting;
use super::gate::CallGuard;
use super::outflow::Outflow;
use crate::error::Error;
use crate::router::Core;
use crate::wire::Sending;

/// The answer of a call: holds the call's place until it is sent, contains
/// panics of the stream behind it, and ends early when the server is closed or
/// its token counts no more.
pub(super) struct CallBody {
    inner: Body,
    guard: CallGuard,
    end: Pin<Box<dyn Future<Output = Error> + Send>>,
    outflow: Arc<Outflow>,
    /// Counts what gRPC's own codec writes.
    sending: Option<Sending>,
    /// Of a long piece that which was not handed on yet.
    rest: Bytes,
    /// What comes when all that was handed on is out.
    trailers: Option<Frame<Bytes>>,
    over: bool,
}

impl CallBody {
    pub(super) fn new(inner: Body, guard: CallGuard, end: End, sending: Option<Sending>) -> Self {
        let (outflow, rest) = (Outflow::current(), Bytes::new());
        let end = Box::pin(end.come());
        CallBody { inner, guard, end, outflow, sending, rest, trailers: None, over: false }
    }

    /// The next frame of the answer, with panics contained.
    fn poll_inner(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if !self.rest.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(self.outflow.hand_on(&mut self.rest)))));
        }
        if self.trailers.is_none() {
            if let Some(sending) = &mut self.sending
                && let Err(error) = ready!(sending.poll_counted(0, context))
            {
                self.over = true;
                self.guard.end(error.code().as_str());
                return Poll::Ready(Some(Ok(Frame::trailers(trailers(error)))));
            }
            let inner = Pin::new(&mut self.inner);
            let frame = match catch_unwind(AssertUnwindSafe(|| inner.poll_frame(context))) {
                Ok(frame) => ready!(frame),
                Err(panic) => {
                    self.over = true;
                    let trailers = panic_trailers(&mut self.guard, panic.as_ref());
                    return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                }
            };
            match frame.map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) => {
                    self.rest = match &self.sending {
                        Some(sending) => sending.held(data),
                        None => data,
                    };
                    let piece = self.outflow.hand_on(&mut self.rest);
                    return Poll::Ready(Some(Ok(Frame::data(piece))));
                }
                Some(Ok(Err(trailers))) => self.trailers = Some(trailers),
                Some(Err(status)) => return Poll::Ready(Some(Err(status))),
                None => return Poll::Ready(None),
            }
        }
        // An answer that has ended is not watched any more, whoever reads it.
        ready!(self.outflow.poll_end(context));
        Poll::Ready(self.trailers.take().map(Ok))
    }
}

impl http_body::Body for CallBody {
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
        if let Poll::Ready(error) = this.end.as_mut().poll(context) {
            this.over = true;
            this.guard.end(error.code().as_str());
            return Poll::Ready(Some(Ok(Frame::trailers(trailers(error)))));
        }
        let frame = ready!(this.poll_inner(context));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(code) = frame.trailers_ref().and_then(ended) {
                    this.guard.end(code);
                }
            }
            Some(Err(_)) | None => this.over = true,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        let is_left = !self.rest.is_empty() || self.trailers.is_some();
        self.over || (!is_left && self.inner.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        if self.rest.is_empty() { self.inner.size_hint() } else { SizeHint::default() }
    }
}

impl Drop for CallBody {
    fn drop(&mut self) {
        if self.outflow.has_stalled() {
            self.guard.end(Code::DeadlineExceeded.as_str());
        }
    }
}

/// What a client sends: an error once it has been silent for too long, and an
/// error where it broke off.
///
/// The time runs only while someone waits for bytes: a slow handler is not
/// the client's fault.
pub(super) struct RequestBody {
    inner: Body,
    core: Arc<Core>,
    /// How long the client may be silent.
    patience: Option<Duration>,
    silence: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// Counts what gRPC's own codec is to read.
    counting: Option<Counting>,
    /// What came, while memory is made for it.
    waiting: Option<Frame<Bytes>>,
    over: bool,
}

impl RequestBody {
    pub(super) fn new(inner: Body, core: Arc<Core>, patience: Option<Duration>) -> Self {
        let (silence, counting, waiting) = (None, None, None);
        RequestBody { inner, core, patience, silence, counting, waiting, over: false }
    }

    /// Has what comes counted, as messages of gRPC's own codec of at most
    /// `limit` bytes, told as `told`.
    pub(super) fn counted(self, limit: usize, told: String) -> Self {
        let counting = Some(Counting::new(&self.core.memory, limit, told));
        RequestBody { counting, ..self }
    }

    /// The next frame, once there is memory for what it adds to.
    fn poll_counted(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(counting) = &mut self.counting else {
            return Pin::new(&mut self.inner).poll_frame(context);
        };
        if self.waiting.is_none() {
            let frame = Pin::new(&mut self.inner).poll_frame(context);
            if let Poll::Ready(Some(Ok(frame))) = frame {
                frame.data_ref().into_iter().for_each(|piece| counting.pass(piece));
                self.waiting = Some(frame);
            } else if frame.is_ready() {
                return frame;
            }
        }
        let counted = counting.check(context).map(|()| counting.poll_counted(context));
        match counted {
            Err(error) | Ok(Poll::Ready(Err(error))) => {
                let label = match error.code() {
                    Code::LimitExceeded => "message",
                    _ => "memory",
                };
                self.core.metrics.rejected(label);
                (self.over, self.counting, self.waiting) = (true, None, None);
                Poll::Ready(Some(Err(Status::from(error))))
            }
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(Ok(()))) => match self.waiting.take() {
                Some(frame) => Poll::Ready(Some(Ok(frame))),
                None => Poll::Pending,
            },
        }
    }

    /// A stream that was reset is not over, it is broken.
    ///
    /// tonic takes a request that the client cancelled for one that ended, and
    /// hyper one that was reset without an error: a put cut short would look
    /// complete. So the end counts only where HTTP/2 has seen it.
    fn seen(
        &mut self,
        frame: Option<Result<Frame<Bytes>, Status>>,
    ) -> Option<Result<Frame<Bytes>, Status>> {
        let broken = match &frame {
            Some(Ok(_)) => false,
            Some(Err(status)) => status.code() == tonic::Code::Cancelled,
            None => !http_body::Body::is_end_stream(&self.inner),
        };
        self.over = !matches!(frame, Some(Ok(_)));
        if broken { Some(Err(broken_off())) } else { frame }
    }
}

impl http_body::Body for RequestBody {
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
        let frame = this.poll_counted(context);
        if this.over {
            return frame;
        }
        if let Poll::Ready(frame) = frame {
            this.silence = None;
            return Poll::Ready(this.seen(frame));
        }
        if this.waiting.is_some() {
            // It is not the client who is waited for.
            return Poll::Pending;
        }
        let Some(patience) = this.patience else { return Poll::Pending };
        let silence = this.silence.get_or_insert_with(|| {
            let clock = Arc::clone(&this.core.clock);
            Box::pin(async move { clock.sleep(patience).await })
        });
        ready!(silence.as_mut().poll(context));
        this.over = true;
        this.core.metrics.rejected("idle");
        let error = Error::new(
            Code::DeadlineExceeded,
            format!(
                "the client sent nothing for {} ms, put_idle_timeout allows no more",
                patience.as_millis()
            ),
        );
        Poll::Ready(Some(Err(Status::from(error))))
    }

    fn is_end_stream(&self) -> bool {
        self.over || (self.waiting.is_none() && self.inner.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        if self.waiting.is_none() { self.inner.size_hint() } else { SizeHint::default() }
    }
}

/// [`Code::Cancelled`] under another status, since tonic would take
/// `CANCELLED` for the end of the stream.
fn broken_off() -> Status {
    let error = Error::new(Code::Cancelled, "the client broke off its stream");
    let named = Status::from(error);
    Status::with_metadata(tonic::Code::Aborted, named.message(), named.metadata().clone())
}
