//! The stored forms of what is moved: those of the file and of the replicated state.

use prost::Message as _;
use sheaf_proto::storage::v1::{BatchRecord, QueueRecord};
use sheaf_retry::Timestamp;

use super::{Queue, Record, Waited};
use crate::contract::Error;
use crate::engine::{Damage, RECORD_VERSION, decode_record, seal_record};
use crate::limits;
use crate::model::{Batch, State};

impl Queue {
    /// As it is stored.
    pub fn to_stored(&self) -> QueueRecord {
        QueueRecord {
            version: RECORD_VERSION,
            queue: self.name.clone(),
            paused: self.paused,
            draining: self.draining,
            purged: self.purged,
            policy: Some((&self.policy).into()),
            full_at_ns: 0,
            turns: Vec::new(),
        }
    }

    /// Undoes [`Queue::to_stored`]; one that cannot be read starts anew, as it
    /// does at an opening.
    pub fn from_stored(name: &str, bytes: &[u8]) -> Self {
        let stored = QueueRecord::decode(bytes).unwrap_or_default();
        let policy = stored.policy.and_then(|policy| policy.try_into().ok()).unwrap_or_default();
        Queue {
            name: name.to_owned(),
            paused: stored.paused,
            draining: stored.draining,
            purged: stored.purged,
            policy,
        }
    }
}

impl Record {
    /// As it is stored.
    pub fn to_stored(&self) -> Vec<u8> {
        seal_record(&BatchRecord {
            version: RECORD_VERSION,
            sequence: self.sequence,
            batch: Some((&self.batch).into()),
            expires_at: self.expires_at.map_or(0, Timestamp::as_micros),
            crc32c: 0,
            waits_for: self.waits_for.iter().map(|waited| waited.sequence).collect(),
        })
    }

    /// A stored record, or a failed one in its place. Those that are waited for
    /// have their places only, and the name of this one.
    ///
    /// # Errors
    /// The version where it is a newer one.
    pub fn from_stored(sequence: u64, bytes: &[u8], at: Timestamp) -> Result<Self, u32> {
        let stored = match decode_record(sequence, bytes) {
            Ok(stored) => stored,
            Err(Damage::Newer(version)) => return Err(version),
            Err(Damage::Corrupt { id, why }) => {
                return Ok(Record::damaged(sequence, id, &why, at));
            }
        };
        let message = stored.batch.unwrap_or_default();
        let id = message.spec.as_ref().and_then(|spec| spec.id.parse().ok());
        let batch = match Batch::try_from(message).and_then(sound) {
            Ok(batch) => batch,
            Err(error) => return Ok(Record::damaged(sequence, id, &error.to_string(), at)),
        };
        let expires_at = (stored.expires_at > 0).then(|| Timestamp::from_micros(stored.expires_at));
        let unknown = batch.spec.id.clone();
        let waits_for = stored.waits_for.into_iter();
        let waits_for =
            waits_for.map(|sequence| Waited { id: unknown.clone(), sequence }).collect();
        Ok(Record { sequence, batch, expires_at, waits_for })
    }
}

/// What the engine would not load is no batch.
fn sound(mut batch: Batch) -> Result<Batch, Error> {
    batch.spec.queue = limits::queue(&batch.spec.queue)?.to_owned();
    if batch.lease.is_some() != (batch.state == State::Processing) {
        let problem = format!("{} with a lease, or processing without one", batch.state);
        return Err(Error::Invalid { field: "lease", problem });
    }
    Ok(batch)
}
