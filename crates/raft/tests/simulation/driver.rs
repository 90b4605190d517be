//! The registers as the engine drives them, with snapshots on a disk of this world.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use async_trait::async_trait;
use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::type_config::alias::{LogIdOf, SnapshotMetaOf, SnapshotOf, StoredMembershipOf};
use openraft::{EntryPayload, OptionalSend, Snapshot};
use openraft_rt_sim::SimRuntime;
use sheaf_raft::machine::{Applied, MachineError, StateMachine as _};
use sheaf_raft::network::{Manifest, Transit};
use sheaf_raft::node::{Driver, Shared};
use sheaf_raft::types::{Answer, Entry, LogId, NodeId, SnapshotMeta, StoredMembership, Types};

use crate::disk::{Disk, Stored};
use crate::observer::Observer;
use crate::registers::{Registers, hash, hash_bytes};

type Config = Types<SimRuntime>;

/// The state of a node that runs.
#[derive(Clone)]
pub(crate) struct SimMachine {
    node: NodeId,
    epoch: u64,
    disk: Arc<Disk>,
    observer: Arc<Observer>,
    core: Arc<Mutex<Core>>,
}

#[derive(Default)]
struct Core {
    registers: Registers,
    last: Option<LogId>,
    membership: StoredMembership,
}

impl SimMachine {
    pub(crate) fn new(node: NodeId, disk: &Arc<Disk>, observer: &Arc<Observer>) -> Self {
        observer.restored(node, None);
        SimMachine {
            node,
            epoch: disk.epoch(),
            disk: Arc::clone(disk),
            observer: Arc::clone(observer),
            core: Arc::default(),
        }
    }

    fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn apply_one(&self, entry: &Entry) -> Answer {
        let mut core = self.core();
        core.last = Some(entry.log_id);
        let (index, term) = (entry.log_id.index, *entry.log_id.leader_id);
        let (seen, command, answer) = match &entry.payload {
            EntryPayload::Blank => (0, None, Answer::default()),
            EntryPayload::Membership(members) => {
                core.membership = StoredMembership::new(Some(entry.log_id), members.clone());
                (hash_bytes(members.to_string().as_bytes()), None, Answer::default())
            }
            EntryPayload::Normal(command) => {
                let answer = core.registers.apply(Applied { index, term, command: &command.0 });
                let seen = hash_bytes(&command.0);
                (seen, Some(seen), Answer(answer))
            }
        };
        drop(core);
        // A node that crashed applies nothing that counts.
        if self.disk.epoch() == self.epoch {
            self.observer.applied(self.node, entry.log_id, seen, command);
        }
        answer
    }

    /// The state now, as a snapshot.
    fn take(&self) -> Result<Stored, MachineError> {
        let mut core = self.core();
        core.registers.begin_snapshot()?;
        let mut writer = StreamWriter::try_new(Vec::new(), &core.registers.schema())?;
        while let Some(batch) = core.registers.snapshot_part()? {
            writer.write(&batch)?;
        }
        let meta =
            SnapshotMeta { last_log_id: core.last, last_membership: core.membership.clone() };
        Ok(Stored { meta, bytes: writer.into_inner()?.into() })
    }

    fn restore(&self, stored: &Stored) -> Result<(), MachineError> {
        let reader = StreamReader::try_new(stored.bytes.as_ref(), None)?;
        let mut core = self.core();
        core.registers.restore(&mut reader.map(|batch| batch.map_err(Into::into)))?;
        core.last = stored.meta.last_log_id;
        core.membership = stored.meta.last_membership.clone();
        Ok(())
    }
}

impl RaftStateMachine<Config> for SimMachine {
    type SnapshotData = Stored;
    type SnapshotBuilder = Taken;

