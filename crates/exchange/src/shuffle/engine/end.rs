//! How things end: queries that nobody uses, and the process.

use std::sync::Weak;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Exchange, Shared};

/// Most time between two looks for queries that nobody uses.
const LONGEST: Duration = Duration::from_secs(60);

/// How long a sender that lives may be without a call.
const BETWEEN_CALLS: Duration = Duration::from_secs(2);

impl Exchange {
    /// Drops the queries of which nothing was sent or read for as long as the
    /// options say; their names. Readers and senders of them get
    /// [`Error::CleanedUp`](super::Error::CleanedUp), which says why.
    ///
    /// In a query that is in use, an attempt of which nothing came for so long and
    /// that nobody has read loses its chunks: should its sender live, it has to
    /// begin another one.
    ///
    /// What was [opened](Exchange::open) does it by itself.
    pub fn sweep(&self) -> Vec<String> {
        let Shared { clock, idle, metrics, .. } = &*self.shared;
        let now = clock.elapsed();
        let (swept, attempts) = {
            let mut state = self.state();
            let swept = state.table.sweep(now, *idle);
            for (query, _) in &swept {
                state.forget(query);
            }
            (swept, state.table.end_idle(now, *idle))
        };
        // Here memory is freed, without the lock.
        let names: Vec<String> = swept.into_iter().map(|(query, _)| query).collect();
        for query in &names {
            metrics.idled_out.inc();
            tracing::warn!(%query, ?idle, "a query was dropped: nothing of it was sent or read");
        }
        if attempts > 0 {
            metrics.attempts_idled_out.inc_by(attempts);
            tracing::warn!(attempts, ?idle, "attempts were dropped: nothing of them came");
        }
        self.shared.ended.notify_waiters();
        self.shared.note_spill();
        self.say_freed();
        names
    }

    /// Takes no new attempts from now on: their senders are told to come again,
    /// or to go elsewhere. Attempts that have begun may end, and begin in other
    /// partitions of their stage too; what has committed is read as before.
    pub fn drain(&self) {
        // Under the lock: who begins at the same time has begun, or is refused.
        let _state = self.state();
        self.shared.is_draining.store(true, Ordering::Release);
    }

    /// Whether [`drain`](Exchange::drain) was called.
    pub fn is_draining(&self) -> bool {
        self.shared.is_draining.load(Ordering::Acquire)
    }

    /// Attempts that have begun and not committed.
    pub fn open_attempts(&self) -> usize {
        self.shared.own.open()
    }

    /// A call of a sender, under way until this is dropped.
    pub(crate) fn under_way(&self) -> UnderWay {
        self.shared.own.calls().fetch_add(1, Ordering::AcqRel);
        UnderWay(self.clone())
    }

    /// Waits until no attempt is open any more that somebody sends: all have
    /// committed, or their queries went, or no call of a sender is under way and
    /// nothing has come for two seconds, in which who sends in several calls has
    /// time for the next. How long that may take is for the caller to say.
    pub async fn drained(&self) {
        let Shared { own, clock, ended, .. } = &*self.shared;
        loop {
            let mut ended = std::pin::pin!(ended.notified());
            ended.as_mut().enable();
            if own.open() == 0 {
                return;
            }
            let quiet = clock.elapsed().saturating_sub(own.heard());
            let is_quiet = own.calls().load(Ordering::Acquire) == 0;
            if is_quiet && quiet >= BETWEEN_CALLS {
                return;
            }
            tokio::select! {
                () = ended => {}
                () = clock.sleep(BETWEEN_CALLS.saturating_sub(quiet)), if is_quiet => {}
            }
        }
    }
}

/// A call of a sender.
#[derive(Debug)]
pub(crate) struct UnderWay(Exchange);

impl Drop for UnderWay {
    fn drop(&mut self) {
        let Shared { own, clock, ended, .. } = &*self.0.shared;
        own.hear(clock.elapsed());
        own.calls().fetch_sub(1, Ordering::AcqRel);
        ended.notify_waiters();
    }
}

/// Looks for queries that nobody uses, as long as there is the exchange.
pub(super) async fn sweep_on(shared: Weak<Shared>) {
    loop {
        let Some(strong) = shared.upgrade() else { return };
        let exchange = Exchange { shared: strong };
        exchange.sweep();
        let clock = exchange.shared.clock.clone();
        let wait = (exchange.shared.idle / 4).clamp(Duration::from_millis(10), LONGEST);
        drop(exchange);
        clock.sleep(wait).await;
    }
}
