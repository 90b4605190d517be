//! The user's state machine as the engine uses it.
//!
//! The state is in memory. What lasts are the snapshots and the log: at a restart
//! the engine restores the newest snapshot and applies the entries after it, up
//! to the last that was known to be committed.
//!
//! The machine is behind a lock. Applying takes it for at most [`BATCH`] entries,
//! a snapshot for each of its record batches, so that both go on side by side;
//! restoring takes it until it is done.

use std::collections::BTreeSet;
use std::io;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::{Stream, StreamExt as _};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::type_config::alias::{LogIdOf, SnapshotMetaOf, SnapshotOf, StoredMembershipOf};
use openraft::{AsyncRuntime, EntryPayload, OptionalSend, RaftSnapshotBuilder};
use tokio::sync::watch;

use crate::blocking;
use crate::log::LogStore;
use crate::machine::{Applied, StateMachine};
use crate::snapshot::{Error, Head, SnapshotFile, Snapshots};
use crate::stored::{Entry, LogId, SnapshotMeta, StoredMembership};
use crate::types::{Answer, NodeId, Types};

/// Entries that are applied at once, while nobody else sees the machine.
pub const BATCH: usize = 64;

/// How often a snapshot is begun that the machine gives up.
const ATTEMPTS: usize = 16;

/// A state machine, its snapshots, and how far it is. Cheap to clone.
pub struct Machine<M, R = openraft_rt_tokio::TokioRuntime> {
    shared: Arc<Shared<M>>,
    snapshots: Snapshots,
    runtime: PhantomData<fn() -> R>,
}

struct Shared<M> {
    core: Mutex<Core<M>>,
    applied: watch::Sender<u64>,
}

struct Core<M> {
    machine: M,
    last: Option<LogId>,
    membership: StoredMembership,
    /// Every node that ever was a member, so that its id is not given again.
    nodes: BTreeSet<NodeId>,
    /// Counts snapshots that were begun or restored: an older one gives up.
    begun: u64,
}

impl<M, R> Clone for Machine<M, R> {
    fn clone(&self) -> Self {
        Machine {
            shared: self.shared.clone(),
            snapshots: self.snapshots.clone(),
            runtime: PhantomData,
        }
    }
}

impl<M> Shared<M> {
    fn core(&self) -> MutexGuard<'_, Core<M>> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The machine, unless it panicked: what it holds then is not known.
    fn sound(&self) -> Result<MutexGuard<'_, Core<M>>, Error> {
        self.core.lock().map_err(|_| Error::machine("go on")("it panicked".into()))
    }
}

impl<M: StateMachine, R> Machine<M, R> {
    /// Of a machine as it is before the first command; the engine restores it.
    ///
    /// # Errors
    /// [`Error::NotCovered`] where entries are missing between the newest snapshot
    /// and the log, [`Error::WithoutLog`] where there is a snapshot and the log is new.
    pub fn new(machine: M, snapshots: Snapshots, log: &LogStore<R>) -> Result<Self, Error> {
        snapshots.check(log.status().purged)?;
        // Its votes and entries that it acknowledged are lost.
        if let Some(file) = snapshots.current().filter(|_| log.is_new()) {
            return Err(Error::WithoutLog { path: file.path().to_path_buf() });
        }
        let (membership, nodes) = (StoredMembership::default(), BTreeSet::new());
        let core = Core { machine, last: None, membership, nodes, begun: 0 };
        let shared = Shared { core: Mutex::new(core), applied: watch::Sender::new(0) };
        Ok(Machine { shared: Arc::new(shared), snapshots, runtime: PhantomData })
    }

    /// Looks at the state as it is; commands wait meanwhile.
    pub fn with_machine<T>(&self, look: impl FnOnce(&mut M) -> T) -> T {
        look(&mut self.shared.core().machine)
    }

    /// Whether a node of this id ever was a member, as far as entries are applied here.
    pub fn knew(&self, id: NodeId) -> bool {
        self.shared.core().nodes.contains(&id)
    }

    /// The index of the last applied entry, now and whenever it changes.
    pub fn applied(&self) -> watch::Receiver<u64> {
        self.shared.applied.subscribe()
    }

