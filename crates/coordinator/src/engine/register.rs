//! Registration.

use std::collections::HashMap;

use sheaf_proto::BatchId;
use sheaf_retry::{Code, Timestamp};

use super::Engine;
use super::record::Record;
use crate::contract::Error;
use crate::limits::{self, MAX_ITEMS, at_most};
use crate::model::{BatchSpec, State};
use crate::request::Registered;

/// Where the value of a field is cut in an error, bytes.
const SHOWN_BYTES: usize = 300;

/// The first field in which two specifications are different batches, with
/// the value of both.
///
/// Compared is what names content and place: queue, tenant, partition key,
/// parents, rows, bytes, checksum and fingerprint. How to run it (priority,
/// retries, delay, expiry), where copies are, and traces may differ between
/// two calls for one batch: the first one stands.
fn difference(one: &BatchSpec, other: &BatchSpec) -> Option<(&'static str, String, String)> {
    fn differs<T: PartialEq + std::fmt::Debug>(one: &T, other: &T) -> Option<(String, String)> {
        (one != other).then(|| (shown(one), shown(other)))
    }
    let queue = |spec: &BatchSpec| limits::queue(&spec.queue).unwrap_or(&spec.queue).to_owned();
    let ids = |spec: &BatchSpec| spec.parents.iter().map(ToString::to_string).collect::<Vec<_>>();
    let parents = (one.parents != other.parents).then(|| (shown(&ids(one)), shown(&ids(other))));
    [
        ("queue", differs(&queue(one), &queue(other))),
        ("tenant", differs(&one.tenant, &other.tenant)),
        ("partition_key", differs(&one.partition_key, &other.partition_key)),
        ("parents", parents),
        ("rows", differs(&one.rows, &other.rows)),
        ("bytes", differs(&one.bytes, &other.bytes)),
        ("checksum", differs(&one.checksum, &other.checksum)),
        ("schema_fingerprint", differs(&one.schema_fingerprint, &other.schema_fingerprint)),
    ]
    .into_iter()
    .find_map(|(field, values)| values.map(|(one, other)| (field, one, other)))
}

/// A value for an error, cut where it is long.
fn shown(value: &impl std::fmt::Debug) -> String {
    let text = format!("{value:?}");
    let cut = limits::cut(&text, SHOWN_BYTES);
    if cut.len() < text.len() { format!("{cut}…") } else { text }
}

impl Engine {
    /// Registers batches, all or none; a batch that is there with the same
    /// content is answered with its state and `created: false`.
    ///
    /// # Errors
    /// `Invalid`, `Limit`, `Unimplemented`, `Conflict`, `Draining`, or
    /// `Unavailable` where too many batches are live. Nothing has then changed.
    pub fn register(
        &mut self,
        specs: &[BatchSpec],
        now: Timestamp,
    ) -> Result<Vec<Registered>, Error> {
        at_most("batches", specs.len(), MAX_ITEMS)?;
        specs.iter().try_for_each(limits::spec)?;
        self.admit(specs.iter(), true)?;
        let now = self.advance(now);
        specs.iter().map(|spec| self.enter(spec, now)).collect()
    }

    /// Whether all of these can be registered; changes nothing.
    pub(super) fn admit<'a>(
        &self,
        specs: impl Iterator<Item = &'a BatchSpec>,
        refuse_draining: bool,
    ) -> Result<(), Error> {
        let mut seen: HashMap<&BatchId, &BatchSpec> = HashMap::new();
        let mut queues: Vec<&str> = Vec::new();
        for spec in specs {
            let earlier = match self.find_id(&spec.id) {
                Some(slot) => {
                    let record = self.slab.get(slot);
                    Some(record.spec(&self.queues.get(record.queue).name))
                }
                None => seen.insert(&spec.id, spec).cloned(),
            };
            if let Some(earlier) = earlier {
                if let Some((field, registered, asked)) = difference(&earlier, spec) {
                    let id = spec.id.to_string();
                    return Err(Error::Conflict { id, field, registered, asked });
                }
                continue;
            }
            let name = limits::queue(&spec.queue)?;
            match self.queues.find(name) {
                Some(queue) if refuse_draining && self.queues.get(queue).draining => {
                    return Err(Error::Draining { queue: name.to_owned() });
                }
                None if !queues.contains(&name) => {
                    queues.push(name);
                    self.queues.room_for(queues.len())?;
                }
                _ => {}
            }
        }
        self.room_for(seen.len())
    }

    fn room_for(&self, more: usize) -> Result<(), Error> {
        let terminal = self.finished.len() + self.failed.len();
        let live = (self.slab.len() - terminal + more) as u64;
        // Slots are numbered with 32 bits, terminal batches included.
        if live <= self.config.max_live && self.slab.len() + more < u32::MAX as usize {
            return Ok(());
        }
        let limit = self.config.max_live;
        let problem = format!("holds {live} live batches, over its limit of {limit}");
        Err(Error::Unavailable { problem, code: Code::Overloaded })
    }

    /// Registers one batch that was admitted.
    pub(super) fn enter(&mut self, spec: &BatchSpec, now: Timestamp) -> Result<Registered, Error> {
        if let Some(slot) = self.find_id(&spec.id) {
            let state = self.slab.get(slot).state;
            return Ok(Registered { id: spec.id.clone(), state, created: false });
        }
        let queue = self.queues.ensure(limits::queue(&spec.queue)?)?;
        let mut record = Record::new(spec, queue, self.next_sequence, now);
        if let Some(after) = spec.expires_after {
            record.expires_at = now.plus(after).as_micros();
        }
        if !spec.delay.is_zero() {
            record.state = State::Scheduled;
            record.at = now.plus(spec.delay).as_micros();
        }
        let state = record.state;
        let slot = self.insert(record);
        self.note(slot, None, None);
        Ok(Registered { id: spec.id.clone(), state, created: true })
    }
}
