//! External programs over Arrow IPC pipes.

mod group;
mod options;
mod pipes;

use std::process::Stdio;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use futures::StreamExt as _;
use sheaf_retry::SharedClock;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::error::Error;
use crate::sink::CommitKey;
use crate::source::BatchStream;
use group::End;
pub use options::ExecLimits;
use pipes::{Item, Place, Tail};

/// The exit code that says: do not try again.
pub const EXIT_PERMANENT: i32 = 65;

/// Output that was decoded ahead of the consumer, in batches.
const READ_AHEAD: usize = 2;

/// A program that turns one batch into another.
///
/// Every run is `sh -c COMMAND` in a process group of its own:
///
/// - standard input is an Arrow IPC stream of the batch, standard output one
///   of the result, both at once, so that neither side has to hold it all;
///   nothing at all on standard output is a result of no rows;
/// - the environment is that of this process and `SHEAF_BATCH_ID`,
///   `SHEAF_FENCE`, `SHEAF_ATTEMPT`;
/// - exit code 0 is success, [`EXIT_PERMANENT`] a failure that no retry cures
///   (`EX_DATAERR` of sysexits.h), any other code or a signal a transient one;
///   the error has the end of standard error;
/// - on drop or timeout the group gets SIGTERM, and SIGKILL after the grace;
///   what is left of the group when the program ends gets SIGKILL.
///
/// A program that does not read all its input has not failed by that. Where
/// exit code and output disagree, the exit code counts.
#[derive(Clone, Debug)]
pub struct ExecCommand {
    command: Arc<str>,
    limits: ExecLimits,
    clock: SharedClock,
}

/// What a program gives back.
///
/// Dropping it, or its stream, ends the program.
pub struct ExecOutput {
    /// The schema; none where the program wrote nothing.
    pub schema: Option<SchemaRef>,
    /// The rows. **They are good only if the stream ends without an error**:
    /// the program's failure comes last.
    pub batches: BatchStream,
}

impl std::fmt::Debug for ExecOutput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExecOutput").field("schema", &self.schema).finish_non_exhaustive()
    }
}

impl ExecOutput {
    /// Reads to the end: the rows of a program that succeeded.
    ///
    /// # Errors
    /// As [`ExecCommand::run`].
    pub async fn collect(mut self) -> Result<Vec<RecordBatch>, Error> {
        let mut batches = Vec::new();
        while let Some(batch) = self.batches.next().await {
            batches.push(batch?);
        }
        Ok(batches)
    }
}

impl ExecCommand {
    /// A shell command with the default limits.
    pub fn new(command: &str, clock: SharedClock) -> Self {
        ExecCommand { command: command.into(), limits: ExecLimits::default(), clock }
    }

    /// With other limits.
    #[must_use]
    pub fn with_limits(self, limits: ExecLimits) -> Self {
        ExecCommand { limits, ..self }
    }

    /// The command line.
    pub fn command(&self) -> &str {
        &self.command
    }

    /// Runs it on one batch; returns when the first of the output is there, or
    /// its end. `attempt` counts from 1.
    ///
    /// # Errors
    /// [`Error::Process`] where the program failed or ran too long,
    /// [`Error::Malformed`] where its output is no Arrow IPC stream,
    /// [`Error::Limit`] where there is too much of it, [`Error::Io`] where it
    /// cannot be started, and whatever `input` yields. The same errors may
    /// come at the end of the output.
    pub async fn run(
        &self,
        key: &CommitKey,
        attempt: u32,
        schema: SchemaRef,
        input: BatchStream,
    ) -> Result<ExecOutput, Error> {
        let child = self.spawn(key, attempt)?;
        let (sender, mut receiver) = mpsc::channel(READ_AHEAD);
        let stop = CancellationToken::new();
        let guard = stop.clone().drop_guard();
        let run = Run { exec: self.clone(), place: Arc::clone(&self.command), stop };
        tokio::spawn(run.drive(child, schema, input, sender));
        match self.next(&mut receiver).await? {
            Some(Item::Schema(schema)) => {
                let batches = self.clone().stream(receiver, guard);
                Ok(ExecOutput { schema: Some(schema), batches })
            }
            _ => Ok(ExecOutput { schema: None, batches: futures::stream::empty().boxed() }),
        }
    }

