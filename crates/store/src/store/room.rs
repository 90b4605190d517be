//! Makes room in memory: the coldest payloads go first.

use std::sync::Arc;

use sheaf_flight::Full;

use super::Inner;
use super::entry::Entry;
use super::index::Claim;
use super::spill;
use crate::budget::Held;
use crate::error::Error;
use crate::turn::by_itself;

pub(crate) fn refusal(full: Full) -> Error {
    Error::MemoryFull { needed: full.needed, used: full.used, limit: full.limit }
}

/// Has so many bytes more counted, after room was made for them.
pub(crate) async fn hold(inner: &Arc<Inner>, held: &mut Held, bytes: u64) -> Result<(), Error> {
    while let Err(full) = held.add_bytes(bytes) {
        if !make(inner, full).await? {
            return Err(refusal(full));
        }
    }
    Ok(())
}

/// Frees at least what `full` lacks, if it can; whether it freed anything.
pub(crate) async fn make(inner: &Arc<Inner>, full: Full) -> Result<bool, Error> {
    let inner = Arc::clone(inner);
    by_itself(async move { make_in_turn(&inner, full).await }).await?
}

async fn make_in_turn(inner: &Arc<Inner>, full: Full) -> Result<bool, Error> {
    let _one_at_a_time = inner.evicting.lock().await;
    let lacking = (full.used + full.needed).saturating_sub(full.limit);
    let mut freed = 0;
    // Each queued payload once, and once more for those that had been used.
    let mut looks = inner.index.state().cold.len() * 2;
    while freed < lacking && looks > 0 {
        looks -= 1;
        let Some((entry, claim)) = coldest(inner) else { continue };
        freed += evict(inner, &entry).await?;
        drop(claim);
    }
    inner.measure();
    Ok(freed > 0)
}

/// The next payload of the queue, unless it was used since it was queued, is
/// being changed, or is not in memory any more.
fn coldest(inner: &Inner) -> Option<(Arc<Entry>, Claim)> {
    let mut state = inner.index.state();
    let (queued_at, id) = state.cold.pop_front()?;
    let entry = state.entries.get(&id).cloned()?;
    entry.place().memory.as_ref()?;
    let used_at = entry.used_at();
    // Back in the queue first: should writing it fail it is not forgotten, and
    // when it succeeds this place is void.
    state.queue_cold(used_at, id.clone());
    if used_at > queued_at {
        return None;
    }
    drop(state);
    let claim = inner.index.try_claim(&id)?;
    // It may have been deleted before the claim.
    let current = inner.index.get(&id)?;
    Arc::ptr_eq(&current, &entry).then_some((entry, claim))
}

/// Gives up the memory of one payload; the bytes freed.
async fn evict(inner: &Arc<Inner>, entry: &Arc<Entry>) -> Result<u64, Error> {
    let on_disk = entry.place().file.is_some();
    if !on_disk {
        if inner.directory.is_none() {
            return Ok(0);
        }
        let file = spill::copy_to_file(inner, entry, false).await?;
        entry.place().file = Some(file);
    }
    let given_up = entry.place().memory.take();
    let freed = given_up.map_or(0, |memory| memory.held.charged());
    if on_disk {
        inner.metrics.dropped_cache_bytes.inc_by(freed);
    } else {
        inner.metrics.spilled_bytes.inc_by(freed);
    }
    Ok(freed)
}
