//! What the defaults depend on.

use std::fs;
use std::path::Path;

/// Assumed where the machine does not tell.
const FALLBACK: u64 = 2 << 30;

/// The machine that a configuration is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    memory_bytes: u64,
}

impl Machine {
    /// A machine with so many bytes of memory.
    pub const fn of(memory_bytes: u64) -> Self {
        Machine { memory_bytes }
    }

    /// This machine, or the container that the process is confined to. Where
    /// neither tells, 2 GiB are assumed.
    pub fn this() -> Self {
        let read = |path| fs::read_to_string(path).ok();
        let total = read("/proc/meminfo").and_then(|text| mem_total(&text));
        Machine::of([total, confined()].into_iter().flatten().min().unwrap_or(FALLBACK))
    }

    /// Bytes of memory.
    pub const fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }
}

/// The least limit of the control groups that this process is in: that of its
/// container, or of its systemd unit.
pub(crate) fn confined() -> Option<u64> {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let group = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    let root = Path::new("/sys/fs/cgroup");
    let inner = root.join(group);
    let groups = inner.ancestors().take_while(|path| path.starts_with(root));
    let number = |path: &Path| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let limits = groups.filter_map(|group| number(&group.join("memory.max")));
    // Of the older kind; without a limit it is a number near 2^63.
    let old = number(Path::new("/sys/fs/cgroup/memory/memory.limit_in_bytes"));
    limits.chain(old.filter(|limit| *limit < 1 << 60)).min()
}

fn mem_total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_kibibytes() {
        assert_eq!(mem_total("MemTotal:    2048 kB\nMemFree: 7 kB\n"), Some(2 << 20));
        assert_eq!(mem_total("nothing"), None);
        assert!(Machine::this().memory_bytes() > 1 << 20);
    }
}
