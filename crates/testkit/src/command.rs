//! How a process is started.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::output::Output;
use crate::{Error, Process};

/// A process to be: program, arguments, environment.
#[derive(Debug)]
pub struct ProcessCommand {
    command: Command,
    name: String,
    logs: Option<PathBuf>,
}

impl ProcessCommand {
    pub(crate) fn new(program: impl AsRef<OsStr>) -> Self {
        let program = program.as_ref();
        let file = Path::new(program).file_name().unwrap_or(program);
        let name = file.to_string_lossy().into_owned();
        ProcessCommand { command: Command::new(program), name, logs: None }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.command.args(args);
        self
    }

    /// Sets a variable of its environment, which is otherwise the test's.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Takes a variable out of its environment.
    #[must_use]
    pub fn env_remove(mut self, name: impl AsRef<OsStr>) -> Self {
        self.command.env_remove(name);
        self
    }

    /// Where it runs.
    #[must_use]
    pub fn current_dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// What messages and log files call it; the program's file name otherwise.
    /// Processes that share a folder of logs need different names.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Keeps `NAME.stdout` and `NAME.stderr` in this folder, which exists;
    /// otherwise they are in a temporary folder that goes with the process.
    #[must_use]
    pub fn logs_in(mut self, folder: impl Into<PathBuf>) -> Self {
        self.logs = Some(folder.into());
        self
    }

    /// Lets it run on these cores only, such as `1` or `0,2-3`, by the program
    /// `taskset` of util-linux.
    #[must_use]
    pub fn on_cores(mut self, cores: &str) -> Self {
        let mut command = Command::new("taskset");
        command.args(["--cpu-list", cores]).arg(self.command.get_program());
        command.args(self.command.get_args());
        for (name, value) in self.command.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        if let Some(folder) = self.command.get_current_dir() {
            command.current_dir(folder);
        }
        self.command = command;
        self
    }

    /// Starts it, with nothing to read on its standard input.
    ///
    /// # Errors
    /// [`Error::Io`] when the program cannot be started or a log not be created.
    pub fn spawn(mut self) -> Result<Process, Error> {
        let temporary = match self.logs {
            Some(_) => None,
            None => Some(tempfile::tempdir().map_err(Error::io("make a temporary folder"))?),
        };
        let folder = match (&self.logs, &temporary) {
            (Some(folder), _) => folder.clone(),
            (None, temporary) => temporary.iter().map(|dir| dir.path().to_owned()).collect(),
        };
        self.command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child =
            self.command.spawn().map_err(Error::io(format!("start {:?}", self.command)))?;
        let (out, err) = (child.stdout.take(), child.stderr.take());
        // From here on the process is owned: an error below ends it.
        let mut process = Process::new(child, self.name, folder, temporary);
        if let Some(out) = out {
            process.set_stdout(Output::capture(out, &process.stdout_path())?);
        }
        if let Some(err) = err {
            process.set_stderr(Output::capture(err, &process.stderr_path())?);
        }
        Ok(process)
    }
}
