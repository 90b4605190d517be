//! Rows from standard input: one JSON object a line.

use std::sync::Arc;
use std::time::Duration;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use sheaf_retry::{Code, SystemClock};
use sheaf_terminal::Failure;
use tokio::io::{AsyncBufReadExt as _, BufReader, Stdin};

/// Lines of a batch, at most.
const MAX_LINES: usize = 1_000;
/// Bytes of a batch, beyond which it takes no further line.
const MAX_BYTES: usize = 16 << 20;
/// How long lines wait for others.
const LINGER: Duration = Duration::from_millis(200);

/// Batches of the lines that come.
pub(crate) struct Feed {
    input: BufReader<Stdin>,
    schema: Option<SchemaRef>,
    /// Lines that are no batch yet, and how many they are.
    lines: Vec<u8>,
    count: usize,
    is_over: bool,
}

impl Feed {
    pub(crate) fn open() -> Self {
        let input = BufReader::new(tokio::io::stdin());
        Feed { input, schema: None, lines: Vec::new(), count: 0, is_over: false }
    }

    /// The next batch; `None` at the end. May be dropped.
    pub(crate) async fn next(&mut self) -> Result<Option<RecordBatch>, Failure> {
        let clock = SystemClock::shared();
        while !self.is_over && self.count < MAX_LINES && self.lines.len() < MAX_BYTES {
            if self.count == 0 {
                self.read().await?;
                continue;
            }
            tokio::select! {
                read = self.read() => read?,
                () = clock.sleep(LINGER) => break,
            }
        }
        if self.count == 0 {
            return Ok(None);
        }
        self.count = 0;
        let mut lines = std::mem::take(&mut self.lines);
        // What is behind the last line end is the beginning of a line.
        if let Some(end) = lines.iter().rposition(|&byte| byte == b'\n') {
            self.lines = lines.split_off(end + 1);
        }
        self.decode(&lines).map(Some)
    }

    async fn read(&mut self) -> Result<(), Failure> {
        let broken = Failure::new(Code::Io, "standard input cannot be read");
        let bytes = self.input.fill_buf().await.map_err(|error| broken.because(error))?;
        let taken = bytes.len();
        if bytes.is_empty() {
            self.is_over = true;
            self.count += usize::from(!self.lines.trim_ascii().is_empty());
            self.lines.push(b'\n');
            return Ok(());
        }
        self.count += bytes.iter().filter(|&&byte| byte == b'\n').count();
        self.lines.extend_from_slice(bytes);
        self.input.consume(taken);
        if self.count == 0 && self.lines.len() > MAX_BYTES {
            let text = format!("standard input: a line is longer than {MAX_BYTES} bytes");
            return Err(Failure::new(Code::LimitExceeded, text));
        }
        Ok(())
    }

    fn decode(&mut self, lines: &[u8]) -> Result<RecordBatch, Failure> {
        let no_rows = |error| {
            let text = "standard input: no JSON objects with the columns of the first ones";
            Failure::new(Code::InvalidArgument, text).because(error)
        };
        let schema = match &self.schema {
            Some(schema) => Arc::clone(schema),
            None => {
                let (schema, _) =
                    arrow_json::reader::infer_json_schema(lines, None).map_err(no_rows)?;
                Arc::clone(self.schema.insert(Arc::new(schema)))
            }
        };
        let reader = arrow_json::ReaderBuilder::new(Arc::clone(&schema))
            .with_batch_size(lines.len().max(1))
            .build(lines)
            .map_err(no_rows)?;
        let batches = reader.collect::<Result<Vec<_>, _>>().map_err(no_rows)?;
        Ok(batches.into_iter().next().unwrap_or_else(|| RecordBatch::new_empty(schema)))
    }
}
