//! The default coordinator: the engine, a thread and a file.
//!
//! All calls that come in while a commit runs share the next one, so that one
//! fsync makes many answers durable. What is in the file is one record per
//! batch; indexes live in memory, about 400 bytes a batch in all.
//!
//! Fails with [`Code::DirectoryLocked`] where another process has the file,
//! [`Code::FormatNewer`] where a newer version wrote it, and
//! [`Code::DiskFull`] or [`Code::Io`] where it cannot be written. A group of
//! calls that could not be stored has not happened, in memory neither; work
//! goes on by itself once the disk takes writes again. A record that cannot be
//! read becomes a failed batch with code `corrupt`; its bytes are kept.

mod config;
mod disk;
mod endpoint;
mod file_state;
mod inspect;
mod mailbox;
pub(crate) mod metrics;
mod parked;
mod read;
mod snapshot;
pub(crate) mod time;
mod upgrade;
pub(crate) mod watchers;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use prometheus_client::registry::Registry;
use sheaf_retry::{Code, SharedClock, Timestamp};
use tokio::sync::oneshot;
use tokio_stream::wrappers::ReceiverStream;

pub use config::{Config, Durability};
pub use endpoint::FileEndpoint;
pub use file_state::{Inspection, State as FileState};
pub use inspect::{Inspected, StoredBatch, inspect};
pub use snapshot::Snapshot;

use crate::contract::{Coordinator, Error};
use crate::engine::Engine;
use crate::limits::DEFAULT_PAGE;
use crate::model::BatchSpec;
use crate::request::{
    Answer, Claim, ClaimRequest, Control, ControlReply, Event, Extended, Extension, ListFilter,
    Page, Query, Registered, SettleReply, SettleRequest, WatchFilter,
};
use disk::Disk;
#[doc(hidden)]
pub use disk::Opener;
use mailbox::{Call, Mailbox, Reply};
use metrics::Metrics;
use time::Time;
use writer::Writer;

/// See the [module](self).
///
/// Dropping it finishes the calls that wait and joins the thread, as
/// [`Embedded::close`] does, but nobody learns of an error.
///
/// ```
/// use sheaf_coordinator::embedded::{Config, Embedded};
/// use sheaf_coordinator::{BatchSpec, Coordinator, State};
/// use sheaf_retry::SystemClock;
///
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// let directory = tempfile::tempdir()?;
/// let config = Config::disk(directory.path().join("coordinator.redb"));
/// let coordinator = Embedded::open(config, SystemClock::shared())?;
/// let registered = coordinator.register(vec![BatchSpec::new("orders:1".parse()?)]).await?;
/// assert_eq!(registered[0].state, State::Pending);
/// coordinator.close().await?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Embedded {
    mailbox: Arc<Mailbox>,
    metrics: Metrics,
    thread: Mutex<Option<JoinHandle<Result<(), Error>>>>,
}

impl std::fmt::Debug for Embedded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Embedded").finish_non_exhaustive()
    }
}

impl Embedded {
    /// Opens the file, or makes it, and starts the thread. Reads the whole
    /// state: about 3 s for a million batches. Leases that stood get their
    /// full duration anew, because nobody could extend them meanwhile.
    ///
    /// # Errors
    /// As the [module](self) says; `Invalid` for durability without a path.
    pub fn open(config: Config, clock: SharedClock) -> Result<Self, Error> {
        let Some(path) = config.path.clone() else {
            return Self::open_without_file(config, clock);
        };
        check_writable(&path)?;
        let name = path.display().to_string();
        let opener = disk::file(path.clone(), config.cache_bytes);
        let opened = Self::open_with(config, clock, name, opener)?;
        sync_directory(&path)?;
        Ok(opened)
    }

    fn open_without_file(config: Config, clock: SharedClock) -> Result<Self, Error> {
        if config.durability == Durability::Disk {
            let problem = "is missing; only durability memory does without".to_owned();
            return Err(Error::Invalid { field: "path", problem });
        }
        // Without a file nothing tells how often it was opened: the time does.
        let seconds = clock.now().as_millis() / 1_000;
        let epoch = seconds % crate::engine::MAX_EPOCH + 1;
        let mut engine = Engine::new(config.engine.clone(), epoch);
        engine.begin_run(disk::new_run(), true);
        let time = Time::starting(Arc::clone(&clock), Timestamp::EPOCH);
        Self::start(&config, clock, engine, time, |_| {})
    }

