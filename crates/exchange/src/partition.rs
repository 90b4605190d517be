//! Which row goes to which partition.

mod assign;
mod columns;
pub(crate) mod hash;
mod range;
mod sample;
mod split;

use std::fmt;
use std::sync::Arc;

use arrow_array::RecordBatch;

use crate::error::Error;

pub(crate) use assign::Assigner;
pub use columns::Column;
pub(crate) use columns::check_schema;
pub use range::{RangeBounds, SortKey};
pub use sample::RangeSampler;
pub use split::{hash_partition_data, partition_ids};

/// The most partitions that there can be.
pub const MAX_PARTITIONS: usize = 65_536;

/// How rows are spread over partitions.
///
/// ```
/// use sheaf_exchange::Partitioning;
///
/// let by_customer = Partitioning::hash(["customer"]);
/// let by_first_two = Partitioning::hash([0, 1]);
/// # assert_eq!(by_customer.name(), "hash");
/// # assert_eq!(by_first_two.name(), "hash");
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub enum Partitioning {
    /// By the hash of key columns: the same key always goes to the same
    /// partition, in every process, on every machine, in every version, and in
    /// every Arrow representation of it. Nulls are a key like others.
    Hash {
        /// At least one; their order matters.
        keys: Vec<Column>,
        /// Another seed is another hash. Data that was partitioned before needs
        /// another one than it had, or a part of it stays in one partition.
        seed: u64,
    },
    /// Each partition gets a row in turn, and the next batch goes on where the
    /// last one ended.
    RoundRobin,
    /// Every partition gets every row.
    Broadcast,
    /// By the order of rows: each partition gets those between two bounds.
    Range(RangeBounds),
    /// All rows go to the only partition.
    Single,
    /// The user's own function.
    Custom(PartitionFunction),
}

/// Gives the partition of each row of a batch, less than the number that it is
/// told; in order, as many as there are rows.
pub type PartitionFunction =
    Arc<dyn Fn(&RecordBatch, u32) -> Result<Vec<u32>, Error> + Send + Sync>;

impl Partitioning {
    /// [`Partitioning::Hash`] of these columns, with the seed 0.
    pub fn hash<C: Into<Column>>(keys: impl IntoIterator<Item = C>) -> Self {
        Partitioning::Hash { keys: keys.into_iter().map(Into::into).collect(), seed: 0 }
    }

    /// As messages and settings have it.
    pub const fn name(&self) -> &'static str {
        match self {
            Partitioning::Hash { .. } => "hash",
            Partitioning::RoundRobin => "round-robin",
            Partitioning::Broadcast => "broadcast",
            Partitioning::Range(_) => "range",
            Partitioning::Single => "single",
            Partitioning::Custom(_) => "custom",
        }
    }

    /// The number of partitions, checked.
    pub(crate) fn check_count(&self, partitions: usize) -> Result<u32, Error> {
        let max = if matches!(self, Partitioning::Single) { 1 } else { MAX_PARTITIONS };
        check_count(self.name(), partitions, max)
    }
}

fn check_count(partitioning: &'static str, partitions: usize, max: usize) -> Result<u32, Error> {
    match u32::try_from(partitions) {
        Ok(count) if count > 0 && partitions <= max => Ok(count),
        _ => {
            let allowed = if max == 1 { "1".to_owned() } else { format!("1 to {max}") };
            Err(Error::PartitionCount { partitions, partitioning, allowed })
        }
    }
}

impl fmt::Debug for Partitioning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Partitioning::Hash { keys, seed } => {
                f.debug_struct("Hash").field("keys", keys).field("seed", seed).finish()
            }
            Partitioning::Range(bounds) => f.debug_tuple("Range").field(bounds).finish(),
            other => f.write_str(other.name()),
        }
    }
}
