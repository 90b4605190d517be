//! The time of this world.

use std::time::Duration;

use openraft::AsyncRuntime as _;
use openraft::async_runtime::Instant as _;
use openraft_rt_sim::{SimInstant, SimRuntime};
use sheaf_retry::{Clock, Sleep, Timestamp};

/// Lets time go by, which takes none.
pub(crate) async fn pass(length: Duration) {
    // sleep: the clock is simulated.
    SimRuntime::sleep(length).await;
}

/// The same, for whoever waits by a clock.
#[derive(Debug)]
pub(crate) struct SimClock {
    begin: SimInstant,
}

impl SimClock {
    pub(crate) fn shared() -> sheaf_retry::SharedClock {
        std::sync::Arc::new(SimClock { begin: SimInstant::now() })
    }
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        Timestamp::EPOCH.plus(self.elapsed())
    }

    fn elapsed(&self) -> Duration {
        SimInstant::now() - self.begin
    }

    fn sleep(&self, duration: Duration) -> Sleep<'_> {
        Box::pin(pass(duration))
    }
}
