//! Counts what was written to be sent, and has not gone out.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use sheaf_retry::Code;

use super::COUNTED;
use crate::budget::{Charge, MemoryBudget};
use crate::error::Error;

/// It is counted in steps of this many bytes.
const STEP: usize = 64 << 10;

/// When somebody whose answer found no memory may come back.
const FULL_RETRY: Duration = Duration::from_secs(1);

/// What one call has written for its other end. Bodies that go out as they lie
/// in memory are no part of it: who has them counts them.
pub(crate) struct Sending {
    budget: Option<Arc<dyn MemoryBudget>>,
    charge: Charge,
    held: Arc<AtomicUsize>,
    room: Option<BoxFuture<'static, bool>>,
}

impl Sending {
    pub(crate) fn new(budget: Option<Arc<dyn MemoryBudget>>) -> Self {
        let (charge, held) = (Charge::new(budget.clone()), Arc::default());
        Sending { budget, charge, held, room: None }
    }

    /// A piece that counts for as long as there is something of it.
    pub(crate) fn held(&self, piece: Bytes) -> Bytes {
        self.held.fetch_add(piece.len(), Ordering::Relaxed);
        Bytes::from_owner(Held { piece, held: Arc::clone(&self.held) })
    }

    /// Ready when there is memory for what was written, and `more`.
    ///
    /// # Errors
    /// `memory_full`.
    pub(crate) fn poll_counted(
        &mut self,
        more: usize,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), Error>> {
        let Some(budget) = &self.budget else { return Poll::Ready(Ok(())) };
        loop {
            if let Some(room) = &mut self.room {
                let is_made = ready!(room.as_mut().poll(context));
                self.room = None;
                if !is_made {
                    let text = "no memory for an answer; ask again";
                    let error = Error::new(Code::MemoryFull, text);
                    return Poll::Ready(Err(error.with_retry_after(FULL_RETRY)));
                }
            }
            let held = self.held.load(Ordering::Relaxed) + more;
            if held <= COUNTED {
                // Part of what each call is counted with.
                self.charge = Charge::new(Some(Arc::clone(budget)));
                return Poll::Ready(Ok(()));
            }
            let needed = held.next_multiple_of(STEP) as u64;
            let lacking = needed.saturating_sub(self.charge.bytes());
            if lacking == 0 || self.charge.grow(lacking) {
                return Poll::Ready(Ok(()));
            }
            let budget = Arc::clone(budget);
            self.room = Some(Box::pin(async move { budget.make_room(lacking).await }));
        }
    }
}

struct Held {
    piece: Bytes,
    held: Arc<AtomicUsize>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.piece
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.held.fetch_sub(self.piece.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use sheaf_retry::Retryable as _;

    use super::*;
    use crate::budget::Budget;

    #[test]
    fn what_waits_to_go_out_is_counted_and_a_little_is_not() {
        let budget: Arc<dyn MemoryBudget> = Budget::new(200 << 10);
        let mut sending = Sending::new(Some(Arc::clone(&budget)));
        let mut context = Context::from_waker(Waker::noop());
        let mut poll = |sending: &mut Sending, more| sending.poll_counted(more, &mut context);
        assert!(matches!(poll(&mut sending, COUNTED), Poll::Ready(Ok(()))));
        assert_eq!(budget.spare(), 200 << 10);
        let piece = sending.held(Bytes::from(vec![1; 100 << 10]));
        assert!(matches!(poll(&mut sending, 0), Poll::Ready(Ok(()))));
        assert_eq!(budget.spare(), 72 << 10);
        let Poll::Ready(Err(error)) = poll(&mut sending, 100 << 10) else {
            panic!("there is no room for twice as much")
        };
        assert_eq!(error.code(), Code::MemoryFull);
        let part = piece.slice(..1);
        drop(piece);
        assert!(poll(&mut sending, 0).is_ready() && budget.spare() == 72 << 10);
        drop(part);
        assert!(poll(&mut sending, 0).is_ready() && budget.spare() == 200 << 10);
    }
}
