//! Bounds out of a sample of the rows.

use arrow_array::{ArrayRef, RecordBatch};
use arrow_row::{OwnedRow, RowConverter};
use arrow_schema::{Field, Schema, SchemaRef};
use std::sync::Arc;

use super::hash::mix;
use super::range::{RangeBounds, SortKey, converter};
use crate::error::Error;

/// Looks at batches and finds bounds that cut them into about equal parts.
///
/// Keeps a random sample of rows of which each row is a member with the same
/// chance, however many there are. Memory is that of the keys of the sample.
///
/// ```
/// use std::sync::Arc;
/// use arrow_array::{Int64Array, RecordBatch};
/// use sheaf_exchange::{RangeSampler, SortKey};
///
/// let column = Arc::new(Int64Array::from_iter_values(0..10_000)) as _;
/// let batch = RecordBatch::try_from_iter([("n", column)])?;
/// let keys = vec![SortKey::ascending("n")];
/// let mut sampler = RangeSampler::try_new(batch.schema(), keys, 1_000, 7)?;
/// sampler.push(&batch)?;
/// assert_eq!(sampler.bounds(4)?.batch().num_rows(), 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct RangeSampler {
    schema: SchemaRef,
    keys: Vec<SortKey>,
    columns: Vec<usize>,
    converter: RowConverter,
    size: usize,
    random: u64,
    seen: u64,
    sample: Vec<OwnedRow>,
}

impl std::fmt::Debug for RangeSampler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RangeSampler")
            .field("keys", &self.keys)
            .field("seen", &self.seen)
            .field("sample", &self.sample.len())
            .finish_non_exhaustive()
    }
}

impl RangeSampler {
    /// A sampler of at most `size` rows of batches of this schema; the same
    /// `seed` and batches give the same sample.
    ///
    /// # Errors
    /// [`Error::NoKeys`], [`Error::NoSuchColumn`], [`Error::AmbiguousColumn`],
    /// [`Error::NoOrder`], and [`Error::Option`] for a size of 0.
    pub fn try_new(
        schema: SchemaRef,
        keys: Vec<SortKey>,
        size: usize,
        seed: u64,
    ) -> Result<Self, Error> {
        if keys.is_empty() {
            return Err(Error::NoKeys { partitioning: "range" });
        }
        if size == 0 {
            let allowed = "1 and more".to_owned();
            return Err(Error::Option { option: "sample size", value: 0, allowed });
        }
        let columns: Vec<usize> =
            keys.iter().map(|key| key.column.find(&schema)).collect::<Result<_, _>>()?;
        let converter = converter(&keys, &schema, &columns)?;
        let (random, sample) = (mix(seed), Vec::new());
        Ok(RangeSampler { schema, keys, columns, converter, size, random, seen: 0, sample })
    }

    /// Looks at a batch.
    ///
    /// # Errors
    /// [`Error::SchemaMismatch`].
    pub fn push(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        super::columns::check_schema(batch, &self.schema)?;
        let columns: Vec<ArrayRef> =
            self.columns.iter().map(|index| batch.column(*index).clone()).collect();
        let rows = self.converter.convert_columns(&columns)?;
        for row in &rows {
            self.seen += 1;
            if self.sample.len() < self.size {
                self.sample.push(row.owned());
                continue;
            }
            self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let drawn = u128::from(mix(self.random)) * u128::from(self.seen);
            let place = usize::try_from(drawn >> 64).unwrap_or(usize::MAX);
            if let Some(member) = self.sample.get_mut(place) {
                *member = row.owned();
            }
        }
        Ok(())
    }

    /// Rows that were looked at.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// The bounds of so many partitions: those of equal parts of the sample.
    ///
    /// A key that is more frequent than a part makes equal bounds, and the
    /// partition between them stays empty. Without a row there is no bound.
    ///
    /// # Errors
    /// [`Error::PartitionCount`] for none or too many partitions.
    pub fn bounds(&self, partitions: usize) -> Result<RangeBounds, Error> {
        super::check_count("range", partitions, super::MAX_PARTITIONS)?;
        let mut sorted: Vec<_> = self.sample.iter().map(OwnedRow::row).collect();
        sorted.sort_unstable();
        let count = if sorted.is_empty() { 0 } else { partitions };
        let bounds = (1..count).map(|index| sorted[index * sorted.len() / partitions]);
        let columns = self.converter.convert_rows(bounds)?;
        let fields: Vec<Field> = self
            .columns
            .iter()
            .zip(&columns)
            .map(|(index, column)| {
                let name = self.schema.field(*index).name();
                Field::new(name, column.data_type().clone(), true)
            })
            .collect();
        let bounds = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?;
        Ok(RangeBounds { keys: self.keys.clone(), bounds })
    }
}
