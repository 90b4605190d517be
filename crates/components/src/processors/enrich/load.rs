//! Reads a reference table.

use arrow_array::RecordBatch;
use sheaf_dataflow::{ComponentError, Start};
use sheaf_pipeline::spec::{
    EnrichProcessor, FileSource, ReferenceFile, ReferenceTable, SourceConfig,
};
use sheaf_retry::Retryable as _;

use super::table::Table;
use crate::host::Host;
use crate::processors::failure;
use crate::{databases, sources};

/// Bytes of a table, at most.
const MAX_BYTES: usize = 1 << 30;
/// Rows of a table, at most.
const MAX_ROWS: usize = 50_000_000;

/// Reads the table and makes it ready for look-ups.
pub(super) async fn load(
    config: &EnrichProcessor,
    host: &Host,
    start: &Start,
) -> Result<Table, ComponentError> {
    let batches = match &config.reference {
        ReferenceTable::File(file) => of_file(file, host, start).await?,
        ReferenceTable::Adbc(query) => {
            let database = databases::open(&query.database, host).await?;
            database.query(&query.query, MAX_ROWS).await.map_err(|error| {
                let text = "enrich: the query for the reference table failed";
                ComponentError::new(error.code(), text).because(error)
            })?
        }
    };
    let bytes: usize = batches.iter().map(RecordBatch::get_array_memory_size).sum();
    check(bytes)?;
    Table::new(config, &batches)
}

async fn of_file(
    file: &ReferenceFile,
    host: &Host,
    start: &Start,
) -> Result<Vec<RecordBatch>, ComponentError> {
    let config = serde_json::json!({
        "path": file.path,
        "format": file.format,
        "storage": file.storage,
        "batchRows": 65_536,
    });
    let config: FileSource = serde_json::from_value(config)
        .map_err(|error| failure::configuration(format!("enrich: reference: {error}")))?;
    let mut source = sources::build(&SourceConfig::File(config), start, host).await?;
    let (mut batches, mut bytes) = (Vec::new(), 0);
    while let Some(made) = source.next().await? {
        bytes += made.batch.get_array_memory_size();
        check(bytes)?;
        batches.push(made.batch);
    }
    Ok(batches)
}

fn check(bytes: usize) -> Result<(), ComponentError> {
    if bytes <= MAX_BYTES {
        return Ok(());
    }
    Err(failure::limit(format!(
        "enrich: the reference table has over {MAX_BYTES} bytes, and it is held in memory; take \
         fewer columns or rows, or join in a database"
    )))
}
