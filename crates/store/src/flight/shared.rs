//! Offers payloads as shared memory to clients of the same machine.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use sheaf_flight::{CallContext, Error, Right, Segment, SegmentSource};
use sheaf_proto::BatchId;
use sheaf_retry::Code;

use super::handler::NAMESPACE;
use crate::store::Store;

/// How long an offer stands.
const PICK_UP: Duration = Duration::from_secs(30);
/// Offers at one time; beyond them clients read over the wire.
const MAX_OFFERS: usize = 4_096;

/// The offers of a [`Store`], to be handed over by a
/// [`SegmentServer`](sheaf_flight::SegmentServer).
///
/// A client that may read a payload gets a lease for it with the answer of
/// GetFlightInfo. It brings the lease within 30 seconds to the socket, once;
/// only then does a payload that is in memory move to where it can be shared.
pub struct SharedMemory {
    store: Store,
    uri: String,
    /// By leases.
    offers: Mutex<HashMap<String, Offer>>,
}

/// What a lease is for.
struct Offer {
    id: BatchId,
    until: Duration,
    /// Who asked, and has to have the right still.
    context: CallContext,
}

impl std::fmt::Debug for SharedMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SharedMemory").field("uri", &self.uri).finish_non_exhaustive()
    }
}

impl SharedMemory {
    /// Offers payloads of `store` at `uri`, which is that of a
    /// [`SegmentServer`](sheaf_flight::SegmentServer).
    pub fn new(store: Store, uri: impl Into<String>) -> Self {
        SharedMemory { store, uri: uri.into(), offers: Mutex::default() }
    }

    fn offers(&self) -> MutexGuard<'_, HashMap<String, Offer>> {
        // Nothing that can panic runs between two changes that belong together.
        self.offers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The location of a payload; `None` where too many wait to be picked up.
    pub(super) fn offer(&self, context: &CallContext, id: &BatchId) -> Option<String> {
        let now = self.store.elapsed();
        let mut offers = self.offers();
        if offers.len() >= MAX_OFFERS {
            offers.retain(|_, offer| offer.until > now);
            if offers.len() >= MAX_OFFERS {
                return None;
            }
        }
        let lease = uuid::Uuid::new_v4().simple().to_string();
        let location = format!("{}?lease={lease}", self.uri);
        let (id, until) = (id.clone(), now + PICK_UP);
        offers.insert(lease, Offer { id, until, context: context.clone() });
        Some(location)
    }

    fn take(&self, lease: &str) -> Option<Offer> {
        let offer = self.offers().remove(lease)?;
        (offer.until > self.store.elapsed()).then_some(offer)
    }
}

#[async_trait]
impl SegmentSource for SharedMemory {
    async fn open(&self, lease: &str) -> Result<Segment, Error> {
        let Offer { id, context, .. } = self.take(lease).ok_or_else(|| {
            let text = "the lease is not known here: it was used, or is older than 30 seconds";
            Error::new(Code::NotFound, text)
        })?;
        context.require(NAMESPACE, Right::Read)?;
        let shared = self.store.share(&id).await?;
        let format = if shared.is_ipc_file() { IPC_FILE } else { MESSAGES };
        Ok(Segment { file: shared.file(), format, keep: Box::new(shared) })
    }
}

/// Every Arrow library reads it.
const IPC_FILE: &str = "arrow-ipc-file";
/// The same but for dictionaries that are replaced half-way, which only
/// readers of the messages one after the other see.
const MESSAGES: &str = "sheaf-messages";
