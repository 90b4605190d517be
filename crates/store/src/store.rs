//! The store itself.

mod batches;
mod close;
mod entry;
mod expire;
mod export;
mod hold;
mod index;
mod intake;
mod ledger;
mod list;
mod manage;
mod marks;
mod memory;
mod put;
mod read;
mod recode;
mod room;
mod select;
mod share;
mod spill;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sheaf_flight::ipc::Bounds;
use sheaf_flight::{Full, MemoryBudget, Message};
use sheaf_retry::{SharedClock, Timestamp};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::budget::{Account, Held};
use crate::disk::{Committer, Directory, Disk, Recovered, recover};
use crate::error::Error;
use crate::metrics::Metrics;
use crate::options::Options;
use crate::payload::{Durability, PayloadInfo};
use entry::{Entry, Place, Stored};
use index::{Index, LARGE_SCHEMA};
use ledger::{Ledger, Share};
use marks::Marks;

/// The part of the memory limit that reads which unfold messages may have
/// together: the largest message, a quarter of the limit, as often as it is there.
const UNFOLDING: [u64; 2] = [3, 4];

pub(crate) use entry::Noted;
pub use export::DataFile;
pub use hold::Hold;
pub use list::MAX_PAGE;
pub use manage::Stats;
pub use share::Shared;

/// Keeps streams of Arrow messages under names, as they came.
///
/// - A payload is all or nothing: a stream that breaks leaves nothing, and one
///   that was acknowledged is complete. It never changes; the same content
///   under the same name is the same payload.
/// - Nothing is decoded on the way in or out, but where a reader asks for
///   columns or rows; every type of the format passes bit by bit. Bodies are
///   compressed once where a put or [`Options::compression`] says so, and
///   given back as they were put to who asks for that.
/// - With [`Durability::Disk`] an acknowledged payload survives a crash of the
///   machine; with [`Durability::Memory`] it ends with the process.
/// - When memory is full the coldest payloads go to disk, and where that is not
///   possible either, puts are refused. Nothing is dropped to make room.
/// - A payload whose work is not over is kept, however old it is.
///
/// Cheap to clone; every call may be dropped at any await.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    options: Options,
    clock: SharedClock,
    disk: Arc<dyn Disk>,
    directory: Option<Directory>,
    account: Arc<Account>,
    /// What readers unfold that ask for some columns or rows.
    unfolding: Arc<Account>,
    /// For a reader that finds no memory to unfold anything into.
    alone: Arc<tokio::sync::Semaphore>,
    pressure: memory::Pressure,
    ledger: Arc<Ledger>,
    committer: Committer,
    index: Arc<Index>,
    marks: Marks,
    holds: hold::Holds,
    /// One at a time makes room.
    evicting: tokio::sync::Mutex<()>,
    /// Turns to compress and decompress.
    turns: Arc<tokio::sync::Semaphore>,
    disk_used: AtomicU64,
    quarantined: AtomicU64,
    metrics: Metrics,
    tasks: TaskTracker,
    closing: CancellationToken,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let root = self.inner.directory.as_ref().map(Directory::root);
        f.debug_struct("Store").field("data_dir", &root).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens a store, and finds again what its directory has. Must be called
    /// on a tokio runtime.
    ///
    /// Damaged files are moved to `batches/quarantine` with a warning.
    ///
    /// # Errors
    /// [`Error::DirectoryLocked`], [`Error::NotWritable`], [`Error::FormatNewer`],
    /// or [`Error::Io`] where the directory cannot be read.
    pub async fn open(options: Options) -> Result<Self, Error> {
        let (disk, path) = (Arc::clone(&options.disk), options.data_dir.clone());
        let opened = tokio::task::spawn_blocking(move || match path {
            None => Ok::<_, Error>((None, Marks::in_memory(), Vec::new(), 0)),
            Some(path) => {
                let directory = Directory::open(&path, disk.as_ref())?;
                let (mut found, broken) = recover(&directory, disk.as_ref())?;
                let marks = Marks::open(disk, &directory, &mut found)?;
                Ok((Some(directory), marks, found, broken))
            }
        });
        let (directory, marks, found, broken) = opened.await.map_err(|_| Error::TaskLost)??;
        let (committer, _ends_with_the_store) = Committer::start(Arc::clone(&options.disk));
        let metrics = Metrics::default();
        let inner = Arc::new(Inner {
            clock: Arc::clone(&options.clock),
            disk: Arc::clone(&options.disk),
            account: Account::new(Arc::clone(&options.budget), options.quota_bytes),
            unfolding: Account::new(
                Arc::clone(&options.budget),
                Some(options.budget.limit() / UNFOLDING[1] * UNFOLDING[0]),
            ),
            pressure: memory::Pressure::default(),
            directory,
            committer,
            index: Arc::new(Index::default()),
            marks,
            holds: hold::Holds::default(),
            evicting: tokio::sync::Mutex::new(()),
            turns: recode::turns(),
            alone: Arc::new(tokio::sync::Semaphore::new(1)),
            disk_used: AtomicU64::new(0),
            quarantined: AtomicU64::new(broken),
            ledger: Ledger::new(metrics.owner_bytes.clone()),
            metrics,
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
            options,
        });
        inner.metrics.corrupt.inc_by(broken);
        inner.adopt(found);
        expire::start(&inner);
        Ok(Store { inner })
    }

    /// The memory limit that it counts against.
    pub fn budget(&self) -> Arc<crate::Budget> {
        self.inner.account.budget()
    }

    /// The same for a Flight server: where there is no room in it, payloads are
    /// moved to disk.
    pub fn memory(&self) -> Arc<dyn MemoryBudget> {
        Arc::new(memory::StoreMemory::new(&self.inner))
    }

    /// What the store counts.
    pub fn metrics(&self) -> &Metrics {
        &self.inner.metrics
    }
}

