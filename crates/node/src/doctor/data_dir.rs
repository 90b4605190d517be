//! What is thought of a data directory and of what is in it.

use std::time::Duration;

use sheaf_coordinator::embedded::FileState;
use sheaf_retry::Code;
use sheaf_store::{Durability, Holder, Registrations, Survey};
use sheaf_terminal::{HumanBytes, count, counted};

use super::advice::{median, millis, span};
use super::check::Check;
use super::disk::{DirFacts, Failed, Kind, Space};
use crate::serve::{COORDINATOR_ADVICE, FORMAT_ADVICE};

/// Less free space than this ends in refused puts within minutes.
const SPACE_PROBLEM: u64 = 64 << 20;
/// Least free space that is comfortable, whatever is stored.
const SPACE_WARNING: u64 = 1 << 30;
/// Least number of files that can still be made.
const FILES_WARNING: u64 = 10_000;
/// A write with fsync that takes longer is what every put and settle waits for.
const SYNC_WARNING: Duration = Duration::from_millis(20);

/// What a data directory was found to be.
#[derive(Debug)]
pub(super) struct DataFacts {
    pub(super) dir: DirFacts,
    /// What the store has in it; none in mode coordinator.
    pub(super) survey: Option<Result<Survey, Failed>>,
    /// What the coordinator has in it; none in mode flight.
    pub(super) records: Option<Result<FileState, Failed>>,
}

/// Who holds a data directory now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Holding {
    /// Nobody.
    Free,
    /// A process, by its number where it is known.
    Held(Option<u32>),
    /// It cannot be told.
    Unknown,
}

impl DataFacts {
    /// Whether a server runs on it.
    pub(super) fn holding(&self) -> Holding {
        match (&self.survey, &self.records) {
            (Some(Ok(Survey { holder: Holder::Process(pid), .. })), _) => {
                Holding::Held(pid.parse().ok())
            }
            (None, Some(Ok(FileState::InUse))) => Holding::Held(None),
            (Some(Err(_)), _) | (None, Some(Err(_))) => Holding::Unknown,
            _ => Holding::Free,
        }
    }

    /// The locks that are held: there is one for each role.
    fn roles(&self) -> Vec<&'static str> {
        let mut roles = Vec::new();
        if matches!(&self.survey, Some(Ok(survey)) if survey.holder != Holder::Nobody) {
            roles.push("store");
        }
        if matches!(self.records, Some(Ok(FileState::InUse))) {
            roles.push("coordinator");
        }
        roles
    }

    /// Every check of it.
    pub(super) fn checks(&self, durability: Durability, max_live_bytes: u64) -> Vec<Check> {
        let mut checks = vec![directory("data_dir", &self.dir)];
        if !matches!(self.dir.kind, Kind::Directory | Kind::Absent(_)) {
            checks.push(Check::skipped("data_dir.*", "there is no directory to look into"));
            return checks;
        }
        let used = match &self.survey {
            Some(Ok(survey)) => survey.payload_bytes,
            _ => 0,
        };
        checks.extend(self.survey.as_ref().map(format));
        checks.push(holder(&self.holding(), &self.roles()));
        checks.push(space("data_dir.space", self.dir.space.as_ref(), used, max_live_bytes));
        checks.push(file_system(self.dir.file_system.as_deref(), durability));
        checks.push(syncs(&self.dir, durability));
        if let Some(Ok(survey)) = &self.survey {
            checks.push(quarantine(survey));
            checks.push(registrations(survey.registrations));
        }
        checks.extend(self.records.as_ref().map(|state| records(state, &self.holding())));
        checks
    }
}

/// Whether a directory is there and can be used.
pub(super) fn directory(name: &str, dir: &DirFacts) -> Check {
    let path = dir.path.display();
    let check = match (&dir.kind, &dir.syncs) {
        (Kind::Unknown((code, why)), _) => {
            Check::problem(name, *code, format!("{path} cannot be looked at: {why}"))
                .advise(format!("make {path} reachable for this user, or name another directory"))
        }
        (Kind::Other, _) => {
            Check::problem(name, Code::AlreadyExists, format!("{path} is no directory"))
                .advise("name a directory; something else of that name is there")
        }
        (_, Err((code, why))) => {
            let text = format!("{path} cannot be written by user {}: {why}", dir.user);
            let advice = match code {
                Code::DiskFull => {
                    "free space there, or name a directory on another disk".to_owned()
                }
                _ => format!(
                    "make it writable for that user (`chown {} {path}`), mount it for writing, or \
                     name another directory",
                    dir.user
                ),
            };
            Check::problem(name, *code, text).advise(advice)
        }
        (Kind::Absent(parent), Ok(_)) => {
            Check::ok(name, format!("{path} will be made in {}", parent.display()))
        }
        (Kind::Directory, Ok(_)) if dir.mode.is_some_and(|mode| mode & 0o002 != 0) => {
            let text = format!("{path} can be changed by every user of this machine");
            Check::warning(name, text, format!("run `chmod o-w {path}`"))
        }
        (Kind::Directory, Ok(_)) => {
            let whose = match dir.owner.filter(|owner| *owner != dir.user) {
                Some(owner) => format!(
                    ", by user {}; it belongs to user {owner}: look as that one too",
                    dir.user
                ),
                None => String::new(),
            };
            Check::ok(name, format!("{path} can be written{whose}"))
        }
    };
    let check = check.figure("path", dir.path.display().to_string()).figure("user", dir.user);
    match dir.owner {
        Some(owner) => check.figure("owner", owner),
        None => check,
    }
}

