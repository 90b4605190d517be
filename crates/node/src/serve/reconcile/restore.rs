//! Batches that were registered with a coordinator that does not know them now.

use std::collections::HashSet;
use std::time::Duration;

use sheaf_coordinator::{Batch, BatchSpec, CoordinatorExt as _, Error, History, wire};
use sheaf_proto::BatchId;
use sheaf_retry::{Code, Retryable as _};
use sheaf_worker::CoordinatorOwner;

use super::{PAGE, Reconciler, name};

/// Marks read in one go: the journal is read from its beginning each time.
const LOST: usize = 10_000;

/// What became of batches that were registered in another history of the
/// coordinator than the present one.
#[derive(Debug, Default)]
pub(super) struct Restored {
    /// Registered again.
    pub(super) restored: u64,
    /// The first of them.
    pub(super) names: Vec<String>,
    /// The coordinator did not take them; their payloads are kept.
    pub(super) refused: u64,
    /// Why it did not take the first of them.
    pub(super) reason: Option<String>,
}

impl Restored {
    pub(super) fn tell(&self) {
        let Restored { restored, names, refused, reason } = self;
        if *restored > 0 {
            tracing::warn!(
                restored,
                ?names,
                "the coordinator did not know batches that were registered before: it is another one, or lost its state; they are registered again and start anew"
            );
        }
        if *refused > 0 {
            tracing::error!(
                refused,
                reason,
                "the coordinator does not know batches that were registered before, and does not take them: their payloads are kept, and it is tried again; RegisterBatch by hand, without what they depended on, takes them too"
            );
        }
    }

    fn refuse(&mut self, count: usize, error: &dyn std::fmt::Display) {
        self.refused += count as u64;
        self.reason.get_or_insert_with(|| error.to_string());
    }
}

/// Tries of those that are not taken all at once: longer chains of work that
/// waits come to their end in the next rounds.
const PASSES: usize = 8;

/// It says nothing about the batches.
fn is_away(error: &Error) -> bool {
    matches!(error.code(), Code::Unavailable | Code::DeadlineExceeded | Code::Draining)
}

fn unavailable(error: sheaf_flight::Error) -> Error {
    let (problem, code) = (error.to_string(), error.code());
    Error::Unavailable { problem, code }
}

impl Reconciler {
    /// Registers again what the coordinator lost.
    pub(super) async fn restore(&self) -> Result<Restored, Error> {
        let mut restored = Restored::default();
        let history = match self.owner.history().await {
            Ok(history) => history,
            // Of a version that does not tell: nothing can be said.
            Err(error) if matches!(error.code(), Code::Unimplemented | Code::InvalidArgument) => {
                return Ok(restored);
            }
            Err(error) => return Err(unavailable(error)),
        };
        let mut after = None;
        loop {
            let has = |place| history.has(sheaf_worker::position(place));
            let ids = self.store.marked_unless(has, after.as_ref(), LOST);
            let Some(last) = ids.last() else { return Ok(restored) };
            after = Some(last.clone());
            self.restore_page(&ids, &history, &mut restored).await?;
        }
    }

    async fn restore_page(
        &self,
        ids: &[BatchId],
        history: &History,
        restored: &mut Restored,
    ) -> Result<(), Error> {
        let known = self.coordinator.get_all(ids.to_vec()).await?;
        let now = self.owner.history().await.map_err(unavailable)?;
        if now.run() != history.run() {
            let problem = "was replaced in between".to_owned();
            return Err(Error::Unavailable { problem, code: Code::Unavailable });
        }
        let (over, live): (Vec<&Batch>, Vec<&Batch>) =
            known.iter().partition(|batch| batch.state.is_terminal());
        let over: Vec<BatchId> = over.into_iter().map(|batch| batch.spec.id.clone()).collect();
        self.store.completed(&over);
        let live = live.into_iter().filter(|batch| self.has(&batch.spec));
        let live: Vec<_> = live.map(|batch| (batch.spec.clone(), batch.state)).collect();
        if !live.is_empty() {
            self.mark(&live, history).await;
        }

        let known: HashSet<&BatchId> = known.iter().map(|batch| &batch.spec.id).collect();
        let lost: Vec<BatchId> = ids.iter().filter(|id| !known.contains(id)).cloned().collect();
        if lost.is_empty() {
            return Ok(());
        }
        let specs = self.specs(&lost, restored).await;
        for page in specs.chunks(PAGE) {
            self.register_again(page.to_vec(), restored).await?;
        }
        Ok(())
    }