/// Counts a schema that is large enough to matter: it stays in memory when
/// the messages do not.
fn hold_schema(held: &mut Held, schema: &bytes::Bytes) -> Result<(), Full> {
    if schema.len() <= LARGE_SCHEMA {
        return Ok(());
    }
    held.add(&Message::new(schema.clone(), bytes::Bytes::new()))
}

impl Store {
    /// Monotonic time of the store's clock.
    pub(crate) fn elapsed(&self) -> std::time::Duration {
        self.inner.clock.elapsed()
    }
}

impl Inner {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// What one message may unfold to: it has to fit into memory too.
    fn decode_bounds(&self) -> Bounds {
        let mut bounds = self.options.bounds.clone();
        let most = self.account.limit().min(self.unfolding.limit() / memory::COPIES);
        bounds.max_decoded_bytes = bounds.max_decoded_bytes.min(most);
        bounds
    }

    fn check_open(&self) -> Result<(), Error> {
        if self.closing.is_cancelled() { Err(Error::Closed) } else { Ok(()) }
    }

    /// What was found on disk. A start counts as a use: nothing expires because
    /// the server was down.
    fn adopt(&self, found: Vec<Recovered>) {
        let now = self.now();
        for Recovered { id, record, schema, path, length, pinned, mark } in found {
            let counted = ledger::counted_of(&record);
            let by = Some(record.put_by).filter(|name| !name.is_empty());
            let share = by.map(|name| Share::stored(&self.ledger, name.into(), counted));
            let info = PayloadInfo {
                id: id.clone(),
                rows: record.rows,
                bytes: record.bytes,
                stored_bytes: match record.stored_bytes {
                    0 => record.bytes,
                    stored => stored,
                },
                messages: (record.messages.len() as u64).saturating_sub(1),
                checksum: record.checksum,
                schema_fingerprint: record.schema_fingerprint,
                schema: self.index.state().share_schema(&schema),
                durability: Durability::Disk,
                created_at: Timestamp::from_micros(record.created_at),
                used_at: now,
                put_by: share.as_ref().map(|share| Arc::clone(share.name())),
            };
            let file = Some(Stored { path, length, durable: true });
            let mut schema_held = Held::new(&self.account);
            if let Err(full) = hold_schema(&mut schema_held, &info.schema) {
                // It was stored, so it is served; others will find less room.
                tracing::warn!(payload = %id, ?full, "no memory is left for a large schema");
            }
            let place = Place { file, ..Place::default() };
            let entry = Entry::new(info, place, false, (schema_held, share, counted));
            entry.pinned.store(pinned, Ordering::Relaxed);
            entry.set_mark(mark);
            self.disk_used.fetch_add(length, Ordering::Relaxed);
            self.insert(id, entry);
        }
    }

    /// Makes a payload known.
    fn insert(&self, id: sheaf_proto::BatchId, entry: Arc<Entry>) {
        let due = entry.used_at().plus(self.options.ttl);
        let cached = entry.place().memory.is_some();
        {
            let mut state = self.index.state();
            state.entries.insert(id.clone(), Arc::clone(&entry));
            state.schedule(&entry, due);
            if cached {
                state.queue_cold(entry.used_at(), id);
            }
        }
        self.index.due.notify_one();
        self.measure();
    }

    /// Brings the gauges up to date.
    fn measure(&self) {
        let gauge = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        let payloads = self.index.state().entries.len() as u64;
        self.metrics.payloads.set(gauge(payloads));
        self.metrics.memory_bytes.set(gauge(self.account.used()));
        self.metrics.disk_bytes.set(gauge(self.disk_used.load(Ordering::Relaxed)));
    }

    /// Counts a file that is about to be written.
    fn reserve_disk(&self, bytes: u64) -> Result<(), Error> {
        let used = self.disk_used.fetch_add(bytes, Ordering::Relaxed);
        match self.options.disk_limit_bytes {
            Some(limit) if used + bytes > limit => {
                self.disk_used.fetch_sub(bytes, Ordering::Relaxed);
                Err(Error::DiskQuota { needed: bytes, used, limit })
            }
            _ => Ok(()),
        }
    }

    fn release_disk(&self, bytes: u64) {
        self.disk_used.fetch_sub(bytes, Ordering::Relaxed);
    }
}
