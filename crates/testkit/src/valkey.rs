//! A real Valkey server.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use sheaf_retry::{RetryPolicy, SystemClock, retry_blocking_if};
use tempfile::TempDir;

use crate::services::valkey_binary;
use crate::{Error, Process, free_port};

/// How long the server may take to be up.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// A Valkey of its own for a test: on a free port of 127.0.0.1, with its data
/// in a temporary folder, gone when dropped.
///
/// It writes nothing to disk unless the arguments say so (the last of two
/// equal ones counts): `["--appendonly", "yes", "--appendfsync", "always"]`
/// makes it keep what it has acknowledged across [`Valkey::kill9`].
#[derive(Debug)]
pub struct Valkey {
    process: Process,
    addr: SocketAddr,
    binary: PathBuf,
    args: Vec<String>,
    data: TempDir,
}

impl Valkey {
    /// Starts a server with more arguments, or gives `None` after a `SKIP`
    /// line where Valkey is not installed.
    ///
    /// # Errors
    /// [`Error::Ended`] with its output when it does not start.
    ///
    /// # Panics
    /// Where it is not installed and `SHEAF_REQUIRE_SERVERS` is `1`.
    pub fn start(args: &[&str]) -> Result<Option<Valkey>, Error> {
        let Some(binary) = valkey_binary() else { return Ok(None) };
        let args: Vec<String> = args.iter().map(ToString::to_string).collect();
        // Another process may take the port between its release and its use.
        let policy = RetryPolicy { base_ms: 10, ..RetryPolicy::default() };
        let started = retry_blocking_if(
            &policy,
            0,
            SystemClock::shared(),
            |_| {
                let data = tempfile::tempdir().map_err(Error::io("make a temporary folder"))?;
                let addr = free_port()?.release();
                let process = launch(&binary, addr, &data, &args)?;
                Ok((process, addr, data))
            },
            |error: &Error| error.to_string().contains("already in use"),
        );
        let (process, addr, data) = started.map_err(sheaf_retry::Error::into_last)?;
        Ok(Some(Valkey { process, addr, binary, args, data }))
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The process, to pause or to read the output of.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Kills it as a crash would; its folder and port stay its own.
    ///
    /// # Errors
    /// As [`Process::kill9`].
    pub fn kill9(&mut self) -> Result<ExitStatus, Error> {
        self.process.kill9()
    }

    /// Starts it again, on the same port and folder; kills it before if it runs.
    ///
    /// # Errors
    /// As [`Valkey::start`].
    pub fn restart(&mut self) -> Result<(), Error> {
        self.process.kill9()?;
        self.process = launch(&self.binary, self.addr, &self.data, &self.args)?;
        Ok(())
    }
}

fn launch(
    binary: &PathBuf,
    addr: SocketAddr,
    data: &TempDir,
    args: &[String],
) -> Result<Process, Error> {
    let (ip, port) = (addr.ip().to_string(), addr.port().to_string());
    let mut process = Process::command(binary)
        .args(["--bind", &ip, "--port", &port, "--save", "", "--appendonly", "no"])
        .args(["--daemonize", "no", "--protected-mode", "no"])
        .arg("--dir")
        .arg(data.path())
        .args(args)
        .spawn()?;
    process.wait_for_line(START_TIMEOUT, |line| {
        line.contains("Ready to accept connections").then_some(())
    })?;
    Ok(process)
}
