//! Which process: a number alone may be another's by now.

use std::io;
use std::os::fd::OwnedFd;

use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// A process, told from all that had or will have its number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// Its number.
    pub(crate) pid: i32,
    /// When it started, in ticks since the machine did.
    started: u64,
    /// Which start of the machine.
    boot: String,
}

/// What the kernel says of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) state: char,
    pub(super) parent: i32,
    pub(super) started: u64,
}

impl Identity {
    /// That of the process with this number now.
    pub(crate) fn of(pid: i32) -> io::Result<Self> {
        let stat = stat(pid)?;
        Ok(Identity { pid, started: stat.started, boot: boot()? })
    }

    /// Whether it still runs. One that has ended and was not waited for does not.
    pub(crate) fn lives(&self) -> bool {
        let is_it = Identity::of(self.pid).is_ok_and(|now| now == *self);
        is_it && stat(self.pid).is_ok_and(|stat| !matches!(stat.state, 'Z' | 'X'))
    }

    /// A handle to it that no other process can take over; `None` where it has ended.
    pub(crate) fn open(&self) -> io::Result<Option<OwnedFd>> {
        let Some(pid) = Pid::from_raw(self.pid) else { return Ok(None) };
        let handle = match pidfd_open(pid, PidfdFlags::NONBLOCK) {
            Ok(handle) => handle,
            Err(rustix::io::Errno::SRCH) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // Looked at after it was opened: from here on the number is held.
        Ok(self.lives().then_some(handle))
    }

    /// Kills it and all in the group that it leads or has led. Answers whether there may be
    /// somebody left.
    pub(crate) fn kill_group(&self) -> bool {
        let Some(pid) = Pid::from_raw(self.pid) else { return false };
        let is_other = match Identity::of(self.pid) {
            Ok(now) => now != *self,
            // It has ended. As long as there is somebody in its group, no other process gets
            // its number; after another start of the machine there is nobody.
            Err(_) => boot().is_ok_and(|boot| boot != self.boot),
        };
        !is_other && kill_process_group(pid, Signal::KILL).is_ok()
    }

    /// Sends it a signal; nothing happens where it has ended.
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        let Some(handle) = self.open()? else { return Ok(()) };
        match pidfd_send_signal(handle, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Which start of the machine this is.
fn boot() -> io::Result<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(text.trim().to_owned())
}

/// What the kernel says of a process.
pub(super) fn stat(pid: i32) -> io::Result<Stat> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    parse(&text).ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat is of another form")))
}

/// The name of the program stands in parentheses and may hold anything, those included.
fn parse(text: &str) -> Option<Stat> {
    let (_, fields) = text.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
    Some(Stat {
        state: fields.first()?.chars().next()?,
        parent: fields.get(1)?.parse().ok()?,
        started: fields.get(19)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> i32 {
        i32::try_from(std::process::id()).unwrap()
    }

    #[test]
    fn names_with_parentheses_do_not_shift_the_fields() {
        let text = "7 (a) b (c) S 3 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 9955 1 2 3";
        assert_eq!(parse(text), Some(Stat { state: 'S', parent: 3, started: 9955 }));
        assert_eq!(parse("7 (a) S 3"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn this_process_lives_and_one_that_started_at_another_time_does_not() {
        let this = Identity::of(own()).unwrap();
        assert!(this.lives() && this.open().unwrap().is_some());
        let earlier = Identity { started: this.started + 1, ..this.clone() };
        assert!(!earlier.lives() && earlier.open().unwrap().is_none());
        let other_boot = Identity { boot: "another".to_owned(), ..this };
        assert!(!other_boot.lives());
    }

    #[test]
    fn one_that_ended_and_was_not_waited_for_does_not_live() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let ended = || stat(pid).is_ok_and(|stat| stat.state == 'Z');
        let time = std::time::Duration::from_secs(10);
        sheaf_testkit::wait_until(time, "the end of `true`", ended).unwrap();
        assert!(!Identity::of(pid).unwrap().lives());
        child.wait().unwrap();
    }
}
