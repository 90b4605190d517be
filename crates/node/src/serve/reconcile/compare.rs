//! Every live batch, and whether its payload is where it is said to be.

use sheaf_coordinator::{Batch, BatchSpec, CoordinatorExt as _, Error, ListFilter, State};

use super::{PAGE, Reconciler, name};

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
    mark: Vec<BatchSpec>,
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
        loop {
            let page = self.coordinator.list(filter.clone()).await?;
            let mut work = Work::default();
            page.batches.iter().for_each(|batch| self.look_at(batch, &mut found, &mut work));
            if !work.add.is_empty() {
                self.coordinator.register(work.add).await?;
            }
            self.mark(&work.mark).await;
            if page.next_cursor.is_empty() {
                return Ok(found);
            }
            filter.cursor = page.next_cursor;
        }
    }

    fn look_at(&self, batch: &Batch, found: &mut Found, work: &mut Work) {
        let spec = &batch.spec;
        let payload = self.store.info(&spec.id).ok().filter(|info| {
            // Another payload of that name is not the batch's.
            spec.checksum.is_empty() || spec.checksum == info.checksum
        });
        let is_here = self.is_here(&spec.locations);
        found.live += u64::from(is_here);
        match payload {
            None if is_here => {
                found.missing += 1;
                name(&mut found.names, &spec.id);
            }
            None => {}
            Some(_) => {
                if !is_here && !spec.locations.is_empty() && !self.own.is_empty() {
                    found.added += 1;
                    work.add.push(BatchSpec { locations: self.own.clone(), ..spec.clone() });
                }
                if self.store.is_unmarked(&spec.id) {
                    work.mark.push(spec.clone());
                }
            }
        }
    }

    /// Payloads at other addresses are none of this store's business.
    fn is_here(&self, locations: &[String]) -> bool {
        match locations {
            [] => self.is_beside,
            some => some.iter().any(|location| self.own.contains(location)),
        }
    }

    /// Keeps the payloads of these batches until they are over.
    pub(super) async fn mark(&self, specs: &[BatchSpec]) {
        let mut marks = Vec::with_capacity(specs.len());
        for spec in specs {
            if let Some(mark) = self.owner.mark(spec).await {
                marks.push((spec.id.clone(), mark));
            }
        }
        if !marks.is_empty() {
            self.store.mark(marks).await;
        }
    }
}
