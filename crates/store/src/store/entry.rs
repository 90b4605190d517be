//! One payload in the index.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use sheaf_retry::Timestamp;

use super::ledger::Share;
use crate::budget::Held;
use crate::disk::MappedFile;
use crate::kept::Kept;
use crate::payload::{Durability, PayloadInfo};
use crate::retention::{Asked, Place as RegistrationPlace};

/// Its messages in memory.
#[derive(Clone)]
pub(crate) struct Resident {
    pub(crate) messages: Arc<[Kept]>,
    pub(crate) held: Arc<Held>,
    /// Where the messages lie, where other processes may map that.
    pub(crate) segment: Option<Arc<MappedFile>>,
}

/// Its file.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) path: PathBuf,
    pub(crate) length: u64,
    /// Whether it outlives the process; otherwise it only made room in memory.
    pub(crate) durable: bool,
}

/// Where a payload is: in memory, on disk, or both; never nowhere.
#[derive(Default)]
pub(crate) struct Place {
    pub(crate) memory: Option<Resident>,
    pub(crate) file: Option<Stored>,
    pub(crate) mapped: Weak<MappedFile>,
}

/// What is in memory of a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Noted {
    pub(crate) place: RegistrationPlace,
    /// Its work waits for others.
    pub(crate) waits: bool,
}

/// Time of use of an entry that is being removed: one number for both, so that
/// it is either used or removed, never the one after the other was promised.
const REMOVED: u64 = u64::MAX;

pub(crate) struct Entry {
    /// As it was put; durability and time of use are beside it.
    info: PayloadInfo,
    pub(crate) replaced_dictionaries: bool,
    used_at: AtomicU64,
    pub(crate) pinned: AtomicBool,
    /// Of its mark as registered.
    mark: Mutex<Option<Noted>>,
    /// When the retention task looks at it next: the entry of its queue that
    /// counts, older ones are void.
    pub(crate) due_at: AtomicU64,
    /// Whether the file's checksums were compared.
    pub(crate) verified: AtomicBool,
    place: Mutex<Place>,
    /// Its bytes count for whoever put it for as long as it is here; readers
    /// hold its messages and not this.
    _share: Option<Share>,
    /// Bytes that it counts against a quota.
    pub(crate) counted: u64,
    /// Memory of a large schema.
    _schema_held: Held,
}

impl Entry {
    pub(crate) fn new(
        info: PayloadInfo,
        place: Place,
        replaced: bool,
        (schema_held, share, counted): (Held, Option<Share>, u64),
    ) -> Arc<Self> {
        Arc::new(Entry {
            replaced_dictionaries: replaced,
            used_at: AtomicU64::new(info.used_at.as_micros()),
            pinned: AtomicBool::new(false),
            mark: Mutex::new(None),
            due_at: AtomicU64::new(0),
            verified: AtomicBool::new(false),
            place: Mutex::new(place),
            _share: share,
            counted,
            _schema_held: schema_held,
            info,
        })
    }

    pub(crate) fn place(&self) -> MutexGuard<'_, Place> {
        // Every change below is a single assignment.
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was put; `durability` and `used_at` may have changed since.
    pub(crate) fn as_put(&self) -> &PayloadInfo {
        &self.info
    }

    pub(crate) fn info(&self) -> PayloadInfo {
        let durable = self.place().file.as_ref().is_some_and(|file| file.durable);
        let durability = if durable { Durability::Disk } else { Durability::Memory };
        PayloadInfo { durability, used_at: self.used_at(), ..self.info.clone() }
    }

    pub(crate) fn used_at(&self) -> Timestamp {
        Timestamp::from_micros(self.used_at.load(Ordering::Relaxed))
    }

    /// Counts as a use; `false` where it is being removed, and the use is void.
    pub(crate) fn touch(&self, now: Timestamp) -> bool {
        let used = now.as_micros().min(REMOVED - 1);
        self.used_at.fetch_max(used, Ordering::Relaxed) != REMOVED
    }

    /// From here on nobody uses it, unless somebody did after `unused_since`;
    /// answers when it was used last. The caller holds the claim on its name.
    pub(crate) fn condemn(&self, unused_since: Option<Timestamp>) -> Option<u64> {
        let limit = unused_since.map_or(u64::MAX, Timestamp::as_micros);
        let condemn = |used| (used <= limit).then_some(REMOVED);
        self.used_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, condemn).ok()
    }

    /// Whether it is being removed.
    pub(crate) fn is_condemned(&self) -> bool {
        self.used_at.load(Ordering::Relaxed) == REMOVED
    }

    /// It could not be removed.
    pub(crate) fn pardon(&self, used_at: u64) {
        self.used_at.store(used_at, Ordering::Relaxed);
    }

    /// What is noted of its registration, while work is to come.
    pub(crate) fn mark(&self) -> Option<Noted> {
        *self.mark.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As its owner is asked about it.
    pub(crate) fn asked(&self) -> Asked {
        Asked { id: self.info.id.clone(), place: self.mark().map(|mark| mark.place) }
    }

    /// What it was before.
    pub(crate) fn set_mark(&self, mark: Option<Noted>) -> Option<Noted> {
        let mut place = self.mark.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *place, mark)
    }

    pub(crate) fn is_pinned(&self) -> bool {
        self.pinned.load(Ordering::Relaxed)
    }
}
