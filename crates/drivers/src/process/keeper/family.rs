//! Everything that an instance has started.

use std::io;
use std::time::Duration;

use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitIdStatus, WaitOptions, kill_process,
    kill_process_group, wait, waitid,
};
use sheaf_retry::SharedClock;

use super::super::identity::stat;

/// Rounds of killing what is left; each is short.
const ROUNDS: u32 = 100;
const ROUND: Duration = Duration::from_millis(20);

/// Whose parent has ended becomes a child of this process from here on.
pub(super) fn adopt_orphans() -> io::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    Ok(())
}

/// Whether it has ended. It is not waited for by that, so that its number stays its own.
pub(super) fn has_ended(pid: Option<Pid>) -> io::Result<bool> {
    let Some(pid) = pid else { return Ok(true) };
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    match waitid(WaitId::Pid(pid), options) {
        Ok(status) => Ok(status.is_some()),
        // Somebody else has waited for it.
        Err(rustix::io::Errno::CHILD) => Ok(true),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Waits for it, which has ended.
pub(super) fn wait_for(pid: Option<Pid>) -> io::Result<Option<WaitIdStatus>> {
    let Some(pid) = pid else { return Ok(None) };
    loop {
        match waitid(WaitId::Pid(pid), WaitIdOptions::EXITED) {
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::CHILD) => return Ok(None),
            status => return Ok(status?),
        }
    }
}

pub(super) fn signal(pid: Option<Pid>, signal: Signal) {
    if let Some(pid) = pid {
        // It may have ended.
        kill_process(pid, signal).ok();
    }
}

pub(super) fn kill_group(pid: Option<Pid>) {
    if let Some(pid) = pid {
        // Nobody may be left in it.
        kill_process_group(pid, Signal::KILL).ok();
    }
}

/// Waits for orphans that have ended, and for nobody else.
pub(super) fn reap_others(instance: Option<Pid>) {
    for pid in children() {
        let is_ended = stat(pid).is_ok_and(|stat| stat.state == 'Z');
        if let Some(pid) = Pid::from_raw(pid).filter(|pid| is_ended && Some(*pid) != instance) {
            waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG).ok();
        }
    }
}

/// Kills what has left the group of the instance, and what that has started.
pub(super) async fn end_orphans(clock: &SharedClock) {
    for _ in 0..ROUNDS {
        while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
        let left = children();
        if left.is_empty() {
            return;
        }
        for pid in left {
            signal(Pid::from_raw(pid), Signal::KILL);
        }
        clock.sleep(ROUND).await;
    }
}

/// The children of this process.
fn children() -> Vec<i32> {
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    let path = format!("/proc/{own}/task/{own}/children");
    if let Ok(text) = std::fs::read_to_string(path) {
        return text.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect();
    }
    // A kernel without that file.
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let numbers = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.filter(|pid| stat(*pid).is_ok_and(|stat| stat.parent == own)).collect()
}
