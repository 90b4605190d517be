//! What a store is opened with, and what its calls take.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sheaf_flight::Budget;
use sheaf_flight::ipc::{Bounds, Compression};
use sheaf_proto::BatchId;
use sheaf_retry::{RetryPolicy, SharedClock};

use crate::bodies::Bodies;
use crate::disk::{Disk, LocalDisk};
use crate::payload::{Durability, PayloadInfo};
use crate::retention::{PayloadOwner, Standing, Unowned};

/// How a [`Store`](crate::Store) is set up.
#[derive(Clone)]
pub struct Options {
    pub(crate) clock: SharedClock,
    pub(crate) owner: Arc<dyn PayloadOwner>,
    pub(crate) disk: Arc<dyn Disk>,
    /// Where payloads outlive the process and memory is spilled to; `None`
    /// keeps everything in memory.
    pub data_dir: Option<PathBuf>,
    /// Memory for payloads; other components may share it.
    pub budget: Arc<Budget>,
    /// The part of the budget that this store may use; `None` is all of it.
    pub quota_bytes: Option<u64>,
    /// Bytes of files at most; `None` is what the file system has.
    pub disk_limit_bytes: Option<u64>,
    /// How long a payload is kept after its batch is over, or, where nobody
    /// registered it, after it was last used.
    pub ttl: Duration,
    /// Whether a payload goes as soon as its batch is completed, not after
    /// `ttl`. That of a batch that failed, expired or was cancelled stays for
    /// `ttl`, so that the batch can be started anew.
    pub delete_on_completion: bool,
    /// When an owner that did not answer is asked again.
    pub ask_again: RetryPolicy,
    /// Limits on what is put.
    pub bounds: Bounds,
    /// In which codec bodies are kept that come uncompressed, where a put does
    /// not say so itself.
    pub compression: Compression,
}

impl Options {
    /// A store of 1 GiB in memory, nothing on disk, kept for 1 hour, that
    /// belongs to nobody.
    pub fn new(clock: SharedClock) -> Self {
        Options {
            clock,
            owner: Arc::new(Unowned),
            disk: Arc::new(LocalDisk),
            data_dir: None,
            budget: Budget::new(1 << 30),
            quota_bytes: None,
            disk_limit_bytes: None,
            ttl: Duration::from_secs(3_600),
            delete_on_completion: false,
            ask_again: RetryPolicy { max_retries: u32::MAX, ..RetryPolicy::QUEUE },
            bounds: Bounds::default(),
            compression: Compression::None,
        }
    }

    /// Keeps payloads in this directory.
    #[must_use]
    pub fn with_data_dir(self, path: impl Into<PathBuf>) -> Self {
        Options { data_dir: Some(path.into()), ..self }
    }

    /// Asks this owner before anything is deleted.
    #[must_use]
    pub fn with_owner(self, owner: Arc<dyn PayloadOwner>) -> Self {
        Options { owner, ..self }
    }

    /// Counts memory against this budget.
    #[must_use]
    pub fn with_budget(self, budget: Arc<Budget>) -> Self {
        Options { budget, ..self }
    }

    /// Writes through this file system.
    #[must_use]
    pub fn with_disk(self, disk: Arc<dyn Disk>) -> Self {
        Options { disk, ..self }
    }
}

/// How a payload is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PutOptions {
    /// What a crash may leave of it.
    pub durability: Durability,
    /// Whether the owner registers it in the same call.
    pub register: bool,
    /// In which codec bodies are kept that come uncompressed; `None` leaves it
    /// to [`Options::compression`]. What comes compressed is kept as it came.
    /// The payload is the same either way: so are its checksum and `bytes`.
    pub compression: Option<Compression>,
}

impl PutOptions {
    /// Acknowledged in memory, not registered.
    pub const MEMORY: PutOptions =
        PutOptions { durability: Durability::Memory, register: false, compression: None };
    /// Acknowledged on disk, not registered.
    pub const DISK: PutOptions = PutOptions { durability: Durability::Disk, ..PutOptions::MEMORY };
    /// Acknowledged on disk, and registered by the owner: no crash leaves a
    /// payload that was acknowledged and that nobody works on.
    pub const REGISTERED: PutOptions = PutOptions::DISK.registered();

