//! The partition of each row of a batch.

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::Schema;

use super::Partitioning;
use super::hash::Hasher;
use super::range::Ranges;
use crate::error::Error;

/// A partitioning over the batches of one schema.
pub(crate) struct Assigner {
    partitions: u32,
    rule: Rule,
}

enum Rule {
    Hash { hasher: Hasher, columns: Vec<usize> },
    RoundRobin { next: u32 },
    Range(Ranges),
    First,
    Custom(super::PartitionFunction),
}

impl Assigner {
    /// For broadcast, all rows go to one partition: that stands for all.
    pub(crate) fn try_new(
        schema: &Schema,
        partitioning: &Partitioning,
        partitions: usize,
    ) -> Result<Self, Error> {
        let partitions = partitioning.check_count(partitions)?;
        let rule = match partitioning {
            Partitioning::Hash { keys, .. } if keys.is_empty() => {
                return Err(Error::NoKeys { partitioning: "hash" });
            }
            Partitioning::Hash { keys, seed } => {
                let columns = keys.iter().map(|key| key.find(schema)).collect::<Result<_, _>>()?;
                Rule::Hash { hasher: Hasher::new(*seed), columns }
            }
            Partitioning::RoundRobin => Rule::RoundRobin { next: 0 },
            Partitioning::Range(bounds) => {
                Rule::Range(Ranges::try_new(bounds, schema, partitions)?)
            }
            Partitioning::Single | Partitioning::Broadcast => Rule::First,
            Partitioning::Custom(function) => Rule::Custom(function.clone()),
        };
        Ok(Assigner { partitions, rule })
    }

    pub(crate) fn partitions(&self) -> u32 {
        self.partitions
    }

    /// As many as there are rows, each less than the number of partitions.
    pub(crate) fn assign(&mut self, batch: &RecordBatch) -> Result<Vec<u32>, Error> {
        let (partitions, rows) = (self.partitions, batch.num_rows());
        match &mut self.rule {
            Rule::First => Ok(vec![0; rows]),
            Rule::Hash { .. } if partitions == 1 => Ok(vec![0; rows]),
            Rule::Hash { hasher, columns } => {
                let keys: Vec<ArrayRef> =
                    columns.iter().map(|index| batch.column(*index).clone()).collect();
                Ok(hasher.partitions(&keys, partitions)?)
            }
            Rule::RoundRobin { next } => {
                let mut ids = Vec::with_capacity(rows);
                for _ in 0..rows {
                    ids.push(*next);
                    *next = if *next + 1 == partitions { 0 } else { *next + 1 };
                }
                Ok(ids)
            }
            Rule::Range(ranges) => ranges.assign(batch),
            Rule::Custom(function) => {
                let ids = function(batch, partitions)?;
                check(&ids, rows, partitions)?;
                Ok(ids)
            }
        }
    }
}

/// What a user's function may not give.
fn check(ids: &[u32], rows: usize, partitions: u32) -> Result<(), Error> {
    if ids.len() != rows {
        let problem = format!("{} partitions for {rows} rows", ids.len());
        return Err(Error::Function { problem });
    }
    match ids.iter().position(|id| *id >= partitions) {
        None => Ok(()),
        Some(row) => {
            let problem = format!("row {row} in partition {} of {partitions}", ids[row]);
            Err(Error::Function { problem })
        }
    }
}
