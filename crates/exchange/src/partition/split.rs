//! Partitioning of one batch by itself.

use std::sync::Arc;

use arrow_array::{RecordBatch, UInt32Array};
use arrow_select::take::take_record_batch;

use super::{Assigner, Column, Partitioning};
use crate::error::Error;
use crate::kernel::Plan;

/// The partition of each row of a batch. Round-robin begins with partition 0.
///
/// # Errors
/// What is wrong with the partitioning for this schema and number;
/// [`Error::PartitionCount`] as well for broadcast, whose rows have no one partition.
///
/// ```
/// use std::sync::Arc;
/// use arrow_array::{Int64Array, RecordBatch};
/// use sheaf_exchange::{Partitioning, partition_ids};
///
/// let column = Arc::new(Int64Array::from(vec![1, 2, 1])) as _;
/// let batch = RecordBatch::try_from_iter([("n", column)])?;
/// let ids = partition_ids(&batch, &Partitioning::hash(["n"]), 16)?;
/// assert_eq!(ids[0], ids[2]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn partition_ids(
    batch: &RecordBatch,
    partitioning: &Partitioning,
    partitions: usize,
) -> Result<Vec<u32>, Error> {
    if matches!(partitioning, Partitioning::Broadcast) && partitions != 1 {
        super::check_count("broadcast", partitions, 1)?;
    }
    Assigner::try_new(batch.schema_ref(), partitioning, partitions)?.assign(batch)
}

/// Cuts a batch into one for each partition, by the hash of key columns; the
/// order of rows is kept. The batches share their memory: it is one reordered
/// copy of the batch.
///
/// # Errors
/// [`Error::NoKeys`], [`Error::NoSuchColumn`], [`Error::AmbiguousColumn`],
/// [`Error::PartitionCount`]; [`Error::Arrow`] where a type cannot be reordered.
pub fn hash_partition_data(
    batch: &RecordBatch,
    keys: &[Column],
    partitions: usize,
) -> Result<Vec<RecordBatch>, Error> {
    let ids = partition_ids(batch, &Partitioning::hash(keys.iter().cloned()), partitions)?;
    let plan = Plan::of(&ids, partitions);
    let order = UInt32Array::from(plan.order());
    let sorted = take_record_batch(batch, &order)?;
    let schema = Arc::clone(batch.schema_ref());
    debug_assert_eq!(schema, sorted.schema());
    Ok((0..partitions)
        .map(|id| plan.run(id))
        .map(|run| sorted.slice(run.start, run.len()))
        .collect())
}
