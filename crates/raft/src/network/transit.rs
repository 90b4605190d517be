//! How a snapshot is read on one node and written on another.

use std::io;

use async_trait::async_trait;
use bytes::Bytes;

use crate::types::SnapshotMeta;

/// What a snapshot is, to whoever receives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The entries and the members that it stands for.
    pub meta: SnapshotMeta,
    /// How long it is.
    pub size_bytes: u64,
    /// Of all its bytes; the store says how it is computed.
    pub checksum: u64,
}

/// Snapshots as bytes, on their way from node to node.
///
/// 1. What `read` gives at an offset is always the same.
/// 2. `receive` tells how much of this very snapshot is here already, of a transfer that broke;
///    what is here of another may be thrown away.
/// 3. `write` is called with offsets that follow each other, from the one `receive` told.
/// 4. `finish` fails where the bytes are not those of the manifest, and forgets them then.
/// 5. What is dropped before `finish` is where the next transfer of the same snapshot goes on.
#[async_trait]
pub trait Transit: Send + Sync + 'static {
    /// A snapshot of this node.
    type Data: Send + Sync + 'static;

    /// A snapshot that is being received.
    type Incoming: Send + 'static;

    /// What it is.
    fn manifest(&self, meta: &SnapshotMeta, data: &Self::Data) -> Manifest;

    /// Its bytes from an offset, at most so many; fewer only at its end.
    ///
    /// # Errors
    /// Those of reading it.
    async fn read(&self, data: &Self::Data, offset: u64, limit: usize) -> io::Result<Bytes>;

    /// Begins to receive a snapshot, or goes on; tells how much is here.
    ///
    /// # Errors
    /// Those of the disk.
    async fn receive(&self, manifest: &Manifest) -> io::Result<(Self::Incoming, u64)>;

    /// Adds a piece.
    ///
    /// # Errors
    /// Those of the disk.
    async fn write(
        &self,
        incoming: Self::Incoming,
        offset: u64,
        piece: Bytes,
    ) -> io::Result<Self::Incoming>;

    /// Makes it a snapshot of this node.
    ///
    /// # Errors
    /// Those of the disk, and that the bytes are others.
    async fn finish(&self, incoming: Self::Incoming) -> io::Result<Self::Data>;
}
