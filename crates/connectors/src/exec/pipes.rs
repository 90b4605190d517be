//! The three pipes of a program.

use std::io;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_buffer::Buffer;
use arrow_ipc::reader::StreamDecoder;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{ArrowError, SchemaRef};
use futures::StreamExt as _;
use sheaf_retry::SharedClock;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{ChildStderr, ChildStdin, ChildStdout};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::options::ExecLimits;
use crate::error::Error;
use crate::source::BatchStream;

/// Bytes read from a pipe at a time.
const CHUNK: usize = 64 << 10;

/// What the program's output brings, in order.
pub(super) enum Item {
    Schema(SchemaRef),
    Batch(RecordBatch),
    /// The program has ended well and everything was sent before.
    End,
}

/// Writes the input as an Arrow IPC stream. A program that does not read it
/// all is not wrong: its exit code says whether it was.
pub(super) async fn feed(
    mut stdin: ChildStdin,
    schema: SchemaRef,
    mut input: BatchStream,
    place: &str,
    exited: &CancellationToken,
) -> Result<(), Error> {
    let bad = |e: ArrowError| Error::Invalid(format!("Arrow IPC cannot hold the input: {e}"));
    let mut encoder = StreamWriter::try_new(Vec::new(), &schema).map_err(bad)?;
    loop {
        let next = tokio::select! {
            biased;
            () = exited.cancelled() => return Ok(()),
            next = input.next() => next,
        };
        let last = match next {
            Some(batch) => {
                encoder.write(&batch?).map_err(bad)?;
                false
            }
            None => {
                encoder.finish().map_err(bad)?;
                true
            }
        };
        let bytes = std::mem::take(encoder.get_mut());
        let written = tokio::select! {
            written = stdin.write_all(&bytes) => written,
            () = exited.cancelled() => return Ok(()),
        };
        match written {
            Ok(()) if last => return Ok(()),
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            Err(e) => return Err(Error::io("write to", place, e)),
        }
    }
}

/// Reads, but not much longer than the program runs: something that it left
/// behind in a session of its own may hold the pipe open for ever.
pub(super) struct Tail<'a> {
    pub(super) exited: &'a CancellationToken,
    pub(super) clock: &'a SharedClock,
    pub(super) limits: &'a ExecLimits,
}

impl Tail<'_> {
    async fn read<R: AsyncRead + Unpin>(
        &self,
        pipe: &mut R,
        buffer: &mut Vec<u8>,
    ) -> io::Result<usize> {
        let overdue = async {
            self.exited.cancelled().await;
            self.clock.sleep(self.limits.grace).await;
        };
        tokio::select! {
            biased;
            read = pipe.read_buf(buffer) => read,
            () = overdue => Ok(0),
        }
    }

    /// As [`Tail::send`]. What is no Arrow stream is read on without being
    /// kept, for the grace: the program's own failure, if there is one, tells
    /// more, and a closed pipe would be the cause of another.
    pub(super) async fn decode(
        &self,
        mut stdout: ChildStdout,
        place: &str,
        items: &mpsc::Sender<Result<Item, Error>>,
    ) -> Result<(), Error> {
        let result = self.send(&mut stdout, place, items).await;
        if matches!(result, Err(Error::Malformed { .. })) {
            let discard = async {
                let mut sink = Vec::with_capacity(CHUNK);
                while self.read(&mut stdout, &mut sink).await.is_ok_and(|read| read > 0) {
                    sink.clear();
                }
                self.exited.cancelled().await;
            };
            tokio::select! {
                () = discard => {}
                () = self.clock.sleep(self.limits.grace) => {}
            }
        }
        result
    }

    /// Decodes the output and sends it on, until its end or until nobody takes it.
    async fn send(
        &self,
        stdout: &mut ChildStdout,
        place: &str,
        items: &mpsc::Sender<Result<Item, Error>>,
    ) -> Result<(), Error> {
        let bad = |e: ArrowError| Error::malformed(place, "Arrow IPC output", e);
        let mut decoder = StreamDecoder::new();
        let (mut total, mut announced) = (0u64, false);
        loop {
            let mut chunk = Vec::with_capacity(CHUNK);
            let read = self.read(stdout, &mut chunk).await;
            let read = read.map_err(|e| Error::io("read from", place, e))?;
            if read == 0 {
                // Nothing at all is no stream, and allowed.
                return if total == 0 { Ok(()) } else { decoder.finish().map_err(bad) };
            }
            total += read as u64;
            if total > self.limits.max_output_bytes {
                return Err(Error::Limit {
                    what: format!("the output of {place}"),
                    actual: total,
                    limit: self.limits.max_output_bytes,
                    advice: "put smaller batches, or raise the limit",
                });
            }
            let mut buffer = Buffer::from_vec(chunk);
            while !buffer.is_empty() {
                let batch = decoder.decode(&mut buffer).map_err(bad)?;
                if !announced && let Some(schema) = decoder.schema() {
                    announced = true;
                    if items.send(Ok(Item::Schema(schema))).await.is_err() {
                        return Ok(());
                    }
                }
                if let Some(batch) = batch
                    && items.send(Ok(Item::Batch(batch))).await.is_err()
                {
                    return Ok(());
                }
            }
        }
    }

    /// The end of what the program says.
    pub(super) async fn drain(&self, mut stderr: ChildStderr) -> String {
        let limit = self.limits.stderr_tail_bytes;
        let mut tail = Vec::new();
        let mut cut = false;
        loop {
            let mut chunk = Vec::with_capacity(CHUNK);
            match self.read(&mut stderr, &mut chunk).await {
                Ok(1..) => tail.extend_from_slice(&chunk),
                // What it said is a help, not the result.
                Ok(0) | Err(_) => break,
            }
            if tail.len() > limit {
                cut = true;
                tail.drain(..tail.len() - limit);
            }
        }
        let text = String::from_utf8_lossy(&tail);
        let text = text.trim_end();
        if cut { format!("… {}", text.trim_start()) } else { text.to_owned() }
    }
}

/// Shared by the tasks of one run.
pub(super) type Place = Arc<str>;
