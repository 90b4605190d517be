//! Every live batch, and whether its payload is where it is said to be.

use sheaf_coordinator::{
    Batch, BatchSpec, CoordinatorExt as _, Error, History, ListFilter, Position, Run, State,
};

use super::{PAGE, Reconciler, name};
use crate::backup::is_here;

/// What a comparison found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Batches that are not over and whose payload should be here.
    pub(super) live: u64,
    /// Of them those whose payload is gone.
    pub(super) missing: u64,
    /// The first of these.
    pub(super) names: Vec<String>,
    /// Live batches whose payload is here, which the coordinator did not know.
    pub(super) added: u64,
}

impl Found {
    pub(super) fn tell(&self) {
        let Found { live, missing, names, added } = self;
        if *added > 0 {
            tracing::warn!(
                added,
                "batches were said to be elsewhere only: this server has them, too"
            );
        }
        if *missing == 0 {
            return tracing::info!(live, "every live batch has its payload");
        }
        tracing::warn!(
            live,
            missing,
            ?names,
            "batches without payload will fail with payload_lost when they are claimed"
        );
    }
}

/// What one page asks to be done.
#[derive(Default)]
struct Work {
    mark: Vec<(BatchSpec, State)>,
    add: Vec<BatchSpec>,
}

impl Reconciler {
    /// Counts what is missing, tells the coordinator of payloads that it looks for
    /// only elsewhere, and marks those that others registered.
    pub(super) async fn compare(&self) -> Result<Found, Error> {
        let states = State::ALL.into_iter().filter(|state| !state.is_terminal()).collect();
        let limit = u32::try_from(PAGE).unwrap_or(u32::MAX);
        let mut filter = ListFilter { states, limit, ..ListFilter::default() };
        let mut found = Found::default();
        let mut history = self.owner.history().await.unwrap_or_default();
        loop {
            let page = self.coordinator.list(filter.clone()).await?;
            let mut work = Work::default();
            page.batches.iter().for_each(|batch| self.look_at(batch, &mut found, &mut work));
            if !work.add.is_empty() {
                self.coordinator.register(work.add).await?;
            }
            if !work.mark.is_empty() {
                history = self.mark(&work.mark, &history).await;
            }
            if page.next_cursor.is_empty() {
                return Ok(found);
            }
            filter.cursor = page.next_cursor;
        }
    }

    fn look_at(&self, batch: &Batch, found: &mut Found, work: &mut Work) {
        let spec = &batch.spec;
        let is_here = self.is_here(&spec.locations);
        found.live += u64::from(is_here);
        if !self.has(spec) {
            if is_here {
                found.missing += 1;
                name(&mut found.names, &spec.id);
            }
            return;
        }
        if !is_here && !spec.locations.is_empty() && !self.own.is_empty() {
            found.added += 1;
            work.add.push(BatchSpec { locations: self.own.clone(), ..spec.clone() });
        }
        // Or marked as waiting, which it does no longer.
        let is_old = || self.store.marked_waiting(&spec.id).is_some();
        if self.store.is_unmarked(&spec.id) || (batch.state != State::Waiting && is_old()) {
            work.mark.push((spec.clone(), batch.state));
        }
    }

    /// Whether the payload of the batch is in the store; another one of that name
    /// is not.
    pub(super) fn has(&self, spec: &BatchSpec) -> bool {
        self.store
            .info(&spec.id)
            .is_ok_and(|info| spec.checksum.is_empty() || spec.checksum == info.checksum)
    }

    /// Payloads at other addresses are none of this store's business, nor are those
    /// beside the coordinator where that is another server.
    fn is_here(&self, locations: &[String]) -> bool {
        (self.is_beside || !locations.is_empty()) && is_here(locations, &self.own)
    }

    /// Keeps the payloads of these batches until they are over. They were known
    /// after `before` was answered; the history as it is now.
    pub(super) async fn mark(&self, batches: &[(BatchSpec, State)], before: &History) -> History {
        let Ok(now) = self.owner.history().await else { return History::default() };
        if before.run() == now.run()
            && let Some(Run { id, end }) = now.runs.last().copied()
        {
            // Each stands before the next that will be registered.
            let position = Position { run: id, sequence: end.saturating_sub(1) };
            let mark = |(spec, state): &(BatchSpec, State)| {
                (spec.id.clone(), sheaf_worker::mark(spec, *state, position))
            };
            self.store.mark(batches.iter().map(mark).collect()).await;
        }
        now
    }
}