    /// Has the owner register it in the same call.
    #[must_use]
    pub const fn registered(self) -> Self {
        PutOptions { register: true, ..self }
    }

    /// Has bodies that come uncompressed kept in this codec.
    #[must_use]
    pub const fn compressed(self, compression: Compression) -> Self {
        PutOptions { compression: Some(compression), ..self }
    }
}

/// In whose name a payload is put: its bytes count for that name until it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutBy {
    /// The name of a token.
    pub name: Arc<str>,
    /// Bytes that all payloads of the name may have; `None` is any number.
    pub quota_bytes: Option<u64>,
}

/// What a put answers; as JSON the PutResult of Flight.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PutReceipt {
    /// Name of the payload.
    pub batch_id: BatchId,
    /// Rows of all record batches.
    pub rows: u64,
    /// Bytes of all messages, headers and bodies, as they were put.
    pub bytes: u64,
    /// Bytes of all messages as they are kept: fewer where the store compressed
    /// some. What a read without options is sent. 0 where the server does not say.
    #[serde(default)]
    pub stored_bytes: u64,
    /// xxh3-128 over the messages and their lengths as they were put,
    /// lower-case hexadecimal.
    pub checksum: String,
    /// Whether this put stored it; `false` where the same content was there,
    /// however it is kept.
    pub created: bool,
}

/// Which part of a payload to read, and how; the default is all of it, as it
/// is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// Only these columns, in this order. Must not be empty where it is given.
    pub columns: Option<Vec<String>>,
    /// Rows to leave out at the beginning.
    pub offset: u64,
    /// Rows at most.
    pub limit: Option<u64>,
    /// Leaves out this many messages after the schema, dictionaries excepted:
    /// a reader that lost its connection goes on where it was. Cannot be
    /// combined with the other options.
    pub from_message: u64,
    /// In which compression. No part of a ticket: over Flight a header says it.
    pub bodies: Bodies,
}

impl ReadOptions {
    /// Only these columns, in this order.
    #[must_use]
    pub fn with_columns<I>(self, columns: I) -> Self
    where
        I: IntoIterator<Item: Into<String>>,
    {
        ReadOptions { columns: Some(columns.into_iter().map(Into::into).collect()), ..self }
    }

    /// Only `limit` rows, after the first `offset`.
    #[must_use]
    pub fn with_rows(self, offset: u64, limit: u64) -> Self {
        ReadOptions { offset, limit: Some(limit), ..self }
    }

    /// All of it, byte for byte as it was put.
    pub fn as_put() -> Self {
        ReadOptions::default().with_bodies(Bodies::AsPut)
    }

    /// In this compression.
    #[must_use]
    pub fn with_bodies(self, bodies: Bodies) -> Self {
        ReadOptions { bodies, ..self }
    }

    /// Whether it is whole messages of the payload.
    pub(crate) fn is_whole(&self) -> bool {
        self.columns.is_none() && self.offset == 0 && self.limit.is_none()
    }
}

/// Whose payloads to list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Work on it is not over.
    Live,
    /// Its batch is over.
    Terminal,
    /// Nobody registered it.
    Unregistered,
    /// It was registered with a coordinator that does not know it now.
    Lost,
}

impl Status {
    pub(crate) fn admits(self, standing: Standing) -> bool {
        match self {
            Status::Live => standing == Standing::Live,
            Status::Terminal => {
                matches!(standing, Standing::Completed { .. } | Standing::Terminal { .. })
            }
            Status::Unregistered => standing == Standing::Unregistered,
            Status::Lost => standing == Standing::Lost,
        }
    }
}

/// Which payloads to list; the default is all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Filter {
    /// Names that begin so.
    pub prefix: String,
    /// Put at least this long ago, milliseconds.
    pub min_age_ms: Option<u64>,
    /// Put at most this long ago, milliseconds.
    pub max_age_ms: Option<u64>,
    /// Whose owner says so.
    pub status: Option<Status>,
    /// Pinned ones, or only those that are not.
    pub pinned: Option<bool>,
}

/// A part of a list, in the order of the names.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The payloads.
    pub payloads: Vec<PayloadInfo>,
    /// Where the next part begins: after this name. `None` at the end.
    pub next: Option<BatchId>,
}
