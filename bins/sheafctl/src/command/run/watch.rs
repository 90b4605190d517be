//! `sheafctl run --watch`: takes up what changes in the file.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sheaf_drivers::runner::{self, Reloaded, Runner};
use sheaf_pipeline::check::check;
use sheaf_pipeline::diagnostics::Report;
use sheaf_retry::SharedClock;
use sheaf_terminal::{Console, Failure};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::super::file;
use crate::progress::Progress;

/// How often the file is looked at.
const EVERY: Duration = Duration::from_millis(500);
/// A file that changed no longer ago may have changed since in the same tick of its clock.
const FRESH: u64 = 4;
/// What is to be told and was not yet.
const WAITING: usize = 16;

/// What came of looking at the file.
pub(super) enum Told {
    /// What is wrong with it, or what it may not have meant.
    Report(Report),
    /// It cannot be read now.
    Unread(Failure),
    /// It is of another pipeline.
    Renamed(String),
    /// What became of the run.
    Reloaded(Box<Result<Reloaded, runner::Error>>),
}

/// A file that is looked at until this is dropped.
pub(super) struct Watch {
    told: mpsc::Receiver<Told>,
    task: Option<JoinHandle<()>>,
}

impl Watch {
    /// Nothing is watched.
    pub(super) fn nothing() -> Self {
        Watch { told: mpsc::channel(1).1, task: None }
    }

    /// Watches a file, whose text is known.
    pub(super) fn begin(
        path: &Path,
        name: &str,
        text: String,
        runner: &Runner,
        clock: &SharedClock,
    ) -> Self {
        let (sender, told) = mpsc::channel(WAITING);
        let pipeline = check(name, &text).map(|checked| checked.pipeline.metadata.name);
        let looking = Looking {
            file: Seen { path: path.to_owned(), text, metadata: None, age: 0, is_missing: false },
            pipeline: pipeline.unwrap_or_default(),
            runner: runner.clone(),
            clock: clock.clone(),
            told: sender,
        };
        Watch { told, task: Some(tokio::spawn(looking.run())) }
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

struct Looking {
    file: Seen,
    pipeline: String,
    runner: Runner,
    clock: SharedClock,
    told: mpsc::Sender<Told>,
}

impl Looking {
    async fn run(mut self) {
        loop {
            self.clock.sleep(EVERY).await;
            let told = match self.file.look() {
                Ok(None) => continue,
                Ok(Some((name, text))) => self.take_up(&name, &text).await,
                Err(failure) => Some(Told::Unread(failure)),
            };
            if let Some(told) = told
                && self.told.send(told).await.is_err()
            {
                return;
            }
        }
    }

    async fn take_up(&self, name: &str, text: &str) -> Option<Told> {
        let checked = match check(name, text) {
            Ok(checked) => checked,
            Err(report) => return Some(Told::Report(report)),
        };
        let found = checked.pipeline.metadata.name;
        if found != self.pipeline {
            return Some(Told::Renamed(found));
        }
        if !checked.warnings.is_empty() {
            self.told.send(Told::Report(checked.warnings)).await.ok()?;
        }
        let reloaded = self.runner.reload(name, text).await;
        Some(Told::Reloaded(Box::new(reloaded)))
    }
}

/// The file, as it was seen last.
struct Seen {
    path: PathBuf,
    text: String,
    metadata: Option<(i64, i64, u64, u64)>,
    /// For how many looks it was the same.
    age: u64,
    is_missing: bool,
}

impl Seen {
    /// Its name and its text, where that is another one.
    fn look(&mut self) -> Result<Option<(String, String)>, Failure> {
        let now = std::fs::metadata(&self.path).ok().map(|found| facts(&found));
        self.age = if now == self.metadata { self.age + 1 } else { 0 };
        self.metadata = now;
        if now.is_some() && self.age > FRESH {
            return Ok(None);
        }
        match file::read(&self.path) {
            Ok((name, text)) => {
                self.is_missing = false;
                if text == self.text {
                    return Ok(None);
                }
                self.text.clone_from(&text);
                Ok(Some((name, text)))
            }
            // Editors take a file away for a moment when they save it.
            Err(_) if self.age == 0 || self.is_missing => Ok(None),
            Err(failure) => {
                self.is_missing = true;
                Err(failure)
            }
        }
    }
}

fn facts(metadata: &Metadata) -> (i64, i64, u64, u64) {
    (metadata.mtime(), metadata.mtime_nsec(), metadata.size(), metadata.ino())
}

/// Tells people.
pub(super) fn tell(told: Told, pipeline: &str, progress: &Progress, console: &mut Console) {
    match told {
        Told::Report(report) => {
            file::show(&report, console);
            if report.errors() > 0 {
                let text =
                    format!("{} cannot be used: {pipeline} goes on as it was", report.file());
                console.note(&text);
            }
        }
        Told::Unread(failure) => {
            console.note(failure.to_text().trim_end());
            console.note(&format!("{pipeline} goes on as it was"));
        }
        Told::Renamed(name) => console.note(&format!(
            "the file is of a pipeline {name} now: {pipeline} goes on as it was, since a pipeline \
             that runs keeps its name"
        )),
        Told::Reloaded(result) => match *result {
            Ok(reloaded) => {
                let text = format!("the file was taken up: generation {}", reloaded.generation);
                progress.note(console, &text);
            }
            Err(error) => console.note(&format!("error: {error}")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(path: &Path) -> Seen {
        let text = "one".to_owned();
        Seen { path: path.to_owned(), text, metadata: None, age: 0, is_missing: false }
    }

    #[test]
    fn only_another_text_is_news_however_the_file_was_saved() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.yaml");
        std::fs::write(&path, "one").unwrap();
        let mut file = seen(&path);
        assert!(file.look().unwrap().is_none());
        // As an editor does it: another file under the same name, and then the same text anew.
        std::fs::write(folder.path().join("new"), "two").unwrap();
        std::fs::rename(folder.path().join("new"), &path).unwrap();
        assert_eq!(file.look().unwrap().unwrap().1, "two");
        std::fs::write(&path, "two").unwrap();
        assert!(file.look().unwrap().is_none());
        // As long, and perhaps in the same tick.
        std::fs::write(&path, "owt").unwrap();
        assert_eq!(file.look().unwrap().unwrap().1, "owt");
    }

    #[test]
    fn a_file_that_is_away_is_said_once_and_after_a_moment() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.yaml");
        std::fs::write(&path, "one").unwrap();
        let mut file = seen(&path);
        assert!(file.look().unwrap().is_none());
        std::fs::remove_file(&path).unwrap();
        assert!(file.look().unwrap().is_none(), "it may come back");
        assert!(file.look().is_ok(), "still");
        std::fs::write(&path, "two").unwrap();
        assert_eq!(file.look().unwrap().unwrap().1, "two");
        std::fs::remove_file(&path).unwrap();
        let told = (0..5).filter(|_| file.look().is_err()).count();
        assert_eq!(told, 1);
    }
}
