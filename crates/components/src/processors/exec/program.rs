//! A program that runs.

use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use arrow_array::RecordBatch;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::SchemaRef;
use sheaf_dataflow::ComponentError;
use sheaf_retry::{Code, HumanDuration, Retryable as _};
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::Settings;
use super::answers::{self, AHEAD, Answer, Wrong};
use super::group::Group;
use super::said::Said;
use crate::processors::failure;

/// The exit code of a failure that no retry cures.
const EXIT_PERMANENT: i32 = 65;
/// For what is still in the pipes when the program has ended, and for its own end.
const GRACE: Duration = Duration::from_secs(2);

/// A program that runs. It is killed, with all that it has started, at its drop.
pub(super) struct Program {
    settings: Settings,
    schema: SchemaRef,
    /// Closed by its drop.
    stdin: Option<ChildStdin>,
    encoder: StreamWriter<Vec<u8>>,
    answers: mpsc::Receiver<Answer>,
    said: Said,
    listener: JoinHandle<()>,
    child: Child,
    _group: Group,
}

impl Program {
    pub(super) fn start(settings: &Settings, schema: &SchemaRef) -> Result<Self, ComponentError> {
        let name = settings.command.join(" ");
        let (program, arguments) = settings
            .command
            .split_first()
            .ok_or_else(|| failure::configuration("exec: `command` names no program"))?;
        let mut child = Command::new(program)
            .args(arguments)
            .env_remove("SHEAF_ASSIGNMENT")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| {
                let text = format!("exec: `{name}` cannot be started; check `command`");
                ComponentError::new(error.code(), text).because(error)
            })?;
        let group = Group::of(&child);
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
            return Err(failure::configuration(format!("exec: `{name}` has no pipes")));
        };
        let encoder = StreamWriter::try_new(Vec::new(), schema).map_err(failure::arrow("exec"))?;
        let (sender, answers) = mpsc::channel(AHEAD);
        tokio::spawn(answers::read(stdout, name, settings.max_output, sender));
        let said = Said::default();
        let listener = tokio::spawn(said.clone().read(stderr, Arc::clone(&settings.component)));
        Ok(Program {
            settings: settings.clone(),
            schema: Arc::clone(schema),
            stdin: Some(stdin),
            encoder,
            answers,
            said,
            listener,
            child,
            _group: group,
        })
    }

    /// Whether batches of this schema fit into its stream.
    pub(super) fn takes(&self, schema: &SchemaRef) -> bool {
        Arc::ptr_eq(&self.schema, schema) || self.schema == *schema
    }

    fn name(&self) -> String {
        self.settings.command.join(" ")
    }

    /// Its answer to a batch.
    pub(super) async fn answer(
        &mut self,
        batch: &RecordBatch,
    ) -> Result<RecordBatch, ComponentError> {
        if let Ok(early) = self.answers.try_recv() {
            early?;
            let text = "has written more than one batch for one; what belongs together has to be \
                        one batch";
            return Err(ComponentError::new(
                Code::ProcessorFailed,
                format!("exec: `{}` {text}", self.name()),
            ));
        }
        self.encoder.write(batch).map_err(failure::arrow("exec"))?;
        let bytes = std::mem::take(self.encoder.get_mut());
        let clock = Arc::clone(&self.settings.clock);
        let timeout = self.settings.timeout;
        let Self { stdin, answers, .. } = self;
        let exchange = async {
            // A program that has ended reads nothing: its exit code says more than the pipe.
            let sent = match stdin {
                Some(stdin) => stdin.write_all(&bytes).await,
                None => Ok(()),
            };
            (sent, answers.recv().await)
        };
        let (sent, answer) = tokio::select! {
            biased;
            done = exchange => done,
            () = clock.sleep(timeout) => return Err(self.too_slow().await),
        };
        match answer {
            Some(Ok(answer)) => Ok(answer),
            Some(Err(Wrong::Refused(error))) => Err(error),
            Some(Err(Wrong::Cut(error))) => Err(self.told(error).await),
            None => Err(self.died(sent).await),
        }
    }

    /// Ends its input, and reads what it still has to say.
    pub(super) async fn finish(mut self) -> Result<Vec<RecordBatch>, ComponentError> {
        self.encoder.finish().map_err(failure::arrow("exec"))?;
        let bytes = std::mem::take(self.encoder.get_mut());
        let clock = Arc::clone(&self.settings.clock);
        let timeout = self.settings.timeout;
        let name = self.name();
        let Self { stdin, answers, child, .. } = &mut self;
        let rest = async {
            if let Some(mut stdin) = stdin.take()
                && let Err(error) = stdin.write_all(&bytes).await
            {
                // One that does not read to the end is not wrong by that.
                tracing::debug!(%error, "the program does not read to the end");
            }
            let mut rest = Vec::new();
            while let Some(answer) = answers.recv().await {
                rest.push(answer?);
            }
            Ok::<_, ComponentError>((rest, child.wait().await))
        };
        let permanent = |text: String| ComponentError::new(Code::ProcessorFailed, text);
        let (rest, ended) = tokio::select! {
            biased;
            done = rest => done?,
            () = clock.sleep(timeout) => {
                let limit = HumanDuration(timeout);
                let text = format!("exec: `{name}` did not end within {limit} after its input");
                return Err(permanent(text + &self.said.tail()));
            }
        };
        match ended {
            Ok(status) if status.success() => Ok(rest),
            Ok(status) => {
                self.heard().await;
                let text = format!("exec: `{name}` failed at its end ({status})");
                Err(permanent(text + &self.said.tail()))
            }
            Err(error) => Err(permanent(format!("exec: the end of `{name}` is unknown: {error}"))),
        }
    }

    async fn too_slow(&mut self) -> ComponentError {
        let limit = HumanDuration(self.settings.timeout);
        let said = self.said.tail();
        ComponentError::new(
            Code::DeadlineExceeded,
            format!(
                "exec: `{}` has not answered a batch within {limit} and was stopped; it has to \
                 answer each batch with one, and to flush its output{said}",
                self.name()
            ),
        )
    }

    /// An error of its output; where the program has failed, that says more.
    async fn told(&mut self, error: ComponentError) -> ComponentError {
        match self.ended().await {
            Some(status) if !status.success() => self.failed(status),
            _ => error,
        }
    }

    async fn died(&mut self, sent: std::io::Result<()>) -> ComponentError {
        match (self.ended().await, sent) {
            (Some(status), _) => self.failed(status),
            (None, Err(error)) => {
                ComponentError::new(Code::Unavailable, format!("exec: write to `{}`", self.name()))
                    .because(error)
            }
            (None, Ok(())) => ComponentError::new(
                Code::Unavailable,
                format!("exec: `{}` has closed its output before its input ended", self.name()),
            ),
        }
    }

    fn failed(&self, status: ExitStatus) -> ComponentError {
        let code = match status.code() {
            Some(EXIT_PERMANENT) => Code::ProcessorFailed,
            _ => Code::Unavailable,
        };
        let said = self.said.tail();
        let text = format!("exec: `{}` ended before its input did ({status}){said}", self.name());
        ComponentError::new(code, text)
    }

    /// How it has ended, if it has.
    async fn ended(&mut self) -> Option<ExitStatus> {
        let clock = Arc::clone(&self.settings.clock);
        let status = tokio::select! {
            biased;
            ended = self.child.wait() => ended.ok()?,
            () = clock.sleep(GRACE) => return None,
        };
        self.heard().await;
        Some(status)
    }

    /// Waits for what it has said; something that it left behind may hold the pipe open.
    async fn heard(&mut self) {
        let clock = Arc::clone(&self.settings.clock);
        tokio::select! {
            biased;
            heard = &mut self.listener => {
                if let Err(error) = heard {
                    tracing::debug!(%error, "standard error was not read to its end");
                }
            }
            () = clock.sleep(GRACE) => {}
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.listener.abort();
    }
}