    /// How the batches of these payloads were registered.
    async fn specs(&self, ids: &[BatchId], restored: &mut Restored) -> Vec<BatchSpec> {
        let marks = match self.store.marks(ids).await {
            Ok(marks) => marks,
            Err(error) => {
                restored.refuse(ids.len(), &error);
                return Vec::new();
            }
        };
        if marks.len() < ids.len() {
            let why = "the journal does not say how they were registered: register them by hand";
            restored.refuse(ids.len() - marks.len(), &why);
        }
        let mut specs = Vec::with_capacity(marks.len());
        for (id, mark) in marks {
            match wire::decode_spec(&mark.spec) {
                Ok(spec) if spec.id == id && !self.has(&spec) => {
                    let why = format!("payload {id} is another one than was registered");
                    restored.refuse(1, &why);
                }
                Ok(spec) if spec.id == id => specs.push(self.placed_here(spec)),
                Ok(_) => restored.refuse(1, &format!("the mark of payload {id} names another")),
                Err(error) => restored.refuse(1, &error),
            }
        }
        specs
    }

    /// The payload is here, whatever was said when it was registered.
    fn placed_here(&self, mut spec: BatchSpec) -> BatchSpec {
        // Its window began when it was registered first; and a batch of the same
        // key that came after its end is another one.
        spec.dedup_key.clear();
        spec.dedup_window = Duration::ZERO;
        if self.own.is_empty() {
            spec.locations.clear();
        } else if !spec.locations.iter().any(|location| self.own.contains(location)) {
            spec.locations.splice(0..0, self.own.iter().cloned());
            spec.locations.truncate(sheaf_coordinator::limits::MAX_LOCATIONS);
        }
        spec
    }

    /// All at once where they are taken, for they may depend on each other;
    /// otherwise one by one, so that one does not hold up the others, and again
    /// while another one is taken.
    async fn register_again(
        &self,
        specs: Vec<BatchSpec>,
        restored: &mut Restored,
    ) -> Result<(), Error> {
        match self.register(&specs, restored).await {
            Ok(()) => return Ok(()),
            Err(error) if is_away(&error) => return Err(error),
            Err(_) => {}
        }
        let (mut open, mut reasons) = (specs, Vec::new());
        for _ in 0..PASSES {
            let before = open.len();
            let tried = std::mem::take(&mut open);
            reasons.clear();
            for spec in tried {
                match self.register(std::slice::from_ref(&spec), restored).await {
                    Ok(()) => {}
                    Err(error) if is_away(&error) => return Err(error),
                    Err(error) => {
                        reasons.push(error);
                        open.push(spec);
                    }
                }
            }
            if open.is_empty() || open.len() == before {
                break;
            }
        }
        for error in &reasons {
            restored.refuse(1, error);
        }
        Ok(())
    }

    async fn register(&self, specs: &[BatchSpec], restored: &mut Restored) -> Result<(), Error> {
        let registered = self.coordinator.register(specs.to_vec()).await?;
        let mut marks = Vec::with_capacity(specs.len());
        for (spec, one) in specs.iter().zip(&registered) {
            if one.created {
                restored.restored += 1;
                name(&mut restored.names, &one.id);
            }
            // Where it is over by now, none is needed any more.
            match CoordinatorOwner::mark(spec, one) {
                Some(mark) => marks.push((spec.id.clone(), mark)),
                None => self.store.completed(std::slice::from_ref(&spec.id)),
            }
        }
        self.store.mark(marks).await;
        Ok(())
    }
}
