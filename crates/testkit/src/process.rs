//! A child process under a test's control.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Child, ExitStatus};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use sheaf_retry::SystemClock;
use tempfile::TempDir;

use crate::output::Output;
use crate::{Error, ProcessCommand, Ready, wait_for, wait_until};

/// How much output an error shows of each stream.
const SHOWN_LINES: usize = 30;

/// How often an output that stands still is checked for its process' end.
const PAUSE: Duration = Duration::from_millis(20);

/// How long the end of a process that was killed may take.
const KILL_TIMEOUT: Duration = Duration::from_secs(30);

/// A running process whose output is captured.
///
/// Dropping it kills it by its process id and waits for its end, paused or
/// not; processes that it has started itself are its own business. The waiting
/// methods block the thread: an async test that also serves on this thread
/// calls them through `spawn_blocking`.
#[derive(Debug)]
pub struct Process {
    child: Child,
    status: Option<ExitStatus>,
    name: String,
    stdout: Output,
    stderr: Output,
    logs: PathBuf,
    _temporary: Option<TempDir>,
}

impl Process {
    /// A process to start; `program` is a path, or looked up in `PATH`.
    pub fn command(program: impl AsRef<OsStr>) -> ProcessCommand {
        ProcessCommand::new(program)
    }

    pub(crate) fn new(
        child: Child,
        name: String,
        logs: PathBuf,
        temporary: Option<TempDir>,
    ) -> Self {
        let (stdout, stderr) = (Output::default(), Output::default());
        Process { child, status: None, name, stdout, stderr, logs, _temporary: temporary }
    }

    pub(crate) fn set_stdout(&mut self, output: Output) {
        self.stdout = output;
    }

