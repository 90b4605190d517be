//! Readers that have left for good before they could say that they are done.

use std::time::Duration;

use sheaf_pipeline::control::ControlClient;
use sheaf_pipeline::registry::Status;
use sheaf_retry::SharedClock;

use crate::outlet::Outlets;

/// How the reason begins for which a component deregisters that has come to its end, and not
/// that of its process alone. The number of the run follows.
pub const DONE: &str = "done with run";

/// Why a component deregisters that has come to its end: nobody needs it in this run any more.
pub fn done_reason(run: u64) -> String {
    format!("{DONE} {run}")
}

/// Why a component deregisters that was told to stop and whose readers did not acknowledge all in
/// the time that they had: another process in its place gives the rest of it again.
pub const UNDRAINED: &str = "stopped before all was acknowledged";

/// How often readers that are not connected are looked up.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Looks for readers that are not there any more, once there is nothing more to be made.
pub(super) struct Finish {
    control: ControlClient,
    clock: SharedClock,
    /// What readers say that are done.
    done: String,
    next: Duration,
}

impl Finish {
    pub(super) fn new(control: ControlClient, clock: SharedClock, run: u64) -> Self {
        Finish { control, clock, done: done_reason(run), next: Duration::ZERO }
    }

    /// A reader that deregistered as done with this run, with a connection that broke in that
    /// moment, has done everything: it leaves so only after the end of all its inputs.
    pub(super) async fn look(&mut self, outlets: &Outlets) {
        let now = self.clock.elapsed();
        if now < self.next {
            return;
        }
        self.next = now.saturating_add(LOOK_EVERY);
        for stream in &outlets.streams {
            let snapshot = stream.snapshot();
            let is_durable = stream.options.queue.is_some();
            if snapshot.is_connected || snapshot.is_finished || is_durable {
                continue;
            }
            // What the control plane cannot tell now, it tells in the next round.
            let Ok(found) = self.control.component(&stream.options.reader).await else { continue };
            if found.status == Status::Stopped && found.reason == self.done {
                tracing::info!(stream = stream.name(), "its reader is done and has left");
                stream.finish();
            }
        }
    }
}
