//! What was handed to HTTP/2 and has not gone out: who does not read is not
//! waited for.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use sheaf_retry::SharedClock;

/// Bytes that are handed on at once: a longer piece would count as no progress
/// while it goes out to a slow reader.
const PIECE: usize = 1 << 20;

/// Answers that are not longer may end while they are still to go out: they fit
/// into any window.
const SHORT: usize = 16 << 10;

tokio::task_local! {
    /// Of the stream that the task serves.
    static OUTFLOW: Arc<Outflow>;
}

/// The answer of one call on its way out.
#[derive(Default)]
pub(super) struct Outflow {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Bytes that were handed on and are still there.
    waiting: usize,
    /// Bytes that were handed on.
    handed: usize,
    /// Pieces that were handed on or went out, to tell progress by.
    steps: u64,
    /// Nobody read for too long.
    has_stalled: bool,
    /// Woken when all is out.
    out: Option<Waker>,
}

impl Outflow {
    /// That of the call which is being served; one that nobody looks at
    /// outside of a server.
    pub(super) fn current() -> Arc<Self> {
        OUTFLOW.try_with(Arc::clone).unwrap_or_default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first part of `rest` to hand on, which tells when it has gone out.
    pub(super) fn hand_on(self: &Arc<Self>, rest: &mut Bytes) -> Bytes {
        let piece = rest.split_to(rest.len().min(PIECE));
        if piece.is_empty() {
            return piece;
        }
        let mut state = self.state();
        state.waiting += piece.len();
        state.handed = state.handed.saturating_add(piece.len());
        state.steps += 1;
        drop(state);
        Bytes::from_owner(Handed { piece, outflow: Arc::clone(self) })
    }

    /// Whether the answer may end: what ended is not watched any more.
    pub(super) fn poll_end(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state();
        if state.handed <= SHORT || state.waiting == 0 {
            return Poll::Ready(());
        }
        state.out = Some(context.waker().clone());
        Poll::Pending
    }

    /// Whether the call ends because nobody read.
    pub(super) fn has_stalled(&self) -> bool {
        self.state().has_stalled
    }

    /// Ready when nothing is to go out.
    fn poll_out(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state();
        if state.waiting == 0 {
            return Poll::Ready(());
        }
        state.out = Some(context.waker().clone());
        Poll::Pending
    }
}

/// Finds that something was to go out for so long, and nothing did.
struct Stall<'a> {
    outflow: &'a Outflow,
    clock: &'a SharedClock,
    patience: Duration,
    /// What had happened when the time began to run.
    timer: Option<(u64, BoxFuture<'static, ()>)>,
}

impl Stall<'_> {
    /// Looks again whenever the task that serves the stream is woken: the time
    /// runs on while a reader keeps up, and nobody is told of each piece.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            let (waiting, steps) = {
                let state = self.outflow.state();
                (state.waiting, state.steps)
            };
            let Some((before, timer)) = &mut self.timer else {
                if waiting == 0 {
                    return Poll::Pending;
                }
                let (clock, patience) = (Arc::clone(self.clock), self.patience);
                self.timer = Some((steps, Box::pin(async move { clock.sleep(patience).await })));
                continue;
            };
            ready!(timer.as_mut().poll(context));
            if waiting > 0 && steps == *before {
                self.outflow.state().has_stalled = true;
                return Poll::Ready(());
            }
            self.timer = None;
        }
    }
}

/// A piece that HTTP/2 has.
struct Handed {
    piece: Bytes,
    outflow: Arc<Outflow>,
}

impl AsRef<[u8]> for Handed {
    fn as_ref(&self) -> &[u8] {
        &self.piece
    }
}

impl Drop for Handed {
    fn drop(&mut self) {
        let mut state = self.outflow.state();
        state.waiting -= self.piece.len();
        state.steps += 1;
        let out = if state.waiting == 0 { state.out.take() } else { None };
        drop(state);
        if let Some(out) = out {
            out.wake();
        }
    }
}

