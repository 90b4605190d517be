//! Harm that is done to a process on purpose.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::Signal;
use sheaf_retry::SharedClock;
use tokio::sync::watch;

use super::identity::Identity;
use super::{Inner, failed};
use crate::driver::{Disturbance, DriverError, LaunchId};

/// How long a process that is slowed runs each time.
const RUNS: Duration = Duration::from_millis(10);

/// Who stands still, or is slow.
pub(super) type Disturbed = Arc<Mutex<HashSet<LaunchId>>>;

/// A process that is stopped now and then. It goes on when this is dropped.
struct Still {
    id: LaunchId,
    process: Identity,
    disturbed: Disturbed,
}

impl Still {
    fn begin(id: LaunchId, process: Identity, disturbed: &Disturbed) -> Option<Self> {
        let is_first = disturbed.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone());
        // Made only where it is the first: when it is dropped, the process goes on.
        is_first.then(|| Still { id, process, disturbed: Arc::clone(disturbed) })
    }

    /// Sends a signal; where the process has ended there is nothing to be done.
    fn signal(&self, signal: Signal) {
        if let Err(error) = self.process.signal(signal) {
            tracing::warn!(component = self.id.place, %error, "a signal cannot be sent");
        }
    }

    async fn stand(self, how: Disturbance, mut over: watch::Receiver<bool>, clock: SharedClock) {
        let Some((time, delay)) = how.times() else { return };
        let until = clock.elapsed().saturating_add(time);
        let stands = async {
            loop {
                clock.sleep(delay).await;
                self.signal(Signal::CONT);
                if clock.elapsed() >= until {
                    return;
                }
                clock.sleep(RUNS).await;
                self.signal(Signal::STOP);
            }
        };
        tokio::select! {
            biased;
            _ = over.wait_for(|over| *over) => {}
            () = stands => {}
        }
    }
}

impl Drop for Still {
    fn drop(&mut self) {
        self.signal(Signal::CONT);
        self.disturbed.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

/// See [`Driver::disturb`](crate::Driver::disturb). Signals go to the process that was
/// started, by a handle: never to one that has got its number since.
pub(super) fn disturb(inner: &Inner, id: &LaunchId, how: Disturbance) -> Result<(), DriverError> {
    let what = || format!("cannot disturb {}", id.place);
    how.check().map_err(|why| failed(what(), why))?;
    let live = inner.find(id).ok_or_else(|| failed(what(), "it does not run at the moment"))?;
    let process = live.record.component.clone();
    let refused = |error: std::io::Error| failed(what(), error.to_string());
    if how == Disturbance::Kill {
        return process.signal(Signal::KILL).map_err(refused);
    }
    let still = Still::begin(id.clone(), process.clone(), &inner.disturbed);
    let still = still.ok_or_else(|| {
        failed(what(), "it stands still or is slowed already; wait until that is over")
    })?;
    process.signal(Signal::STOP).map_err(refused)?;
    tokio::spawn(still.stand(how, live.over, Arc::clone(&inner.clock)));
    Ok(())
}
