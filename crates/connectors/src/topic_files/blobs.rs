//! What a directory and a bucket have in common.

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::Error;

/// The end of a blob, and how long it is in all.
pub(super) struct Tail {
    pub(super) bytes: Bytes,
    pub(super) size: u64,
}

/// Named bytes that are written once. Names are relative, their parts apart by `/`.
#[async_trait]
pub(super) trait Blobs: std::fmt::Debug + Send + Sync {
    /// Gives bytes a name, unless it is taken; whether it did. The blob is whole,
    /// and durable, when this returns; after an error it is there or is not.
    async fn create(&self, name: &str, bytes: Bytes) -> Result<bool, Error>;

    /// The bytes of a name, where it is.
    async fn read(&self, name: &str) -> Result<Option<Bytes>, Error>;

    /// So many bytes of its end at most.
    async fn tail(&self, name: &str, most: u64) -> Result<Option<Tail>, Error>;

    /// The greatest beginning that a file in this folder has. It is durable: whoever
    /// created it may have died.
    async fn newest(&self, folder: &str) -> Result<Option<i64>, Error>;

    /// The names in a folder, a thousand or so at most.
    async fn names(&self, folder: &str) -> Result<Vec<String>, Error>;

    /// Removes a name; it may be gone.
    async fn remove(&self, name: &str) -> Result<(), Error>;

    /// The name for people.
    fn place(&self, name: &str) -> String;
}