fn format(survey: &Result<Survey, Failed>) -> Check {
    let name = "data_dir.format";
    let newest = Survey::FORMAT;
    match survey {
        Ok(Survey { format: Some(format), .. }) => {
            Check::ok(name, format!("format {format}, this version reads up to {newest}"))
                .figure("format", *format)
        }
        Ok(_) => Check::ok(name, "no server has used it yet"),
        // Nothing but the file of that name is read for it.
        Err((Code::Corrupt, why)) => {
            Check::problem(name, Code::Corrupt, why.clone()).advise(FORMAT_ADVICE)
        }
        Err((code, why)) => Check::problem(name, *code, why.clone()),
    }
    .figure("newest", newest)
}

fn holder(holding: &Holding, roles: &[&str]) -> Check {
    let name = "data_dir.locks";
    let held = roles.join(" and ");
    let check = match holding {
        Holding::Free if roles.is_empty() => Check::ok(name, "no server runs on it"),
        Holding::Free => Check::ok(name, format!("the {held} is held")),
        Holding::Held(Some(pid)) => {
            Check::ok(name, format!("process {pid} serves from it: {held}")).figure("pid", *pid)
        }
        Holding::Held(None) => Check::ok(name, format!("a server runs on it: {held}")),
        Holding::Unknown => return Check::skipped(name, "the directory could not be read"),
    };
    check.figure("running", matches!(holding, Holding::Held(_))).figure("roles", roles)
}

/// Whether there is room for what is stored and for what is allowed to come.
pub(super) fn space(name: &str, space: Option<&Space>, used: u64, max_live: u64) -> Check {
    let Some(space) = space else {
        return Check::skipped(name, "the file system does not tell");
    };
    let bytes = HumanBytes;
    let (free, total) = (space.free, space.total);
    let text = format!("{} of {} free, {} in payloads", bytes(free), bytes(total), bytes(used));
    // A tenth of what is there comes and goes with a busy pipeline.
    let wanted = SPACE_WARNING.max(used / 10);
    let room = free.saturating_add(used);
    let check = if free < SPACE_PROBLEM {
        Check::problem(name, Code::DiskFull, text).advise(format!(
            "free disk space: below {} puts and settles are refused as `disk_full` in no time",
            bytes(SPACE_PROBLEM)
        ))
    } else if free < wanted {
        let action = format!("free disk space, or purge batches: {} should be free", bytes(wanted));
        Check::warning(name, text, action)
    } else if space.free_files.is_some_and(|files| files < FILES_WARNING) {
        let files = count(space.free_files.unwrap_or(0));
        let text = format!("{text}; {files} files can still be made");
        let action =
            "each payload is one file: use a file system with more inodes, or purge batches";
        Check::warning(name, text, action)
    } else if max_live != u64::MAX && max_live > room {
        let text = format!("{text}; --max-live-bytes allows {}", bytes(max_live));
        let action = format!(
            "lower --max-live-bytes below {}, or get a larger disk: the disk is full before the \
             limit is reached",
            bytes(room)
        );
        Check::warning(name, text, action)
    } else {
        Check::ok(name, text)
    };
    check
        .figure("free_bytes", free)
        .figure("total_bytes", total)
        .figure("payload_bytes", used)
        .figure("free_files", space.free_files)
}

fn file_system(kind: Option<&str>, durability: Durability) -> Check {
    let name = "data_dir.file_system";
    let Some(kind) = kind else { return Check::skipped(name, "this platform does not tell") };
    let check = match kind {
        "nfs" | "smb" | "cifs" | "smb2" | "9p" | "fuse" | "ceph" | "virtiofs" => Check::warning(
            name,
            format!("{kind}: locks, fsync and memory maps depend on another machine or program"),
            "use a disk of this machine for --data-dir, such as ext4 or xfs",
        ),
        "tmpfs" | "ramfs" if durability == Durability::Disk => Check::warning(
            name,
            format!("{kind}: what is acknowledged does not survive a restart of the machine"),
            "name a directory on a disk, or say --durability memory",
        ),
        "overlay" => Check::warning(
            name,
            "overlay: what is written goes with the container",
            "mount a volume there",
        ),
        kind => Check::ok(name, kind),
    };
    check.figure("kind", kind)
}

