//! The bytes of a call, both ways: watched, counted, cut.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use sheaf_retry::Code;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::Status;
use tonic::body::Body;

use super::call::{cut_error, ended, panic_trailers, trailers};
use super::gate::CallGuard;
use crate::error::Error;
use crate::router::Core;

/// The answer of a call: holds the call's place until it is sent, contains
/// panics of the stream behind it, and ends early when the server is closed.
pub(super) struct CallBody {
    inner: Body,
    guard: CallGuard,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    over: bool,
}

impl CallBody {
    pub(super) fn new(inner: Body, guard: CallGuard, cut: CancellationToken) -> Self {
        CallBody { inner, guard, cut: Box::pin(cut.cancelled_owned()), over: false }
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
        if this.cut.as_mut().poll(context).is_ready() {
            this.over = true;
            this.guard.end(Code::Draining.as_str());
            return Poll::Ready(Some(Ok(Frame::trailers(trailers(cut_error())))));
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

/// What a client sends: an error once it has been silent for too long.
///
/// The time runs only while someone waits for bytes: a slow handler is not
/// the client's fault.
pub(super) struct IdleBody {
    inner: Body,
    core: Arc<Core>,
    silence: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    over: bool,
}

impl IdleBody {
    pub(super) fn new(inner: Body, core: Arc<Core>) -> Self {
        IdleBody { inner, core, silence: None, over: false }
    }
}

impl http_body::Body for IdleBody {
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
            return Poll::Ready(frame);
        }
        let limit = this.core.limits.put_idle_timeout;
        let silence = this.silence.get_or_insert_with(|| {
            let clock = Arc::clone(&this.core.clock);
            Box::pin(async move { clock.sleep(limit).await })
        });
        ready!(silence.as_mut().poll(context));
        this.over = true;
        this.core.metrics.rejected("idle");
        let error = Error::new(
            Code::DeadlineExceeded,
            format!(
                "the client sent nothing for {} ms, put_idle_timeout allows no more",
                limit.as_millis()
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
