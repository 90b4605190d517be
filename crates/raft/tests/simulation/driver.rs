//! The state machine of a node as the engine drives it, with an observer, and a disk that takes
//! its time.

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::type_config::alias::{LogIdOf, SnapshotMetaOf, SnapshotOf, StoredMembershipOf};
use openraft::{EntryPayload, OptionalSend};
use openraft_rt_sim::SimRuntime;
use sheaf_raft::apply::{Builder, Machine};
use sheaf_raft::network::{Manifest, Transit};
use sheaf_raft::node::{Driver, Shared};
use sheaf_raft::snapshot::{IncomingSnapshot, SnapshotFile, Snapshots};
use sheaf_raft::types::{Entry, NodeId, SnapshotMeta, Types};

use crate::disk::{Disk, Log};
use crate::observer::Observer;
use crate::registers::{Registers, hash_bytes};

type Config = Types<SimRuntime>;

/// Bytes of a piece of a snapshot: few, so that there are several.
const PIECE_BYTES: usize = 400;

/// The state of a node that runs.
#[derive(Clone)]
pub(crate) struct SimMachine {
    node: NodeId,
    epoch: u64,
    disk: Arc<Disk>,
    observer: Arc<Observer>,
    machine: Machine<Registers, SimRuntime>,
}

impl SimMachine {
    /// Opens the disk of a node that starts.
    pub(crate) fn open(
        node: NodeId,
        disk: &Arc<Disk>,
        observer: &Arc<Observer>,
    ) -> io::Result<(Log, Self)> {
        observer.restored(node, None);
        let (log, snapshots) = disk.open()?;
        let machine = Machine::new(Registers::default(), snapshots, &log)?;
        let (epoch, disk, observer) = (disk.epoch(), Arc::clone(disk), Arc::clone(observer));
        Ok((log, SimMachine { node, epoch, disk, observer, machine }))
    }

    /// After a step of the disk, unless the node crashed meanwhile.
    async fn takes_time(&self) -> io::Result<()> {
        self.disk.takes_time().await;
        self.disk.lives(self.epoch)
    }

    fn snapshots(&self) -> &Snapshots {
        self.machine.snapshots()
    }

    /// An entry that is applied at once.
    fn saw(&self, entry: &Entry) {
        let (seen, command) = match &entry.payload {
            EntryPayload::Blank => (0, None),
            EntryPayload::Membership(members) => (hash_bytes(members.to_string().as_bytes()), None),
            EntryPayload::Normal(command) => {
                let seen = hash_bytes(&command.0);
                (seen, Some(seen))
            }
        };
        // A node that crashed applies nothing that counts.
        if self.disk.lives(self.epoch).is_ok() {
            self.observer.applied(self.node, entry.log_id, seen, command);
        }
    }
}

impl RaftStateMachine<Config> for SimMachine {
    type SnapshotData = SnapshotFile;
    type SnapshotBuilder = SimBuilder;

    async fn applied_state(
        &mut self,
    ) -> Result<(Option<LogIdOf<Config>>, StoredMembershipOf<Config>), io::Error> {
        self.machine.applied_state().await
    }

    async fn apply<S>(&mut self, entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<Config>, io::Error>> + Unpin + OptionalSend,
    {
        let here = self.clone();
        let seen = entries.inspect(move |entry| {
            if let Ok((entry, _)) = entry {
                here.saw(entry);
            }
        });
        self.machine.apply(seen).await
    }

    async fn try_create_snapshot_builder(&mut self, force: bool) -> Option<SimBuilder> {
        let builder = self.machine.try_create_snapshot_builder(force).await?;
        Some(SimBuilder { machine: self.clone(), builder })
    }

    async fn get_snapshot_builder(&mut self) -> SimBuilder {
        let builder = self.machine.get_snapshot_builder().await;
        SimBuilder { machine: self.clone(), builder }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMetaOf<Config>,
        snapshot: SnapshotFile,
    ) -> Result<(), io::Error> {
        self.takes_time().await?;
        self.machine.install_snapshot(meta, snapshot).await?;
        self.observer.restored(self.node, meta.last_log_id);
        Ok(())
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> Result<Option<SnapshotOf<Config, SnapshotFile>>, io::Error> {
        self.machine.get_current_snapshot().await
    }
}

/// A snapshot that was begun, and is written after a while.
pub(crate) struct SimBuilder {
    machine: SimMachine,
    builder: Builder<Registers>,
}

impl RaftSnapshotBuilder<Config> for SimBuilder {
    type SnapshotData = SnapshotFile;

    async fn build_snapshot(&mut self) -> Result<SnapshotOf<Config, SnapshotFile>, io::Error> {
        self.machine.takes_time().await?;
        RaftSnapshotBuilder::<Config>::build_snapshot(&mut self.builder).await
    }
}

#[async_trait]
impl Transit for SimMachine {
    type Data = SnapshotFile;
    type Incoming = IncomingSnapshot;

    fn manifest(&self, meta: &SnapshotMeta, data: &SnapshotFile) -> Manifest {
        self.snapshots().manifest(meta, data)
    }

    async fn read(&self, data: &SnapshotFile, offset: u64, limit: usize) -> io::Result<Bytes> {
        self.takes_time().await?;
        Transit::read(self.snapshots(), data, offset, limit.min(PIECE_BYTES)).await
    }

    async fn receive(&self, manifest: &Manifest) -> io::Result<(IncomingSnapshot, u64)> {
        self.takes_time().await?;
        Transit::receive(self.snapshots(), manifest).await
    }

    async fn write(
        &self,
        incoming: IncomingSnapshot,
        offset: u64,
        piece: Bytes,
    ) -> io::Result<IncomingSnapshot> {
        self.takes_time().await?;
        Transit::write(self.snapshots(), incoming, offset, piece).await
    }

    async fn finish(&self, incoming: IncomingSnapshot) -> io::Result<SnapshotFile> {
        self.takes_time().await?;
        Transit::finish(self.snapshots(), incoming).await
    }
}

impl Driver<Registers, SimRuntime> for SimMachine {
    type Transit = SimMachine;

    fn shared(&self) -> Arc<dyn Shared<Registers>> {
        self.machine.shared()
    }

    fn transit(&self) -> Arc<SimMachine> {
        Arc::new(self.clone())
    }
}
