//! Tables in Parquet files, by shares.

use std::fs::File;
use std::path::{Path, PathBuf};

use arrow_array::RecordBatchReader as _;
use arrow_schema::SchemaRef;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use sheaf_retry::Code;
use sheaf_terminal::Failure;

use super::{Error, Input, Job};

/// Some rows of a table that follow each other.
pub(crate) struct Share {
    pub(crate) rows: u64,
    pub(crate) schema: SchemaRef,
    pub(crate) batches: ParquetRecordBatchReader,
}

fn path(data: &Path, table: &str) -> PathBuf {
    data.join(table).with_extension("parquet")
}

/// That the tables of a job are there.
pub(crate) fn check(job: &Job, data: &Path) -> Result<(), Failure> {
    for input in job.inputs {
        let path = path(data, input.table);
        if let Err(error) = File::open(&path) {
            let text = format!("cannot read the table {} at {}", input.table, path.display());
            let advice = "`cargo xtask data` fetches it; --data names another folder";
            return Err(Failure::new(Code::NotFound, text).because(error).help(advice));
        }
    }
    Ok(())
}

/// One of so many shares, which are of the same size but for a row.
pub(crate) fn open(
    input: &Input,
    data: &Path,
    (share, of): (u32, u32),
    batch_rows: u32,
) -> Result<Share, Error> {
    let file = File::open(path(data, input.table))?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(file)?;
    let all = u64::try_from(builder.metadata().file_metadata().num_rows())?;
    let at = |share: u32| all * u64::from(share) / u64::from(of);
    let (from, to) = (at(share), at(share + 1));
    let names = builder.schema().fields().iter().map(|field| field.name());
    let wanted = names.enumerate().filter(|(_, name)| !input.without.contains(&name.as_str()));
    let wanted = ProjectionMask::roots(builder.parquet_schema(), wanted.map(|(at, _)| at));
    let batches = builder
        .with_projection(wanted)
        .with_offset(usize::try_from(from)?)
        .with_limit(usize::try_from(to - from)?)
        .with_batch_size(batch_rows as usize)
        .build()?;
    let schema = batches.schema();
    Ok(Share { rows: to - from, schema, batches })
}
