//! What ties a store to a coordinator.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use sheaf_coordinator::{
    Batch, BatchSpec, Coordinator, CoordinatorExt as _, History, Position, Registered, State, wire,
};
use sheaf_flight::Error;
use sheaf_proto::BatchId;
use sheaf_retry::{Code, Retryable as _, SharedClock, Timestamp};
use sheaf_store::{Asked, Mark, PayloadInfo, PayloadOwner, Place, Standing};

use crate::spec::ToSpec as _;

/// Most batches asked about at once.
const PAGE: usize = 1_000;

/// Makes a coordinator the owner of the payloads of a store.
///
/// Payloads are kept as long as there is work to be done on their batches, and
/// after that for the store's time to live; a put that asks for it is
/// registered with the coordinator in the same call.
///
/// ```
/// use std::sync::Arc;
///
/// use arrow_array::{Int64Array, RecordBatch};
/// use sheaf_coordinator::CoordinatorExt as _;
/// use sheaf_coordinator::embedded::{Config, Embedded};
/// use sheaf_flight::ipc::encode_batches;
/// use sheaf_retry::SystemClock;
/// use sheaf_store::{Options, PutOptions, Store};
/// use sheaf_worker::CoordinatorOwner;
///
/// # tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
/// let clock = SystemClock::shared();
/// let coordinator = Arc::new(Embedded::open(Config::memory(), clock.clone())?);
/// let owner = CoordinatorOwner::new(coordinator.clone(), clock.clone());
/// let store = Store::open(Options::new(clock).with_owner(Arc::new(owner))).await?;
///
/// let column = Arc::new(Int64Array::from(vec![1, 2, 3])) as _;
/// let rows = RecordBatch::try_from_iter([("n", column)])?;
/// let messages = encode_batches(rows.schema(), &[rows])?.into_iter().map(Ok);
/// let stream = Box::pin(futures::stream::iter(messages));
/// let registered = PutOptions { register: true, ..PutOptions::MEMORY };
/// let receipt = store.put(None, stream, registered).await?;
/// let batch = coordinator.get(&receipt.batch_id).await?.expect("the put registered it");
/// assert_eq!(batch.spec.rows, 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct CoordinatorOwner {
    coordinator: OnceLock<Arc<dyn Coordinator>>,
    clock: SharedClock,
    locations: Vec<String>,
}

impl std::fmt::Debug for CoordinatorOwner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CoordinatorOwner")
            .field("attached", &self.coordinator.get().is_some())
            .field("locations", &self.locations)
            .finish_non_exhaustive()
    }
}

impl CoordinatorOwner {
    /// Payloads belong to the batches of this coordinator.
    pub fn new(coordinator: Arc<dyn Coordinator>, clock: SharedClock) -> Self {
        CoordinatorOwner { coordinator: coordinator.into(), ..CoordinatorOwner::detached(clock) }
    }

    /// Without a coordinator yet, for a store that has to be opened first.
    /// Until [`CoordinatorOwner::attach`] nothing can be known: every payload
    /// is kept, and puts that want to be registered are refused as
    /// `unavailable`.
    pub fn detached(clock: SharedClock) -> Self {
        CoordinatorOwner { coordinator: OnceLock::new(), clock, locations: Vec::new() }
    }

    /// Registers payloads under these Flight addresses, where others reach
    /// them; none is the store beside the coordinator.
    #[must_use]
    pub fn with_locations(self, locations: Vec<String>) -> Self {
        CoordinatorOwner { locations, ..self }
    }

    /// Answers are known from now on.
    ///
    /// # Errors
    /// `failed_precondition` where there is a coordinator already; it stays.
    pub fn attach(&self, coordinator: Arc<dyn Coordinator>) -> Result<(), Error> {
        self.coordinator.set(coordinator).map_err(|_| {
            Error::new(Code::FailedPrecondition, "the owner of the store has a coordinator already")
        })
    }

