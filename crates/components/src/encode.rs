//! Rows as bytes.

use arrow_array::RecordBatch;
use arrow_ipc::writer::{FileWriter, StreamWriter};
use arrow_schema::{ArrowError, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use sheaf_dataflow::ComponentError;
use sheaf_pipeline::spec::FileFormat;
use sheaf_retry::Code;

use crate::failure::failed_as;

/// Whole rows in a format, by themselves.
pub(crate) fn file(format: FileFormat, batch: &RecordBatch) -> Result<Vec<u8>, ComponentError> {
    match format {
        FileFormat::Json => json(batch),
        FileFormat::Csv => csv(batch, true),
        FileFormat::Ipc => ipc_file(batch).map_err(no_form("Arrow IPC")),
        FileFormat::Parquet => parquet(batch, None),
    }
}

/// A file of Parquet.
pub(crate) fn parquet(
    batch: &RecordBatch,
    properties: Option<WriterProperties>,
) -> Result<Vec<u8>, ComponentError> {
    let write = || {
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), properties)?;
        writer.write(batch)?;
        writer.into_inner()
    };
    write().map_err(failed_as(Code::InvalidArgument, "rows have no form in Parquet"))
}

fn no_form(format: &str) -> impl FnOnce(ArrowError) -> ComponentError {
    failed_as(Code::InvalidArgument, format!("rows have no form in {format}"))
}

/// One object a line; null where a value is missing.
pub(crate) fn json(batch: &RecordBatch) -> Result<Vec<u8>, ComponentError> {
    let write = || {
        let builder = arrow_json::WriterBuilder::new().with_explicit_nulls(true);
        let mut writer = builder.build::<_, arrow_json::writer::LineDelimited>(Vec::new());
        writer.write(batch)?;
        writer.finish()?;
        Ok(writer.into_inner())
    };
    write().map_err(no_form("JSON"))
}

/// Lines of values, the first one with the names where they are wanted.
pub(crate) fn csv(batch: &RecordBatch, header: bool) -> Result<Vec<u8>, ComponentError> {
    let write = || {
        let mut writer = arrow_csv::WriterBuilder::new().with_header(header).build(Vec::new());
        writer.write(batch)?;
        Ok(writer.into_inner())
    };
    write().map_err(no_form("CSV"))
}

fn ipc_file(batch: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
    let mut writer = FileWriter::try_new(Vec::new(), batch.schema_ref())?;
    writer.write(batch)?;
    writer.into_inner()
}

/// An Arrow IPC stream that goes on from batch to batch.
pub(crate) struct IpcStream {
    schema: SchemaRef,
    writer: StreamWriter<Vec<u8>>,
}

impl IpcStream {
    pub(crate) fn begin(schema: &SchemaRef) -> Result<Self, ComponentError> {
        let writer = StreamWriter::try_new(Vec::new(), schema).map_err(no_form("Arrow IPC"))?;
        Ok(IpcStream { schema: SchemaRef::clone(schema), writer })
    }

    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The bytes of a batch, with those of the beginning if it is the first one.
    pub(crate) fn push(&mut self, batch: &RecordBatch) -> Result<Vec<u8>, ComponentError> {
        self.writer.write(batch).map_err(no_form("Arrow IPC"))?;
        Ok(std::mem::take(self.writer.get_mut()))
    }

    /// The bytes of the end.
    pub(crate) fn end(&mut self) -> Result<Vec<u8>, ComponentError> {
        self.writer.finish().map_err(no_form("Arrow IPC"))?;
        Ok(std::mem::take(self.writer.get_mut()))
    }
}
