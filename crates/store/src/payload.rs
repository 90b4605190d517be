//! What the store knows of a payload.

use std::sync::Arc;

use bytes::Bytes;
use sheaf_proto::BatchId;
use sheaf_retry::Timestamp;

/// When an acknowledged payload survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// Until the process ends.
    Memory,
    /// A crash of process or machine: acknowledged after fsync of file and directory.
    Disk,
}

/// A stored payload, without its data.
#[derive(Clone, Debug, PartialEq)]
pub struct PayloadInfo {
    /// Its name.
    pub id: BatchId,
    /// Rows of all its record batches.
    pub rows: u64,
    /// Bytes of all its messages, headers and bodies, as they were put.
    pub bytes: u64,
    /// The same of the messages as they are kept: fewer where the store
    /// compressed some.
    pub stored_bytes: u64,
    /// Its messages, the schema not counted.
    pub messages: u64,
    /// xxh3-128 over length and bytes of its messages as they were put,
    /// lower-case hexadecimal.
    pub checksum: String,
    /// xxh3-64 of the canonical schema message, lower-case hexadecimal.
    pub schema_fingerprint: String,
    /// Flatbuffer of the schema message.
    pub schema: Bytes,
    /// What a crash leaves of it.
    pub durability: Durability,
    /// When it was put.
    pub created_at: Timestamp,
    /// When it was last read or put.
    pub used_at: Timestamp,
    /// Name of the token that it was put with, where that has one.
    pub put_by: Option<Arc<str>>,
}
