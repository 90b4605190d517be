//! Names of what is exchanged.

use std::fmt;

use super::error::Error;

/// Longest name of a query, in bytes.
const MAX_QUERY_BYTES: usize = 200;

/// Most senders of one partition.
pub const MAX_SENDERS: u32 = 65_536;

/// One partition of one stage of one query.
///
/// The name of a query has 1 to 200 characters of `[A-Za-z0-9._:-]`, so that a
/// ticket needs no escapes.
///
/// ```
/// use sheaf_exchange::shuffle::PartitionKey;
///
/// let key = PartitionKey::try_new("query-7", 2, 11)?;
/// assert_eq!(key.to_string(), "query-7/2/11");
/// assert!(PartitionKey::try_new("a/b", 0, 0).is_err());
/// # Ok::<(), sheaf_exchange::shuffle::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PartitionKey {
    query: String,
    stage: u32,
    partition: u32,
}

impl PartitionKey {
    /// A key whose parts are checked.
    ///
    /// # Errors
    /// [`Error::Name`] for the name of a query that is none.
    pub fn try_new(query: &str, stage: u32, partition: u32) -> Result<Self, Error> {
        check_query(query)?;
        Ok(PartitionKey { query: query.to_owned(), stage, partition })
    }

    /// The name of the query.
    pub fn query(&self) -> &str {
        &self.query
    }

    /// The number of the stage.
    pub fn stage(&self) -> u32 {
        self.stage
    }

    /// The number of the partition.
    pub fn partition(&self) -> u32 {
        self.partition
    }
}

impl fmt::Display for PartitionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.query, self.stage, self.partition)
    }
}

/// That it can be the name of a query.
pub(super) fn check_query(query: &str) -> Result<(), Error> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte);
    if (1..=MAX_QUERY_BYTES).contains(&query.len()) && query.bytes().all(allowed) {
        return Ok(());
    }
    let shown: String = query.chars().take(MAX_QUERY_BYTES).collect();
    Err(Error::Name { name: shown, bytes: query.len(), limit: MAX_QUERY_BYTES })
}

/// Who sends to a partition, in which attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sender {
    /// Which of the senders, from 0.
    pub index: u32,
    /// Which of its attempts: a higher one replaces a lower one. A count will do,
    /// or the fencing token of a lease.
    pub attempt: u64,
    /// How many senders the partition has; all of them say the same.
    pub senders: u32,
}

impl Sender {
    /// The only sender of a partition, in its first attempt.
    pub const fn only() -> Self {
        Sender { index: 0, attempt: 1, senders: 1 }
    }

    pub(super) fn check(self) -> Result<(), Error> {
        let Sender { index, senders, .. } = self;
        if senders == 0 || senders > MAX_SENDERS || index >= senders {
            return Err(Error::SenderNumber { index, senders, limit: MAX_SENDERS });
        }
        Ok(())
    }
}

/// What a sender says at its end that it has sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Totals {
    /// Chunks, which are messages of dictionaries and of record batches.
    pub chunks: u64,
    /// Rows of all record batches.
    pub rows: u64,
}