    pub(crate) fn set_stderr(&mut self, output: Output) {
        self.stderr = output;
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The last 10,000 lines of its standard output so far.
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// The last 10,000 lines of its standard error so far.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// All of its standard output.
    pub fn stdout_path(&self) -> PathBuf {
        self.logs.join(format!("{}.stdout", self.name))
    }

    /// All of its standard error.
    pub fn stderr_path(&self) -> PathBuf {
        self.logs.join(format!("{}.stderr", self.name))
    }

    /// Waits for a line of standard output that `find` makes something of.
    /// Lines printed before the call count.
    ///
    /// # Errors
    /// - [`Error::TimedOut`] when `timeout` has passed.
    /// - [`Error::Ended`] when the process ended without such a line.
    pub fn wait_for_line<T>(
        &mut self,
        timeout: Duration,
        find: impl FnMut(&str) -> Option<T>,
    ) -> Result<T, Error> {
        let output = self.stdout.clone();
        self.wait_for_line_of(&output, timeout, "a line of standard output", find)
    }

    /// [`Process::wait_for_line`] of standard error.
    ///
    /// # Errors
    /// As [`Process::wait_for_line`].
    pub fn wait_for_stderr_line<T>(
        &mut self,
        timeout: Duration,
        find: impl FnMut(&str) -> Option<T>,
    ) -> Result<T, Error> {
        let output = self.stderr.clone();
        self.wait_for_line_of(&output, timeout, "a line of standard error", find)
    }

    /// Waits for the line by which a server says where it listens.
    ///
    /// # Errors
    /// As [`Process::wait_for_line`].
    pub fn wait_ready(&mut self, timeout: Duration) -> Result<Ready, Error> {
        let output = self.stdout.clone();
        self.wait_for_line_of(&output, timeout, "its ready line", Ready::parse)
    }

    fn wait_for_line_of<T>(
        &mut self,
        output: &Output,
        timeout: Duration,
        what: &str,
        mut find: impl FnMut(&str) -> Option<T>,
    ) -> Result<T, Error> {
        let clock = SystemClock::shared();
        let start = clock.elapsed();
        let mut from = 0;
        loop {
            // Read before the scan: what was printed until then is scanned.
            let over = clock.elapsed().saturating_sub(start) >= timeout;
            let ended = output.ended();
            if let Some(found) = output.scan(&mut from, &mut find) {
                return Ok(found);
            }
            let what = what.to_owned();
            if ended && let Some(status) = self.try_exit()? {
                self.settle_output();
                let (name, output) = (self.name.clone(), self.last_output());
                return Err(Error::Ended { name, status, what, output });
            }
            if over {
                let what = format!("{what} of {}", self.name);
                return Err(Error::TimedOut { what, timeout, output: self.last_output() });
            }
            if ended {
                // No line will come; the exit status will.
                clock.sleep_blocking(PAUSE);
            } else {
                output.wait_for_more(from, PAUSE);
            }
        }
    }

    /// Lets the last of its output arrive; a child of its own that holds the
    /// output open is not waited for.
    fn settle_output(&self) {
        let both = || self.stdout.ended() && self.stderr.ended();
        drop(wait_until(Duration::from_secs(1), "the output to end", both));
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// [`Error::Io`] when the system cannot say.
    pub fn try_exit(&mut self) -> Result<Option<ExitStatus>, Error> {
        if self.status.is_none() {
            let waited = self.child.try_wait();
            self.status = waited.map_err(Error::io(format!("wait for {}", self.name)))?;
        }
        Ok(self.status)
    }

    /// Waits for its end and for the end of its output.
    ///
    /// # Errors
    /// [`Error::TimedOut`] when `timeout` has passed, the process then still
    /// running (or a child of its own holding the output open).
    pub fn wait_exit(&mut self, timeout: Duration) -> Result<ExitStatus, Error> {
        let what = format!("{} to end", self.name);
        let waited = wait_for(timeout, &what, || match self.try_exit() {
            Ok(None) => None,
            Ok(Some(_)) if !(self.stdout.ended() && self.stderr.ended()) => None,
            Ok(Some(status)) => Some(Ok(status)),
            Err(error) => Some(Err(error)),
        });
        match waited {
            Ok(status) => status,
            Err(_) => Err(Error::TimedOut { what, timeout, output: self.last_output() }),
        }
    }

    /// Ends it with SIGKILL, as a crash would, and waits until it is gone. One
    /// that has ended already stays as it ended.
    ///
    /// # Errors
    /// [`Error::Io`] when the system refuses the signal.
    pub fn kill9(&mut self) -> Result<ExitStatus, Error> {
        self.signal(Signal::KILL)?;
        let what = format!("{} to be gone", self.name);
        wait_for(KILL_TIMEOUT, &what, || self.try_exit().transpose())?
    }

    /// Asks it to end with SIGTERM and waits for that.
    ///
    /// # Errors
    /// As [`Process::wait_exit`].
    pub fn terminate(&mut self, timeout: Duration) -> Result<ExitStatus, Error> {
        self.signal(Signal::TERM)?;
        self.wait_exit(timeout)
    }

    /// Stops it with SIGSTOP: it keeps its sockets and answers nothing.
    ///
    /// # Errors
    /// [`Error::Io`] when the system refuses the signal.
    pub fn pause(&mut self) -> Result<(), Error> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on after [`Process::pause`].
    ///
    /// # Errors
    /// [`Error::Io`] when the system refuses the signal.
    pub fn resume(&mut self) -> Result<(), Error> {
        self.signal(Signal::CONT)
    }

    /// Sends a signal, unless the process has been waited for: its id may be
    /// another's by then.
    fn signal(&mut self, signal: Signal) -> Result<(), Error> {
        if self.try_exit()?.is_some() {
            return Ok(());
        }
        kill_process(Pid::from_child(&self.child), signal)
            .map_err(|errno| Error::io(format!("signal {}", self.name))(errno.into()))
    }

    /// The end of both streams, for errors.
    pub(crate) fn last_output(&self) -> String {
        self.stdout.tail(SHOWN_LINES) + &self.stderr.tail(SHOWN_LINES)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nothing more can be done where this fails, and a panic here would
        // hide the one that may be under way.
        drop(self.kill9());
    }
}
