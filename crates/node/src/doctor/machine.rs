//! Memory, open files and the clock of this machine.

use std::fs;

use rustix::process::{Resource, getrlimit};
use sheaf_retry::{Code, Timestamp};
use sheaf_terminal::{HumanBytes, count, rfc3339};

use super::check::Check;
use crate::config::confined;

/// Of this much of the memory a limit for payloads leaves too little for the rest.
const MEMORY_SHARE: u64 = 80;
/// A server has up to 1,024 connections, 64 of them to its admin port, and
/// opens a file for each payload that is being read or written.
const FILES_WARNING: u64 = 4_096;
const FILES_PROBLEM: u64 = 256;
/// Years in which this program can run: it was written in the first of them.
const YEARS: (u64, u64) = (1_735_689_600_000, 4_102_444_800_000);

/// What this machine has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct MachineFacts {
    /// Memory of the machine.
    pub(super) memory: Option<u64>,
    /// Of it, what is free or can be freed.
    pub(super) available: Option<u64>,
    /// What this process and those beside it may use together.
    pub(super) confined: Option<u64>,
    /// Most open files of a process started from here; `None` for no limit.
    pub(super) files: Option<u64>,
}

impl MachineFacts {
    /// Asks the kernel.
    pub(super) fn gather() -> Self {
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        MachineFacts {
            memory: kib(&meminfo, "MemTotal:"),
            available: kib(&meminfo, "MemAvailable:"),
            confined: confined(),
            files: getrlimit(Resource::Nofile).current,
        }
    }
}

fn kib(meminfo: &str, name: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// Whether the memory for payloads is there.
pub(super) fn memory(facts: &MachineFacts, limit: u64) -> Check {
    let name = "memory";
    let (Some(all), bytes) = (facts.memory, HumanBytes) else {
        return Check::skipped(name, "this machine does not tell how much memory it has")
            .figure("limit_bytes", limit);
    };
    let there = facts.confined.unwrap_or(all).min(all);
    let whose = if there < all { "its control group" } else { "the machine" };
    let text = format!("--memory-limit is {}, {whose} has {}", bytes(limit), bytes(there));
    let share = bytes(there / 2);
    let check = if limit > there {
        Check::problem(name, Code::InvalidArgument, text).advise(format!(
            "lower --memory-limit to {share} or so: the kernel ends the process before the limit \
             is reached"
        ))
    } else if limit > there / 100 * MEMORY_SHARE {
        let action = format!(
            "lower --memory-limit to {share} or so: it counts payloads only, work on them and the \
             coordinator need memory too"
        );
        Check::warning(name, text, action)
    } else {
        Check::ok(name, text)
    };
    check
        .figure("limit_bytes", limit)
        .figure("memory_bytes", all)
        .figure("available_bytes", facts.available)
        .figure("confined_bytes", facts.confined)
}

/// Whether enough files can be open.
pub(super) fn files(facts: &MachineFacts) -> Check {
    let name = "open_files";
    let Some(limit) = facts.files else {
        return Check::ok(name, "no limit").figure("limit", facts.files);
    };
    let text = format!("at most {} open files for a process started here", count(limit));
    let action = format!(
        "raise it where the server is started: `ulimit -n 65536`, or LimitNOFILE=65536 in a systemd \
         unit; below {} a busy server runs out of them",
        count(FILES_WARNING)
    );
    let check = match limit {
        ..FILES_PROBLEM => Check::problem(name, Code::FailedPrecondition, text).advise(action),
        FILES_PROBLEM..FILES_WARNING => Check::warning(name, text, action),
        _ => Check::ok(name, text),
    };
    check.figure("limit", limit)
}

/// Whether the clock was ever set.
pub(super) fn clock(now: Timestamp) -> Check {
    let text = format!("it is {}", rfc3339(now));
    let check = match (YEARS.0..YEARS.1).contains(&now.as_millis()) {
        true => Check::ok("clock", text),
        false => Check::problem("clock", Code::FailedPrecondition, text).advise(
            "set the clock of this machine and keep it right with NTP: certificates, times to live \
             and every time shown depend on it",
        ),
    };
    check.figure("time", rfc3339(now))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    const GIB: u64 = 1 << 30;

    #[test]
    fn the_smaller_of_machine_and_control_group_counts() {
        let of = |limit, confined| {
            let memory = Some(16 * GIB);
            memory_of(MachineFacts { memory, confined, ..MachineFacts::default() }, limit)
        };
        fn memory_of(facts: MachineFacts, limit: u64) -> (Verdict, String) {
            let check = memory(&facts, limit);
            (check.verdict, check.found)
        }
        assert_eq!(of(8 * GIB, None).0, Verdict::Ok);
        assert_eq!(of(14 * GIB, None).0, Verdict::Warning);
        assert_eq!(of(17 * GIB, None).0, Verdict::Problem);
        let (verdict, found) = of(8 * GIB, Some(4 * GIB));
        assert!(verdict == Verdict::Problem && found.contains("control group"), "{found}");
        assert_eq!(memory_of(MachineFacts::default(), GIB).0, Verdict::Skipped);
        assert_eq!(kib("MemTotal:    2048 kB\nMemAvailable: 1 kB\n", "MemAvailable:"), Some(1024));
    }

    #[test]
    fn few_open_files_are_told_with_the_line_to_write() {
        let of = |limit| files(&MachineFacts { files: limit, ..MachineFacts::default() });
        assert_eq!((of(None).verdict, of(Some(65_536)).verdict), (Verdict::Ok, Verdict::Ok));
        assert!(of(Some(1_024)).action.contains("LimitNOFILE=65536"));
        assert_eq!(of(Some(1_024)).verdict, Verdict::Warning);
        assert_eq!(of(Some(64)).verdict, Verdict::Problem);
    }

    #[test]
    fn a_clock_that_was_never_set_is_a_problem() {
        assert_eq!(clock(Timestamp::from_millis(5)).verdict, Verdict::Problem);
        assert_eq!(clock(Timestamp::from_millis(1_800_000_000_000)).verdict, Verdict::Ok);
        assert_eq!(clock(Timestamp::MAX).verdict, Verdict::Problem);
    }

    #[test]
    fn this_machine_tells() {
        let facts = MachineFacts::gather();
        assert!(facts.memory.unwrap_or(GIB) > 1 << 20, "{facts:?}");
    }
}
