//! The coordinator on a real Valkey, behind real processes.

mod conformance;
mod lifecycle;
mod migrate;
mod refusals;
mod topologies;

use std::path::Path;

use sheaf_testkit::{TempDir, Valkey, free_port, wait_until};

use crate::backend::DURABLE;
use crate::harness::{PATIENCE, Ran, command, get};
use crate::parts::{Part, data, uri};

/// One Valkey, and a folder for everything else.
struct Site {
    valkey: Valkey,
    folder: TempDir,
}

impl Site {
    /// `None` where Valkey is not installed.
    fn start() -> Option<Self> {
        let valkey = Valkey::start(&DURABLE).unwrap()?;
        Some(Site { valkey, folder: TempDir::new().unwrap() })
    }

    fn address(&self) -> String {
        self.valkey.addr().to_string()
    }

    fn out(&self) -> std::path::PathBuf {
        self.folder.path().join("out")
    }

    fn sink(&self) -> String {
        format!("parquet:{}", self.out().display())
    }

    /// A server of mode `all` on this Valkey, with a data directory of this
    /// name; where it is.
    fn serve(&self, name: &str, words: &[&str]) -> (Part, String) {
        let at = free_port().unwrap().release();
        let (valkey, folder) = (self.address(), data(self.folder.path(), name));
        let (address, first) = (at.to_string(), ["--valkey-addr", &valkey, "--data-dir", &folder]);
        let part = Part::start(&[&first, &["--flight-addr", &address][..], words].concat());
        (part, uri(at))
    }

    /// Workers that take their work from Valkey itself.
    fn worker(&self, flight: &str, words: &[&str]) -> Part {
        let valkey = self.address();
        let first = ["--mode", "worker", "--valkey-addr", &valkey, "--flight-addr", flight];
        Part::start(&[&first, words].concat())
    }
}

/// A command against a server.
fn run(server: &str, words: &[&str]) -> Ran {
    let mut command = command();
    command.args(words).env("SHEAF_SERVER", server);
    Ran(command.output().unwrap())
}

/// Files of results that there are.
fn results(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let names = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("part-")).count()
}

/// Waits until there are so many files of results.
fn wait_for_results(folder: &Path, wanted: usize) {
    wait_until(PATIENCE, "results to get on", || results(folder) >= wanted).unwrap();
}

/// Waits until a process says so on its admin port.
fn wait_for_status(part: &mut Part, path: &str, wanted: u16) {
    let ready = part.process.wait_ready(PATIENCE).unwrap();
    wait_until(PATIENCE, "its health to change", || get(&ready, path).0 == wanted).unwrap();
}
