//! Bounds between partitions of ordered rows.

use arrow_array::{Array as _, ArrayRef, RecordBatch};
use arrow_row::{OwnedRow, RowConverter, Rows, SortField};
use arrow_schema::{Schema, SortOptions};

use super::columns::Column;
use crate::error::Error;

/// A column by which rows are ordered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SortKey {
    /// Which.
    pub column: Column,
    /// The largest first.
    pub descending: bool,
    /// Nulls before all values, in either direction; otherwise after them.
    pub nulls_first: bool,
}

impl SortKey {
    /// Ascending, nulls first.
    pub fn ascending(column: impl Into<Column>) -> Self {
        SortKey { column: column.into(), descending: false, nulls_first: true }
    }

    /// Descending, nulls last.
    pub fn descending(column: impl Into<Column>) -> Self {
        SortKey { column: column.into(), descending: true, nulls_first: false }
    }

    fn options(&self) -> SortOptions {
        SortOptions { descending: self.descending, nulls_first: self.nulls_first }
    }
}

/// Where one partition ends and the next one begins.
///
/// A row goes to the partition whose number is how many bounds are not after
/// it: a row that equals a bound is the first of the partition above. Fewer
/// bounds than partitions less one leave the last ones empty. All senders of an
/// exchange have to have the same ones: they are a record batch, so that they
/// can be sent. Floats are in total order: -0.0 before 0.0, NaN with the sign
/// bit first and without it last.
#[derive(Clone, Debug)]
pub struct RangeBounds {
    pub(super) keys: Vec<SortKey>,
    pub(super) bounds: RecordBatch,
}

impl RangeBounds {
    /// Bounds in order: a column for each key, whatever its name, and a row for
    /// each bound. Their types are cast to those of the keys.
    ///
    /// # Errors
    /// [`Error::NoKeys`], [`Error::Bounds`] where there are not as many columns
    /// as keys or a bound is before the one above it, [`Error::NoOrder`].
    pub fn try_new(keys: Vec<SortKey>, bounds: RecordBatch) -> Result<Self, Error> {
        if keys.is_empty() {
            return Err(Error::NoKeys { partitioning: "range" });
        }
        if keys.len() != bounds.num_columns() {
            let problem = format!("{} columns for {} keys", bounds.num_columns(), keys.len());
            return Err(Error::Bounds { problem });
        }
        let rows = converter(&keys, bounds.schema_ref(), &(0..keys.len()).collect::<Vec<_>>())?
            .convert_columns(bounds.columns())?;
        check_order(&rows)?;
        Ok(RangeBounds { keys, bounds })
    }

    /// The keys.
    pub fn keys(&self) -> &[SortKey] {
        &self.keys
    }

    /// A row for each bound, a column for each key.
    pub fn batch(&self) -> &RecordBatch {
        &self.bounds
    }
}

fn check_order(rows: &Rows) -> Result<(), Error> {
    match (1..rows.num_rows()).find(|index| rows.row(*index) < rows.row(index - 1)) {
        None => Ok(()),
        Some(index) => {
            let problem = format!("bound {index} is before bound {}; sort them", index - 1);
            Err(Error::Bounds { problem })
        }
    }
}

/// What makes rows of the columns at `indices` comparable.
pub(super) fn converter(
    keys: &[SortKey],
    schema: &Schema,
    indices: &[usize],
) -> Result<RowConverter, Error> {
    let mut fields = Vec::with_capacity(keys.len());
    for (key, index) in keys.iter().zip(indices) {
        let field = schema.field(*index);
        let sort = SortField::new_with_options(field.data_type().clone(), key.options());
        if !RowConverter::supports_fields(std::slice::from_ref(&sort)) {
            let (column, data_type) = (field.name().clone(), field.data_type().clone());
            return Err(Error::NoOrder { column, data_type });
        }
        fields.push(sort);
    }
    Ok(RowConverter::new(fields)?)
}

/// Bounds for the batches of one schema.
pub(super) struct Ranges {
    converter: RowConverter,
    columns: Vec<usize>,
    bounds: Vec<OwnedRow>,
}

impl Ranges {
    pub(super) fn try_new(
        range: &RangeBounds,
        schema: &Schema,
        partitions: u32,
    ) -> Result<Self, Error> {
        let count = range.bounds.num_rows();
        if count >= partitions as usize {
            let most = partitions - 1;
            let problem =
                format!("{count} bounds for {partitions} partitions, which take at most {most}");
            return Err(Error::Bounds { problem });
        }
        let columns: Vec<usize> =
            range.keys.iter().map(|key| key.column.find(schema)).collect::<Result<_, _>>()?;
        let converter = converter(&range.keys, schema, &columns)?;
        let mut cast: Vec<ArrayRef> = Vec::with_capacity(columns.len());
        for (bound, index) in range.bounds.columns().iter().zip(&columns) {
            cast.push(cast_bound(bound, schema, *index)?);
        }
        let rows = converter.convert_columns(&cast)?;
        check_order(&rows)?;
        let bounds = rows.iter().map(|row| row.owned()).collect();
        Ok(Ranges { converter, columns, bounds })
    }

    pub(super) fn assign(&self, batch: &RecordBatch) -> Result<Vec<u32>, Error> {
        let columns: Vec<ArrayRef> =
            self.columns.iter().map(|index| batch.column(*index).clone()).collect();
        let rows = self.converter.convert_columns(&columns)?;
        let place =
            |row: arrow_row::Row<'_>| self.bounds.partition_point(|bound| bound.row() <= row);
        let ids = rows.iter().map(|row| u32::try_from(place(row)).unwrap_or(u32::MAX));
        Ok(ids.collect())
    }
}

/// A column of bounds in the type of its key; a value that this type does not
/// have is an error, not a null.
fn cast_bound(bound: &ArrayRef, schema: &Schema, index: usize) -> Result<ArrayRef, Error> {
    let field = schema.field(index);
    if bound.data_type() == field.data_type() {
        return Ok(bound.clone());
    }
    let options = arrow_cast::CastOptions { safe: false, ..Default::default() };
    arrow_cast::cast_with_options(bound, field.data_type(), &options).map_err(|error| {
        let (name, from, to) = (field.name(), bound.data_type(), field.data_type());
        Error::Bounds { problem: format!("{from} does not fit key {name:?} of {to}: {error}") }
    })
}
