//! Directory fsync, shared by those who ask at the same time.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

/// Makes the names in one directory durable.
///
/// A caller's names are covered by an fsync that began after the call: callers
/// that arrive while one runs wait for the next, together. Each caller of a
/// round gets that round's result: the kernel reports a failed write once, and
/// a second fsync would succeed on top of the loss.
#[derive(Debug)]
pub(crate) struct DirSync {
    path: PathBuf,
    state: Mutex<State>,
    finished: Condvar,
}

#[derive(Debug, Default)]
struct State {
    gathering: Arc<Round>,
    running: bool,
}

#[derive(Debug, Default)]
struct Round(OnceLock<Result<(), (io::ErrorKind, String)>>);

impl DirSync {
    pub(crate) fn new(path: PathBuf) -> Self {
        DirSync { path, state: Mutex::default(), finished: Condvar::new() }
    }

    /// Blocks until every name that was there at the call is durable.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.sync_with(|| File::open(&self.path)?.sync_all())
    }

    fn sync_with(&self, fsync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let mut state = self.lock();
        let round = Arc::clone(&state.gathering);
        loop {
            if let Some(result) = round.0.get() {
                return result.clone().map_err(|(kind, text)| io::Error::new(kind, text));
            }
            if !state.running {
                break;
            }
            state = self.finished.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        // Nobody runs and our round has no result: it is the one gathering.
        state.gathering = Arc::default();
        state.running = true;
        drop(state);
        let result = fsync();
        let shared = match &result {
            Ok(()) => Ok(()),
            Err(e) => Err((e.kind(), e.to_string())),
        };
        let mut state = self.lock();
        state.running = false;
        // Set once: this caller alone took the round.
        drop(round.0.set(shared));
        self.finished.notify_all();
        drop(state);
        result
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn those_who_wait_share_one_round_and_its_error() {
        let sync = DirSync::new(PathBuf::from("/"));
        let (rounds, arrived) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let (started, wait_started) = mpsc::sync_channel(1);
        let (release, wait_release) = mpsc::sync_channel(1);
        std::thread::scope(|scope| {
            let first = scope.spawn(|| {
                sync.sync_with(move || {
                    started.send(()).unwrap();
                    wait_release.recv().unwrap();
                    Ok(())
                })
            });
            wait_started.recv().unwrap();
            let others: Vec<_> = (0..7)
                .map(|_| {
                    scope.spawn(|| {
                        arrived.fetch_add(1, Ordering::SeqCst);
                        sync.sync_with(|| {
                            rounds.fetch_add(1, Ordering::SeqCst);
                            Err(io::Error::from(io::ErrorKind::StorageFull))
                        })
                    })
                })
                .collect();
            // All seven hold the gathering round (with the state itself: 8).
            while Arc::strong_count(&sync.lock().gathering) < 8 {
                std::thread::yield_now();
            }
            release.send(()).unwrap();
            assert!(first.join().unwrap().is_ok(), "its own round was good");
            for other in others {
                let error = other.join().unwrap().unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::StorageFull);
            }
        });
        assert_eq!(rounds.load(Ordering::SeqCst), 1, "one fsync for the seven");
    }

    #[test]
    fn a_real_directory_syncs_and_a_missing_one_does_not() {
        let dir = tempfile::tempdir().unwrap();
        DirSync::new(dir.path().to_owned()).sync().unwrap();
        assert!(DirSync::new(dir.path().join("gone")).sync().is_err());
    }
}
