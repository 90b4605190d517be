//! Who stands still on purpose, or is slow.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sheaf_retry::SharedClock;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::driver::{Disturbance, LaunchId};

/// How long what is slowed runs each time.
const RUNS: Duration = Duration::from_millis(10);

/// What can be stopped for a while. Both answer `false` where that cannot be done any more.
pub(crate) trait Halts: Send + Sync {
    /// Stops it.
    fn halt(&self) -> impl Future<Output = bool> + Send;

    /// Has it go on.
    fn go_on(&self) -> impl Future<Output = bool> + Send;
}

/// One at a time for each instance.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disturbed(Arc<Mutex<HashMap<LaunchId, Told>>>);

#[derive(Clone, Debug)]
struct Told {
    /// It is to end.
    end: CancellationToken,
    /// Nobody stops the instance any more.
    over: CancellationToken,
}

/// The one disturbance of an instance.
#[derive(Debug)]
pub(crate) struct Turn {
    id: LaunchId,
    end: CancellationToken,
    disturbed: Disturbed,
    _over: DropGuard,
}

impl Disturbed {
    fn all(&self) -> MutexGuard<'_, HashMap<LaunchId, Told>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None` where it is disturbed already.
    pub(crate) fn begin(&self, id: &LaunchId) -> Option<Turn> {
        let mut all = self.all();
        if all.contains_key(id) {
            return None;
        }
        let (end, over) = (CancellationToken::new(), CancellationToken::new());
        let turn = Turn {
            id: id.clone(),
            end: end.clone(),
            disturbed: self.clone(),
            _over: over.clone().drop_guard(),
        };
        all.insert(id.clone(), Told { end, over });
        Some(turn)
    }

    /// Ends what disturbs it, and waits until that is over; whether there was something.
    pub(crate) async fn end(&self, id: &LaunchId) -> bool {
        let Some(Told { end, over }) = self.all().get(id).cloned() else { return false };
        end.cancel();
        over.cancelled().await;
        true
    }
}

impl Turn {
    /// What was stopped stands still or is slow for as long as it is to be. It runs afterwards,
    /// unless this was ended before.
    pub(crate) async fn stand(&self, what: &impl Halts, how: Disturbance, clock: &SharedClock) {
        let Some((time, delay)) = how.times() else { return };
        let until = clock.elapsed().saturating_add(time);
        loop {
            if self.is_ended_within(delay, clock).await
                || !what.go_on().await
                || clock.elapsed() >= until
                || self.is_ended_within(RUNS, clock).await
                || !what.halt().await
            {
                return;
            }
        }
    }

    async fn is_ended_within(&self, time: Duration, clock: &SharedClock) -> bool {
        tokio::select! {
            biased;
            () = self.end.cancelled() => true,
            () = clock.sleep(time) => false,
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.disturbed.all().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

    use sheaf_retry::SystemClock;

    use super::*;

    #[derive(Default)]
    struct Thing {
        stands: AtomicBool,
        halts: AtomicU32,
    }

    impl Halts for Thing {
        async fn halt(&self) -> bool {
            self.halts.fetch_add(1, Ordering::SeqCst);
            !self.stands.swap(true, Ordering::SeqCst)
        }

        async fn go_on(&self) -> bool {
            self.stands.swap(false, Ordering::SeqCst)
        }
    }

    #[tokio::test]
    async fn what_was_ended_is_not_stopped_again() {
        let (disturbed, clock) = (Disturbed::default(), SystemClock::shared());
        let id = LaunchId { place: "p:a".to_owned(), attempt: 1 };
        let thing = Arc::new(Thing::default());
        let turn = disturbed.begin(&id).unwrap();
        assert!(disturbed.begin(&id).is_none(), "one at a time");
        thing.halt().await;
        let (time, delay) = (Duration::from_secs(3_600), Duration::from_millis(1));
        let (its, how) = (Arc::clone(&thing), Disturbance::Slow { time, delay });
        let slowed = tokio::spawn(async move { turn.stand(&*its, how, &clock).await });
        while thing.halts.load(Ordering::SeqCst) < 3 {
            tokio::task::yield_now().await;
        }
        assert!(disturbed.end(&id).await);
        let halts = thing.halts.load(Ordering::SeqCst);
        thing.go_on().await;
        slowed.await.unwrap();
        assert_eq!(thing.halts.load(Ordering::SeqCst), halts);
        assert!(!thing.stands.load(Ordering::SeqCst));
        assert!(!disturbed.end(&id).await && disturbed.begin(&id).is_some());
    }
}
