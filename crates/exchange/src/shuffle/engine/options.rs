//! How a process receives.

use std::hash::{BuildHasher as _, RandomState};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sheaf_flight::{Budget, MemoryBudget};
use sheaf_retry::SharedClock;
use sheaf_store::{Disk, LocalDisk};

use crate::shuffle::metrics::ReceiverMetrics;

/// How long nothing of a query is sent or read before it is dropped.
pub const DEFAULT_IDLE: Duration = Duration::from_secs(3_600);

/// What an [`Exchange`](super::Exchange) is opened with.
///
/// ```
/// use std::time::Duration;
///
/// use sheaf_exchange::shuffle::{Exchange, ReceiverMetrics, ReceiverOptions};
/// use sheaf_flight::Budget;
/// use sheaf_retry::SystemClock;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path();
/// let options = ReceiverOptions::new(Budget::new(64 << 20), SystemClock::shared())
///     .with_spill(path, 10 << 30)
///     .with_idle(Duration::from_secs(600))
///     .with_metrics(ReceiverMetrics::default());
/// let exchange = Exchange::open(options).await?;
/// assert_eq!(exchange.spilled_bytes(), 0);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ReceiverOptions {
    pub(super) budget: Arc<Budget>,
    pub(super) clock: SharedClock,
    pub(super) spill: Option<(PathBuf, u64)>,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) idle: Duration,
    pub(super) beside: Option<Arc<dyn MemoryBudget>>,
    pub(super) metrics: ReceiverMetrics,
    pub(super) seed: u64,
}

impl ReceiverOptions {
    /// Chunks stay in memory, which counts in `budget`.
    pub fn new(budget: Arc<Budget>, clock: SharedClock) -> Self {
        let (disk, metrics) = (Arc::new(LocalDisk), ReceiverMetrics::default());
        let (spill, beside, idle) = (None, None, DEFAULT_IDLE);
        // Another one in each process, whatever its clock says.
        let seed = RandomState::new().hash_one("incarnation");
        ReceiverOptions { budget, clock, spill, disk, idle, beside, metrics, seed }
    }

    /// Chunks move to files in this directory when memory gets short, of at most
    /// so many bytes. No other process may use it; what is in it does not
    /// survive this one.
    #[must_use]
    pub fn with_spill(mut self, directory: impl Into<PathBuf>, limit_bytes: u64) -> Self {
        self.spill = Some((directory.into(), limit_bytes));
        self
    }

    /// Somebody else who counts in the same budget and can make room in it: is asked
    /// where there is none for a chunk.
    #[must_use]
    pub fn with_beside(mut self, other: Arc<dyn MemoryBudget>) -> Self {
        self.beside = Some(other);
        self
    }

    /// The file system below the spill directory.
    #[must_use]
    pub fn with_disk(mut self, disk: Arc<dyn Disk>) -> Self {
        self.disk = disk;
        self
    }

    /// A query of which nothing is sent or read for so long is dropped:
    /// [`DEFAULT_IDLE`] where this is not said.
    #[must_use]
    pub fn with_idle(mut self, limit: Duration) -> Self {
        self.idle = limit;
        self
    }

    /// Where the numbers of incarnations begin, instead of at random: two exchanges
    /// with the same take each other's partitions for their own.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Where to count; not where another exchange counts.
    #[must_use]
    pub fn with_metrics(mut self, metrics: ReceiverMetrics) -> Self {
        self.metrics = metrics;
        self
    }
}

impl std::fmt::Debug for ReceiverOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("ReceiverOptions");
        shown.field("budget", &self.budget).field("spill", &self.spill);
        shown.field("idle", &self.idle).finish_non_exhaustive()
    }
}
