//! The programs that make networks and break them.

use std::ffi::OsStr;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Error;
use crate::services::{ip_program, nft_binary, say};

#[derive(Debug)]
pub(super) struct Tools {
    ip: PathBuf,
    nft: PathBuf,
}

impl Tools {
    /// `None`, after a `SKIP` line, where this cannot be done.
    pub(super) fn find() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            say("SKIP network namespaces: only root may make them");
            return None;
        }
        Some(Tools { ip: ip_program()?, nft: nft_binary()? })
    }

    pub(super) fn ip(&self) -> &Path {
        &self.ip
    }

    /// Does these one after the other, in a namespace or outside.
    pub(super) fn ip_batch(&self, namespace: Option<&str>, lines: &[String]) -> Result<(), Error> {
        let mut command = Command::new(&self.ip);
        if let Some(namespace) = namespace {
            command.args(["-netns", namespace]);
        }
        run(command.args(["-batch", "-"]), &(lines.join("\n") + "\n"))
    }

    /// Puts these rules in force in a namespace, in one step.
    pub(super) fn rules(&self, namespace: &str, rules: &str) -> Result<(), Error> {
        let mut command = Command::new(&self.ip);
        command.args(["netns", "exec", namespace]).arg(&self.nft).args(["-f", "-"]);
        run(&mut command, rules)
    }

    /// Takes something away that may not be there.
    pub(super) fn remove(&self, args: &[&str]) {
        // Nothing more can be done where this fails; the next network would tell.
        drop(Command::new(&self.ip).args(args).stdin(Stdio::null()).output());
    }
}

/// Whether a machine does not let us, as a container without the right to.
pub(super) fn is_forbidden(error: &Error) -> bool {
    let Error::Io { source, .. } = error else { return false };
    let text = source.to_string();
    ["Operation not permitted", "Permission denied", "Operation not supported"]
        .iter()
        .any(|reason| text.contains(reason))
}

fn run(command: &mut Command, input: &str) -> Result<(), Error> {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let line = words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ");
    let failed = |source| Error::io(format!("run {line}"))(source);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    // It is short: it fits into the pipe. Why a program did not read it, it says itself.
    let written = child.stdin.take().map(|mut stdin| stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().map_err(failed)?;
    if !output.status.success() {
        let said = [output.stdout, output.stderr].concat();
        return Err(failed(io::Error::other(String::from_utf8_lossy(&said).into_owned())));
    }
    written.unwrap_or(Ok(())).map_err(failed)
}