fn syncs(dir: &DirFacts, durability: Durability) -> Check {
    let name = "data_dir.fsync";
    let Ok(took) = &dir.syncs else { return Check::skipped(name, "nothing can be written there") };
    let (Some(middle), Some(longest)) = (median(took), took.last()) else {
        return Check::skipped(name, "nothing was written");
    };
    let times = counted(took.len() as u64, "write");
    let text = format!("{times} with fsync: median {}, longest {}", span(middle), span(*longest));
    let check = match middle > SYNC_WARNING && durability == Durability::Disk {
        true => Check::warning(
            name,
            text,
            "use a faster disk: every put and every settle waits for one (many share it); or say \
             --durability memory, where nothing has to survive a crash",
        ),
        false => Check::ok(name, text),
    };
    check.figure("median_ms", millis(middle)).figure("longest_ms", millis(*longest))
}

fn quarantine(survey: &Survey) -> Check {
    let name = "data_dir.quarantine";
    let files = counted(survey.quarantined, "damaged file");
    let check = match survey.quarantined {
        0 => {
            let more = if survey.partial { "more than " } else { "" };
            let payloads = counted(survey.payloads, "payload");
            Check::ok(name, format!("{more}{payloads}, no damaged files"))
        }
        _ => Check::warning(
            name,
            format!("{files} in batches/quarantine, {}", HumanBytes(survey.quarantined_bytes)),
            "check the disk; put the data of these batches again, requeue them, and remove the \
             files by hand",
        ),
    };
    check.figure("payloads", survey.payloads).figure("quarantined", survey.quarantined)
}

fn registrations(found: Registrations) -> Check {
    let name = "data_dir.registered";
    let records = |count| counted(count, "record");
    match found {
        Registrations::Absent => Check::ok(name, "nothing was registered from here yet"),
        Registrations::Whole { records: whole, torn } => {
            let text = match torn {
                0 => format!("{} in registered.log", records(whole)),
                torn => format!(
                    "{} in registered.log and an unfinished one of {torn} bytes, which counts for \
                     nothing",
                    records(whole)
                ),
            };
            Check::ok(name, text).figure("records", whole)
        }
        Registrations::Foreign => Check::warning(
            name,
            "registered.log is something else: the next start sets it aside as registered.damaged",
            "check the disk; put back the registered.log of a backup, or start with the coordinator \
             that has the batches, which is asked for what is missing",
        ),
        Registrations::Damaged { records: whole, bytes } => Check::warning(
            name,
            format!(
                "{bytes} bytes of registered.log are damaged, {} can be read: the next start \
                 keeps these, and sets the file aside as registered.damaged",
                records(whole)
            ),
            "check the disk; start with the coordinator that has the batches, which is asked for \
             what is missing",
        )
        .figure("records", whole),
        Registrations::Newer { found, supported } => Check::problem(
            name,
            Code::FormatNewer,
            format!("registered.log has version {found}, this build reads up to {supported}"),
        ),
    }
}

fn records(state: &Result<FileState, Failed>, holding: &Holding) -> Check {
    let name = "data_dir.coordinator";
    let check = match state {
        Ok(FileState::Absent) => Check::ok(name, "no coordinator has used it yet"),
        Ok(FileState::InUse) if *holding == Holding::Free => {
            let found = "another process has coordinator.redb open, and none serves the payloads";
            Check::problem(name, Code::DirectoryLocked, found)
        }
        Ok(FileState::InUse) => Check::skipped(
            name,
            "a coordinator has coordinator.redb open: its server tells how it is",
        ),
        Ok(FileState::NotClosed) => Check::ok(
            name,
            "coordinator.redb was not closed: the next start puts it in order, which takes a little",
        ),
        Ok(FileState::Migrating(phase)) => {
            let found = phase.refusal("coordinator.redb").map(|refusal| refusal.to_string());
            Check::problem(name, Code::FailedPrecondition, found.unwrap_or_default())
        }
        Ok(FileState::Closed(found)) => {
            let text = format!(
                "{} of version {} in coordinator.redb",
                counted(found.batches, "record"),
                found.version
            );
            let check = match found.damaged + found.quarantined {
                0 => Check::ok(name, text),
                damaged => Check::warning(
                    name,
                    format!("{text}, {} set aside or unreadable", count(damaged)),
                    "check the disk; batches whose records are damaged are `failed` with code \
                     `corrupt`: register them again",
                ),
            };
            check
                .figure("batches", found.batches)
                .figure("records", found.version)
                .figure("damaged", found.damaged)
        }
        Err((code, why)) => {
            let check = Check::problem(name, *code, why.clone());
            match code {
                Code::Corrupt => check.advise(COORDINATOR_ADVICE),
                _ => check,
            }
        }
    };
    check.figure("newest", FileState::VERSION)
}

#[cfg(test)]
#[path = "data_dir_tests.rs"]
mod tests;
