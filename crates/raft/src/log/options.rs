//! Sizes of a log, and who writes it.

/// Who writes to disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flush {
    /// A thread of the log: appends that come while the disk is busy share the
    /// next write and sync.
    #[default]
    Thread,
    /// Who appends, before the call returns: for runtimes without threads.
    Inline,
    /// Whoever has the disk's part, in steps: a simulated disk takes its time for each, and the
    /// power can be lost between them.
    #[cfg(feature = "planted-bugs")]
    Driven,
}

/// Mistakes that tests must find.
#[cfg(feature = "planted-bugs")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlantedBug {
    /// Writes are acknowledged before they are on disk, which loses power.
    SkipSync,
    /// Entries are acknowledged before they are written at all.
    AcknowledgeBeforeFlush,
}

/// How a log is kept.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bytes after which another segment begins. Files are removed whole.
    pub segment_bytes: u64,
    /// Bytes of the newest entries that stay in memory; older ones are read
    /// from disk. Entries that are not written yet stay in any case.
    pub cache_bytes: u64,
    /// Bytes that wait to be written before `append` waits too.
    pub queue_bytes: u32,
    /// The most that one read returns, but for a single larger entry.
    pub read_bytes: u64,
    /// Who writes.
    pub flush: Flush,
    /// Which mistake to make.
    #[cfg(feature = "planted-bugs")]
    pub planted_bug: Option<PlantedBug>,
    /// The incarnation of a log that is made, where it is not to be one of chance.
    #[cfg(feature = "planted-bugs")]
    pub incarnation: Option<u64>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            segment_bytes: 64 << 20,
            cache_bytes: 64 << 20,
            queue_bytes: 32 << 20,
            read_bytes: 1 << 20,
            flush: Flush::Thread,
            #[cfg(feature = "planted-bugs")]
            planted_bug: None,
            #[cfg(feature = "planted-bugs")]
            incarnation: None,
        }
    }
}

impl Options {
    pub(super) fn has_thread(&self) -> bool {
        self.flush == Flush::Thread
    }

    /// The incarnation of a log that is made, where it is fixed.
    #[cfg(feature = "planted-bugs")]
    pub(super) fn incarnation(&self) -> Option<u64> {
        self.incarnation
    }

    #[cfg(not(feature = "planted-bugs"))]
    #[allow(clippy::unused_self, reason = "tests fix it")]
    pub(super) fn incarnation(&self) -> Option<u64> {
        None
    }

    /// Up to where what was written may be acknowledged.
    pub(super) fn acknowledged(&self, written: u64, synced: u64) -> u64 {
        if self.skips_sync() { written } else { synced }
    }

    #[cfg(feature = "planted-bugs")]
    pub(super) fn skips_sync(&self) -> bool {
        self.planted_bug == Some(PlantedBug::SkipSync)
    }

    #[cfg(not(feature = "planted-bugs"))]
    #[allow(clippy::unused_self, reason = "it has a mistake to make in tests")]
    pub(super) fn skips_sync(&self) -> bool {
        false
    }

    #[cfg(feature = "planted-bugs")]
    pub(super) fn acknowledges_early(&self) -> bool {
        self.planted_bug == Some(PlantedBug::AcknowledgeBeforeFlush)
    }

    #[cfg(not(feature = "planted-bugs"))]
    #[allow(clippy::unused_self, reason = "it has a mistake to make in tests")]
    pub(super) fn acknowledges_early(&self) -> bool {
        false
    }
}
