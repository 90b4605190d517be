//! Instances as processes of this machine.
//!
//! Each instance has a [keeper](keep), a small process that writes its log and says how it
//! ended. An instance is the first of a process group of its own. What ends an instance ends
//! all that it has started.
//!
//! # What holds
//! 1. When [`Driver::stop`] has answered, no process of the instance runs any more.
//! 2. Without [`ProcessOptions::outlive`], no process outlives the driver, however that ends.
//! 3. With it, instances go on without the driver, and another driver with the same folder
//!    finds them again: by number and time of their start, so that no other process is taken
//!    for one of them.
//! 4. Every launch ends with one [`Ended`], also where it ended while no driver was there.
//! 5. Secrets are in the environment of the instance and in its assignment file, which only
//!    its owner may read; nowhere else.

mod disturb;
mod files;
mod follow;
mod identity;
mod keeper;
mod limits;
mod logs;
mod program;
mod start;
mod watch;

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use rustix::process::Signal;
use sheaf_retry::SharedClock;
use tokio::sync::{mpsc, watch as told};

pub use keeper::{BecomeArgs, become_component, keep};
pub use logs::LogLimits;
pub use program::Programs;

use files::{Files, LaunchRecord};
pub(crate) use files::{create_private, read, write_private};

use crate::disturbed::Disturbed;
use crate::driver::{Disturbance, Driver, DriverError, Ended, Launch, LaunchId, LogLine};

/// Ends of instances that nobody has asked for yet; more wait.
const MAX_ENDED: usize = 1_024;
/// How long the end of an instance may take that was killed.
const KILL_TIME: Duration = Duration::from_secs(10);

/// How instances are run as processes.
#[derive(Clone, Debug)]
pub struct ProcessOptions {
    /// The folder with what is kept of every pipeline. Assignments and logs are in it.
    pub folder: PathBuf,
    /// The program that keeps instances: with the word `keep` it calls [`keep`], with `become`
    /// and what follows it calls [`become_component`].
    pub keeper: PathBuf,
    /// Where programs are looked for.
    pub programs: Programs,
    /// Whether instances go on when this process ends.
    pub outlive: bool,
    /// Whether `stdout` sinks print to the standard output of this process, and not to a log.
    pub prints: bool,
    /// How much is kept of each log.
    pub log: LogLimits,
}

/// Runs instances as processes. See the module.
pub struct ProcessDriver {
    inner: Arc<Inner>,
    ended: tokio::sync::Mutex<mpsc::Receiver<Ended>>,
}

struct Inner {
    options: ProcessOptions,
    clock: SharedClock,
    live: Mutex<HashMap<LaunchId, Live>>,
    disturbed: Disturbed,
    ended: mpsc::Sender<Ended>,
}

/// A launch that has not ended.
#[derive(Clone)]
struct Live {
    record: LaunchRecord,
    /// Whether it is over.
    over: told::Receiver<bool>,
}

impl ProcessDriver {
    /// A driver that runs nothing yet.
    pub fn new(options: ProcessOptions, clock: SharedClock) -> Self {
        let (sender, receiver) = mpsc::channel(MAX_ENDED);
        let (live, disturbed) = (Mutex::default(), Disturbed::default());
        let inner = Arc::new(Inner { options, clock, live, disturbed, ended: sender });
        ProcessDriver { inner, ended: tokio::sync::Mutex::new(receiver) }
    }
}

impl Inner {
    fn files(&self, place: &str) -> Result<Files, DriverError> {
        Files::of(&self.options.folder, place)
            .ok_or_else(|| failed(format!("cannot run {place}"), "it is no PIPELINE:INSTANCE"))
    }

    fn find(&self, id: &LaunchId) -> Option<Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    fn put(&self, id: LaunchId, live: Live) {
        self.live.lock().unwrap_or_else(PoisonError::into_inner).insert(id, live);
    }

    fn take(&self, id: &LaunchId) -> bool {
        self.live.lock().unwrap_or_else(PoisonError::into_inner).remove(id).is_some()
    }

    /// Whether it was over within the time.
    async fn is_over_within(&self, live: &mut Live, time: Duration) -> bool {
        tokio::select! {
            biased;
            // Whoever would say so has gone: then it is over too.
            _ = live.over.wait_for(|over| *over) => true,
            () = self.clock.sleep(time) => false,
        }
    }
}

#[async_trait]
impl Driver for ProcessDriver {
    fn name(&self) -> &'static str {
        "process"
    }

    fn starts_stores(&self) -> bool {
        true
    }

    async fn start(&self, launch: Launch) -> Result<(), DriverError> {
        start::start(&self.inner, launch).await
    }

    async fn stop(&self, id: &LaunchId, drain: Duration) -> Result<(), DriverError> {
        let Some(mut live) = self.inner.find(id) else { return Ok(()) };
        let (keeper, component) = (live.record.keeper.clone(), live.record.component.clone());
        let what = || format!("cannot stop {}", id.place);
        let refused = |error: std::io::Error| failed(what(), error.to_string());
        if !drain.is_zero() {
            keeper.signal(Signal::TERM).map_err(refused)?;
            if self.inner.is_over_within(&mut live, drain).await {
                return Ok(());
            }
        }
        keeper.signal(Signal::HUP).map_err(refused)?;
        if self.inner.is_over_within(&mut live, KILL_TIME).await {
            return Ok(());
        }
        // The keeper does not do what it is there for.
        component.kill_group();
        keeper.signal(Signal::KILL).map_err(refused)?;
        match self.inner.is_over_within(&mut live, KILL_TIME).await {
            true => Ok(()),
            false => {
                let why = format!(
                    "process {} does not end even when it is killed; look at it with ps",
                    component.pid
                );
                Err(failed(what(), why))
            }
        }
    }

    async fn ended(&self) -> Ended {
        let mut receiver = self.ended.lock().await;
        match receiver.recv().await {
            Some(ended) => ended,
            // The sender is in this driver.
            None => std::future::pending().await,
        }
    }

    async fn running(&self, pipeline: &str) -> Result<Vec<LaunchId>, DriverError> {
        watch::adopt(&self.inner, pipeline).await
    }

    async fn disturb(&self, id: &LaunchId, how: Disturbance) -> Result<(), DriverError> {
        disturb::disturb(&self.inner, id, how)
    }

    async fn logs(
        &self,
        places: &[String],
        tail: usize,
        follow: bool,
    ) -> Result<BoxStream<'static, LogLine>, DriverError> {
        follow::logs(&self.inner, places, tail, follow).await
    }
}

impl fmt::Debug for ProcessDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessDriver")
            .field("options", &self.inner.options)
            .finish_non_exhaustive()
    }
}

fn failed(what: String, why: impl Into<String>) -> DriverError {
    DriverError { what, why: why.into() }
}
