//! Real Valkey and Redis servers.

mod client;
mod cluster;
mod flavour;
mod options;
mod replica;
mod reply;
mod sentinels;
mod slots;
mod tls;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use tempfile::TempDir;

use crate::{Error, Process};

pub use client::{CommandStats, ValkeyConnection};
pub use cluster::Cluster;
pub use flavour::Flavour;
pub use options::ValkeyOptions;
pub use reply::Reply;
pub use sentinels::Sentinels;
pub use tls::TlsFiles;

/// How long the server may take to be up.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// A Valkey of its own for a test: on a free port of 127.0.0.1, with its data
/// in a temporary folder, gone when dropped.
///
/// It writes nothing to disk unless the arguments say so (the last of two
/// equal ones counts): `["--appendonly", "yes", "--appendfsync", "always"]`
/// makes it keep what it has acknowledged across [`Valkey::kill9`].
/// [`Valkey::options`] has all that can be chosen; it may also be a Redis.
#[derive(Debug)]
pub struct Valkey {
    process: Process,
    addr: SocketAddr,
    tls_addr: Option<SocketAddr>,
    /// Of the cluster bus, where there is one.
    bus_addr: Option<SocketAddr>,
    flavour: Flavour,
    binary: PathBuf,
    /// All of them, ports and folder included.
    args: Vec<String>,
    password: Option<String>,
    _data: TempDir,
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
        Valkey::options(Flavour::Valkey).args(args).start()
    }

    /// A server to start, with everything that can be chosen.
    pub fn options(flavour: Flavour) -> ValkeyOptions {
        ValkeyOptions::new(flavour)
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Where it listens for TLS, if it does.
    pub fn tls_addr(&self) -> Option<SocketAddr> {
        self.tls_addr
    }

    /// Whose server it is.
    pub fn flavour(&self) -> Flavour {
        self.flavour
    }

    /// The process, to pause or to read the output of.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// A connection for commands that belong together, logged in with the
    /// password of `--requirepass` if the server was started with one. It is
    /// never over TLS: every server here listens without it too.
    ///
    /// # Errors
    /// As [`ValkeyConnection::open`].
    pub fn connect(&self) -> Result<ValkeyConnection, Error> {
        ValkeyConnection::open(self.addr, self.password.as_deref())
    }

    /// Sends one command over a new connection and gives its answer.
    ///
    /// # Errors
    /// As [`ValkeyConnection::open`] and [`ValkeyConnection::command`].
    pub fn command(&self, command: &[&str]) -> Result<Reply, Error> {
        self.connect()?.command(command)
    }

    /// The fields of `INFO` of a section, such as `replication` or `memory`.
    ///
    /// # Errors
    /// As [`Valkey::command`].
    pub fn info(&self, section: &str) -> Result<BTreeMap<String, String>, Error> {
        Ok(client::info(&self.command(&["INFO", section])?))
    }

    /// What each command has cost the server, such as `evalsha`, by name in
    /// lower case. `CONFIG RESETSTAT` sets it to nothing.
    ///
    /// # Errors
    /// As [`Valkey::command`].
    pub fn command_stats(&self) -> Result<BTreeMap<String, CommandStats>, Error> {
        Ok(client::command_stats(&self.info("commandstats")?))
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
        self.process = launch(&self.binary, &self.args)?;
        Ok(())
    }

    /// Whether the process is there; one that is paused is.
    ///
    /// # Errors
    /// As [`Process::try_exit`].
    pub fn is_running(&mut self) -> Result<bool, Error> {
        Ok(self.process.try_exit()?.is_none())
    }
}

impl Valkey {
    /// What it answers, if it does soon.
    fn ask(&self, command: &[&str]) -> Option<Reply> {
        client::ask(self.addr, self.password.as_deref(), command)
    }
}

fn launch(binary: &PathBuf, args: &[String]) -> Result<Process, Error> {
    let mut process = Process::command(binary).args(args).spawn()?;
    process.wait_for_line(START_TIMEOUT, |line| {
        line.contains("Ready to accept connections").then_some(())
    })?;
    Ok(process)
}

/// Adds the last output of the servers concerned to a wait that ended in vain.
fn with_output<'a>(error: Error, processes: impl IntoIterator<Item = &'a Process>) -> Error {
    match error {
        Error::TimedOut { what, timeout, output } => {
            let all = processes.into_iter().map(Process::last_output);
            Error::TimedOut { what, timeout, output: all.fold(output, |text, more| text + &more) }
        }
        other => other,
    }
}
