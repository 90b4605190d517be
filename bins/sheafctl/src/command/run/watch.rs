//! `sheafctl run --watch`: takes up what changes in the file.

mod looking;
mod seen;
mod told;

use std::path::Path;

use sheaf_drivers::runner::Runner;
use sheaf_retry::{Code, SharedClock};
use sheaf_terminal::Failure;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use looking::Looking;
pub(super) use told::{Told, tell};

/// What is to be told and was not yet.
const WAITING: usize = 16;

/// A file that is looked at until this is dropped.
pub(super) struct Watch {
    told: mpsc::Receiver<Told>,
    task: Option<JoinHandle<()>>,
}

impl Watch {
    /// Watches a file whose name and text are known, where that is asked for.
    pub(super) fn begin(
        is_asked: bool,
        file: (&Path, &str, String),
        runner: &Runner,
        clock: &SharedClock,
    ) -> Self {
        let (sender, told) = mpsc::channel(WAITING);
        let looking = is_asked.then(|| Looking::new(file, runner, clock, sender));
        Watch { told, task: looking.map(|looking| tokio::spawn(looking.run())) }
    }

    /// What came of it; `None` where nothing is watched.
    pub(super) async fn next(&mut self) -> Option<Told> {
        self.told.recv().await
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

/// Whether a file can be watched, where that is asked for.
pub(super) fn check(is_asked: bool, path: &Path) -> Result<(), Failure> {
    if !is_asked || path.as_os_str() != "-" {
        return Ok(());
    }
    let text = "standard input cannot be watched: it comes once";
    Err(Failure::new(Code::InvalidArgument, text).help("name a file with --watch"))
}
