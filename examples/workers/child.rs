//! A worker process, as its parent sees it.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use sheaf_retry::Code;
use sheaf_terminal::Failure;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child as Process, ChildStdin, ChildStdout, Command};
use tokio::sync::mpsc;

use super::Arguments;
use super::protocol::{Event, Heard, Task};

/// For a worker to end when it is asked to.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(crate) struct Child {
    process: Process,
    tasks: ChildStdin,
    pub(crate) pid: u32,
    /// Once it is ready.
    pub(crate) uri: Option<String>,
    /// What it is at.
    pub(crate) task: Option<Task>,
}

impl Child {
    /// Starts this program again.
    pub(crate) fn start(
        slot: u32,
        arguments: &Arguments,
        out: &Path,
        heard: mpsc::Sender<Heard>,
    ) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| {
            Failure::new(Code::Io, format!("worker {slot} cannot be started")).because(error)
        };
        let program = std::env::current_exe().map_err(failed)?;
        let mut process = Command::new(program)
            .args(arguments.of_worker(out))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let pipe = || failed(std::io::ErrorKind::BrokenPipe.into());
        let tasks = process.stdin.take().ok_or_else(pipe)?;
        let out = process.stdout.take().ok_or_else(pipe)?;
        let pid = process.id().ok_or_else(pipe)?;
        tokio::spawn(listen(slot, pid, out, heard));
        Ok(Child { process, tasks, pid, uri: None, task: None })
    }

    /// Where it is gone, its end is heard soon.
    pub(crate) async fn tell(&mut self, task: Task) {
        let line = serde_json::to_string(&task).unwrap_or_default() + "\n";
        self.task = Some(task);
        if self.tasks.write_all(line.as_bytes()).await.is_err() {
            self.kill();
        }
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        // It may be dead already.
        drop(self.process.start_kill());
    }

    /// Lets it end by itself.
    pub(crate) async fn stop(mut self) -> Result<(), Failure> {
        drop(self.tasks);
        let failed = |what: String| Err(Failure::new(Code::Internal, format!("a worker {what}")));
        match tokio::time::timeout(PATIENCE, self.process.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => failed(format!("ended with {status}")),
            Ok(Err(error)) => failed(format!("is lost: {error}")),
            Err(_) => failed(format!("did not end within {} s", PATIENCE.as_secs())),
        }
    }
}

async fn listen(slot: u32, pid: u32, out: ChildStdout, heard: mpsc::Sender<Heard>) {
    let mut lines = BufReader::new(out).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let why = |error| Event::Broken { why: format!("worker {slot} says {line:?}: {error}") };
        let event = Some(serde_json::from_str(&line).unwrap_or_else(why));
        if heard.send(Heard { slot, pid, event }).await.is_err() {
            return;
        }
    }
    drop(heard.send(Heard { slot, pid, event: None }).await);
}
