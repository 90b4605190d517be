//! What is there of a stage.

use serde::{Deserialize, Serialize};

use super::partition::Partition;
use super::{Error, PartitionKey, Table};

/// One partition as a worker has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AvailablePartition {
    /// Its number.
    pub partition: u32,
    /// Whether all senders have committed.
    pub ready: bool,
    /// Senders that have.
    pub committed: u32,
    /// All senders.
    pub senders: u32,
    /// Rows, of senders that have not committed those so far.
    pub rows: u64,
    /// Bytes of headers and bodies, as they came.
    pub bytes: u64,
    /// Chunks.
    pub chunks: u64,
    /// xxh3-64 of the schema, as this build encodes it, sixteen hexadecimal digits.
    pub schema: String,
    /// CRC32C of the checksums of all chunks by their senders, eight hexadecimal
    /// digits: the same data in another attempt has the same.
    pub checksum: String,
}

/// All partitions of one stage that a worker has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AvailablePartitions {
    /// The query.
    pub query: String,
    /// The stage.
    pub stage: u32,
    /// In the order of their numbers.
    pub partitions: Vec<AvailablePartition>,
    /// How unequal they are.
    pub skew: Skew,
}

/// How unequal partitions are.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Skew {
    /// Rows of the smallest.
    pub rows_min: u64,
    /// Rows of the largest.
    pub rows_max: u64,
    /// Rows of all by their number.
    pub rows_mean: f64,
    /// The largest by the mean: 1 where all are equal, or empty.
    pub ratio: f64,
    /// Which is the largest.
    pub largest: u32,
}

impl AvailablePartitions {
    pub(in super::super) fn new(
        query: &str,
        stage: u32,
        partitions: Vec<AvailablePartition>,
    ) -> Self {
        let skew = skew_of(&partitions);
        AvailablePartitions { query: query.to_owned(), stage, partitions, skew }
    }

    /// Those of several workers as one, in the order of their numbers.
    #[must_use]
    pub fn merge(mut self, other: AvailablePartitions) -> Self {
        self.partitions.extend(other.partitions);
        self.partitions.sort_by_key(|one| one.partition);
        self.skew = skew_of(&self.partitions);
        self
    }
}

fn skew_of(partitions: &[AvailablePartition]) -> Skew {
    let rows: Vec<_> = partitions.iter().map(|one| (one.partition, one.rows)).collect();
    Skew::of(&rows)
}

impl Skew {
    /// Of partitions with so many rows.
    pub(super) fn of(partitions: &[(u32, u64)]) -> Self {
        let rows = partitions.iter().map(|(_, rows)| *rows);
        let (rows_min, rows_max) = (rows.clone().min().unwrap_or(0), rows.clone().max());
        let rows_max = rows_max.unwrap_or(0);
        let sum = rows.fold(0u64, u64::saturating_add);
        let rows_mean = sum as f64 / partitions.len().max(1) as f64;
        let ratio = if sum == 0 { 1.0 } else { rows_max as f64 / rows_mean };
        let largest = partitions.iter().find(|(_, rows)| *rows == rows_max);
        let largest = largest.map_or(0, |(partition, _)| *partition);
        Skew { rows_min, rows_max, rows_mean, ratio, largest }
    }
}

impl Partition {
    fn report(&self, partition: u32) -> AvailablePartition {
        let ((totals, bytes), (committed, senders)) = (self.sums(), self.senders());
        AvailablePartition {
            partition,
            ready: committed == senders,
            committed,
            senders,
            rows: totals.rows,
            bytes,
            chunks: totals.chunks,
            schema: format!("{:016x}", self.schema().fingerprint),
            checksum: format!("{:08x}", self.checksum()),
        }
    }
}

impl Table {
    /// What is here of one partition.
    pub(in super::super) fn report(&self, key: &PartitionKey) -> Result<AvailablePartition, Error> {
        let Some(partition) = self.partition(key) else {
            self.check_not_gone(key.query())?;
            return Err(Error::NotFound { key: key.clone() });
        };
        Ok(partition.report(key.partition()))
    }

    /// What is here of a stage, at once.
    #[cfg(test)]
    pub(in super::super) fn available(
        &self,
        query: &str,
        stage: u32,
    ) -> Result<AvailablePartitions, Error> {
        let (all, _) = self.page(query, stage, 0, u64::MAX)?;
        if all.is_empty() {
            return Err(Error::NoStage { query: query.to_owned(), stage });
        }
        Ok(AvailablePartitions::new(query, stage, all))
    }

    /// What is here of the partitions of a stage from a number on, of at least one and of
    /// as many as have so many senders together; and where it goes on.
    pub(in super::super) fn page(
        &self,
        query: &str,
        stage: u32,
        from: u32,
        senders: u64,
    ) -> Result<(Vec<AvailablePartition>, Option<u32>), Error> {
        self.check_not_gone(query)?;
        let (mut page, mut seen) = (Vec::new(), 0);
        let Some(its) = self.queries.get(query) else { return Ok((page, None)) };
        for ((_, number), partition) in its.partitions.range((stage, from)..=(stage, u32::MAX)) {
            if seen >= senders {
                return Ok((page, Some(*number)));
            }
            seen += u64::from(partition.senders().1);
            page.push(partition.report(*number));
        }
        Ok((page, None))
    }
}
