//! Counts what came out, row by row.

use std::fs::File;
use std::path::Path;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_schema::ArrowError;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::data::ROW_NUMBER;

/// What a folder of Parquet files holds of the rows that went in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) rows_out: u64,
    pub(super) lost: u64,
    pub(super) duplicated: u64,
    pub(super) files: u64,
    pub(super) bytes: u64,
}

/// Reads the row numbers of every `part-*.parquet` in `folder`.
///
/// A number outside `0..rows_in` counts as duplicated: nobody put it in.
pub(super) fn tally(folder: &Path, rows_in: u64) -> Result<Tally, ArrowError> {
    let length = usize::try_from(rows_in)
        .map_err(|error| ArrowError::ComputeError(format!("{rows_in} rows: {error}")))?;
    let mut seen = vec![false; length];
    let mut tally = Tally::default();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if !name.starts_with("part-") || !name.ends_with(".parquet") {
            continue;
        }
        let file = File::open(&path)?;
        tally.files += 1;
        tally.bytes += file.metadata()?.len();
        let builder = ParquetRecordBatchReaderBuilder::try_new(file)?;
        let mask = ProjectionMask::columns(builder.parquet_schema(), [ROW_NUMBER]);
        for batch in builder.with_projection(mask).build()? {
            for number in batch?.column(0).as_primitive::<Int64Type>().values() {
                tally.rows_out += 1;
                match usize::try_from(*number).ok().and_then(|index| seen.get_mut(index)) {
                    Some(slot) if !*slot => *slot = true,
                    _ => tally.duplicated += 1,
                }
            }
        }
    }
    tally.lost = seen.iter().filter(|seen| !**seen).count() as u64;
    Ok(tally)
}

#[cfg(test)]
mod tests {
    use parquet::arrow::ArrowWriter;

    use super::super::data::Flights;
    use super::*;

    fn write(folder: &Path, name: &str, flights: &Flights, index: u64) {
        let batch = flights.batch(index).unwrap();
        let file = File::create(folder.join(name)).unwrap();
        let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
    }

    #[test]
    fn lost_and_doubled_rows_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let flights = Flights::try_new(30, 10).unwrap();
        write(folder.path(), "part-a.parquet", &flights, 0);
        write(folder.path(), "part-b.parquet", &flights, 1);
        write(folder.path(), "_part-b.parquet", &flights, 1);
        let found = tally(folder.path(), 30).unwrap();
        assert_eq!((found.rows_out, found.lost, found.duplicated), (20, 10, 0));
        write(folder.path(), "part-c.parquet", &flights, 1);
        let found = tally(folder.path(), 30).unwrap();
        assert_eq!((found.rows_out, found.lost, found.duplicated), (30, 10, 10));
    }
}