    /// As [`Embedded::open`], on any database: for tests that inject faults.
    #[doc(hidden)]
    pub fn open_with(
        config: Config,
        clock: SharedClock,
        name: String,
        opener: Opener,
    ) -> Result<Self, Error> {
        let (settings, durability) = (config.engine.clone(), config.durability);
        let make = |epoch| Engine::new(settings, epoch);
        let (disk, engine) = Disk::open(opener, name, make, clock.now())?;
        let time = Time::starting(Arc::clone(&clock), engine.now());
        Self::start(&config, clock, engine, time, |writer| match durability {
            Durability::Disk => writer.disk = Some(disk),
            Durability::Memory => writer.at_close = Some(disk),
        })
    }

    fn start(
        config: &Config,
        clock: SharedClock,
        engine: Engine,
        time: Time,
        finish: impl FnOnce(&mut Writer),
    ) -> Result<Self, Error> {
        let mailbox = Arc::new(Mailbox::new(config.max_calls));
        let metrics = Metrics::new();
        let mut writer =
            Writer::new(engine, time, clock, Arc::clone(&mailbox), metrics.clone(), config);
        finish(&mut writer);
        let guard = Abandon(Arc::clone(&mailbox));
        let thread = std::thread::Builder::new().name("coordinator".to_owned()).spawn(move || {
            let _guard = guard;
            writer.run()
        });
        let thread = thread.map_err(|error| Error::Backend {
            operation: "start the coordinator's thread".to_owned(),
            code: Code::Io,
            source: Some(Box::new(error)),
        })?;
        Ok(Embedded { mailbox, metrics, thread: Mutex::new(Some(thread)) })
    }

    /// Adds the metrics `sheaf_coordinator_*` to a registry.
    pub fn register_metrics(&self, registry: &mut Registry) {
        self.metrics.register(registry);
    }

    /// Looks at the clock now, for a clock that is not the machine's: returns
    /// when a part of what is due has happened and is durable.
    ///
    /// # Errors
    /// As any call.
    pub async fn wake(&self) -> Result<(), Error> {
        self.ask(Call::Wake).await
    }

    /// Takes no more calls, finishes those that wait, answers waiting claims
    /// with nothing, writes the snapshot if it is kept in memory, and closes
    /// the file. The second call does nothing.
    ///
    /// # Errors
    /// Of writing the snapshot.
    pub async fn close(&self) -> Result<(), Error> {
        self.mailbox.close();
        let Some(thread) = self.take_thread() else { return Ok(()) };
        let (sender, done) = oneshot::channel();
        let join = move || drop(sender.send(join(thread)));
        let spawned = std::thread::Builder::new().name("coordinator-close".to_owned()).spawn(join);
        spawned.map_err(|error| Error::Backend {
            operation: "wait for the coordinator's thread".to_owned(),
            code: Code::Io,
            source: Some(Box::new(error)),
        })?;
        done.await.unwrap_or_else(|_| Err(crashed()))
    }

    /// Writes a copy of the whole state at one point between two commits to a
    /// new file at `path`, with either durability; work goes on meanwhile.
    ///
    /// The file is whole or not there: it is written under `path` with
    /// `.partial` appended, synced, and then renamed. It is a database as
    /// [`Embedded::open`] takes it, with the batches, leases, queues and
    /// counters of that point. While the copy is made, batches that change are
    /// kept in memory in their old form until they are written. Dropping the
    /// call gives the copy up.
    ///
    /// Opened later, the copy hands out fencing tokens that are greater than
    /// every one that the original gave out before, and than those that it
    /// gives out afterwards as long as it is opened fewer than 1,024 times
    /// more. Of two openings of one copy the later has the greater tokens if
    /// they are in different hours; within one hour the clock must not go back
    /// between them. So do not run two at a time.
    ///
    /// # Errors
    /// `already_exists` where there is a file, `overloaded` while another copy
    /// is made, `unavailable` where a failed commit came between, `disk_full`
    /// and `io` where it cannot be written, and as any call.
    pub async fn snapshot_to(&self, path: impl Into<PathBuf>) -> Result<Snapshot, Error> {
        snapshot::make(Arc::clone(&self.mailbox), path.into()).await
    }

