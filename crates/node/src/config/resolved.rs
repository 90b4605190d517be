//! A configuration that was checked.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use sheaf_connectors::SinkSpec;
use sheaf_flight::ipc::Compression;
use sheaf_store::Durability;
use sheaf_telemetry::LogOptions;

use super::address::HostPort;
use super::backend::Backend;
use super::disk_share::DiskShare;
use super::processor::ProcessorChoice;
use super::security::SecurityConfig;

/// What a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Store, coordinator and workers.
    All,
    /// The store alone.
    Flight,
    /// The coordinator alone.
    Coordinator,
    /// Workers of a server elsewhere.
    Worker,
}

impl Mode {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Mode::All => "all",
            Mode::Flight => "flight",
            Mode::Coordinator => "coordinator",
            Mode::Worker => "worker",
        }
    }
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Mode::All, Mode::Flight, Mode::Coordinator, Mode::Worker]
            .into_iter()
            .find(|mode| mode.as_str() == text)
            .ok_or_else(|| format!("{text:?} is no mode: write all, flight, coordinator or worker"))
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Everything that `serve` needs to know: complete, in range, free of conflicts.
///
/// Made by [`RawConfig::validate`](super::RawConfig::validate) only.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub(super) mode: Mode,
    pub(super) backend: Backend,
    pub(super) flight_addr: HostPort,
    pub(super) flight_uds: Option<PathBuf>,
    pub(super) admin_addr: HostPort,
    pub(super) advertise_addr: Option<HostPort>,
    pub(super) insecure: bool,
    pub(super) security: SecurityConfig,
    pub(super) data_dir: PathBuf,
    pub(super) durability: Durability,
    pub(super) compression: Compression,
    pub(super) memory_limit: u64,
    pub(super) max_live_bytes: u64,
    pub(super) ttl: Duration,
    pub(super) shuffle_disk: DiskShare,
    pub(super) shuffle_idle: Duration,
    pub(super) lease: Duration,
    pub(super) grace: Duration,
    pub(super) max_retries: u32,
    pub(super) workers: usize,
    pub(super) poll_interval: Duration,
    pub(super) queues: Vec<String>,
    pub(super) processor: ProcessorChoice,
    pub(super) sink: SinkSpec,
    pub(super) logs: LogOptions,
}

impl Config {
    /// What this process is.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The coordinator.
    pub fn backend(&self) -> &Backend {
        &self.backend
    }

    /// Where to serve Flight; in mode worker the server to dial.
    pub fn flight_addr(&self) -> &HostPort {
        &self.flight_addr
    }

    /// The socket in the file system on which Flight is served too.
    pub fn flight_uds(&self) -> Option<&Path> {
        self.flight_uds.as_deref()
    }

    /// Where to serve metrics and health.
    pub fn admin_addr(&self) -> &HostPort {
        &self.admin_addr
    }

    /// Under which address others reach this store.
    pub fn advertise_addr(&self) -> Option<&HostPort> {
        self.advertise_addr.as_ref()
    }

    /// Whether addresses beyond loopback are allowed.
    pub fn insecure(&self) -> bool {
        self.insecure
    }

    /// Certificates and tokens.
    pub fn security(&self) -> &SecurityConfig {
        &self.security
    }

    /// Where payloads and coordination are kept.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// What an acknowledgement survives.
    pub fn durability(&self) -> Durability {
        self.durability
    }

    /// In which codec payloads are kept that come uncompressed.
    pub fn compression(&self) -> Compression {
        self.compression
    }

    /// Most memory for payloads, in bytes.
    pub fn memory_limit(&self) -> u64 {
        self.memory_limit
    }

    /// Most payload bytes of batches that are not done.
    pub fn max_live_bytes(&self) -> u64 {
        self.max_live_bytes
    }

    /// Most disk for partitions that memory has no room for.
    pub fn shuffle_disk(&self) -> DiskShare {
        self.shuffle_disk
    }

    /// How long the partitions of a query are kept that nobody sends or reads.
    pub fn shuffle_idle(&self) -> Duration {
        self.shuffle_idle
    }

    /// How long a payload is kept that nobody needs any more.
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// How long a worker holds a batch without a heartbeat.
    pub fn lease(&self) -> Duration {
        self.lease
    }

    /// How long a shutdown waits for running work.
    pub fn grace(&self) -> Duration {
        self.grace
    }

    /// Retries after the first attempt for batches that name no policy.
    pub fn max_retries(&self) -> u32 {
        self.max_retries
    }

    /// Batches worked on at once in this process; 0 is none.
    pub fn workers(&self) -> usize {
        self.workers
    }

    /// How long an idle worker waits before it asks again.
    pub fn poll_interval(&self) -> Duration {
        self.poll_interval
    }

    /// Queues that the workers take from; at least one.
    pub fn queues(&self) -> &[String] {
        &self.queues
    }

    /// What workers do with a batch.
    pub fn processor(&self) -> &ProcessorChoice {
        &self.processor
    }

    /// Where results go.
    pub fn sink(&self) -> &SinkSpec {
        &self.sink
    }

    /// What is logged, and how.
    pub fn logs(&self) -> &LogOptions {
        &self.logs
    }
}
