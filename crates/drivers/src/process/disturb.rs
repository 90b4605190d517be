//! Harm that is done to a process on purpose.

use std::sync::Arc;

use rustix::process::Signal;

use super::identity::Identity;
use super::{Inner, failed};
use crate::disturbed::{Halts, Turn};
use crate::driver::{Disturbance, DriverError, LaunchId};

/// A process that is stopped now and then. It goes on when this is dropped.
struct Still {
    process: Identity,
    turn: Turn,
}

impl Halts for Identity {
    async fn halt(&self) -> bool {
        say(self, Signal::STOP)
    }

    async fn go_on(&self) -> bool {
        say(self, Signal::CONT)
    }
}

/// Sends a signal; where the process has ended there is nothing to be done.
fn say(process: &Identity, signal: Signal) -> bool {
    let said = process.signal(signal);
    said.inspect_err(|error| tracing::warn!(%error, "a signal cannot be sent")).is_ok()
}

impl Drop for Still {
    fn drop(&mut self) {
        say(&self.process, Signal::CONT);
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
    let turn = inner.disturbed.begin(id).ok_or_else(|| {
        failed(what(), "it stands still or is slowed already; wait until that is over")
    })?;
    let still = Still { process: process.clone(), turn };
    process.signal(Signal::STOP).map_err(refused)?;
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
