//! Counts the messages that gRPC's own codec puts together.

use std::task::{Context, Poll, ready};

use futures::future::BoxFuture;
use sheaf_retry::Code;

use crate::budget::Charge;
use crate::error::Error;
use crate::wire::{COUNTED, Coming, Memory, PREFIX, Receiving, no_room, too_slow};

/// A message is counted in steps of this many bytes.
const STEP: usize = 64 << 10;

/// The messages of one request: counted as they come, each until the next one.
pub(super) struct Counting {
    receiving: Receiving,
    prefix: [u8; PREFIX],
    filled: usize,
    /// Bytes of the message that are still to come.
    left: usize,
    /// Bytes of it that have come.
    received: usize,
    coming: Option<Coming>,
    /// Of the message that is whole, which its service has now.
    _whole: Option<Charge>,
    room: Option<(u64, BoxFuture<'static, bool>)>,
    /// Bytes of one message.
    limit: usize,
    /// How that is told, such as `max_action_bytes is 10`.
    told: String,
    /// The length of a message that is over the limit.
    too_long: Option<usize>,
}

impl Counting {
    /// For messages of at most `limit` bytes, told as `told`.
    pub(super) fn new(memory: &Memory, limit: usize, told: String) -> Self {
        Counting {
            receiving: memory.receiving(),
            prefix: [0; PREFIX],
            filled: 0,
            left: 0,
            received: 0,
            coming: None,
            _whole: None,
            room: None,
            limit,
            told,
            too_long: None,
        }
    }

    /// Whether the request is to end: so that others find memory, or for a
    /// message of it that says to be too long, before any of that is read.
    pub(super) fn check(&self, context: &mut Context<'_>) -> Result<(), Error> {
        if let Some(length) = self.too_long {
            let text = format!("the request has {length} bytes, {}", self.told);
            return Err(Error::new(Code::LimitExceeded, text));
        }
        if self.receiving.is_ended(context) { Err(too_slow()) } else { Ok(()) }
    }

    /// Takes note of what has come, before it is counted.
    pub(super) fn pass(&mut self, mut piece: &[u8]) {
        while !piece.is_empty() {
            if self.left > 0 {
                let count = piece.len().min(self.left);
                self.left -= count;
                self.received += count;
                piece = &piece[count..];
                if let Some(coming) = &self.coming {
                    coming.fill(count);
                }
                continue;
            }
            let count = piece.len().min(PREFIX - self.filled);
            self.prefix[self.filled..self.filled + count].copy_from_slice(&piece[..count]);
            self.filled += count;
            piece = &piece[count..];
            if self.filled == PREFIX {
                let [_, length @ ..] = self.prefix;
                self.left = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
                if self.left > self.limit {
                    self.too_long.get_or_insert(self.left);
                }
                (self.filled, self.received) = (0, 0);
                (self.coming, self._whole) = (None, None);
            }
        }
    }

    /// Has counted what has come.
    ///
    /// # Errors
    /// `memory_full` where there is no room.
    pub(super) fn poll_counted(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        loop {
            if let Some((bytes, room)) = &mut self.room {
                let is_made = ready!(room.as_mut().poll(context));
                let error = no_room(*bytes);
                self.room = None;
                if !is_made {
                    return Poll::Ready(Err(error));
                }
            }
            if self.received < COUNTED {
                return Poll::Ready(Ok(()));
            }
            let receiving = &self.receiving;
            let coming = self.coming.get_or_insert_with(|| receiving.elsewhere());
            let lacking = (self.received.next_multiple_of(STEP) as u64) - coming.bytes();
            if lacking > 0 && !coming.grow(lacking) {
                self.room = Some((lacking, receiving.make_room(lacking)));
                continue;
            }
            if self.left == 0 {
                self.received = 0;
                self._whole = self.coming.take().and_then(Coming::whole);
            }
            return Poll::Ready(Ok(()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::Waker;

    use sheaf_retry::{Retryable as _, SystemClock};

    use super::*;
    use crate::budget::{Budget, MemoryBudget};

    #[test]
    fn a_message_is_counted_as_it_comes_and_until_the_next() {
        let budget: Arc<dyn MemoryBudget> = Budget::new(1 << 20);
        let memory = Memory::of_server(Some(Arc::clone(&budget)), SystemClock::shared());
        let mut counting = Counting::new(&memory, usize::MAX, String::new());
        let mut context = Context::from_waker(Waker::noop());
        let mut pass = |bytes: &[u8]| {
            counting.pass(bytes);
            counting.poll_counted(&mut context)
        };
        let used = || (1 << 20) - budget.spare();
        let prefix = |length: u32| [&[0][..], &length.to_be_bytes()].concat();
        assert!(pass(&prefix(300_000)).is_ready());
        assert_eq!(used(), 0, "a length is only a claim");
        assert!(pass(&[1; 100_000]).is_ready());
        assert_eq!(used(), 128 << 10);
        assert!(pass(&[1; 200_000]).is_ready());
        assert_eq!(used(), 320 << 10, "its service has it");
        assert!(pass(&[prefix(10), vec![1; 10]].concat()).is_ready());
        assert_eq!(used(), 0);
        let Poll::Ready(Err(error)) = pass(&[prefix(2 << 20), vec![1; 2_000_000]].concat()) else {
            panic!("it has no room")
        };
        assert_eq!(error.code(), Code::MemoryFull);
        assert!(error.retry_after().is_some());
    }

    #[test]
    fn a_message_over_the_limit_is_known_by_its_length_alone() {
        let mut counting =
            Counting::new(&Memory::of_client(SystemClock::shared()), 10, "told".to_owned());
        let mut context = Context::from_waker(Waker::noop());
        counting.pass(&[&[0, 0, 0, 0, 10][..], &[1; 10], &[0, 0, 0]].concat());
        counting.check(&mut context).unwrap();
        counting.pass(&[0, 11]);
        let error = counting.check(&mut context).unwrap_err();
        assert_eq!(error.code(), Code::LimitExceeded, "{error}");
    }
}