    /// Which registrations the coordinator has seen, asked for now.
    ///
    /// # Errors
    /// As [`Coordinator::query`].
    pub async fn history(&self) -> Result<History, Error> {
        self.coordinator()?.history().await.map_err(Error::from_error)
    }

    /// As [`CoordinatorOwner::history`]; one that is too old to tell has seen nothing.
    async fn seen(&self) -> Result<History, Error> {
        match self.history().await {
            Err(error) if matches!(error.code(), Code::Unimplemented | Code::InvalidArgument) => {
                Ok(History::default())
            }
            answer => answer,
        }
    }

    /// What a store keeps of a batch that was registered, with what the
    /// registration answered; nothing where no work is to come.
    pub fn mark(spec: &BatchSpec, registered: &Registered) -> Option<Mark> {
        // Under another name it is another batch's payload that is needed.
        let is_live = registered.id == spec.id && !registered.state.is_terminal();
        is_live.then(|| mark(spec, registered.state, registered.position))
    }

    fn coordinator(&self) -> Result<&Arc<dyn Coordinator>, Error> {
        self.coordinator
            .get()
            .ok_or_else(|| Error::new(Code::Unavailable, "the coordinator is not open yet"))
    }
}

#[async_trait]
impl PayloadOwner for CoordinatorOwner {
    async fn standings(&self, payloads: &[Asked]) -> Result<Vec<Standing>, Error> {
        let mut standings = Vec::with_capacity(payloads.len());
        for page in payloads.chunks(PAGE) {
            let ids = page.iter().map(|asked| asked.id.clone()).collect();
            let is_marked = page.iter().any(|asked| asked.place.is_some());
            let before = if is_marked { self.seen().await? } else { History::default() };
            let known = self.coordinator()?.get_all(ids).await.map_err(Error::from_error)?;
            let now = self.clock.now();
            let by_id: HashMap<&BatchId, Standing> =
                known.iter().map(|batch| (&batch.spec.id, standing(batch, now))).collect();
            let is_lost = |asked: &Asked| asked.place.is_some() && !by_id.contains_key(&asked.id);
            // On both sides of the question: a coordinator that came in between
            // does not speak for what another one did not know.
            let history = match page.iter().any(is_lost) {
                true => Some(self.seen().await?).filter(|after| after.run() == before.run()),
                false => None,
            };
            let history = history.unwrap_or_default();
            standings.extend(page.iter().map(|asked| match (by_id.get(&asked.id), asked.place) {
                (Some(standing), _) => *standing,
                (None, Some(place)) if !history.has(position(place)) => Standing::Lost,
                (None, _) => Standing::Unregistered,
            }));
        }
        Ok(standings)
    }

    async fn register(&self, payload: &PayloadInfo) -> Result<Option<Mark>, Error> {
        let mut spec = payload.to_spec();
        spec.locations.clone_from(&self.locations);
        let registered = self.coordinator()?.register(vec![spec.clone()]).await;
        let registered = registered.map_err(Error::from_error)?;
        Ok(registered.first().and_then(|one| Self::mark(&spec, one)))
    }

    async fn checksum(&self, id: &BatchId) -> Result<Option<String>, Error> {
        let batch = self.coordinator()?.get(id).await.map_err(Error::from_error)?;
        Ok(batch.map(|batch| batch.spec.checksum).filter(|checksum| !checksum.is_empty()))
    }
}

/// Where a registration stands, in terms of the coordinator.
pub fn position(place: Place) -> Position {
    Position { run: place.run, sequence: place.sequence }
}

/// What a store keeps of a batch in this state, which stands there.
pub fn mark(spec: &BatchSpec, state: State, position: Position) -> Mark {
    let place = match position {
        Position::UNKNOWN => Place::UNKNOWN,
        Position { run, sequence } => Place { run, sequence },
    };
    let waits = state == State::Waiting && !spec.depends_on.is_empty();
    // What it depended on is over: it is not asked for again.
    let spec = match waits {
        true => wire::encode_spec(spec),
        false => wire::encode_spec(&BatchSpec { depends_on: Vec::new(), ..spec.clone() }),
    };
    Mark { place, spec: spec.into(), waits }
}