/// How the stream of one call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// All that was answered is out.
    Out,
    /// Its reader did not read, and the stream was broken off.
    BrokenOff,
    /// The same after its end, when only the connection can be closed.
    Left,
}

/// Serves one stream until all of it is out, or its reader takes nothing for
/// so long.
pub(super) async fn watch(
    stream: impl Future<Output = ()>,
    clock: &SharedClock,
    patience: Duration,
) -> Ended {
    let outflow = Arc::new(Outflow::default());
    let mut stall = Stall { outflow: &outflow, clock, patience, timer: None };
    {
        let mut served = std::pin::pin!(OUTFLOW.scope(Arc::clone(&outflow), stream));
        let served = poll_fn(|context| match served.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(true),
            Poll::Pending => stall.poll(context).map(|()| false),
        });
        if !served.await {
            return Ended::BrokenOff;
        }
    }
    let out = poll_fn(|context| match outflow.poll_out(context) {
        Poll::Ready(()) => Poll::Ready(true),
        Poll::Pending => stall.poll(context).map(|()| false),
    });
    if out.await { Ended::Out } else { Ended::Left }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use futures::FutureExt as _;
    use sheaf_retry::{ManualClock, Timestamp};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    #[test]
    fn a_reader_that_takes_something_now_and_then_is_waited_for() {
        let clock = ManualClock::new(Timestamp::EPOCH);
        let shared: SharedClock = clock.clone();
        let outflow = Arc::new(Outflow::default());
        let mut long = Bytes::from(vec![1; PIECE * 2 + 1]);
        let first = outflow.hand_on(&mut long);
        let second = outflow.hand_on(&mut long);
        assert_eq!((first.len(), second.len(), long.len()), (PIECE, PIECE, 1));
        let mut stall =
            Stall { outflow: &outflow, clock: &shared, patience: PATIENCE, timer: None };
        let mut context = Context::from_waker(Waker::noop());
        assert!(stall.poll(&mut context).is_pending());
        clock.advance(PATIENCE - Duration::from_secs(1));
        drop(first);
        clock.advance(Duration::from_secs(1));
        assert!(stall.poll(&mut context).is_pending(), "it took a piece");
        clock.advance(PATIENCE);
        assert!(stall.poll(&mut context).is_ready() && outflow.has_stalled());
        drop(second);
        let mut stall = Stall { timer: None, ..stall };
        assert!(stall.poll(&mut context).is_pending() && stall.timer.is_none(), "nothing waits");
    }

    #[tokio::test]
    async fn what_is_left_when_a_stream_is_over_is_watched_too() {
        let clock = ManualClock::new(Timestamp::EPOCH);
        let shared: SharedClock = clock.clone();
        let kept = Mutex::new(None);
        let stream = async {
            let piece = Outflow::current().hand_on(&mut Bytes::from_static(b"answer"));
            *kept.lock().unwrap() = Some(piece);
        };
        let mut watched = Box::pin(watch(stream, &shared, PATIENCE));
        assert!(watched.as_mut().now_or_never().is_none());
        clock.advance(PATIENCE);
        assert_eq!(watched.await, Ended::Left);
        assert_eq!(watch(async {}, &shared, PATIENCE).await, Ended::Out);
    }

    #[test]
    fn a_long_answer_ends_when_it_is_out_and_a_short_one_at_once() {
        let outflow = Arc::new(Outflow::default());
        let mut context = Context::from_waker(Waker::noop());
        let short = outflow.hand_on(&mut Bytes::from(vec![1; SHORT]));
        assert!(outflow.poll_end(&mut context).is_ready());
        let more = outflow.hand_on(&mut Bytes::from_static(b"x"));
        drop(short);
        assert!(outflow.poll_end(&mut context).is_pending());
        drop(more);
        assert!(outflow.poll_end(&mut context).is_ready());
    }
}
