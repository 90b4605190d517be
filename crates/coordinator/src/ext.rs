//! Typed questions, and waits for an end, over any coordinator.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use sheaf_proto::BatchId;
use sheaf_retry::{Code, SharedClock, Sleep};

use crate::contract::{Coordinator, Error};
use crate::limits;
use crate::model::{Batch, State};
use crate::request::{
    Answer, Event, History, LeaseRef, ListFilter, Page, Query, QueueStats, Recovered, WatchFilter,
};

/// What most callers ask a [`Coordinator`], with answers of the right type.
///
/// Every coordinator has it. The waits are woken by events and never ask on a
/// timer: they watch first and look then, so that nothing falls in between,
/// and look again when enough has ended or when events were missed. All calls
/// are cancel-safe and change nothing.
///
/// ```
/// use std::time::Duration;
///
/// use sheaf_coordinator::embedded::{Config, Embedded};
/// use sheaf_coordinator::{
///     BatchSpec, BatchTracker, Coordinator, CoordinatorExt as _, State,
/// };
/// use sheaf_retry::SystemClock;
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
/// let clock = SystemClock::shared();
/// let coordinator = std::sync::Arc::new(Embedded::open(Config::memory(), clock.clone())?);
/// let id = "orders:1".parse()?;
/// assert!(coordinator.get(&id).await?.is_none());
/// coordinator.register(vec![BatchSpec::new(id.clone())]).await?;
/// let counts = coordinator.stats(Some("default")).await?.remove(0).counts;
/// assert_eq!(counts[&State::Pending], 1);
///
/// let tracker = BatchTracker::new(coordinator.clone(), "loader-1", Duration::from_secs(30));
/// let work = async {
///     tracker.mark_processing(&id).await?;
///     tracker.mark_completed(&id).await
/// };
/// let ids = [id.clone()];
/// let ended = coordinator.wait(&ids, &clock, Duration::from_secs(60));
/// let (_, ended) = tokio::try_join!(work, ended)?;
/// assert_eq!(ended[0].state, State::Completed);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[async_trait]
pub trait CoordinatorExt: Coordinator {
    /// All that is known of a batch; `None` where it is not registered, or was
    /// purged.
    ///
    /// # Errors
    /// Those of [`Coordinator::query`].
    async fn get(&self, id: &BatchId) -> Result<Option<Batch>, Error> {
        Ok(self.get_all(vec![id.clone()]).await?.pop())
    }

    /// All that is known of these batches, at most 10,000; unknown ones are
    /// left out.
    ///
    /// # Errors
    /// As [`CoordinatorExt::get`]; `Limit` for too many.
    async fn get_all(&self, ids: Vec<BatchId>) -> Result<Vec<Batch>, Error> {
        match self.query(Query::Get(ids)).await? {
            Answer::Batches(page) => Ok(page.batches),
            _ => Err(unexpected("batches")),
        }
    }

    /// A page of batches in order of registration.
    ///
    /// # Errors
    /// As [`CoordinatorExt::get`]; `Invalid` for a cursor of another
    /// coordinator, `Limit` for too long a page.
    async fn list(&self, filter: ListFilter) -> Result<Page, Error> {
        match self.query(Query::List(filter)).await? {
            Answer::Batches(page) => Ok(page),
            _ => Err(unexpected("a page of batches")),
        }
    }

    /// Counts of one queue, or of all by name.
    ///
    /// # Errors
    /// As [`CoordinatorExt::get`].
    async fn stats(&self, queue: Option<&str>) -> Result<Vec<QueueStats>, Error> {
        match self.query(Query::Stats(queue.map(str::to_owned))).await? {
            Answer::Stats(queues) => Ok(queues),
            _ => Err(unexpected("counts")),
        }
    }

    /// What became of leases, in the order asked.
    ///
    /// # Errors
    /// As [`CoordinatorExt::get`]; `Limit` for more than 10,000.
    async fn recovery(&self, leases: Vec<LeaseRef>) -> Result<Vec<Recovered>, Error> {
        match self.query(Query::Recovery(leases)).await? {
            Answer::Recovery(leases) => Ok(leases),
            _ => Err(unexpected("what became of leases")),
        }
    }

    /// Which registrations it has seen.
    ///
    /// # Errors
    /// As [`CoordinatorExt::get`].
    async fn history(&self) -> Result<History, Error> {
        match self.query(Query::History).await? {
            Answer::History(history) => Ok(history),
            _ => Err(unexpected("a history")),
        }
    }

