//! Answers that come together are read one after the other.
//!
//! The server answers what it finds in its sockets at once. Read together, the answers would
//! make their callers ask together again: the server would wait while they are read, and the
//! callers while the server works. So before the next answer is read, who was told the one
//! before gets the time to ask again, and the server has work meanwhile.

use std::sync::atomic::{AtomicU32, Ordering};

/// Steps of the runtime from an answer that was read until its caller has asked again.
const STEPS: u32 = 8;

/// Calls that are on their way or being read.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    away: AtomicU32,
    reading: AtomicU32,
}

/// A call that is on its way.
pub(crate) struct Away<'a>(&'a Turns);

/// An answer that is being read.
pub(crate) struct Turn<'a> {
    away: Away<'a>,
}

impl Drop for Away<'_> {
    fn drop(&mut self) {
        self.0.away.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.away.0.reading.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Turns {
    /// Notes that a call is sent.
    pub(crate) fn enter(&self) -> Away<'_> {
        self.away.fetch_add(1, Ordering::Relaxed);
        Away(self)
    }
}

impl<'a> Away<'a> {
    /// Its answer is there: lets those go before it whose answers were there before. It
    /// waits for nobody in particular: a caller may leave his answer unread.
    pub(crate) async fn answered(self) -> Turn<'a> {
        let turns = self.0;
        let before = turns.reading.fetch_add(1, Ordering::Relaxed);
        let turn = Turn { away: self };
        if turns.away.load(Ordering::Relaxed) > 1 {
            for _ in 0..STEPS * (before + 1) {
                tokio::task::yield_now().await;
            }
        }
        turn
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex as Log};

    use tokio::sync::{Barrier, oneshot};

    use super::*;

    /// Two answers come together. Whoever was told the first asks again, by way of another
    /// task, before the second is read.
    #[tokio::test]
    async fn who_was_told_asks_again_before_the_next_answer_is_read() {
        let (turns, answers) = (Arc::new(Turns::default()), Arc::new(Barrier::new(2)));
        let log = Arc::new(Log::new(Vec::new()));
        let caller = |name: &'static str| {
            let (turns, answers, log) =
                (Arc::clone(&turns), Arc::clone(&answers), Arc::clone(&log));
            let (tell, told) = oneshot::channel();
            let reader = Arc::clone(&log);
            tokio::spawn(async move {
                let away = turns.enter();
                answers.wait().await;
                let _turn = away.answered().await;
                reader.lock().unwrap().push(format!("{name} is read"));
                tell.send(()).unwrap();
            });
            tokio::spawn(async move {
                told.await.unwrap();
                log.lock().unwrap().push(format!("{name} asks again"));
            })
        };
        for caller in [caller("a"), caller("b")] {
            caller.await.unwrap();
        }
        let log = log.lock().unwrap();
        let first = &log[0][..1];
        assert_eq!(log[1], format!("{first} asks again"), "{log:?}");
        assert_eq!(turns.away.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn a_caller_who_leaves_his_answer_unread_keeps_nobody_waiting() {
        let turns = Turns::default();
        let (first, second, third) = (turns.enter(), turns.enter(), turns.enter());
        let _unread = first.answered().await;
        let mut given_up = Box::pin(second.answered());
        assert!(futures::poll!(given_up.as_mut()).is_pending());
        drop(third.answered().await);
        drop(given_up);
        assert_eq!(turns.reading.load(Ordering::Relaxed), 1);
        assert_eq!(turns.away.load(Ordering::Relaxed), 1);
    }
}
