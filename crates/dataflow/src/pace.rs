//! The signs of life of a component's loop.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sheaf_pipeline::control::Pulse;
use sheaf_retry::{HumanDuration, SharedClock};

/// Told whenever the loop comes round. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Pace {
    pulse: Pulse,
    clock: SharedClock,
    /// A loop that has not come round for longer is told to be hung, as the registry does.
    hung: Duration,
    last_ms: Arc<AtomicU64>,
}

impl Pace {
    pub(crate) fn new(pulse: Pulse, clock: SharedClock, hung: Duration) -> Self {
        let pace = Pace { pulse, clock, hung, last_ms: Arc::default() };
        pace.round();
        pace
    }

    /// The loop has come round.
    pub(crate) fn round(&self) {
        self.pulse.tick();
        self.last_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    /// Why it is not well, where it is not.
    pub(crate) fn vitals(&self) -> Result<(), String> {
        let since = self.now_ms().saturating_sub(self.last_ms.load(Ordering::Relaxed));
        let since = Duration::from_millis(since);
        if since <= self.hung {
            return Ok(());
        }
        Err(format!("its loop has not come round for {}", HumanDuration(since)))
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.clock.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sheaf_retry::{ManualClock, Timestamp};

    #[test]
    fn a_loop_that_stands_still_is_not_well() {
        let clock = ManualClock::new(Timestamp::EPOCH);
        let hung = Duration::from_secs(30);
        let pace = Pace::new(Pulse::default(), clock.clone(), hung);
        clock.advance(hung);
        assert_eq!(pace.vitals(), Ok(()));
        clock.advance(Duration::from_secs(1));
        assert!(pace.vitals().unwrap_err().contains("31s"));
        pace.round();
        assert_eq!(pace.vitals(), Ok(()));
    }
}
