//! The replicated state as something to move from and to.

use async_trait::async_trait;
use bytes::Bytes;
use sheaf_coordinator::Error;
use sheaf_coordinator::engine::{FENCE_TIME_BITS, RECORD_VERSION};
use sheaf_coordinator::migration::{Endpoint, Head, Migration, Phase, Queue, Record};
use sheaf_coordinator::{Fence, State};
use sheaf_proto::coordinator::v1 as wire;
use sheaf_proto::storage::v1::CoordinatorMeta;
use sheaf_retry::{Code, Timestamp};

use super::command::{Answer, Call};
use super::item::Failed;
use super::machine::EngineMachine;
use super::route::Place;
use super::{NAME, RaftCoordinator, new_run, snapshot};
use crate::replica::Replica;

/// Batches that are read at once.
const PART: usize = 1_024;
/// Record bytes of one command.
const COMMAND_BYTES: usize = 512 << 10;

/// See the module. The cluster goes on running: its phase is part of the state, and
/// refuses calls on every node. It has to be on the node that leads.
pub struct RaftEndpoint<Rp> {
    coordinator: RaftCoordinator<Rp>,
    name: String,
}

impl<Rp> std::fmt::Debug for RaftEndpoint<Rp> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RaftEndpoint").finish_non_exhaustive()
    }
}

impl<Rp: Replica<EngineMachine>> RaftEndpoint<Rp> {
    pub(super) fn new(coordinator: RaftCoordinator<Rp>, name: String) -> Self {
        RaftEndpoint { coordinator, name }
    }

    async fn call(&self, call: Call) -> Result<u64, Error> {
        let (coordinator, call) = (&self.coordinator, &call);
        let pick = |answer| if let Answer::Done(last) = answer { Some(last) } else { None };
        let done = coordinator.route.follow(std::time::Duration::ZERO, |place, _| async move {
            match place {
                Place::Here => coordinator.ask_for(call, None, pick).await,
                Place::There(_) => Err(Failed::Error(Error::Backend {
                    operation: format!(
                        "move {NAME}: this node does not lead; use the one that does"
                    ),
                    code: Code::Unavailable,
                    source: None,
                })),
            }
        });
        done.await
    }

    /// Looks at a state that has all that was acknowledged before.
    async fn look<T>(
        &self,
        mut look: impl FnMut(&mut EngineMachine) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.coordinator.barrier().await?;
        let mut seen = Err(super::closed());
        self.coordinator.inner.replica.with_machine(&mut |machine| {
            seen = machine.refusal().map_or_else(|| look(machine), Err);
        });
        seen
    }
}

/// The head of a state that is moved here, but for what only this one can tell.
fn meta(head: &Head) -> CoordinatorMeta {
    let runs = &head.history.runs;
    CoordinatorMeta {
        version: RECORD_VERSION,
        epoch: 0,
        last_fence: head.last_fence.0,
        // The present run of the source ends where its last batch stands.
        next_sequence: runs.last().map_or(1, |run| run.end).max(1),
        last_now: 0,
        copied_at: 0,
        run: runs.last().map_or(0, |run| run.id),
        past: runs.iter().rev().skip(1).rev().map(wire::Run::from).collect(),
        migration: None,
    }
}

#[async_trait]
impl<Rp: Replica<EngineMachine>> Endpoint for RaftEndpoint<Rp> {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn is_shared(&self) -> bool {
        true
    }

    async fn phase(&mut self) -> Result<Phase, Error> {
        self.look(|machine| Ok(machine.phase().clone())).await
    }

    async fn enter(&mut self, phase: &Phase) -> Result<(), Error> {
        self.call(Call::Enter { phase: phase.clone(), run: new_run() }).await.map(drop)
    }

    async fn head(&mut self) -> Result<Head, Error> {
        self.look(|machine| {
            let engine = machine.engine();
            let names: Vec<String> = engine.queue_names().collect();
            let queues = names
                .iter()
                .filter_map(|name| Some(Queue::from_stored(name, &engine.encode_queue(name)?)));
            // Whatever this epoch gives out, a target counts on above it.
            let last = (engine.epoch() << FENCE_TIME_BITS) | ((1 << FENCE_TIME_BITS) - 1);
            let mut history = engine.history();
            history.runs.retain(|run| run.id != 0);
            Ok(Head {
                batches: engine.len() as u64,
                leases: engine.totals()[State::Processing as usize],
                last_fence: Fence(last),
                queues: queues.collect(),
                history,
            })
        })
        .await
    }

    async fn read(&mut self, after: u64) -> Result<Vec<Record>, Error> {
        self.look(|machine| {
            let engine = machine.engine();
            let at = engine.now();
            let mut part = Vec::new();
            for (sequence, bytes) in engine.stored_after(after, PART) {
                let mut record = decoded(sequence, &bytes, at)?;
                for waited in &mut record.waits_for {
                    let before = waited.sequence.saturating_sub(1);
                    if let Some((sequence, bytes)) = engine.stored_after(before, 1).first()
                        && *sequence == waited.sequence
                    {
                        waited.id = decoded(*sequence, bytes, at)?.batch.spec.id;
                    }
                }
                part.push(record);
            }
            Ok(part)
        })
        .await
    }

    async fn fill(&mut self, migration: &Migration, head: &Head) -> Result<u64, Error> {
        let queues = head.queues.iter().map(Queue::to_stored).collect();
        let meta = Box::new(meta(head));
        self.call(Call::Fill { migration: migration.clone(), meta, queues }).await
    }

    async fn write(&mut self, records: &[Record]) -> Result<(), Error> {
        let (mut batches, mut bytes) = (Vec::new(), 0);
        for record in records {
            let stored = record.to_stored();
            bytes += stored.len();
            batches.push((record.sequence, Bytes::from(stored)));
            if bytes >= COMMAND_BYTES {
                bytes = 0;
                self.call(Call::Import(std::mem::take(&mut batches))).await?;
            }
        }
        if !batches.is_empty() {
            self.call(Call::Import(batches)).await?;
        }
        Ok(())
    }

    /// Every command is durable when it is answered.
    async fn sync(&mut self) -> Result<(), Error> {
        Ok(())
    }

    async fn discard(&mut self) -> Result<(), Error> {
        self.call(Call::Discard { run: new_run() }).await.map(drop)
    }
}

fn decoded(sequence: u64, bytes: &[u8], at: Timestamp) -> Result<Record, Error> {
    Record::from_stored(sequence, bytes, at)
        .map_err(|version| snapshot::newer("a batch", version, RECORD_VERSION))
}