    fn builder(&self, begun: Result<(u64, Head), Error>) -> Builder<M> {
        let (shared, snapshots) = (self.shared.clone(), self.snapshots.clone());
        Builder { shared, snapshots, begun: Some(begun) }
    }

    /// Its snapshots.
    pub fn snapshots(&self) -> &Snapshots {
        &self.snapshots
    }
}

impl<M: StateMachine> Core<M> {
    fn apply(&mut self, entry: &Entry) -> Answer {
        self.last = Some(entry.log_id);
        match &entry.payload {
            EntryPayload::Blank => Answer::default(),
            EntryPayload::Normal(command) => {
                let (index, term) = (entry.log_id.index, *entry.log_id.leader_id);
                let applied = Applied { index, term, command: &command.0 };
                Answer(self.machine.apply(applied))
            }
            EntryPayload::Membership(membership) => {
                self.membership = StoredMembership::new(Some(entry.log_id), membership.clone());
                self.nodes.extend(membership.nodes().map(|(id, _)| *id));
                Answer::default()
            }
        }
    }

    /// Fixes the state that the next snapshot is of.
    fn begin(&mut self) -> Result<(u64, Head), Error> {
        self.begun += 1;
        self.machine.begin_snapshot().map_err(Error::machine("begin a snapshot"))?;
        let meta =
            SnapshotMeta { last_log_id: self.last, last_membership: self.membership.clone() };
        // That of a large state would hold up commands, and the task that asks for it.
        let digest = if self.machine.copies_digest() { 0 } else { self.machine.digest() };
        let nodes = self.nodes.iter().copied().collect();
        let head = Head { meta, nodes, digest, schema: self.machine.schema() };
        Ok((self.begun, head))
    }

    /// Becomes what the file holds.
    fn restore(&mut self, file: &SnapshotFile) -> Result<(), Error> {
        self.begun += 1;
        let mut batches = file.batches()?;
        self.machine.restore(&mut batches).map_err(Error::machine("restore a snapshot"))?;
        let (expected, actual) = (file.digest(), self.machine.digest());
        if expected != actual && file.is_of_this_build() {
            return Err(Error::Digest { path: file.path().to_path_buf(), expected, actual });
        }
        self.last = file.meta().last_log_id;
        if let Some(last) = self.last {
            self.machine.restored(last.index);
        }
        self.membership = file.meta().last_membership.clone();
        // Files of before have only the members.
        let members = self.membership.nodes().map(|(id, _)| *id);
        self.nodes = file.nodes().iter().copied().chain(members).collect();
        Ok(())
    }
}

impl<M: StateMachine, R: AsyncRuntime> RaftStateMachine<Types<R>> for Machine<M, R> {
    type SnapshotData = SnapshotFile;
    type SnapshotBuilder = Builder<M>;

    async fn applied_state(
        &mut self,
    ) -> Result<(Option<LogIdOf<Types<R>>>, StoredMembershipOf<Types<R>>), io::Error> {
        let core = self.shared.sound()?;
        Ok((core.last, core.membership.clone()))
    }