    fn spawn(&self, key: &CommitKey, attempt: u32) -> Result<Child, Error> {
        Command::new("sh")
            .arg("-c")
            .arg(&*self.command)
            .env("SHEAF_BATCH_ID", key.id.as_str())
            .env("SHEAF_FENCE", key.fence.to_string())
            .env("SHEAF_ATTEMPT", attempt.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| Error::io("start", &*self.command, e))
    }

    /// The next item; none at the end of a run that succeeded.
    async fn next(
        &self,
        receiver: &mut mpsc::Receiver<Result<Item, Error>>,
    ) -> Result<Option<Item>, Error> {
        match receiver.recv().await {
            Some(Ok(Item::End)) => Ok(None),
            Some(item) => item.map(Some),
            // The decoder panicked on what the program wrote.
            None => Err(Error::malformed(
                &*self.command,
                "Arrow IPC output",
                "it cannot be decoded, or this process is shutting down",
            )),
        }
    }

    fn stream(
        self,
        receiver: mpsc::Receiver<Result<Item, Error>>,
        guard: DropGuard,
    ) -> BatchStream {
        futures::stream::unfold(Some((self, receiver, guard)), |state| async move {
            let (exec, mut receiver, guard) = state?;
            match exec.next(&mut receiver).await {
                Ok(Some(Item::Batch(batch))) => Some((Ok(batch), Some((exec, receiver, guard)))),
                Ok(_) => None,
                Err(error) => Some((Err(error), None)),
            }
        })
        .boxed()
    }
}

/// One run of the program.
struct Run {
    exec: ExecCommand,
    place: Place,
    stop: CancellationToken,
}

impl Run {
    /// Serves the pipes and the process side by side, then says how it ended.
    async fn drive(
        self,
        mut child: Child,
        schema: SchemaRef,
        input: BatchStream,
        items: mpsc::Sender<Result<Item, Error>>,
    ) {
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
            return; // All three were asked for in `spawn`.
        };
        let ExecCommand { limits, clock, .. } = &self.exec;
        let exited = CancellationToken::new();
        let tail = Tail { exited: &exited, clock, limits };
        let stop_on_error = |result: Result<(), Error>| {
            if result.is_err() {
                self.stop.cancel();
            }
            result
        };
        let (end, fed, read, said) = tokio::join!(
            async {
                let end = group::supervise(child, limits, clock, &self.stop).await;
                exited.cancel();
                end
            },
            async { stop_on_error(pipes::feed(stdin, schema, input, &self.place, &exited).await) },
            async { stop_on_error(tail.decode(stdout, &self.place, &items).await) },
            tail.drain(stderr),
        );
        let last = match self.failure(end, fed, read, &said) {
            Some(error) => Err(error),
            None => Ok(Item::End),
        };
        // Nobody may be there to hear it.
        drop(items.send(last).await);
    }

    /// What went wrong, the most telling first: the input, the program by
    /// itself, its output, our reason to stop it.
    fn failure(
        &self,
        end: End,
        fed: Result<(), Error>,
        read: Result<(), Error>,
        said: &str,
    ) -> Option<Error> {
        let process = |problem: String, permanent| {
            let problem = if said.is_empty() { problem } else { format!("{problem}: {said}") };
            Some(Error::Process { command: self.place.to_string(), problem, permanent })
        };
        if let Err(error) = fed {
            return Some(error);
        }
        match (end, read) {
            (End::Exited(status), read) if status.success() => read.err(),
            (End::Exited(status), _) => {
                process(status.to_string(), status.code() == Some(EXIT_PERMANENT))
            }
            (_, Err(error)) => Some(error),
            (End::TimedOut, _) => {
                let timeout =
                    sheaf_retry::HumanDuration(self.exec.limits.timeout.unwrap_or_default());
                process(format!("ran longer than the limit of {timeout} and was stopped"), false)
            }
            (End::Stopped, _) => process("was stopped".to_owned(), false),
            (End::Unknown(error), _) => process(format!("its end is unknown: {error}"), false),
        }
    }
}
