//! Which process runs where.

use std::fs;
use std::process::{Command, Stdio};

use sheaf_testkit::ProcessCommand;

use crate::error::{Error, Result};

/// The last core is for whoever is measured, the others for all else; nothing is
/// bound where there is one core only, or no `taskset`.
#[derive(Debug)]
pub(super) struct Cores {
    split: Option<(String, String)>,
}

impl Cores {
    pub(super) fn of_this_process() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        let cores = allowed.map(|list| cores(list.trim())).unwrap_or_default();
        let is_there = Command::new("taskset")
            .arg("--version")
            .stdout(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
        let split = cores.split_last().filter(|(_, rest)| is_there && !rest.is_empty());
        let split = split.map(|(last, rest)| {
            let rest: Vec<_> = rest.iter().map(u32::to_string).collect();
            (last.to_string(), rest.join(","))
        });
        Cores { split }
    }

    /// The core of whoever is measured.
    pub(super) fn one(&self) -> Option<&str> {
        self.split.as_ref().map(|(one, _)| one.as_str())
    }

    /// A process that has this core.
    pub(super) fn alone(&self, command: ProcessCommand) -> ProcessCommand {
        match self.one() {
            Some(core) => command.on_cores(core),
            None => command,
        }
    }

    /// Has a running process, and those that it starts, keep off that core.
    pub(super) fn leave_one(&self, pid: u32) -> Result<()> {
        let Some((_, rest)) = &self.split else { return Ok(()) };
        let mut command = Command::new("taskset");
        command.args(["--all-tasks", "--pid", "--cpu-list", rest, &pid.to_string()]);
        let status = command.stdout(Stdio::null()).status().map_err(Error::io("run taskset"))?;
        if status.success() {
            return Ok(());
        }
        Err(Error::Message(format!("taskset cannot bind process {pid} to cores {rest}: {status}")))
    }

    /// For the conditions.
    pub(super) fn said(&self) -> String {
        match &self.split {
            Some((one, rest)) => format!(
                "whoever is measured runs on core {one}, broker and driver on {rest}; where the \
                 case says all cores, it may use all"
            ),
            None => "nothing: there is one core only, or no taskset".to_owned(),
        }
    }
}

/// The numbers of a list such as `0,2-3`.
fn cores(list: &str) -> Vec<u32> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse().ok()?..=last.parse().ok()?)
    };
    list.split(',').filter_map(range).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::cores;

    #[test]
    fn lists_of_cores_are_numbers_and_ranges() {
        assert_eq!(cores("0,2-4"), [0, 2, 3, 4]);
        assert_eq!(cores("7"), [7]);
        assert!(cores("").is_empty());
    }
}
