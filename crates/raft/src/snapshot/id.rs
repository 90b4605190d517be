//! Which snapshot, and which bytes.

use std::fmt;
use std::str::FromStr;

use sheaf_retry::{Code, Retryable};

/// Names the bytes of a snapshot: two nodes that have the same id have the same file.
///
/// As text it is `TERM-INDEX-BYTES-HASH`; term and index are `0` where the state
/// machine has applied nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SnapshotId {
    /// Of the last entry that it has.
    pub term: u64,
    /// Of the last entry that it has.
    pub index: u64,
    /// Of the whole file.
    pub bytes: u64,
    /// XXH3 of its content, the tail apart.
    pub hash: u64,
}

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}-{:016x}", self.term, self.index, self.bytes, self.hash)
    }
}

/// The text is no [`SnapshotId`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no id of a snapshot, which is TERM-INDEX-BYTES-HASH")]
pub struct InvalidSnapshotId(pub String);

impl Retryable for InvalidSnapshotId {
    fn code(&self) -> Code {
        Code::InvalidArgument
    }
}

impl FromStr for SnapshotId {
    type Err = InvalidSnapshotId;

    fn from_str(text: &str) -> Result<Self, InvalidSnapshotId> {
        let read = || {
            let mut words = text.split('-');
            let id = SnapshotId {
                term: words.next()?.parse().ok()?,
                index: words.next()?.parse().ok()?,
                bytes: words.next()?.parse().ok()?,
                hash: u64::from_str_radix(words.next()?, 16).ok()?,
            };
            words.next().is_none().then_some(id)
        };
        read().ok_or_else(|| InvalidSnapshotId(text.to_owned()))
    }
}
