//! What the runtime of a component may use.

use std::time::Duration;

use sheaf_pipeline::control::ClientOptions;

/// How a component is hosted; the defaults do for most.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Bytes of batches in memory that readers have not acknowledged, all streams together;
    /// 256 MiB.
    pub retain_memory_bytes: u64,
    /// Bytes of such batches on disk, per stream, where the policy is not `spill`; 1 GB. A
    /// sender that has as much waits.
    pub retain_disk_bytes: u64,
    /// Bytes of batches that came in and were not taken by the component yet, all streams
    /// together; 256 MiB.
    pub received_bytes: u64,
    /// How often the offset of a source is written down at most; 100 ms.
    pub offset_every: Duration,
    /// How the control plane is called.
    pub control: ClientOptions,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            retain_memory_bytes: 256 << 20,
            retain_disk_bytes: 1_000_000_000,
            received_bytes: 256 << 20,
            offset_every: Duration::from_millis(100),
            control: ClientOptions::default(),
        }
    }
}
