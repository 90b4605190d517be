//! Until a process ends, whether it is a child of this one or not.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::process::Child;
use tokio::sync::watch;

use super::files::{Files, LaunchRecord};
use super::identity::Identity;
use super::{Inner, Live, failed};
use crate::driver::{DriverError, Ended, LaunchId};

/// How often it is looked whether a process of somebody else has ended.
const LOOK: Duration = Duration::from_millis(200);
/// Rounds of killing what is left. Who has ended and is never waited for is left for good.
const ROUNDS: u32 = 50;
const ROUND: Duration = Duration::from_millis(20);

/// The keeper of an instance.
pub(super) enum Keeper {
    /// A child of this process. The socket is open as long as this process is there.
    Child(Box<Child>, UnixStream),
    /// Started by another one.
    Other,
}

/// Watches a launch that runs.
pub(super) fn begin(inner: &Arc<Inner>, record: LaunchRecord, keeper: Keeper) {
    let (over, seen) = watch::channel(false);
    let id = record.id();
    inner.put(id.clone(), Live { record: record.clone(), over: seen });
    let inner = Arc::clone(inner);
    tokio::spawn(async move {
        match keeper {
            Keeper::Child(mut child, socket) => {
                // An error here means that it was waited for already.
                drop(child.wait().await);
                drop(socket);
            }
            Keeper::Other => wait_for(&inner, &record.keeper).await,
        }
        let ended = ending(&inner, &record).await;
        inner.take(&id);
        over.send_replace(true);
        // Nobody asks any more where the driver has gone.
        drop(inner.ended.send(ended).await);
    });
}

/// The kernel tells the parent of a process only.
async fn wait_for(inner: &Inner, process: &Identity) {
    while process.lives() {
        inner.clock.sleep(LOOK).await;
    }
}

/// How a launch ended whose keeper has ended; after it, nothing of it runs.
async fn ending(inner: &Inner, record: &LaunchRecord) -> Ended {
    // Where the keeper was killed, all that it would have ended is ended here.
    for _ in 0..ROUNDS {
        if !record.component.kill_group() {
            break;
        }
        inner.clock.sleep(ROUND).await;
    }
    let id = record.id();
    let found = match inner.files(&id.place) {
        Ok(files) => files.read_end(id.attempt).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    match found {
        Ok(Some(end)) => Ended { id, success: end.success, why: end.why },
        Ok(None) => {
            let why = "its keeper was killed, and it with that".to_owned();
            Ended { id, success: false, why }
        }
        Err(why) => Ended { id, success: false, why: format!("its end is not known: {why}") },
    }
}

/// Takes over what an earlier driver has started for a pipeline: what runs is watched, and
/// what has ended meanwhile is said to have.
pub(super) async fn adopt(
    inner: &Arc<Inner>,
    pipeline: &str,
) -> Result<Vec<LaunchId>, DriverError> {
    let folder = Files::all(&inner.options.folder, pipeline);
    let what = || format!("cannot look what runs of {pipeline}");
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(what(), format!("{}: {error}", folder.display()))),
    };
    let mut running = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| failed(what(), error.to_string()))?;
        let record = match Files::at(entry.path()).read_launch() {
            Ok(Some(record)) => record,
            Ok(None) => continue,
            Err(error) => {
                tracing::warn!(%error, "the record of a launch cannot be read: it is left out");
                continue;
            }
        };
        let id = record.id();
        if inner.find(&id).is_some() {
            running.push(id);
        } else if record.lives() {
            begin(inner, record, Keeper::Other);
            running.push(id);
        } else {
            let ended = ending(inner, &record).await;
            // Said once: whoever asks next time finds nothing.
            if let Err(error) = Files::at(entry.path()).clear() {
                tracing::warn!(%error, "the record of a launch cannot be removed");
            }
            drop(inner.ended.send(ended).await);
        }
    }
    running.sort();
    Ok(running)
}
