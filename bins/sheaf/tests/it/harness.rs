//! One server and the commands against it.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;
use sheaf_testkit::{Process, ProcessCommand, Ready, TempDir};

/// Bounds how long a broken test hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The binary.
pub(crate) const SHEAF: &str = env!("CARGO_BIN_EXE_sheaf");

/// `sheaf` with these words, run to its end.
pub(crate) fn sheaf(words: &[&str]) -> Ran {
    Ran(command().args(words).output().unwrap())
}

/// `sheaf` without the settings of whoever runs the tests.
pub(crate) fn command() -> Command {
    let mut command = Command::new(SHEAF);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SHEAF_") {
            command.env_remove(name);
        }
    }
    command
}

/// What a command left.
pub(crate) struct Ran(pub(crate) Output);

impl Ran {
    pub(crate) fn code(&self) -> i32 {
        self.0.status.code().unwrap()
    }

    pub(crate) fn stdout(&self) -> String {
        String::from_utf8(self.0.stdout.clone()).unwrap()
    }

    pub(crate) fn stderr(&self) -> String {
        String::from_utf8(self.0.stderr.clone()).unwrap()
    }

    /// Its standard output, given that it succeeded.
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code(), 0, "{}{}", self.stdout(), self.stderr());
        self.stdout()
    }

    /// The lines of its standard output as JSON, given that it succeeded.
    pub(crate) fn json(self) -> Vec<Value> {
        self.ok().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Its standard error, given that it failed with this code, said what and
    /// what to do, and put nothing among the data.
    pub(crate) fn failed(self, code: i32) -> String {
        let text = self.stderr();
        assert_eq!(self.code(), code, "{text}");
        assert!(text.contains("error: ") && text.contains("help: "), "{text}");
        assert!(!text.contains("panicked"), "{text}");
        assert_eq!(self.stdout(), "");
        text
    }
}

/// A server with a folder of its own.
pub(crate) struct Server {
    pub(crate) process: Process,
    pub(crate) ready: Ready,
    pub(crate) folder: TempDir,
}

impl Server {
    pub(crate) fn start(words: &[&str]) -> Self {
        Self::start_in(TempDir::new().unwrap(), words)
    }

    /// On the data of a server before it.
    pub(crate) fn start_in(folder: TempDir, words: &[&str]) -> Self {
        Self::of(spawn(folder.path(), words), folder)
    }

    /// One that was started on the data in `folder`.
    pub(crate) fn of(mut process: Process, folder: TempDir) -> Self {
        let ready = match process.wait_ready(PATIENCE) {
            Ok(ready) => ready,
            Err(error) => panic!("{error}\n{}", process.stderr()),
        };
        Server { process, ready, folder }
    }

    /// A command against this server.
    pub(crate) fn run(&self, words: &[&str]) -> Ran {
        let mut command = command();
        command.args(words).env("SHEAF_SERVER", self.ready.url("flight").unwrap());
        Ran(command.output().unwrap())
    }

    /// A path in its folder.
    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    /// A CSV file of so many rows.
    pub(crate) fn csv(&self, name: &str, rows: u32) -> String {
        let path = self.path(name);
        let lines: String = (0..rows).map(|n| format!("{n},name {n}\n")).collect();
        std::fs::write(&path, format!("n,name\n{lines}")).unwrap();
        path
    }

    /// Puts a file of so many rows; its identifier.
    pub(crate) fn put(&self, rows: u32, words: &[&str]) -> String {
        let file = self.csv(&format!("{rows}.csv"), rows);
        let words = [&["put", file.as_str(), "--json"], words].concat();
        self.run(&words).json()[0]["batch_id"].as_str().unwrap().to_owned()
    }

    /// Waits until a batch is in a state; all that is known of it.
    pub(crate) fn wait_for_state(&self, id: &str, state: &str) -> Value {
        let what = format!("batch {id} to be {state}");
        sheaf_testkit::wait_for(PATIENCE, &what, || {
            let batch = self.run(&["batches", "show", id, "--json"]).json().remove(0);
            (batch["state"] == state).then_some(batch)
        })
        .unwrap()
    }

    /// An answer of the admin port: status and body.
    pub(crate) fn admin(&self, path: &str) -> (u16, String) {
        get(&self.ready, path)
    }
}

/// An answer of a process's admin port: status and body.
pub(crate) fn get(ready: &Ready, path: &str) -> (u16, String) {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(ready.addr("admin").unwrap()).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// `sheaf serve` on free ports, its data in `folder/data`.
pub(crate) fn spawn(folder: &Path, words: &[&str]) -> Process {
    let data = folder.join("data");
    serve(&["--data-dir", data.to_str().unwrap()], words)
}

/// `sheaf serve` on free ports.
pub(crate) fn serve(first: &[&str], words: &[&str]) -> Process {
    serve_with(&[first, words].concat(), |command| command)
}

/// The environment of a process whose wall clock is another one: `+600s` off, or at
/// `@2026-11-27 07:30:00` of UTC when it starts.
pub(crate) fn wall_clock<'a>(library: &'a str, time: &'a str) -> [(&'static str, &'a str); 5] {
    [
        ("LD_PRELOAD", library),
        ("FAKETIME", time),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ("DONT_FAKE_MONOTONIC", "1"),
        ("TZ", "UTC"),
    ]
}

/// `sheaf serve` on free ports, with something said about the process.
pub(crate) fn serve_with(
    words: &[&str],
    change: impl FnOnce(ProcessCommand) -> ProcessCommand,
) -> Process {
    change(serve_by(Process::command(SHEAF), words)).spawn().unwrap()
}

/// `sheaf serve` on free ports, by a command that starts `sheaf`.
pub(crate) fn serve_by(command: ProcessCommand, words: &[&str]) -> ProcessCommand {
    let mut command = command.args(["serve", "--flight-addr", "127.0.0.1:0"]);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SHEAF_") {
            command = command.env_remove(name);
        }
    }
    // Of two flags of one name the last counts: the caller's.
    command.args(["--grace", "10s"]).args(words)
}