/// A payload is needed as long as its batch may still be worked on.
fn standing(batch: &Batch, now: Timestamp) -> Standing {
    let since = now.since(batch.finished_at.unwrap_or(now));
    match batch.state {
        State::Completed => Standing::Completed { since },
        state if state.is_terminal() => Standing::Terminal { since },
        _ => Standing::Live,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sheaf_coordinator::Control;
    use sheaf_coordinator::embedded::{Config, Embedded};
    use sheaf_retry::SystemClock;
    use sheaf_store::Durability;

    fn payload(id: &BatchId) -> PayloadInfo {
        PayloadInfo {
            id: id.clone(),
            rows: 7,
            bytes: 70,
            stored_bytes: 70,
            messages: 1,
            checksum: "c".repeat(32),
            schema_fingerprint: "f".repeat(16),
            schema: bytes::Bytes::new(),
            durability: Durability::Memory,
            created_at: Timestamp::EPOCH,
            put_by: None,
            used_at: Timestamp::EPOCH,
        }
    }

    #[tokio::test]
    async fn payloads_stand_as_their_batches_do() {
        let clock = SystemClock::shared();
        let locations = vec!["grpc://h:1".to_owned()];
        let owner = CoordinatorOwner::detached(clock.clone()).with_locations(locations.clone());
        let ids: Vec<BatchId> = ["a", "b", "c", "d"].map(|id| id.parse().unwrap()).into();
        let asked = |place: Option<Place>| -> Vec<Asked> {
            ids.iter().map(|id| Asked { id: id.clone(), place }).collect()
        };
        let unknown = owner.standings(&asked(None)).await.unwrap_err();
        assert_eq!(unknown.code(), Code::Unavailable);

        let coordinator = Arc::new(Embedded::open(Config::memory(), clock).unwrap());
        owner.attach(coordinator.clone()).unwrap();
        let second = owner.attach(coordinator.clone()).unwrap_err();
        assert_eq!(second.code(), Code::FailedPrecondition);
        for id in &ids[..2] {
            let mark = owner.register(&payload(id)).await.unwrap();
            assert_eq!(owner.register(&payload(id)).await.unwrap(), mark);
            let spec = wire::decode_spec(&mark.unwrap().spec).unwrap();
            assert_eq!((&spec.id, &spec.locations), (id, &locations));
        }
        coordinator.control(Control::Cancel(vec![ids[1].clone()])).await.unwrap();
        let run = owner.history().await.unwrap().run();
        let over = owner.register(&payload(&ids[1])).await.unwrap();
        assert_eq!(over, None, "no work is to come");
        // What it does not know, it has forgotten, or another one knew.
        for (place, unknown) in [
            (None, Standing::Unregistered),
            (Some(Place { run, sequence: 2 }), Standing::Unregistered),
            (Some(Place { run, sequence: 3 }), Standing::Lost),
            (Some(Place { run: run ^ 1, sequence: 1 }), Standing::Lost),
            (Some(Place::UNKNOWN), Standing::Lost),
        ] {
            let standings = owner.standings(&asked(place)).await.unwrap();
            assert_eq!(standings[0], Standing::Live);
            assert!(matches!(standings[1], Standing::Terminal { .. }), "{standings:?}");
            assert_eq!(standings[2..], [unknown, unknown]);
        }
        let spec = coordinator.get(&ids[0]).await.unwrap().unwrap().spec;
        assert_eq!((spec.rows, spec.bytes, spec.locations), (7, 70, locations));
        assert_eq!((spec.checksum.len(), spec.schema_fingerprint.len()), (32, 16));
    }
}
