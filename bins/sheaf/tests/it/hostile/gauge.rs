//! What a process holds: memory, descriptors, mappings, threads, files.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Between two looks at the memory of a process.
const PAUSE: Duration = Duration::from_millis(20);

/// What a process holds beside memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holdings {
    pub(crate) descriptors: usize,
    pub(crate) mappings: usize,
    pub(crate) threads: usize,
    /// Under its data directory.
    pub(crate) files: usize,
}

impl Holdings {
    pub(crate) fn of(pid: u32, data: &Path) -> Self {
        let entries =
            |name: &str| fs::read_dir(format!("/proc/{pid}/{name}")).map_or(0, Iterator::count);
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
        Holdings {
            descriptors: entries("fd"),
            mappings: maps.lines().count(),
            threads: entries("task"),
            files: files(data),
        }
    }
}

fn files(folder: &Path) -> usize {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths.map(|path: PathBuf| if path.is_dir() { files(&path) } else { 1 }).sum()
}

/// Looks at the memory of a process until it is dropped.
pub(crate) struct Gauge {
    most: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
    looking: Option<JoinHandle<()>>,
}

impl Gauge {
    pub(crate) fn start(pid: u32) -> Self {
        let (most, is_over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (found, over) = (Arc::clone(&most), Arc::clone(&is_over));
        let looking = std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                found.fetch_max(resident(pid), Ordering::Relaxed);
                // sleep: it looks at what another process has, which tells nobody.
                std::thread::sleep(PAUSE);
            }
        });
        Gauge { most, is_over, looking: Some(looking) }
    }

    /// The most bytes that it had at once.
    pub(crate) fn most(&self) -> u64 {
        self.most.load(Ordering::Relaxed)
    }
}

impl Drop for Gauge {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(looking) = self.looking.take() {
            drop(looking.join());
        }
    }
}

/// Bytes of memory that the process has, without pages of files: those the
/// system takes back when it likes.
pub(crate) fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim_end_matches("kB").trim().parse::<u64>().ok()
    };
    (field("RssAnon:").unwrap_or(0) + field("RssShmem:").unwrap_or(0)) << 10
}
