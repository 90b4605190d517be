//! Snapshots in files, on their way between nodes.

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use openraft::AsyncRuntime;

use super::{Driver, Shared};
use crate::apply::Machine;
use crate::blocking;
use crate::machine::StateMachine;
use crate::network::{Manifest, Transit};
use crate::snapshot::{IncomingSnapshot, SnapshotFile, SnapshotId, Snapshots};
use crate::types::{NodeId, SnapshotMeta};

#[async_trait]
impl Transit for Snapshots {
    type Data = SnapshotFile;
    type Incoming = IncomingSnapshot;

    fn manifest(&self, meta: &SnapshotMeta, data: &SnapshotFile) -> Manifest {
        let SnapshotId { bytes, hash, .. } = data.id();
        Manifest { meta: meta.clone(), size_bytes: bytes, checksum: hash }
    }

    async fn read(&self, data: &SnapshotFile, offset: u64, limit: usize) -> io::Result<Bytes> {
        let data = data.clone();
        blocking::run(move || data.chunk(offset, limit)).await
    }

    async fn receive(&self, manifest: &Manifest) -> io::Result<(IncomingSnapshot, u64)> {
        let last = manifest.meta.last_log_id;
        let id = SnapshotId {
            term: last.map_or(0, |last| *last.leader_id),
            index: last.map_or(0, |last| last.index),
            bytes: manifest.size_bytes,
            hash: manifest.checksum,
        };
        let snapshots = self.clone();
        let incoming = blocking::run(move || snapshots.receive(id)).await?;
        let received = incoming.received();
        Ok((incoming, received))
    }

    async fn write(
        &self,
        mut incoming: IncomingSnapshot,
        offset: u64,
        piece: Bytes,
    ) -> io::Result<IncomingSnapshot> {
        blocking::run(move || incoming.write(offset, &piece).map(|()| incoming)).await
    }

    async fn finish(&self, incoming: IncomingSnapshot) -> io::Result<SnapshotFile> {
        blocking::run(move || incoming.finish()).await
    }
}

impl<M: StateMachine, R: AsyncRuntime> Shared<M> for Machine<M, R> {
    fn with(&self, look: &mut dyn FnMut(&mut M)) {
        self.with_machine(look);
    }

    fn knew(&self, id: NodeId) -> bool {
        Machine::knew(self, id)
    }
}

impl<M: StateMachine, R: AsyncRuntime> Driver<M, R> for Machine<M, R> {
    type Transit = Snapshots;

    fn shared(&self) -> Arc<dyn Shared<M>> {
        Arc::new(self.clone())
    }

    fn transit(&self) -> Arc<Snapshots> {
        Arc::new(self.snapshots().clone())
    }
}
