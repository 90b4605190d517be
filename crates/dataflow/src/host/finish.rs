//! Readers that have left for good.

use std::sync::Arc;
use std::time::Duration;

use arrow_array::RecordBatch;
use futures::FutureExt as _;
use sheaf_pipeline::control::ControlClient;
use sheaf_proto::TraceContext;
use sheaf_retry::SharedClock;

use crate::error::ComponentError;
use crate::outlet::{Outlets, Stream};
use crate::pace::Pace;

/// How the reason begins for which a component deregisters that has come to its end, and not
/// that of its process alone. The number of the pass follows.
pub const DONE: &str = "done with pass";

/// Why a component deregisters that has come to its end: nobody needs it in this pass any more.
pub fn done_reason(pass: u64) -> String {
    format!("{DONE} {pass}")
}

/// Why a component deregisters that was told to stop and whose readers did not acknowledge all in
/// the time that they had: another process in its place gives the rest of it again.
pub const UNDRAINED: &str = "stopped before all was acknowledged";

/// How the reason begins for which a component deregisters that writes what nobody takes any
/// more. Why follows.
pub const CLOSED: &str = "closed: ";

/// How often readers that are not connected are looked up.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Looks for readers that are not there any more.
pub(super) struct Finish {
    control: ControlClient,
    clock: SharedClock,
    /// What readers say that are done.
    done: String,
    next: Duration,
    streams: Vec<Arc<Stream>>,
}

impl Finish {
    pub(super) fn new(
        control: ControlClient,
        clock: SharedClock,
        pass: u64,
        streams: Vec<Arc<Stream>>,
    ) -> Self {
        Finish { control, clock, done: done_reason(pass), next: Duration::ZERO, streams }
    }

    /// Sends a batch. A process that was started again after its readers have left makes what
    /// they had: nobody makes room for it, so they are looked for meanwhile.
    pub(super) async fn push(
        &mut self,
        outlets: &mut Outlets,
        batch: &RecordBatch,
        trace: Option<TraceContext>,
        pace: &Pace,
    ) -> Result<(), ComponentError> {
        let mut push = std::pin::pin!(outlets.push(batch, trace, pace));
        if let Some(pushed) = push.as_mut().now_or_never() {
            return pushed;
        }
        let clock = Arc::clone(&self.clock);
        loop {
            tokio::select! {
                biased;
                pushed = &mut push => return pushed,
                () = clock.sleep(LOOK_EVERY) => self.look().await,
            }
        }
    }

    /// A reader that deregistered as done with this pass, with a connection that broke in that
    /// moment, has done everything: it leaves so only after the end of all its inputs.
    pub(super) async fn look(&mut self) {
        let now = self.clock.elapsed();
        if now < self.next {
            return;
        }
        self.next = now.saturating_add(LOOK_EVERY);
        for stream in &self.streams {
            let snapshot = stream.snapshot();
            let is_durable = stream.options.queue.is_some();
            if snapshot.is_connected || snapshot.is_finished || is_durable {
                continue;
            }
            // What the control plane cannot tell now, it tells in the next round.
            let Ok(found) = self.control.component(&stream.options.reader).await else { continue };
            if found.has_left(&self.done) {
                tracing::info!(stream = stream.name(), "its reader is done and has left");
                stream.finish();
            }
        }
    }
}
