//! The demo's server and workers: processes of this same program.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::error::Error;
use crate::config::SETTINGS;

/// How long a process may take until it says `ready`.
const START_TIME: Duration = Duration::from_secs(30);

fn of_coordinator(setting: &str) -> bool {
    setting == "coordinator" || setting.starts_with("valkey-")
}

/// A running `sheaf serve`, ended when this is dropped.
#[derive(Debug)]
pub(super) struct Served {
    child: Child,
    ready: String,
    name: String,
}

impl Served {
    /// Starts `program serve ARGS` and waits for its ready line; its log goes to `log`.
    pub(super) async fn start(
        program: &Path,
        name: &str,
        args: &[String],
        log: PathBuf,
    ) -> Result<Self, Error> {
        let fail = |problem: String| Error::Process { name: name.to_owned(), problem };
        let errors = File::create(&log).map_err(|error| fail(error.to_string()))?;
        let mut command = Command::new(program);
        // The demo brings a coordinator of its own, whatever this shell is set up for.
        for setting in SETTINGS.iter().filter(|setting| of_coordinator(setting.name)) {
            command.env_remove(setting.variable());
        }
        let mut child = command
            .arg("serve")
            .args(args)
            .arg("--die-with-parent")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(errors)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| fail(format!("cannot start {}: {error}", program.display())))?;
        let stdout = child.stdout.take().ok_or_else(|| fail("has no stdout".to_owned()))?;
        let mut lines = BufReader::new(stdout).lines();
        let line = tokio::time::timeout(START_TIME, lines.next_line())
            .await
            .map_err(|_| fail(format!("was not ready within {START_TIME:?}")))?
            .map_err(|error| fail(error.to_string()))?;
        match line {
            Some(ready) if ready.starts_with("ready") => {
                Ok(Served { child, ready, name: name.to_owned() })
            }
            _ => Err(fail(format!("ended before it was ready: {}", last_line(&log)))),
        }
    }

    /// The value of `key=` in the ready line.
    pub(super) fn address(&self, key: &str) -> Result<String, Error> {
        self.ready
            .split_whitespace()
            .find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
            .map(str::to_owned)
            .ok_or_else(|| Error::Process {
                name: self.name.clone(),
                problem: format!("its ready line names no {key}: {}", self.ready),
            })
    }

    /// Its process id, while it runs.
    pub(super) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Stops it in its tracks, and lets it go on.
    pub(super) fn signal(&self, signal: Signal) -> bool {
        self.child
            .id()
            .and_then(|pid| i32::try_from(pid).ok())
            .and_then(Pid::from_raw)
            .is_some_and(|pid| kill_process(pid, signal).is_ok())
    }

    /// kill -9, and waits until it is gone.
    pub(super) async fn kill(&mut self) -> Result<(), Error> {
        self.child.kill().await.map_err(|error| Error::Process {
            name: self.name.clone(),
            problem: format!("cannot be killed: {error}"),
        })
    }

    /// SIGTERM, and waits until it has ended by itself.
    pub(super) async fn stop(mut self) {
        self.signal(Signal::TERM);
        if tokio::time::timeout(Duration::from_secs(10), self.child.wait()).await.is_err() {
            tracing::warn!(name = self.name, "did not end within 10s of SIGTERM, killing it");
            if let Err(error) = self.child.kill().await {
                tracing::warn!(name = self.name, %error, "could not be killed");
            }
        }
    }
}

fn last_line(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    match lines.iter().find(|line| line.contains("error")) {
        Some(line) => (*line).to_owned(),
        None => lines.last().map_or_else(|| "no message".to_owned(), |line| (*line).to_owned()),
    }
}
