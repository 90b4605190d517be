//! The time of this world.

use std::time::Duration;

use openraft::AsyncRuntime as _;
use openraft_rt_sim::SimRuntime;

/// Lets time go by, which takes none.
pub(crate) async fn pass(length: Duration) {
    // sleep: the clock is simulated.
    SimRuntime::sleep(length).await;
}
