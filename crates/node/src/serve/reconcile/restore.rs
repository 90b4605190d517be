//! Batches that were registered with a coordinator that does not know them now.

use std::collections::HashMap;

use sheaf_coordinator::{Batch, BatchSpec, CoordinatorExt as _, Error, wire};
use sheaf_proto::BatchId;
use sheaf_retry::{Code, Retryable as _};

use super::{PAGE, Reconciler, name};

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
                "the coordinator does not know batches that were registered before, and does not take them: their payloads are kept, and it is tried again"
            );
        }
    }

    fn refuse(&mut self, count: usize, error: &dyn std::fmt::Display) {
        self.refused += count as u64;
        self.reason.get_or_insert_with(|| error.to_string());
    }
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
            Err(error) => {
                let (problem, code) = (error.to_string(), error.code());
                return Err(Error::Unavailable { problem, code });
            }
        };
        let mut after = None;
        loop {
            let ids = self.store.marked_elsewhere(Some(history.0), after.as_ref(), PAGE);
            let Some(last) = ids.last() else { return Ok(restored) };
            after = Some(last.clone());
            self.restore_page(&ids, &mut restored).await?;
        }
    }

    async fn restore_page(&self, ids: &[BatchId], restored: &mut Restored) -> Result<(), Error> {
        let known = self.coordinator.get_all(ids.to_vec()).await?;
        let known: HashMap<&BatchId, &Batch> =
            known.iter().map(|batch| (&batch.spec.id, batch)).collect();
        let is_over = |batch: &&&Batch| batch.state.is_terminal();
        let over: Vec<BatchId> =
            known.values().filter(is_over).map(|batch| batch.spec.id.clone()).collect();
        self.store.completed(&over);
        let live: Vec<BatchSpec> = known
            .values()
            .filter(|batch| !batch.state.is_terminal())
            .map(|batch| batch.spec.clone())
            .collect();
        self.mark(&live).await;

        let lost: Vec<BatchId> = ids.iter().filter(|id| !known.contains_key(id)).cloned().collect();
        if lost.is_empty() {
            return Ok(());
        }
        let specs = self.specs(&lost, restored).await;
        self.register_again(specs, restored).await;
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
        let mut specs = Vec::with_capacity(marks.len());
        for (id, mark) in marks {
            match wire::decode_spec(&mark.spec) {
                Ok(spec) if spec.id == id => specs.push(self.placed_here(spec)),
                Ok(_) => restored.refuse(1, &format!("the mark of payload {id} names another")),
                Err(error) => restored.refuse(1, &error),
            }
        }
        specs
    }

    /// The payload is here, whatever was said when it was registered.
    fn placed_here(&self, mut spec: BatchSpec) -> BatchSpec {
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
    /// as long as another one is taken.
    async fn register_again(&self, specs: Vec<BatchSpec>, restored: &mut Restored) {
        if self.register(&specs, restored).await.is_ok() {
            return;
        }
        let (mut open, mut reasons) = (specs, Vec::new());
        loop {
            let before = open.len();
            let tried = std::mem::take(&mut open);
            reasons.clear();
            for spec in tried {
                if let Err(error) = self.register(std::slice::from_ref(&spec), restored).await {
                    reasons.push(error);
                    open.push(spec);
                }
            }
            if open.is_empty() || open.len() == before {
                break;
            }
        }
        for error in &reasons {
            restored.refuse(1, error);
        }
    }

    async fn register(&self, specs: &[BatchSpec], restored: &mut Restored) -> Result<(), Error> {
        let registered = self.coordinator.register(specs.to_vec()).await?;
        for one in registered.iter().filter(|one| one.created) {
            restored.restored += 1;
            name(&mut restored.names, &one.id);
        }
        self.mark(specs).await;
        Ok(())
    }
}
