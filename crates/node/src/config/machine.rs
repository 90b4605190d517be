//! What the defaults depend on.

use std::fs;

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
        let confined = read("/sys/fs/cgroup/memory.max").and_then(|text| text.trim().parse().ok());
        Machine::of([total, confined].into_iter().flatten().min().unwrap_or(FALLBACK))
    }

    /// Bytes of memory.
    pub const fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }
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
