//! Looking at payloads, keeping them, deleting them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use sheaf_proto::BatchId;
use sheaf_retry::Timestamp;

use super::entry::Entry;
use super::{Inner, Store};
use crate::disk::{Names, remove_quietly};
use crate::error::{Error, io_error};
use crate::payload::PayloadInfo;
use crate::retention::Standing;

/// How often the owner of a payload that is to be deleted is asked, should
/// others use it all the time.
const ASK_AGAIN: usize = 16;

/// How full a store is.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Stats {
    /// Payloads there are.
    pub payloads: u64,
    /// Of them those that never expire.
    pub pinned: u64,
    /// Of them those that a coordinator has, and whose work is not over.
    pub registered: u64,
    /// Rows of all payloads.
    pub rows: u64,
    /// Bytes of all payloads, wherever they are.
    pub bytes: u64,
    /// Memory in use for them.
    pub memory_bytes: u64,
    /// Memory there is for them.
    pub memory_limit_bytes: u64,
    /// Bytes of their files.
    pub disk_bytes: u64,
    /// Payloads that memory had no room for, acknowledged in memory only.
    pub spilled: u64,
    /// Damaged files set aside since the start.
    pub quarantined: u64,
    /// Those who keep every payload for now, such as backups.
    pub holds: u64,
}

impl Store {
    /// What is known of a payload; it does not count as a use.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn info(&self, id: &BatchId) -> Result<PayloadInfo, Error> {
        self.entry(id).map(|entry| entry.info())
    }

    /// Counts as a use: when the payload expires at the earliest if nobody
    /// registers it.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn renew(&self, id: &BatchId) -> Result<Timestamp, Error> {
        let entry = self.entry(id)?;
        if !entry.touch(self.inner.now()) {
            return Err(Error::NotFound { id: id.clone() });
        }
        Ok(self.expires_at(&entry.info()))
    }

    /// When a payload that nobody registers expires at the earliest.
    pub fn expires_at(&self, info: &PayloadInfo) -> Timestamp {
        info.used_at.plus(self.inner.options.ttl)
    }

    /// Deletes a payload, durably. Readers that have it open read on.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Pinned`]; [`Error::Busy`] while others use it
    /// all the time; [`Error::Needed`] while work on it is not over;
    /// [`Error::Held`] while a backup is made; [`Error::Lost`] where its
    /// coordinator is not there to say; [`Error::Stream`] where the owner cannot be asked;
    /// [`Error::Io`] where the file stays, and with it the payload, or where it
    /// is removed but a crash may bring it back.
    pub async fn delete(&self, id: &BatchId) -> Result<(), Error> {
        self.inner.check_open()?;
        let (inner, id) = (Arc::clone(&self.inner), id.clone());
        let delete = async move {
            let (_claim, entry) = inner.index.claim(&id).await;
            let entry = entry.ok_or_else(|| Error::NotFound { id: id.clone() })?;
            if entry.is_pinned() {
                return Err(Error::Pinned { id });
            }
            inner.remove_unneeded(&entry).await?;
            inner.metrics.deleted.inc();
            Ok(())
        };
        self.inner.tasks.spawn(delete).await.map_err(|_| Error::TaskLost)?
    }

    /// Keeps a payload whatever its age, also over restarts where it is durable.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Io`] where the mark cannot be written.
    pub async fn pin(&self, id: &BatchId) -> Result<(), Error> {
        self.set_pinned(id, true).await
    }

    /// Takes a pin away; the time to live begins anew.
    ///
    /// # Errors
    /// As [`Store::pin`]. Where the payload is not pinned, nothing happens.
    pub async fn unpin(&self, id: &BatchId) -> Result<(), Error> {
        self.set_pinned(id, false).await
    }

    async fn set_pinned(&self, id: &BatchId, pinned: bool) -> Result<(), Error> {
        self.inner.check_open()?;
        let inner = Arc::clone(&self.inner);
        let (_claim, entry) = inner.index.claim(id).await;
        let entry = entry.ok_or_else(|| Error::NotFound { id: id.clone() })?;
        inner.mark_pin(&entry, pinned).await?;
        entry.pinned.store(pinned, Ordering::Relaxed);
        entry.touch(inner.now());
        inner.index.schedule(&entry, entry.used_at().plus(inner.options.ttl));
        Ok(())
    }

    /// How full the store is: looks at every payload.
    pub fn stats(&self) -> Stats {
        let inner = &self.inner;
        let mut stats = Stats {
            memory_bytes: inner.account.used(),
            memory_limit_bytes: inner.account.limit(),
            disk_bytes: inner.disk_used.load(Ordering::Relaxed),
            quarantined: inner.quarantined.load(Ordering::Relaxed),
            holds: inner.holds(),
            ..Stats::default()
        };
        for entry in inner.index.state().entries.values() {
            let info = entry.as_put();
            stats.payloads += 1;
            stats.pinned += u64::from(entry.is_pinned());
            stats.registered += u64::from(entry.mark().is_some());
            stats.rows += info.rows;
            stats.bytes += info.bytes;
            let place = entry.place();
            let spilled = place.file.as_ref().is_some_and(|file| !file.durable);
            stats.spilled += u64::from(spilled && place.memory.is_none());
        }
        stats
    }

    pub(super) fn entry(&self, id: &BatchId) -> Result<Arc<Entry>, Error> {
        self.inner.check_open()?;
        let entry = self.inner.index.get(id).filter(|entry| !entry.is_condemned());
        entry.ok_or_else(|| Error::NotFound { id: id.clone() })
    }
}