    async fn applied_state(
        &mut self,
    ) -> Result<(Option<LogIdOf<Config>>, StoredMembershipOf<Config>), io::Error> {
        let core = self.core();
        Ok((core.last, core.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<Config>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some(entry) = entries.next().await {
            let (entry, responder) = entry?;
            let answer = self.apply_one(&entry);
            if let Some(responder) = responder {
                responder.send(answer);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Taken {
        Taken { machine: self.clone(), taken: Some(self.take().map_err(io::Error::other)) }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMetaOf<Config>,
        snapshot: Stored,
    ) -> Result<(), io::Error> {
        self.disk.takes_time().await;
        let stored = Stored { meta: meta.clone(), ..snapshot };
        self.restore(&stored).map_err(io::Error::other)?;
        self.disk.open(self.epoch)?.snapshot = Some(stored);
        self.observer.restored(self.node, meta.last_log_id);
        Ok(())
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> Result<Option<SnapshotOf<Config, Stored>>, io::Error> {
        let stored = self.disk.open(self.epoch)?.snapshot.clone();
        Ok(stored.map(|stored| Snapshot { meta: stored.meta.clone(), snapshot: stored }))
    }
}

/// A snapshot that was taken and is being written.
pub(crate) struct Taken {
    machine: SimMachine,
    taken: Option<io::Result<Stored>>,
}

impl RaftSnapshotBuilder<Config> for Taken {
    type SnapshotData = Stored;

    async fn build_snapshot(&mut self) -> Result<SnapshotOf<Config, Stored>, io::Error> {
        let missing = || Err(io::Error::other("a snapshot is built once"));
        let stored = self.taken.take().unwrap_or_else(missing)?;
        self.machine.disk.takes_time().await;
        let mut disk = self.machine.disk.open(self.machine.epoch)?;
        let newer = disk.snapshot.as_ref().map(|known| known.meta.last_log_id);
        if newer <= Some(stored.meta.last_log_id) {
            disk.snapshot = Some(stored.clone());
        }
        Ok(Snapshot { meta: stored.meta.clone(), snapshot: stored })
    }
}

/// A snapshot that is received.
pub(crate) struct Receiving {
    manifest: Manifest,
    bytes: Vec<u8>,
}

#[async_trait]
impl Transit for SimMachine {
    type Data = Stored;
    type Incoming = Receiving;

    fn manifest(&self, meta: &SnapshotMeta, data: &Stored) -> Manifest {
        let checksum = hash_bytes(&data.bytes);
        Manifest { meta: meta.clone(), size_bytes: data.bytes.len() as u64, checksum }
    }

    async fn read(&self, data: &Stored, offset: u64, _: usize) -> io::Result<Bytes> {
        self.disk.takes_time().await;
        // Small pieces, so that there are several.
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(data.bytes.len());
        Ok(data.bytes.slice(from..data.bytes.len().min(from + 200)))
    }

    async fn receive(&self, manifest: &Manifest) -> io::Result<(Receiving, u64)> {
        let mut disk = self.disk.open(self.epoch)?;
        let name = hash([manifest.checksum, manifest.size_bytes]);
        let bytes = disk.partial.take().filter(|(known, _)| *known == name);
        let bytes = bytes.map(|(_, bytes)| bytes).unwrap_or_default();
        let received = bytes.len() as u64;
        Ok((Receiving { manifest: manifest.clone(), bytes }, received))
    }

    async fn write(
        &self,
        mut incoming: Receiving,
        offset: u64,
        piece: Bytes,
    ) -> io::Result<Receiving> {
        self.disk.takes_time().await;
        if incoming.bytes.len() as u64 != offset {
            return Err(io::Error::other("pieces that do not follow each other"));
        }
        incoming.bytes.extend_from_slice(&piece);
        let name = hash([incoming.manifest.checksum, incoming.manifest.size_bytes]);
        self.disk.open(self.epoch)?.partial = Some((name, incoming.bytes.clone()));
        Ok(incoming)
    }

    async fn finish(&self, incoming: Receiving) -> io::Result<Stored> {
        let Receiving { manifest, bytes } = incoming;
        self.disk.open(self.epoch)?.partial = None;
        if hash_bytes(&bytes) != manifest.checksum {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "other bytes than announced"));
        }
        Ok(Stored { meta: manifest.meta, bytes: bytes.into() })
    }
}

impl Shared<Registers> for SimMachine {
    fn with(&self, look: &mut dyn FnMut(&mut Registers)) {
        look(&mut self.core().registers);
    }
}

impl Driver<Registers, SimRuntime> for SimMachine {
    type Transit = SimMachine;

    fn shared(&self) -> Arc<dyn Shared<Registers>> {
        Arc::new(self.clone())
    }

    fn transit(&self) -> Arc<SimMachine> {
        Arc::new(self.clone())
    }
}
