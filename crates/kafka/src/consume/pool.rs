//! Memory of messages that were converted, for those that come: new memory costs
//! more than what is written into it.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::messages::Messages;

/// Bytes that are kept at most.
const MOST_BYTES: usize = 8 << 20;
/// The same, as a number of chunks.
const MOST: usize = 64;

/// What is kept.
#[derive(Debug, Default)]
pub(super) struct Pool {
    kept: Mutex<Vec<Messages>>,
}

impl Pool {
    /// No messages, with room for some where there is any.
    pub(super) fn take(self: &Arc<Self>) -> Pooled {
        let messages = self.kept().pop().unwrap_or_default();
        Pooled { messages, pool: Some(Arc::clone(self)) }
    }

    fn give(&self, mut messages: Messages) {
        messages.clear();
        let mut kept = self.kept();
        let bytes: usize = kept.iter().map(Messages::room_bytes).sum();
        if kept.len() < MOST && bytes + messages.room_bytes() <= MOST_BYTES {
            kept.push(messages);
        }
    }

    fn kept(&self) -> MutexGuard<'_, Vec<Messages>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Messages whose memory goes back to where it is from.
#[derive(Debug)]
pub(crate) struct Pooled {
    messages: Messages,
    pool: Option<Arc<Pool>>,
}

impl Deref for Pooled {
    type Target = Messages;

    fn deref(&self) -> &Messages {
        &self.messages
    }
}

impl DerefMut for Pooled {
    fn deref_mut(&mut self) -> &mut Messages {
        &mut self.messages
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.take() {
            pool.give(std::mem::take(&mut self.messages));
        }
    }
}

#[cfg(test)]
impl From<Messages> for Pooled {
    fn from(messages: Messages) -> Self {
        Pooled { messages, pool: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_comes_back_empty_and_no_more_than_is_allowed() {
        let pool = Arc::new(Pool::default());
        let filled = |bytes: usize| {
            let mut messages = pool.take();
            messages.push(1, None, None, Some(&vec![0; bytes]), []);
            messages
        };
        drop(filled(1_000));
        let again = pool.take();
        assert!(again.is_empty() && again.room_bytes() >= 1_000);
        assert_eq!(pool.take().room_bytes(), 0);
        drop(again);
        drop(filled(MOST_BYTES));
        let many: Vec<_> = (0..2 * MOST).map(|_| filled(10)).collect();
        drop(many);
        let kept = pool.kept();
        assert!(kept.len() <= MOST);
        assert!(kept.iter().map(Messages::room_bytes).sum::<usize>() <= MOST_BYTES);
    }
}
