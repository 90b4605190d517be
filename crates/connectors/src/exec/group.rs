//! The process group of a program: it and what it started.

use std::process::ExitStatus;

use rustix::process::{Pid, Signal, kill_process_group};
use sheaf_retry::SharedClock;
use tokio::process::Child;
use tokio_util::sync::CancellationToken;

use super::options::ExecLimits;

/// How a program ended.
#[derive(Debug)]
pub(super) enum End {
    /// By itself.
    Exited(ExitStatus),
    /// We stopped it: it ran too long.
    TimedOut,
    /// We stopped it: nobody wants it any more, or what it wrote was refused.
    Stopped,
    /// The system does not say.
    Unknown(std::io::Error),
}

/// Kills the group when the runtime goes before the program does.
struct Group(Option<Pid>);

impl Group {
    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.0
            && let Err(error) = kill_process_group(pid, signal)
        {
            // Mostly an empty group, which is what we want.
            tracing::trace!(%error, "process group not signalled");
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

/// Waits for the end of the program, and brings it about on `stop` or timeout:
/// SIGTERM, then SIGKILL to the whole group. What the program left running is
/// killed too.
pub(super) async fn supervise(
    mut child: Child,
    limits: &ExecLimits,
    clock: &SharedClock,
    stop: &CancellationToken,
) -> End {
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let group = Group(pid);
    let timeout = async {
        match limits.timeout {
            Some(timeout) => clock.sleep(timeout).await,
            None => std::future::pending().await,
        }
    };
    let reason = tokio::select! {
        biased;
        ended = child.wait() => return match ended {
            Ok(status) => End::Exited(status),
            Err(error) => End::Unknown(error),
        },
        () = stop.cancelled() => End::Stopped,
        () = timeout => End::TimedOut,
    };
    group.signal(Signal::TERM);
    let ended = tokio::select! {
        ended = child.wait() => ended.is_ok(),
        () = clock.sleep(limits.grace) => false,
    };
    group.signal(Signal::KILL);
    if !ended && let Err(error) = child.wait().await {
        return End::Unknown(error);
    }
    reason
}