    async fn apply<S>(&mut self, entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<Types<R>>, io::Error>> + Unpin + OptionalSend,
    {
        let mut entries = entries.ready_chunks(BATCH);
        while let Some(batch) = entries.next().await {
            let mut answers = Vec::with_capacity(batch.len());
            let mut failed = None;
            let mut last = None;
            {
                let mut core = self.shared.sound()?;
                for item in batch {
                    match item {
                        Ok((entry, responder)) => {
                            let answer = core.apply(&entry);
                            last = Some(entry.log_id.index);
                            answers.extend(responder.map(|responder| (responder, answer)));
                        }
                        Err(error) => {
                            failed = Some(error);
                            break;
                        }
                    }
                }
            }
            if let Some(last) = last {
                self.shared.applied.send_replace(last);
            }
            for (responder, answer) in answers {
                responder.send(answer);
            }
            if let Some(error) = failed {
                return Err(error);
            }
        }
        Ok(())
    }

    /// A machine that can take no snapshot now is asked again later; it goes on.
    async fn try_create_snapshot_builder(&mut self, force: bool) -> Option<Builder<M>> {
        let begun = self.shared.sound().and_then(|mut core| core.begin());
        match begun {
            Err(error @ Error::Machine { .. }) if !force && !self.shared.core.is_poisoned() => {
                tracing::warn!(%error, "no snapshot is taken");
                None
            }
            begun => Some(self.builder(begun)),
        }
    }

    async fn get_snapshot_builder(&mut self) -> Self::SnapshotBuilder {
        let begun = self.shared.sound().and_then(|mut core| core.begin());
        self.builder(begun)
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMetaOf<Types<R>>,
        snapshot: SnapshotFile,
    ) -> Result<(), io::Error> {
        if *meta != *snapshot.meta() {
            let problem = format!("it is of {}, and not of {meta}", snapshot.meta());
            let announced = snapshot.id().to_string();
            return Err(Error::NotAsAnnounced { announced, problem }.into());
        }
        let (shared, snapshots) = (self.shared.clone(), self.snapshots.clone());
        let applied = blocking::run(move || {
            // Held until the file is in place: a snapshot that is given up by
            // this one finds it.
            let mut core = shared.sound()?;
            core.restore(&snapshot)?;
            snapshots.adopt(snapshot)?;
            Ok::<_, Error>(core.last.map_or(0, |last| last.index))
        })
        .await?;
        self.shared.applied.send_replace(applied);
        Ok(())
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> Result<Option<SnapshotOf<Types<R>, SnapshotFile>>, io::Error> {
        Ok(self.snapshots.current().map(snapshot))
    }
}

fn snapshot(
    file: SnapshotFile,
) -> openraft::Snapshot<crate::stored::CommittedLeader, u64, crate::types::Member, SnapshotFile> {
    openraft::Snapshot { meta: file.meta().clone(), snapshot: file }
}

/// A snapshot that was begun.
pub struct Builder<M> {
    shared: Arc<Shared<M>>,
    snapshots: Snapshots,
    begun: Option<Result<(u64, Head), Error>>,
}

impl<M: StateMachine, R: AsyncRuntime> RaftSnapshotBuilder<Types<R>> for Builder<M> {
    type SnapshotData = SnapshotFile;

    async fn build_snapshot(&mut self) -> Result<SnapshotOf<Types<R>, SnapshotFile>, io::Error> {
        let begun = match self.begun.take() {
            Some(begun) => begun,
            None => self.shared.sound().and_then(|mut core| core.begin()),
        };
        let (shared, snapshots) = (self.shared.clone(), self.snapshots.clone());
        let file = blocking::run(move || {
            let (number, head) = begun?;
            build(&shared, &snapshots, number, head)
        })
        .await?;
        Ok(snapshot(file))
    }
}

/// Writes the parts of the snapshot, the machine being free between two. One that the
/// machine gives up is begun again: an error would stop the node.
fn build<M: StateMachine>(
    shared: &Shared<M>,
    snapshots: &Snapshots,
    mut number: u64,
    head: Head,
) -> Result<SnapshotFile, Error> {
    let (mut writer, mut attempts) = (snapshots.write(&head)?, 1);
    loop {
        let part = {
            let mut core = shared.sound()?;
            if core.begun != number {
                // A newer one was installed, which serves as well.
                return snapshots.current().ok_or(Error::Superseded);
            }
            let part = core.machine.snapshot_part();
            match part.map_err(Error::machine("go on with a snapshot")) {
                Err(error) if attempts < ATTEMPTS => {
                    tracing::info!(%error, attempts, "a snapshot is begun again");
                    attempts += 1;
                    Err(core.begin()?)
                }
                part => {
                    let part = part?;
                    if part.is_none() && core.machine.copies_digest() {
                        writer.digest(core.machine.copied_digest());
                    }
                    Ok(part)
                }
            }
        };
        match part {
            Ok(Some(batch)) => writer.write(&batch)?,
            Ok(None) => break,
            Err((again, head)) => {
                number = again;
                drop(writer);
                writer = snapshots.write(&head)?;
            }
        }
    }
    let path = writer.finish()?;
    snapshots.adopt(snapshots.check_file(&path)?)
}

#[cfg(test)]
mod tests;
