//! Answers that come together are read one after the other.
//!
//! The server answers what it finds in its sockets at once. Read together, the answers would
//! make their callers ask together again: the server would wait while they are read, and the
//! callers while the server works. So before the next answer is read, who was told the one
//! before gets the time to ask again, and the server has work meanwhile.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Mutex, MutexGuard};

/// Steps of the runtime from an answer that was read until its caller has asked again.
const STEPS: u32 = 8;

/// Calls that are on their way or being read.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    away: AtomicUsize,
    reading: Mutex<()>,
}

/// A call that is on its way.
pub(crate) struct Away<'a>(&'a Turns);

/// The right to read an answer.
pub(crate) struct Turn<'a> {
    _away: Away<'a>,
    _reading: Option<MutexGuard<'a, ()>>,
}

impl Drop for Away<'_> {
    fn drop(&mut self) {
        self.0.away.fetch_sub(1, Ordering::Relaxed);
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
    /// Its answer is there: waits for its turn to be read.
    pub(crate) async fn answered(self) -> Turn<'a> {
        let turns = self.0;
        if turns.away.load(Ordering::Relaxed) < 2 {
            return Turn { _away: self, _reading: None };
        }
        let reading = turns.reading.lock().await;
        for _ in 0..STEPS {
            tokio::task::yield_now().await;
        }
        Turn { _away: self, _reading: Some(reading) }
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
    async fn a_call_that_is_given_up_keeps_nobody_waiting() {
        let turns = Turns::default();
        let (first, second) = (turns.enter(), turns.enter());
        let reading = first.answered().await;
        assert!(futures::poll!(std::pin::pin!(second.answered())).is_pending());
        drop(reading);
        assert_eq!(turns.away.load(Ordering::Relaxed), 0);
        drop(turns.enter().answered().await);
    }
}