    /// Waits until each of these batches, at most 10,000, is in a terminal
    /// state; gives them in the order asked.
    ///
    /// Failed and cancelled count as well: look at [`Batch::state`]. A batch
    /// that is requeued before all the others have ended is waited for again.
    ///
    /// # Errors
    /// `NotFound` where one of them is not registered, or was purged;
    /// `Unavailable` with code `deadline_exceeded` after `within`, and when the
    /// coordinator closes; those of [`Coordinator::watch`].
    async fn wait(
        &self,
        ids: &[BatchId],
        clock: &SharedClock,
        within: Duration,
    ) -> Result<Vec<Batch>, Error> {
        if ids.is_empty() {
            return Ok(Vec::new()); // such a filter would watch everything
        }
        let mut patience = Patience::new(clock, within);
        let filter = WatchFilter { ids: ids.to_vec(), ..WatchFilter::default() };
        let mut events = patience.bound(0, self.watch(filter)).await?;
        let mut open = ids.len() as u64;
        loop {
            let found = patience.bound(open, self.get_all(ids.to_vec())).await?;
            let found = in_order(ids, found)?;
            let live = found.iter().filter(|batch| !batch.state.is_terminal());
            open = live.count() as u64;
            if open == 0 {
                return Ok(found);
            }
            patience.bound(open, ends(&mut events, open)).await?;
        }
    }

    /// Waits until a queue has no batch any more that is not in a terminal
    /// state; gives its counts then.
    ///
    /// Batches that are delayed or backing off are waited for, and so are
    /// those of a paused queue. A queue that nothing was ever registered in is
    /// idle: register first.
    ///
    /// # Errors
    /// As [`CoordinatorExt::wait`], but for `NotFound`; `Invalid` for a name
    /// that no queue can have.
    async fn wait_idle(
        &self,
        queue: &str,
        clock: &SharedClock,
        within: Duration,
    ) -> Result<QueueStats, Error> {
        let queue = limits::queue(queue)?;
        let mut patience = Patience::new(clock, within);
        let filter = WatchFilter { queue: Some(queue.to_owned()), ..WatchFilter::default() };
        let mut events = patience.bound(0, self.watch(filter)).await?;
        let mut open = 0;
        loop {
            let stats = patience.bound(open, self.stats(Some(queue))).await?;
            let stats = stats.into_iter().find(|stats| stats.queue == queue);
            let stats = stats.ok_or_else(|| unexpected("counts of the queue"))?;
            let live = stats.counts.iter().filter(|(state, _)| !state.is_terminal());
            open = live.map(|(_, batches)| batches).sum();
            if open == 0 {
                return Ok(stats);
            }
            patience.bound(open, ends(&mut events, open)).await?;
        }
    }
}

impl<C: Coordinator + ?Sized> CoordinatorExt for C {}

/// Returns when as many batches have ended as were open at the last look, or
/// when it cannot be known. Fewer ends cannot do; the ends of before the look
/// that are counted too only make the next look come early.
async fn ends(events: &mut BoxStream<'static, Event>, open: u64) -> Result<(), Error> {
    let mut left = open;
    while left > 0 {
        match events.next().await {
            Some(Event::Changed(change)) if change.to.is_none_or(State::is_terminal) => left -= 1,
            Some(Event::Changed(_)) => {}
            Some(Event::Missed(_)) => return Ok(()),
            None => {
                let problem = format!("closed while {open} batches were waited for");
                return Err(Error::Unavailable { problem, code: Code::Unavailable });
            }
        }
    }
    Ok(())
}

fn in_order(ids: &[BatchId], found: Vec<Batch>) -> Result<Vec<Batch>, Error> {
    let by_id: HashMap<&BatchId, &Batch> =
        found.iter().map(|batch| (&batch.spec.id, batch)).collect();
    let of = |id| by_id.get(id).map(|batch| Batch::clone(batch));
    ids.iter().map(|id| of(id).ok_or_else(|| Error::NotFound { id: id.to_string() })).collect()
}

fn unexpected(asked: &'static str) -> Error {
    Error::Backend {
        operation: format!("the coordinator was asked for {asked} and answered something else"),
        code: Code::Internal,
        source: None,
    }
}

/// One deadline for several steps.
struct Patience<'a> {
    end: Sleep<'a>,
    within: Duration,
}

impl<'a> Patience<'a> {
    fn new(clock: &'a SharedClock, within: Duration) -> Self {
        Patience { end: clock.sleep(within), within }
    }

    async fn bound<T>(
        &mut self,
        open: u64,
        step: impl Future<Output = Result<T, Error>> + Send,
    ) -> Result<T, Error> {
        tokio::select! {
            biased;
            done = step => done,
            () = &mut self.end => {
                let problem = match open {
                    0 => format!("did not answer within {:?}", self.within),
                    open => format!("has {open} batches that did not end within {:?}", self.within),
                };
                Err(Error::Unavailable { problem, code: Code::DeadlineExceeded })
            }
        }
    }
}
