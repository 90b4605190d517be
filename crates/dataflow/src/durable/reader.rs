//! Reads the queue of one edge: takes batches under leases, in their order, and fetches them.

use std::sync::Arc;
use std::time::Duration;

use arrow_array::RecordBatch;
use futures::{StreamExt as _, stream};
use sheaf_coordinator::limits::MAX_CLAIM_QUEUES;
use sheaf_coordinator::{CoordinatorExt as _, Lease, LeaseRef, State};
use sheaf_retry::{Code, Retryable as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::commits::purge;
use super::link::{Link, reference};
use super::names::{self, Kind};
use super::queue::Queue;
use crate::component::{BatchLease, Received};
use crate::error::ComponentError;
use crate::inlet::{Arrived, Common, Held, Item, Place, ROOM_UNIT};

/// Batches that are taken in one call.
const AT_ONCE: usize = 64;
/// Batches that are taken ahead of the component at most, whatever the credits.
const MOST: u32 = 256;
/// Payloads that are fetched at the same time.
const FETCHES: usize = 4;
/// How long the coordinator is to wait for work.
const WAIT: Duration = Duration::from_secs(20);
/// And where ends are known already, with something before them that is not there yet.
const WAIT_FOR_REST: Duration = Duration::from_millis(200);
/// And where it was begun just now: senders may have been done for long.
const WAIT_AT_FIRST: Duration = Duration::from_secs(1);
/// How long the control plane may take to say who has left.
const WAIT_FOR_ANSWERS: Duration = Duration::from_secs(1);
/// How long it counts as begun just now.
const FIRST: Duration = Duration::from_secs(30);
/// How often what is completed is forgotten, once its time is over.
const PURGE_EVERY: Duration = Duration::from_secs(30);
/// The only process of a sender that a place knows: queues outlive processes.
const EPOCH: u64 = 1;

/// Reads one queue.
pub(crate) struct QueueReader {
    pub(crate) link: Arc<Link>,
    pub(crate) queue: Arc<Queue>,
    /// The senders, each with its number among all places of the component.
    pub(crate) places: Vec<(usize, Arc<Place>)>,
    /// Batches that are taken before the component has taken one.
    pub(crate) credits: u32,
    /// Which instance of the reader this is, and how many there are.
    pub(crate) index: u32,
    pub(crate) replicas: u32,
    pub(crate) common: Arc<Common>,
    pub(crate) items: mpsc::Sender<Item>,
}

/// Why it does not go on.
enum Over {
    Quit,
    Failed(ComponentError),
}

impl From<ComponentError> for Over {
    fn from(error: ComponentError) -> Self {
        Over::Failed(error)
    }
}

/// How far the stream of a sender is.
#[derive(Clone, Debug)]
enum End {
    /// More may come.
    Open,
    /// Its end is here, or need not come, and something before it perhaps is not.
    Seen(Option<LeaseRef>),
    /// The component knows.
    Told,
}

impl QueueReader {
    /// Until all streams have ended, or the component quits.
    pub(crate) async fn run(self) {
        if let Err(Over::Failed(error)) = self.read().await {
            // A component that ends does not listen.
            drop(self.items.send(Item::Failed(error)).await);
        }
        self.places.iter().for_each(|(_, place)| place.disconnected());
    }

    async fn read(&self) -> Result<(), Over> {
        let queues = self.unless_quit(self.queues()).await??;
        for queue in &queues {
            self.unless_quit(self.link.take_over(queue)).await??;
        }
        self.places.iter().for_each(|(_, place)| place.connected(EPOCH));
        let credits = Arc::new(Semaphore::new(self.credits.clamp(1, MOST) as usize));
        let mut ends = vec![End::Open; self.places.len()];
        let mut numbers = vec![0; self.places.len()];
        let begun = self.link.clock.elapsed();
        let mut purge_at = begun + PURGE_EVERY;
        while !ends.iter().all(|end| matches!(end, End::Told)) {
            let is_first = self.link.clock.elapsed() < begun + FIRST;
            let wait = if is_first { WAIT_AT_FIRST } else { WAIT };
            let leases = self.claim(&queues, &credits, wait, &ends).await?;
            if leases.is_empty() {
                self.look_for_senders(&queues, &mut ends).await?;
            }
            let fetched = leases.into_iter().map(|(lease, credit)| self.fetch(lease, credit));
            let mut fetched = stream::iter(fetched).buffered(FETCHES);
            while let Some(one) = fetched.next().await {
                self.take(one?, &mut ends, &mut numbers).await?;
            }
            drop(fetched);
            self.look_for_ends(&queues, &mut ends).await?;
            if self.link.clock.elapsed() >= purge_at {
                purge_at = self.link.clock.elapsed() + PURGE_EVERY;
                let purge = purge(&self.link, &self.queue.name, self.link.retention);
                self.unless_quit(purge).await??;
            }
        }
        Ok(())
    }

    /// Its own queue, and those that instances have left which are not there any more: what is
    /// in them is shared out.
    async fn queues(&self) -> Result<Vec<String>, ComponentError> {
        let own = self.queue.name.clone();
        let Some((edge, _)) = own.rsplit_once(':') else { return Ok(vec![own]) };
        let ask = || self.link.coordinator.stats(None);
        let all = self.link.insist("ask for queues", ask).await?;
        let left = all.iter().filter_map(|one| {
            let (of, to) = one.queue.rsplit_once(':')?;
            let to: u32 = to.parse().ok()?;
            let is_ours = to >= self.replicas && to % self.replicas.max(1) == self.index;
            let live = one.counts.iter().filter(|(state, _)| !state.is_terminal());
            let is_full = live.map(|(_, count)| count).sum::<u64>() > 0;
            (of == edge && is_ours && is_full).then(|| one.queue.clone())
        });
        let mut queues: Vec<String> = left.take(MAX_CLAIM_QUEUES - 1).collect();
        queues.insert(0, own);
        Ok(queues)
    }

    async fn unless_quit<T>(&self, work: impl Future<Output = T>) -> Result<T, Over> {
        tokio::select! {
            biased;
            () = self.common.quit.cancelled() => Err(Over::Quit),
            done = work => Ok(done),
        }
    }

    /// The next batches, each with the credit that it takes.
    async fn claim(
        &self,
        queues: &[String],
        credits: &Arc<Semaphore>,
        wait: Duration,
        ends: &[End],
    ) -> Result<Vec<(Lease, OwnedSemaphorePermit)>, Over> {
        let first = self.unless_quit(Arc::clone(credits).acquire_owned()).await?;
        let mut permits = vec![first.map_err(|_| Over::Quit)?];
        while permits.len() < AT_ONCE
            && let Ok(more) = Arc::clone(credits).try_acquire_owned()
        {
            permits.push(more);
        }
        let max = u32::try_from(permits.len()).unwrap_or(1);
        let mut request = self.link.request(&self.queue.name, max);
        let has_seen = ends.iter().any(|end| matches!(end, End::Seen(_)));
        request.queues = queues.to_vec();
        request.wait = if has_seen { WAIT_FOR_REST } else { wait };
        request.max_bytes = u64::from(self.common.room_units) * ROOM_UNIT / 2;
        let leases = self.unless_quit(self.link.claim(request)).await??;
        Ok(leases.into_iter().zip(permits).collect())
    }

    /// Its rows; `None` where it is the end of a stream, or cannot be had.
    async fn fetch(&self, lease: Lease, credit: OwnedSemaphorePermit) -> Result<Fetched, Over> {
        let read = names::read(&lease.spec.id);
        let (from, kind) = read.unwrap_or((0, Kind::Rows));
        if let Kind::End { .. } = kind {
            let is_of_now = kind == self.end();
            return Ok(Fetched { lease, from, what: What::End { is_of_now } });
        }
        let units = u32::try_from(lease.spec.bytes.div_ceil(ROOM_UNIT)).unwrap_or(u32::MAX);
        let units = units.clamp(1, self.common.room_units);
        let room = Arc::clone(&self.common.room).acquire_many_owned(units);
        let room = self.unless_quit(room).await?.map_err(|_| Over::Quit)?;
        let id = &lease.spec.id;
        let get = || self.link.store.get_batch(id);
        let what = format!("read {id} from the store");
        let got = self.unless_quit(self.link.insist(&what, get)).await?;
        let what = match got {
            Ok(batch) => What::Rows { batch, room, credit },
            Err(error) => {
                let code = match error.code() {
                    Code::NotFound => Code::PayloadLost,
                    other => other,
                };
                tracing::error!(%id, why = error.chain(), "the rows of a batch cannot be had");
                let held = reference(&lease);
                self.unless_quit(self.link.failed(&held, code, error.chain())).await?;
                What::Nothing
            }
        };
        Ok(Fetched { lease, from, what })
    }

    async fn take(
        &self,
        fetched: Fetched,
        ends: &mut [End],
        numbers: &mut [u64],
    ) -> Result<(), Over> {
        let Fetched { lease, from, what } = fetched;
        let held = reference(&lease);
        // What a sender left that is not there any more counts as that of the first one.
        let index = self.places.iter().position(|(_, place)| place.from_instance == from);
        let index = index.unwrap_or(0);
        let Some((number, place)) = self.places.get(index) else { return Err(Over::Quit) };
        match what {
            What::Nothing => Ok(()),
            What::End { is_of_now: true } if matches!(ends[index], End::Open) => {
                tracing::debug!(edge = self.queue.name, from, "received end");
                ends[index] = End::Seen(Some(held));
                Ok(())
            }
            // Of an earlier pass or graph, or of a sender that said it twice.
            What::End { .. } => {
                self.unless_quit(self.link.complete(vec![held])).await??;
                Ok(())
            }
            What::Rows { batch, room, credit } => {
                numbers[index] += 1;
                let sequence = numbers[index];
                let rows = batch.num_rows() as u64;
                tracing::debug!(edge = self.queue.name, id = %held.id, rows, "received event");
                place.received(sequence, rows, lease.spec.bytes);
                place.schema.get_or_init(|| batch.schema());
                let fence = lease.fence.0;
                let received = Received {
                    batch,
                    from: Arc::clone(&place.from),
                    from_instance: from,
                    epoch: EPOCH,
                    sequence,
                    lease: Some(BatchLease { id: held.id.as_str().into(), fence }),
                };
                let trace = lease.spec.trace_context.parse().ok();
                let held = Some(Held { lease: held, _credit: credit });
                let (place, epoch) = (*number, EPOCH);
                let arrived = Arrived { place, epoch, received, trace, _room: room, held };
                self.send(Item::Batch(arrived)).await
            }
        }
    }

    async fn send(&self, item: Item) -> Result<(), Over> {
        self.items.send(item).await.map_err(|_| Over::Quit)
    }

    /// Tells the component of ends before which nothing is left. Something is left where a
    /// batch rests after a failure.
    async fn look_for_ends(&self, queues: &[String], ends: &mut [End]) -> Result<(), Over> {
        if !ends.iter().any(|end| matches!(end, End::Seen(_))) {
            return Ok(());
        }
        let left = self.waiting(queues).await?;
        for (end, (number, place)) in ends.iter_mut().zip(&self.places) {
            let End::Seen(lease) = end else { continue };
            if left.contains(&(place.from_instance, Kind::Rows)) {
                continue;
            }
            let lease = lease.clone();
            *end = End::Told;
            place.ended(place.snapshot().last + 1);
            self.send(Item::End { place: *number, lease }).await?;
        }
        Ok(())
    }

    /// How streams end in this pass.
    fn end(&self) -> Kind {
        Kind::End { pass: self.link.pass, graph: self.link.graph }
    }

    /// What is in these queues and nobody has taken: of which sender, and what of it.
    async fn waiting(&self, queues: &[String]) -> Result<Vec<(u32, Kind)>, Over> {
        let states = [State::Pending, State::Scheduled, State::Waiting];
        let mut waiting = Vec::new();
        for queue in queues {
            let batches = self.unless_quit(self.link.live(queue, &states)).await??;
            waiting.extend(batches.iter().filter_map(|batch| names::read(&batch.spec.id)));
        }
        Ok(waiting)
    }

    /// Where nothing comes: senders that were done with this pass before this stream was there,
    /// or told its end to who read it then, do not tell it again.
    async fn look_for_senders(&self, queues: &[String], ends: &mut [End]) -> Result<(), Over> {
        let open = self.places.iter().enumerate().filter(|(at, _)| matches!(ends[*at], End::Open));
        let asked = open.map(|(at, (_, place))| async move {
            (at, self.common.control.component(&place.sender).await)
        });
        let asked = futures::future::join_all(asked);
        // What the control plane cannot tell now, it tells in the next round: batches come
        // meanwhile, also where it is away.
        let answers = tokio::select! {
            biased;
            () = self.common.quit.cancelled() => return Err(Over::Quit),
            answers = asked => answers,
            () = self.link.clock.sleep(WAIT_FOR_ANSWERS) => return Ok(()),
        };
        let left = answers.into_iter().filter_map(|(at, answer)| Some((at, answer.ok()?)));
        let left = left.filter(|(_, found)| found.has_left(&self.common.done));
        let done: Vec<usize> = left.map(|(at, _)| at).collect();
        if done.is_empty() {
            return Ok(());
        }
        // Whoever says that it is done has registered its end before.
        let on_their_way = self.waiting(queues).await?;
        let end = self.end();
        for at in done {
            let place = &self.places[at].1;
            if !on_their_way.contains(&(place.from_instance, end)) {
                tracing::info!(stream = place.name(), "its sender is done and has left");
                ends[at] = End::Seen(None);
            }
        }
        Ok(())
    }
}

/// What was taken.
struct Fetched {
    lease: Lease,
    from: u32,
    what: What,
}

enum What {
    Rows {
        batch: RecordBatch,
        room: OwnedSemaphorePermit,
        credit: OwnedSemaphorePermit,
    },
    End {
        is_of_now: bool,
    },
    /// It was said to have failed.
    Nothing,
}
