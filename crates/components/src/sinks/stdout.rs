//! Prints rows.

use arrow_schema::SchemaRef;
use async_trait::async_trait;
use sheaf_dataflow::{ComponentError, Received, Sink};
use sheaf_pipeline::spec::{PrintFormat, StdoutSink};
use sheaf_retry::Code;

use crate::encode::{self, IpcStream};
use crate::failure::{failed_as, refused};
use crate::host::{Host, Output};

/// Prints each batch as it comes.
pub(super) struct Print {
    format: PrintFormat,
    output: Output,
    /// Of the last batch of CSV.
    schema: Option<SchemaRef>,
    stream: Option<IpcStream>,
    done: u64,
}

impl Print {
    pub(super) fn open(config: &StdoutSink, host: &Host) -> Self {
        let output = host.output.clone();
        Print { format: config.format, output, schema: None, stream: None, done: 0 }
    }

    fn bytes(&mut self, received: &Received) -> Result<Vec<u8>, ComponentError> {
        let batch = &received.batch;
        match self.format {
            PrintFormat::Json => encode::json(batch),
            PrintFormat::Csv => {
                let known = self.schema.as_ref();
                let is_new = known.is_none_or(|schema| schema.fields() != batch.schema().fields());
                let bytes = encode::csv(batch, is_new)?;
                self.schema = Some(batch.schema());
                Ok(bytes)
            }
            PrintFormat::Table => {
                let table = arrow_cast::pretty::pretty_format_batches(std::slice::from_ref(batch));
                let no_form = failed_as(Code::InvalidArgument, "rows have no form in a table");
                Ok(format!("{}\n", table.map_err(no_form)?).into_bytes())
            }
            PrintFormat::Ipc => {
                let schema = batch.schema();
                let stream = match &mut self.stream {
                    Some(stream) => stream,
                    none => none.insert(IpcStream::begin(&schema)?),
                };
                if stream.schema().fields() != schema.fields() {
                    return Err(refused(format!(
                        "a stream of Arrow IPC has the same columns from its beginning to its \
                         end: it began with {}, and now come {schema}; print json",
                        stream.schema()
                    )));
                }
                stream.push(batch)
            }
        }
    }

    async fn print(&self, bytes: Vec<u8>) -> Result<(), ComponentError> {
        let written = self.output.write(bytes).await;
        written.map_err(|error| match error.kind() {
            std::io::ErrorKind::BrokenPipe => {
                ComponentError::closed("nobody reads standard output any more")
            }
            // To print half of it again would be worse than to end.
            _ => failed_as(Code::InvalidArgument, "standard output takes no more")(error),
        })
    }
}

#[async_trait]
impl Sink for Print {
    async fn write(&mut self, received: &Received) -> Result<u64, ComponentError> {
        if received.batch.num_rows() > 0 {
            let bytes = self.bytes(received)?;
            self.print(bytes).await?;
        }
        self.done += 1;
        Ok(self.done)
    }

    async fn flush(&mut self) -> Result<u64, ComponentError> {
        Ok(self.done)
    }

    async fn end(&mut self) -> Result<(), ComponentError> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        let bytes = stream.end()?;
        self.print(bytes).await
    }
}
