//! What a program writes to standard output.

use arrow_array::RecordBatch;
use arrow_buffer::Buffer;
use arrow_ipc::reader::StreamDecoder;
use sheaf_dataflow::ComponentError;
use sheaf_retry::{Code, HumanBytes, Retryable as _};
use tokio::io::AsyncReadExt as _;
use tokio::process::ChildStdout;
use tokio::sync::mpsc;

use crate::processors::failure;

/// Bytes that are read at once.
const CHUNK: usize = 256 << 10;
/// Batches that nobody has taken yet; then the program waits.
pub(super) const AHEAD: usize = 4;

pub(super) type Answer = Result<RecordBatch, ComponentError>;

/// Reads batches to the end, each of at most `limit` bytes.
pub(super) async fn read(
    mut stdout: ChildStdout,
    command: String,
    limit: u64,
    answers: mpsc::Sender<Answer>,
) {
    let mut decoder = StreamDecoder::new();
    let mut since_last: u64 = 0;
    let mut is_empty = true;
    let failed = loop {
        let mut chunk = Vec::with_capacity(CHUNK);
        let read = match stdout.read_buf(&mut chunk).await {
            Ok(0) if is_empty => return,
            Ok(0) => match decoder.finish() {
                Ok(()) => return,
                Err(error) => break malformed(&command, &error),
            },
            Ok(read) => read,
            Err(error) => {
                break ComponentError::new(error.code(), format!("exec: read from `{command}`"))
                    .because(error);
            }
        };
        is_empty = false;
        since_last += read as u64;
        let mut buffer = Buffer::from_vec(chunk);
        while !buffer.is_empty() {
            match decoder.decode(&mut buffer) {
                Ok(Some(batch)) => {
                    since_last = buffer.len() as u64;
                    if answers.send(Ok(batch)).await.is_err() {
                        return;
                    }
                }
                Ok(None) => {}
                Err(error) => {
                    // Nobody may be there to hear it.
                    drop(answers.send(Err(malformed(&command, &error))).await);
                    return;
                }
            }
        }
        if since_last > limit {
            break failure::limit(format!(
                "exec: `{command}` answers a batch with over {}; let it answer less, or raise \
                 `maxOutput`",
                HumanBytes(limit)
            ));
        }
    };
    drop(answers.send(Err(failed)).await);
}

fn malformed(command: &str, error: &arrow_schema::ArrowError) -> ComponentError {
    ComponentError::new(
        Code::MalformedData,
        format!(
            "exec: what `{command}` writes to standard output is no Arrow IPC stream ({error}); \
             texts belong on standard error"
        ),
    )
}
