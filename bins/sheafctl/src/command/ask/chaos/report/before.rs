//! How one that was hit was before, and whether it is as it should be again.

use sheaf_pipeline::registry::{Component, Status};
use sheaf_retry::Timestamp;

/// How one that was hit was before.
pub(super) struct Before {
    /// Of the process that was killed: another one is to come.
    pub(super) killed: Option<u64>,
    /// The last beat from before the harm was over.
    pub(super) beat: Timestamp,
}

impl Before {
    /// Whether a component shows that it is over.
    fn is_over(&self, now: &Component) -> bool {
        let is_other = self.killed.is_none_or(|fence| now.fence > fence);
        let has_beaten = now.last_heartbeat > self.beat || self.killed.is_some();
        is_other && has_beaten
    }
}

/// Whether a component is as it should be, by itself.
pub(super) fn is_up(component: &Component, before: Option<&Before>) -> bool {
    match component.status {
        Status::Healthy => before.is_none_or(|before| before.is_over(component)),
        // It has come to its end in this pass.
        Status::Stopped => component.reason.starts_with(sheaf_dataflow::DONE),
        _ => false,
    }
}
