//! The processes of a program.

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::Child;

/// Kills the whole group of a program at its drop: nothing of it outlives the processor.
pub(super) struct Group(Option<Pid>);

impl Group {
    pub(super) fn of(child: &Child) -> Self {
        Group(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0
            && let Err(error) = kill_process_group(pid, Signal::KILL)
        {
            // Mostly an empty group, which is what we want.
            tracing::trace!(%error, "process group not signalled");
        }
    }
}
