//! A snapshot to a node that is too far behind: in pieces, from where an attempt before broke.

use std::future::Future;
use std::time::Duration;

use futures::future::{self, Either};
use futures::stream::BoxStream;
use futures::{StreamExt, pin_mut};
use openraft::error::{ReplicationClosed, StreamingError};
use openraft::network::{RPCOption, RPCTypes};
use openraft::raft::SnapshotResponse;
use openraft::{AsyncRuntime, Snapshot, StorageError};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;

use super::client::{Peer, odd, rpc_error};
use super::wire::{self, Received};
use super::{Broken, Lane, Manifest, Message, Topic, Transit};
use crate::types::{EntryLeader, Member, NodeId, Types, Vote};

/// Bytes of a piece: nothing is ever in memory as a whole.
pub(crate) const PIECE_BYTES: usize = 1 << 20;

/// Pieces that are read ahead of the link.
const PIECES_AHEAD: usize = 2;

impl<T: Transit> Peer<T> {
    /// Sends a snapshot and waits until it is installed.
    pub(super) async fn send_snapshot<R: AsyncRuntime>(
        &mut self,
        vote: Vote,
        snapshot: Snapshot<EntryLeader, NodeId, Member, T::Data>,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<Types<R>>, StreamingError<Types<R>>> {
        let Snapshot { meta, snapshot: data } = snapshot;
        let manifest = self.transit.manifest(&meta, &data);
        let (pieces, requests) = mpsc::channel(PIECES_AHEAD);
        let (begin, from) = oneshot::channel();
        let size = manifest.size_bytes;
        let asking = Asking { pieces: pieces.clone(), begin: Some(begin), size };
        let sending = self.pump::<R>(vote, &manifest, &data, pieces, from);
        let hearing = self.hear::<R>(ReceiverStream::new(requests).boxed(), asking, option);
        let transfer = async {
            pin_mut!(sending, hearing);
            match future::select(hearing, sending).await {
                Either::Left((heard, _)) => heard,
                Either::Right((Err(error), _)) => Err(error),
                Either::Right((Ok(()), hearing)) => hearing.await,
            }
        };
        pin_mut!(transfer, cancel);
        match future::select(cancel, transfer).await {
            Either::Left((closed, _)) => Err(StreamingError::Closed(closed)),
            Either::Right((outcome, _)) => {
                let vote = outcome?;
                self.took();
                Ok(SnapshotResponse { vote })
            }
        }
    }

    /// Offers the snapshot, and sends what the receiver lacks of it.
    async fn pump<R: AsyncRuntime>(
        &self,
        vote: Vote,
        manifest: &Manifest,
        data: &T::Data,
        pieces: mpsc::Sender<Message>,
        from: oneshot::Receiver<u64>,
    ) -> Result<(), StreamingError<Types<R>>> {
        // Where nobody takes the pieces any more, the answers say why.
        if pieces.send(wire::offer(&vote, manifest, self.member.incarnation)).await.is_err() {
            return Ok(());
        }
        let Ok(mut offset) = from.await else { return Ok(()) };
        while offset < manifest.size_bytes {
            let bytes =
                self.transit.read(data, offset, PIECE_BYTES).await.map_err(unreadable::<R>)?;
            if bytes.is_empty() {
                let problem = format!("it ends at {offset} of {} bytes", manifest.size_bytes);
                return Err(unreadable::<R>(std::io::Error::other(problem)));
            }
            let next = offset + bytes.len() as u64;
            if pieces.send(wire::piece(offset, bytes)).await.is_err() {
                return Ok(());
            }
            offset = next;
        }
        Ok(())
    }

    /// Hears what the receiver says, until it has installed the snapshot.
    async fn hear<R: AsyncRuntime>(
        &self,
        requests: BoxStream<'static, Message>,
        mut asking: Asking,
        option: RPCOption,
    ) -> Result<Vote, StreamingError<Types<R>>> {
        let idle = option.soft_ttl();
        let opening =
            self.links.stream(self.target, &self.member, Lane::Bulk, Topic::Snapshot, requests);
        let mut answers = match R::timeout(idle, opening).await {
            Ok(answers) => answers.map_err(|broken| self.broken::<R>(&broken))?,
            Err(_) => return Err(self.late::<R>(RPCTypes::InstallSnapshot, idle).into()),
        };
        loop {
            let answer = next::<R>(&mut answers, idle).await;
            let answer = match answer {
                Ok(Some(answer)) => answer.map_err(|broken| self.broken::<R>(&broken))?,
                Ok(None) => {
                    let problem = "the stream ended before the snapshot".to_owned();
                    let cut = Broken::Cut { node: self.target, problem };
                    return Err(rpc_error::<R>(&cut).into());
                }
                Err(()) => return Err(self.late::<R>(RPCTypes::InstallSnapshot, idle).into()),
            };
            match wire::read_snapshot_reply(&answer).map_err(|refusal| odd::<R>(&refusal))? {
                Received::Done(vote) => return Ok(vote),
                Received::Installing => asking.ask().await,
                Received::Offset(offset) => asking.reached(offset).await,
            }
        }
    }
}

/// What the answers make the sender do.
struct Asking {
    pieces: mpsc::Sender<Message>,
    /// Where the pump waits for its begin.
    begin: Option<oneshot::Sender<u64>>,
    size: u64,
}

impl Asking {
    /// The receiver has so much.
    async fn reached(&mut self, offset: u64) {
        if let Some(begin) = self.begin.take() {
            // The pump is there as long as this is.
            begin.send(offset).ok();
        }
        if offset >= self.size {
            self.ask().await;
        }
    }

    /// Asks whether it is installed; where nobody takes the question, the answers say why.
    async fn ask(&self) {
        self.pieces.send(wire::install()).await.ok();
    }
}

/// The next answer, if it comes in time: the receiver says something of every piece, and says
/// that it goes on while it installs.
async fn next<R: AsyncRuntime>(
    answers: &mut BoxStream<'static, Result<Message, Broken>>,
    within: Duration,
) -> Result<Option<Result<Message, Broken>>, ()> {
    R::timeout(within, answers.next()).await.map_err(drop)
}

/// The node's own snapshot cannot be read: the node stops.
fn unreadable<R: AsyncRuntime>(error: std::io::Error) -> StreamingError<Types<R>> {
    use openraft::{ErrorSubject, ErrorVerb};
    let subject = ErrorSubject::Snapshot(None);
    StreamingError::StorageError(StorageError::from_io_error(subject, ErrorVerb::Read, error))
}

#[cfg(test)]
mod tests {
    use openraft::error::RPCError;

    use super::*;

    #[test]
    fn a_link_that_broke_is_tried_at_once_and_a_node_that_is_away_is_not() {
        use openraft_rt_tokio::TokioRuntime;
        let problem = String::new();
        let cut = Broken::Cut { node: 2, problem: problem.clone() };
        assert!(matches!(rpc_error::<TokioRuntime>(&cut), RPCError::Network(_)));
        let away = Broken::Unreachable { node: 2, problem };
        assert!(matches!(rpc_error::<TokioRuntime>(&away), RPCError::Unreachable(_)));
    }
}
