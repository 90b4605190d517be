//! The coordinator of a fleet, and how its workers come to it: tests that hold
//! whatever these are run with each.

use std::path::PathBuf;

use sheaf_testkit::{CallProxy, FaultProxy, Process, Valkey};

use crate::harness::{PATIENCE, Server, serve_with};
use crate::held::Between;
use crate::remote::Remote;

/// A Valkey that keeps what it has answered.
pub(crate) const DURABLE: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];

/// Where a fleet's coordinator is, and whom its workers ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backend {
    /// In the server, which workers ask.
    Embedded,
    /// On a Valkey behind the server, which workers ask.
    Valkey,
    /// On a Valkey, which workers ask themselves.
    Direct,
}

impl Backend {
    /// A server without workers, with a coordinator of this kind; `None` where
    /// that needs a Valkey and none is installed.
    pub(crate) fn start(self, words: &[&str]) -> Option<Backed> {
        let first = ["--workers", "0"];
        if self == Backend::Embedded {
            let server = Server::start(&[&first, words].concat());
            return Some(Backed { server, valkey: None, backend: self });
        }
        let valkey = Valkey::start(&DURABLE).unwrap()?;
        let address = valkey.addr().to_string();
        let server = Server::start(&[&first, &["--valkey-addr", &address], words].concat());
        Some(Backed { server, valkey: Some(valkey), backend: self })
    }
}

/// A server, what is behind it, and the workers around it.
pub(crate) struct Backed {
    pub(crate) server: Server,
    pub(crate) valkey: Option<Valkey>,
    pub(crate) backend: Backend,
}

impl Backed {
    /// Where the server is.
    pub(crate) fn flight(&self) -> &str {
        self.server.ready.url("flight").unwrap()
    }

    pub(crate) fn remote(&self) -> Remote {
        Remote::at(self.flight())
    }

    /// The folder of the results.
    pub(crate) fn out(&self) -> PathBuf {
        self.server.folder.path().join("out")
    }

    /// The sink that writes there.
    pub(crate) fn sink(&self) -> String {
        format!("parquet:{}", self.out().display())
    }

    /// A worker that asks whom it is to ask.
    pub(crate) fn worker(&self, words: &[&str]) -> Process {
        self.worker_with(words, &[])
    }

    /// The same with more in its environment.
    pub(crate) fn worker_with(&self, words: &[&str], variables: &[(&str, &str)]) -> Process {
        match &self.valkey {
            Some(valkey) if self.backend == Backend::Direct => {
                self.asking(["--valkey-addr", &valkey.addr().to_string()], words, variables)
            }
            _ => self.asking(["--coordinator", self.flight()], words, variables),
        }
    }

    /// A place for a proxy: between this and a worker that asks there.
    pub(crate) fn between(&self) -> Between {
        match &self.valkey {
            Some(valkey) if self.backend == Backend::Direct => {
                Between::Valkey(FaultProxy::start(valkey.addr()).unwrap())
            }
            _ => {
                let server = self.server.ready.addr("flight").unwrap();
                Between::Server(CallProxy::start(server).unwrap())
            }
        }
    }

    /// A worker that asks by way of a proxy.
    pub(crate) fn worker_behind(&self, between: &Between, words: &[&str]) -> Process {
        let name = if self.backend == Backend::Direct { "--valkey-addr" } else { "--coordinator" };
        self.asking([name, &between.address()], words, &[])
    }

    fn asking(&self, whom: [&str; 2], words: &[&str], variables: &[(&str, &str)]) -> Process {
        worker_asking(whom, self.flight(), words, variables)
    }
}

/// A worker that asks whom these two words name.
pub(crate) fn worker_asking(
    whom: [&str; 2],
    flight: &str,
    words: &[&str],
    variables: &[(&str, &str)],
) -> Process {
    let first = ["--mode", "worker", "--flight-addr", flight];
    let mut process = serve_with(&[&first, &whom[..], words].concat(), |command| {
        variables.iter().fold(command, |command, (name, value)| command.env(name, value))
    });
    if let Err(error) = process.wait_ready(PATIENCE) {
        panic!("{error}\n{}", process.stderr());
    }
    process
}
