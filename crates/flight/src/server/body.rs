//! The bytes of a call, both ways: watched, counted, cut.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use sheaf_retry::{Code, Retryable as _};
use tonic::Status;
use tonic::body::Body;

use super::call::{End, ended, panic_trailers, trailers};
use super::gate::CallGuard;
use crate::error::Error;
use crate::router::Core;

/// The answer of a call: holds the call's place until it is sent, contains
/// panics of the stream behind it, and ends early when the server is closed or
/// its token counts no more.
pub(super) struct CallBody {
    inner: Body,
    guard: CallGuard,
    end: Pin<Box<dyn Future<Output = Error> + Send>>,
    over: bool,
}

impl CallBody {
    pub(super) fn new(inner: Body, guard: CallGuard, end: End) -> Self {
        CallBody { inner, guard, end: Box::pin(end.come()), over: false }
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
        let inner = Pin::new(&mut this.inner);
        let frame = match catch_unwind(AssertUnwindSafe(|| inner.poll_frame(context))) {
            Ok(frame) => ready!(frame),
            Err(panic) => {
                this.over = true;
                let trailers = panic_trailers(&mut this.guard, panic.as_ref());
                return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
            }
        };
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
        self.over || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
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
    over: bool,
}

impl RequestBody {
    pub(super) fn new(inner: Body, core: Arc<Core>, patience: Option<Duration>) -> Self {
        RequestBody { inner, core, patience, silence: None, over: false }
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
        if let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(context) {
            this.silence = None;
            return Poll::Ready(this.seen(frame));
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
        self.over || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// [`Code::Cancelled`] under another status, since tonic would take
/// `CANCELLED` for the end of the stream.
fn broken_off() -> Status {
    let error = Error::new(Code::Cancelled, "the client broke off its stream");
    let named = Status::from(error);
    Status::with_metadata(tonic::Code::Aborted, named.message(), named.metadata().clone())
}
