//! The second process, and what it is told.

use std::collections::HashSet;
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use super::{Orders, Told, WORD};

/// Ends with this process.
pub(super) struct Line {
    pipe: Option<ChildStdin>,
    child: Child,
    begun: HashSet<String>,
}

impl Line {
    pub(super) fn start(program: &Path, orders: &Orders) -> io::Result<Self> {
        let folder = std::path::absolute(&orders.folder)?;
        let orders = Orders { folder, ..orders.clone() };
        // In a group of its own: what is typed at a terminal does not end it.
        let mut child = Command::new(program)
            .arg(WORD)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        let mut pipe = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
        writeln!(pipe, "{}", serde_json::to_string(&orders)?)?;
        Ok(Line { pipe: Some(pipe), child, begun: HashSet::new() })
    }

    /// Something of this pipeline will be there.
    pub(super) fn begun(&mut self, pipeline: &str) -> io::Result<()> {
        match self.begun.insert(pipeline.to_owned()) {
            true => self.tell(&Told::Begun(pipeline.to_owned())),
            false => Ok(()),
        }
    }

    /// Nothing of it is there any more.
    pub(super) fn removed(&mut self, pipeline: &str) {
        if self.begun.remove(pipeline)
            && let Err(error) = self.tell(&Told::Removed(pipeline.to_owned()))
        {
            tracing::debug!(%error, "the process that clears up is gone");
        }
    }

    fn tell(&mut self, told: &Told) -> io::Result<()> {
        let Some(pipe) = &mut self.pipe else { return Ok(()) };
        writeln!(pipe, "{}", serde_json::to_string(told)?)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        // It sees the end of the pipe, and ends when it has looked.
        self.pipe = None;
        drop(self.child.wait());
    }
}
