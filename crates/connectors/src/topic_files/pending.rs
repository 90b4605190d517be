//! What is decided with the rows of a file, and is not in it.

use bytes::Bytes;
use twox_hash::XxHash3_128;

use super::blobs::Blobs;
use super::link::Link;
use super::names::{self, Partition};
use crate::error::Error;

/// Something that waits to be decided.
pub(super) struct Staged {
    /// Where it waits.
    pub(super) name: String,
    /// Where it is read, once it is decided.
    published: String,
    reference: String,
    pub(super) bytes: Bytes,
}

impl Staged {
    /// Bytes for the messages of a partition from `start` on, that go to `stream`.
    ///
    /// The name has a hash of the bytes: two writers that stage the same bytes
    /// share them, and neither removes what the other has decided on.
    pub(super) fn new(
        of: &Partition,
        start: i64,
        stream: &str,
        bytes: Bytes,
    ) -> Result<Self, Error> {
        let hash = format!("{:032x}", XxHash3_128::oneshot(&bytes));
        let published = Partition::new(stream, of.number())?.file(start);
        let name = staged(of, start, &hash);
        Ok(Staged { name, published, reference: format!("{hash} {stream}"), bytes })
    }

    /// What the footer of the rows says of it.
    pub(super) fn reference(&self) -> String {
        self.reference.clone()
    }
}

fn staged(of: &Partition, start: i64, hash: &str) -> String {
    let file = names::file(start);
    let start = file.trim_end_matches(".parquet");
    format!("{}/{start}.{hash}", of.pending())
}

/// Gives what is decided its name among the readable ones.
pub(super) async fn publish(blobs: &dyn Blobs, staged: &Staged) -> Result<(), Error> {
    // Where the name is taken, somebody else has done the same.
    blobs.create(&staged.published, staged.bytes.clone()).await?;
    blobs.remove(&staged.name).await
}

/// Finishes what the writer of the newest file may have left, and removes what can
/// not be decided on any more.
pub(super) async fn settle(blobs: &dyn Blobs, of: &Partition, link: &Link) -> Result<(), Error> {
    let waiting = blobs.names(&of.pending()).await?;
    let decided = link.beside.as_deref().and_then(|reference| reference.split_once(' '));
    // It is removed only after it is published: where it is gone, it is.
    if let Some((hash, stream)) = decided {
        let name = staged(of, link.start, hash);
        if let Some(bytes) = blobs.read(&name).await? {
            publish(blobs, &Staged::new(of, link.start, stream, bytes)?).await?;
        }
    }
    for name in waiting {
        let start = name.split_once('.').and_then(|(start, _)| names::number(start));
        // The file of its beginning is there and names another one, or none.
        if start.is_some_and(|start| start <= link.start) {
            blobs.remove(&format!("{}/{name}", of.pending())).await?;
        }
    }
    Ok(())
}
