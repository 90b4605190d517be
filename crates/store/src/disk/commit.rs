//! Makes names durable, many at a time.
//!
//! A put is durable when its file is synced and the directory that names it.
//! Files are synced by the puts themselves, at most [`FILE_SYNCS`] at a time:
//! the file system's journal takes concurrent syncs together. Names go through
//! here: all that wait are renamed, and each directory is synced once, many of
//! them side by side.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;

use super::io::Disk;
use super::writer::{Written, remove_quietly};
use crate::error::{Error, io_error};
use crate::turn::in_turn;

/// Files written and synced at the same time.
const FILE_SYNCS: usize = 16;
/// Directories synced at the same time.
const DIRECTORY_SYNCS: usize = 16;
/// Changes of names that wait.
const QUEUE: usize = 1_024;
/// Changes of names in one group.
const GROUP: usize = 256;

/// A change of names.
pub(crate) enum Names {
    /// A complete file gets its name.
    Publish(Written, PathBuf),
    /// A file is removed; whether it was there does not matter.
    Remove(PathBuf),
}

struct Job {
    names: Names,
    done: oneshot::Sender<Result<(), Error>>,
}

/// Runs until every clone of its sender is gone.
pub(crate) struct Committer {
    jobs: mpsc::Sender<Job>,
    file_syncs: Arc<Semaphore>,
}

impl Committer {
    /// Must be called on a tokio runtime.
    pub(crate) fn start(disk: Arc<dyn Disk>) -> (Self, JoinHandle<()>) {
        let (jobs, queue) = mpsc::channel(QUEUE);
        let task = tokio::spawn(run(disk, queue));
        (Committer { jobs, file_syncs: Arc::new(Semaphore::new(FILE_SYNCS)) }, task)
    }

    /// Runs blocking work that ends in the sync of a file.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        in_turn(&self.file_syncs, work).await?
    }

    /// Changes a name, durably.
    pub(crate) async fn commit(&self, names: Names) -> Result<(), Error> {
        let (done, answer) = oneshot::channel();
        self.jobs.send(Job { names, done }).await.map_err(|_| Error::Closed)?;
        answer.await.map_err(|_| Error::TaskLost)?
    }
}

async fn run(disk: Arc<dyn Disk>, mut queue: mpsc::Receiver<Job>) {
    let mut group = Vec::with_capacity(GROUP);
    while queue.recv_many(&mut group, GROUP).await > 0 {
        let jobs = std::mem::take(&mut group);
        let disk = Arc::clone(&disk);
        let commit = tokio::task::spawn_blocking(move || commit(disk.as_ref(), jobs));
        if commit.await.is_err() {
            tracing::error!("committing a group of payloads panicked");
        }
    }
}

fn commit(disk: &dyn Disk, jobs: Vec<Job>) {
    let mut waiting = Vec::with_capacity(jobs.len());
    let mut directories = BTreeSet::new();
    for Job { names, done } in jobs {
        let (path, renamed, result) = match names {
            Names::Publish(written, to) => {
                let result = written.rename(&to);
                (to, true, result)
            }
            Names::Remove(path) => {
                let result = match disk.remove(&path) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        Err(io_error("remove", &path, error))
                    }
                    _ => Ok(()),
                };
                (path, false, result)
            }
        };
        match result {
            Ok(()) => {
                let directory = path.parent().unwrap_or(Path::new("")).to_path_buf();
                directories.insert(directory.clone());
                waiting.push((path, directory, renamed, done));
            }
            Err(error) => answer(done, Err(error)),
        }
    }
    let directories: Vec<_> = directories.into_iter().collect();
    let failed = sync_all(disk, &directories);
    for (path, directory, renamed, done) in waiting {
        let failure = failed.iter().find(|(failed, _)| *failed == directory);
        let result = match failure {
            None => Ok(()),
            Some((_, error)) => {
                // Whether the name lasts is unknown: it must not be found later.
                if renamed {
                    remove_quietly(disk, &path);
                }
                let copy = match error.raw_os_error() {
                    Some(number) => std::io::Error::from_raw_os_error(number),
                    None => std::io::Error::from(error.kind()),
                };
                Err(io_error("sync", &directory, copy))
            }
        };
        answer(done, result);
    }
}

/// Syncs directories side by side: each sync flushes the device, and those
/// that come at the same time share a flush. Returns those that failed.
fn sync_all(disk: &dyn Disk, directories: &[PathBuf]) -> Vec<(PathBuf, std::io::Error)> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut failed = Vec::new();
        while let Some(path) = directories.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(error) = disk.sync_dir(path) {
                failed.push((path.clone(), error));
            }
        }
        failed
    };
    let helpers = directories.len().min(DIRECTORY_SYNCS).saturating_sub(1);
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..helpers).map(|_| scope.spawn(work)).collect();
        let mut failed = work();
        for helper in running {
            match helper.join() {
                Ok(more) => failed.extend(more),
                // Nobody is told that a name lasts which may not.
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        failed
    })
}

fn answer(done: oneshot::Sender<Result<(), Error>>, result: Result<(), Error>) {
    if done.send(result).is_err() {
        tracing::debug!("nobody waits for a commit any more");
    }
}
