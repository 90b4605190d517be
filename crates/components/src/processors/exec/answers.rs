//! What a program writes to standard output.

use arrow_array::RecordBatch;
use arrow_buffer::Buffer;
use arrow_ipc::reader::StreamDecoder;
use sheaf_dataflow::ComponentError;
use sheaf_retry::{Code, HumanBytes, Retryable as _};
use tokio::io::AsyncReadExt as _;
use tokio::process::ChildStdout;
use tokio::sync::mpsc;

use super::frames::Frames;
use crate::processors::failure;

/// Bytes that are read at once.
const CHUNK: usize = 256 << 10;
/// Batches that nobody has taken yet; then the program waits.
pub(super) const AHEAD: usize = 4;

/// Every message of an Arrow IPC stream begins so.
const MARK: u8 = 0xff;

pub(super) type Answer = Result<RecordBatch, Wrong>;

/// What is wrong with the output.
pub(super) enum Wrong {
    /// It is none that can be taken.
    Refused(ComponentError),
    /// It ends in the middle: how the program has ended says more.
    Cut(ComponentError),
}

impl From<Wrong> for ComponentError {
    fn from(wrong: Wrong) -> Self {
        match wrong {
            Wrong::Refused(error) | Wrong::Cut(error) => error,
        }
    }
}

/// Reads batches to the end, each of at most `limit` bytes.
pub(super) async fn read(
    mut stdout: ChildStdout,
    command: String,
    limit: u64,
    answers: mpsc::Sender<Answer>,
) {
    let mut reader = Reader {
        command,
        limit,
        decoder: StreamDecoder::new(),
        frames: Frames::default(),
        since_last: 0,
    };
    let mut is_first = true;
    let wrong = loop {
        let mut chunk = Vec::with_capacity(CHUNK);
        match stdout.read_buf(&mut chunk).await {
            Ok(0) if is_first => return,
            Ok(0) => match reader.decoder.finish() {
                Ok(()) => return,
                Err(error) => break Wrong::Cut(malformed(&reader.command, &error.to_string())),
            },
            Ok(_) if is_first && chunk.first() != Some(&MARK) => {
                let why = "it does not begin as one";
                break Wrong::Refused(malformed(&reader.command, why));
            }
            Ok(_) => is_first = false,
            Err(error) => {
                let text = format!("exec: read from `{}`", reader.command);
                break Wrong::Refused(ComponentError::new(error.code(), text).because(error));
            }
        }
        match reader.decode(chunk, &answers).await {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => break Wrong::Refused(error),
        }
    };
    // Nobody may be there to hear it.
    drop(answers.send(Err(wrong)).await);
}

struct Reader {
    command: String,
    limit: u64,
    decoder: StreamDecoder,
    frames: Frames,
    /// Bytes since the last whole batch.
    since_last: u64,
}

impl Reader {
    /// Sends the batches that are whole by now; false where nobody takes them any more.
    async fn decode(
        &mut self,
        chunk: Vec<u8>,
        answers: &mpsc::Sender<Answer>,
    ) -> Result<bool, ComponentError> {
        self.since_last += chunk.len() as u64;
        let ends_empty = self.frames.push(&chunk);
        let mut buffer = Buffer::from_vec(chunk);
        while !buffer.is_empty() {
            let decoded = self.decoder.decode(&mut buffer);
            let batch = decoded.map_err(|error| malformed(&self.command, &error.to_string()))?;
            if let Some(batch) = batch {
                self.check(self.since_last - buffer.len() as u64)?;
                self.since_last = buffer.len() as u64;
                if answers.send(Ok(batch)).await.is_err() {
                    return Ok(false);
                }
            }
        }
        self.check(self.since_last)?;
        if ends_empty {
            // A byte that is not taken brings out the batch that has none.
            let mut mark = Buffer::from_vec(vec![MARK]);
            let decoded = self.decoder.decode(&mut mark);
            if let Some(batch) =
                decoded.map_err(|error| malformed(&self.command, &error.to_string()))?
            {
                self.since_last = 0;
                return Ok(answers.send(Ok(batch)).await.is_ok());
            }
        }
        Ok(true)
    }

    fn check(&self, bytes: u64) -> Result<(), ComponentError> {
        if bytes <= self.limit {
            return Ok(());
        }
        Err(failure::limit(format!(
            "exec: `{}` answers a batch with over {}; let it answer less, or raise `maxOutput`",
            self.command,
            HumanBytes(self.limit)
        )))
    }
}

fn malformed(command: &str, why: &str) -> ComponentError {
    ComponentError::new(
        Code::MalformedData,
        format!(
            "exec: what `{command}` writes to standard output is no Arrow IPC stream ({why}); \
             texts belong on standard error"
        ),
    )
}