    fn take_thread(&self) -> Option<JoinHandle<Result<(), Error>>> {
        self.thread.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    async fn ask<T>(&self, call: impl FnOnce(Reply<T>) -> Call) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        self.mailbox.put(call(reply))?;
        answer.await.unwrap_or_else(|_| Err(crashed()))
    }

    /// A list in parts, so that other calls get their turn between them.
    async fn list_in_parts(&self, mut filter: ListFilter) -> Result<Answer, Error> {
        let mut left = if filter.limit == 0 { DEFAULT_PAGE } else { filter.limit };
        let mut page = Page::default();
        loop {
            filter.limit = left;
            let query = Query::List(filter.clone());
            let Answer::Batches(part) = self.ask(|reply| Call::Query(query, reply)).await? else {
                return Err(crashed());
            };
            left = left.saturating_sub(u32::try_from(part.batches.len()).unwrap_or(u32::MAX));
            page.batches.extend(part.batches);
            page.next_cursor.clone_from(&part.next_cursor);
            if left == 0 || part.next_cursor.is_empty() {
                return Ok(Answer::Batches(page));
            }
            filter.cursor = part.next_cursor;
        }
    }
}

fn crashed() -> Error {
    Error::Unavailable {
        problem: "stopped unexpectedly; its log says why".to_owned(),
        code: Code::Unavailable,
    }
}

fn join(thread: JoinHandle<Result<(), Error>>) -> Result<(), Error> {
    thread.join().unwrap_or_else(|_| Err(crashed()))
}

/// Names the directory rather than the file where that is what is wrong.
fn check_writable(path: &Path) -> Result<(), Error> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    match directory.map(std::fs::metadata) {
        Some(Err(error)) => Err(Error::Backend {
            operation: format!("open {}: its directory", path.display()),
            code: Code::Io,
            source: Some(Box::new(error)),
        }),
        _ => Ok(()),
    }
}

/// A new file is not durable before its name is.
fn sync_directory(path: &Path) -> Result<(), Error> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = parent.unwrap_or(Path::new("."));
    let synced = std::fs::File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(|error| Error::Backend {
        operation: format!("sync the directory {}", directory.display()),
        code: Code::Io,
        source: Some(Box::new(error)),
    })
}

/// Nobody waits for a thread that is gone, however it ended.
struct Abandon(Arc<Mailbox>);

impl Drop for Abandon {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.mailbox.close();
        if let Some(thread) = self.take_thread()
            && let Err(error) = join(thread)
        {
            tracing::error!(%error, "the coordinator did not close in order");
        }
    }
}

#[async_trait]
impl Coordinator for Embedded {
    async fn register(&self, specs: Vec<BatchSpec>) -> Result<Vec<Registered>, Error> {
        self.ask(|reply| Call::Register(specs, reply)).await
    }

    async fn claim(&self, request: ClaimRequest) -> Result<Claim, Error> {
        self.ask(|reply| Call::Claim(request, reply)).await
    }

    async fn settle(&self, request: SettleRequest) -> Result<SettleReply, Error> {
        self.ask(|reply| Call::Settle(request, reply)).await
    }

    async fn extend(&self, leases: Vec<Extension>) -> Result<Vec<Extended>, Error> {
        self.ask(|reply| Call::Extend(leases, reply)).await
    }

    async fn query(&self, query: Query) -> Result<Answer, Error> {
        match query {
            Query::List(filter) => self.list_in_parts(filter).await,
            query => self.ask(|reply| Call::Query(query, reply)).await,
        }
    }

    async fn control(&self, control: Control) -> Result<ControlReply, Error> {
        self.ask(|reply| Call::Control(control, reply)).await
    }

    async fn watch(&self, filter: WatchFilter) -> Result<BoxStream<'static, Event>, Error> {
        let events = self.ask(|reply| Call::Watch(filter, reply)).await?;
        Ok(ReceiverStream::new(events).boxed())
    }
}
