//! How things end: queries that nobody uses, and the process.

use std::sync::Weak;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Exchange, Shared};

/// Most time between two looks for queries that nobody uses.
const LONGEST: Duration = Duration::from_secs(60);

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
    /// or to go elsewhere. Attempts that have begun may end, and what has
    /// committed is read as before.
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
        let open = self.shared.metrics.counts.attempts_open.get();
        usize::try_from(open).unwrap_or(0)
    }

    /// Waits until no attempt is open any more: all have committed, or their
    /// queries went. How long that may take is for the caller to say.
    pub async fn drained(&self) {
        loop {
            let mut ended = std::pin::pin!(self.shared.ended.notified());
            ended.as_mut().enable();
            if self.open_attempts() == 0 {
                return;
            }
            ended.await;
        }
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