impl Inner {
    /// Takes an entry out of the index, if it is there still.
    pub(crate) fn forget(&self, entry: &Arc<Entry>) -> bool {
        let id = &entry.as_put().id;
        {
            let mut state = self.index.state();
            match state.entries.get(id) {
                Some(current) if Arc::ptr_eq(current, entry) => {
                    state.entries.remove(id);
                }
                _ => return false,
            }
        }
        let file = entry.place().file.clone();
        if let Some(file) = file {
            self.release_disk(file.length);
        }
        self.measure();
        true
    }

    /// As [`Inner::remove`], once its owner said that it may go. Who looked it up
    /// meanwhile may have registered it: then the owner is asked again.
    async fn remove_unneeded(self: &Arc<Self>, entry: &Arc<Entry>) -> Result<(), Error> {
        let id = &entry.as_put().id;
        for _ in 0..ASK_AGAIN {
            let used_at = entry.used_at();
            let asked = [entry.asked()];
            let asking = self.options.owner.standings(&asked);
            let standings = self.closing.run_until_cancelled(asking).await;
            // A wrong number of answers is none.
            let standings = standings.ok_or(Error::Closed)??;
            let [standing] = standings[..] else { return Err(Error::Needed { id: id.clone() }) };
            match standing {
                Standing::Live => return Err(Error::Needed { id: id.clone() }),
                Standing::Lost => return Err(Error::Lost { id: id.clone() }),
                _ => {}
            }
            self.unmark_asked(asked.iter()).await;
            if self.remove(entry, Some(used_at)).await? {
                return Ok(());
            }
        }
        Err(Error::Busy { id: id.clone() })
    }

    /// Writes or removes the mark of a pinned payload that is durable.
    pub(crate) async fn mark_pin(&self, entry: &Entry, pinned: bool) -> Result<(), Error> {
        let durable = entry.place().file.as_ref().is_some_and(|file| file.durable);
        let Some(directory) = self.directory.as_ref().filter(|_| durable) else { return Ok(()) };
        let path = directory.pin(&entry.as_put().id);
        if !pinned {
            return self.committer.commit(Names::Remove(path)).await;
        }
        let disk = Arc::clone(&self.disk);
        let work = move || {
            std::fs::write(&path, b"").map_err(|error| io_error("create", &path, error))?;
            let parent = path.parent().unwrap_or(&path);
            disk.sync_dir(parent).map_err(|error| io_error("sync", parent, error))
        };
        self.committer.write(work).await
    }

    /// Removes a payload and its files; the caller holds the claim on its name.
    ///
    /// With `unused_since`, nothing happens where it was used after that:
    /// `false` is the answer then. Who comes to use it later finds nothing.
    /// Nothing happens either while payloads are held: [`Error::Held`].
    pub(crate) async fn remove(
        self: &Arc<Self>,
        entry: &Arc<Entry>,
        unused_since: Option<Timestamp>,
    ) -> Result<bool, Error> {
        // Registered since its owner was asked.
        if unused_since.is_some() && entry.mark().is_some() {
            return Ok(false);
        }
        let Some(used_at) = self.condemn(entry, unused_since)? else { return Ok(false) };
        let file = entry.place().file.clone();
        match (file, &self.directory) {
            (Some(file), Some(directory)) if file.durable => {
                let removed = self.committer.commit(Names::Remove(file.path.clone())).await;
                if let Err(error) = removed {
                    // Removed, but not durably: a payload without its file must
                    // not be found, or a put of the same would be acknowledged.
                    let stays = tokio::fs::try_exists(&file.path).await.unwrap_or(false);
                    if stays {
                        entry.pardon(used_at);
                    } else {
                        self.unmark(std::slice::from_ref(&entry.as_put().id)).await;
                        self.forget(entry);
                    }
                    return Err(error);
                }
                if entry.is_pinned() {
                    let pin = directory.pin(&entry.as_put().id);
                    if let Err(error) = self.committer.commit(Names::Remove(pin)).await {
                        tracing::warn!(payload = %entry.as_put().id, %error, "its pin stays");
                    }
                }
            }
            (Some(file), _) => remove_quietly(self.disk.as_ref(), &file.path),
            (None, _) => {}
        }
        // The next payload of this name must not have its mark.
        self.unmark(std::slice::from_ref(&entry.as_put().id)).await;
        self.forget(entry);
        Ok(true)
    }
}
