//! Harm that is done to a process on purpose.

use std::sync::Arc;

use rustix::process::Signal;

use super::identity::Identity;
use super::{Inner, failed};
use crate::disturbed::{Halts, Turn};
use crate::driver::{Disturbance, DriverError, LaunchId};

/// A process that is stopped now and then.
#[derive(Clone)]
struct Process {
    identity: Identity,
    /// Whose it is.
    place: String,
}

impl Process {
    /// Sends a signal; where the process has ended there is nothing to be done.
    fn say(&self, signal: Signal) -> bool {
        let said = self.identity.signal(signal);
        let place = &self.place;
        said.inspect_err(
            |error| tracing::warn!(component = place, %error, "a signal cannot be sent"),
        )
        .is_ok()
    }
}

impl Halts for Process {
    async fn halt(&self) -> bool {
        self.say(Signal::STOP)
    }

    async fn go_on(&self) -> bool {
        self.say(Signal::CONT)
    }
}

/// It goes on when this is dropped.
struct Still {
    process: Process,
    turn: Turn,
}

impl Drop for Still {
    fn drop(&mut self) {
        self.process.say(Signal::CONT);
    }
}

/// See [`Driver::disturb`](crate::Driver::disturb). Signals go to the process that was
/// started, by a handle: never to one that has got its number since.
pub(super) fn disturb(inner: &Inner, id: &LaunchId, how: Disturbance) -> Result<(), DriverError> {
    let what = || format!("cannot disturb {}", id.place);
    how.check().map_err(|why| failed(what(), why))?;
    let live = inner.find(id).ok_or_else(|| failed(what(), "it does not run at the moment"))?;
    let process = Process { identity: live.record.component.clone(), place: id.place.clone() };
    let refused = |error: std::io::Error| failed(what(), error.to_string());
    if how == Disturbance::Kill {
        return process.identity.signal(Signal::KILL).map_err(refused);
    }
    let turn = inner.disturbed.begin(id).ok_or_else(|| {
        failed(what(), "it stands still or is slowed already; wait until that is over")
    })?;
    let still = Still { process: process.clone(), turn };
    process.identity.signal(Signal::STOP).map_err(refused)?;
    let (mut over, clock) = (live.over, Arc::clone(&inner.clock));
    tokio::spawn(async move {
        tokio::select! {
            biased;
            _ = over.wait_for(|over| *over) => {}
            () = still.turn.stand(&still.process, how, &clock) => {}
        }
    });
    Ok(())
}
