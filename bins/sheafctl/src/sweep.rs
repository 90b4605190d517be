//! What a run on Docker or Kubernetes leaves when its process is killed: a second process
//! waits for that end, and removes it.
//!
//! It is told over a pipe which pipelines there are, and which of them are cleared up. When the
//! pipe ends it removes what is left of the others. A run of the same pipeline that has begun
//! meanwhile removes that itself, and has the folder of the pipeline: then nothing is touched.

mod line;
mod swept;

use std::collections::BTreeSet;
use std::io::{self, BufRead as _};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sheaf_drivers::runner::Hold;
use sheaf_retry::SystemClock;

use crate::args::{DriverName, PlatformArgs};
use crate::plane::connect::connect;

pub(crate) use swept::Swept;

/// The word that this program is started with for it.
pub(crate) const WORD: &str = "sweep";

/// Where there is something to remove: the first line that it is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Orders {
    pub(crate) driver: DriverName,
    pub(crate) platform: PlatformArgs,
    /// The folder of all pipelines.
    pub(crate) folder: PathBuf,
}

/// Each further line.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Told {
    /// There is something of this pipeline.
    Begun(String),
    /// There is nothing of it any more.
    Removed(String),
}

/// What the second process does: waits for the end of its standard input, and clears up.
pub(crate) fn sweep() -> io::Result<()> {
    let mut lines = io::stdin().lock().lines();
    let Some(first) = lines.next() else { return Ok(()) };
    let orders: Orders = serde_json::from_str(&first?)?;
    let mut left = BTreeSet::new();
    for line in lines {
        // A line that was broken off was not acted upon.
        match line.ok().and_then(|line| serde_json::from_str(&line).ok()) {
            Some(Told::Begun(pipeline)) => drop(left.insert(pipeline)),
            Some(Told::Removed(pipeline)) => drop(left.remove(&pipeline)),
            None => break,
        }
    }
    if left.is_empty() {
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(remove(&orders, &left))
}

async fn remove(orders: &Orders, left: &BTreeSet<String>) -> io::Result<()> {
    let driver =
        connect(orders.driver, &orders.platform, &orders.folder, false, &SystemClock::shared())
            .await;
    let driver = driver.map_err(|failure| io::Error::other(failure.to_text()))?;
    let mut result = Ok(());
    for pipeline in left {
        let Some(_hold) = Hold::take(&orders.folder, pipeline)? else { continue };
        if let Err(error) = driver.remove(pipeline, false).await {
            result = Err(io::Error::other(error.to_string()));
        }
    }
    result
}
