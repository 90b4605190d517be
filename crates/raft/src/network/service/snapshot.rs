//! A snapshot from the leader.

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::{self, Either};
use futures::pin_mut;
use futures::stream::{BoxStream, StreamExt};
use openraft::async_runtime::WatchReceiver;
use openraft::storage::RaftStateMachine;
use openraft::{AsyncRuntime, Raft, Snapshot};
use sheaf_retry::Code;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;

use super::owner::Owner;
use super::stopped_for;
use crate::network::wire::{self, Received, SnapshotStep};
use crate::network::{Broken, Manifest, Message, Refusal, Transit};
use crate::types::{LogId, NodeId, Types, Vote};

/// Answers that wait for the link.
const ANSWERS_AHEAD: usize = 4;

/// What receives one snapshot.
pub(super) struct Receiver<R, S, T>
where
    R: AsyncRuntime,
    S: RaftStateMachine<Types<R>>,
{
    pub(super) owner: Owner<R, S>,
    pub(super) raft: Raft<Types<R>, S>,
    pub(super) transit: Arc<T>,
    pub(super) slot: Arc<Slot>,
    pub(super) alive: Duration,
}

/// One snapshot is received at a time, that of the latest leader: a sender that is gone without
/// a word is not waited for.
pub(super) struct Slot {
    place: Arc<Semaphore>,
    /// Whose snapshot is received, or was last.
    vote: Mutex<Option<Vote>>,
    /// Somebody else sends one.
    displaced: Notify,
}

impl Default for Slot {
    fn default() -> Self {
        Slot {
            place: Arc::new(Semaphore::new(1)),
            vote: Mutex::default(),
            displaced: Notify::new(),
        }
    }
}

impl Slot {
    /// A place for the snapshot of this leader, where no later one sends, and none is being
    /// read in.
    async fn take<R: AsyncRuntime>(
        &self,
        vote: &Vote,
        within: Duration,
    ) -> Result<OwnedSemaphorePermit, Refusal> {
        let busy = || {
            let problem = "another snapshot is being received".to_owned();
            Refusal { code: Code::Overloaded, problem }
        };
        {
            let mut known = self.vote.lock().unwrap_or_else(PoisonError::into_inner);
            if known.as_ref().is_some_and(|known| known > vote) {
                return Err(busy());
            }
            *known = Some(*vote);
        }
        self.displaced.notify_waiters();
        match R::timeout(within, Arc::clone(&self.place).acquire_owned()).await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(_)) | Err(_) => Err(busy()),
        }
    }
}

type Answers = mpsc::Sender<Result<Message, Refusal>>;

impl<R, S, T> Receiver<R, S, T>
where
    R: AsyncRuntime,
    S: RaftStateMachine<Types<R>, SnapshotData = T::Data>,
    T: Transit,
{
    /// Takes the snapshot and tells how far it is.
    pub(super) fn answer(
        self,
        from: NodeId,
        requests: BoxStream<'static, Result<Message, Broken>>,
    ) -> BoxStream<'static, Result<Message, Refusal>> {
        let (answers, told) = mpsc::channel(ANSWERS_AHEAD);
        let working = async move {
            if let Err(refusal) = self.receive(from, requests, &answers).await {
                answers.send(Err(refusal)).await.ok();
            }
        };
        drop(R::spawn(working));
        ReceiverStream::new(told).boxed()
    }

    async fn receive(
        &self,
        from: NodeId,
        mut requests: BoxStream<'static, Result<Message, Broken>>,
        answers: &Answers,
    ) -> Result<(), Refusal> {
        let (vote, manifest) = match next(from, &mut requests).await? {
            Some(SnapshotStep::Offer(vote, manifest, incarnation)) => {
                self.owner.check(from, incarnation)?;
                (vote, manifest)
            }
            Some(_) => return Err(Refusal::malformed("no offer")),
            None => return Ok(()),
        };
        self.check(&manifest)?;
        let _only = self.slot.take::<R>(&vote, self.alive).await?;
        let receiving = self.transit.receive(&manifest).await;
        let (mut incoming, mut offset) = receiving.map_err(|error| disk(&error))?;
        tell(answers, Received::Offset(offset)).await?;
        while offset < manifest.size_bytes {
            let displaced = pin!(self.slot.displaced.notified());
            let step = match future::select(pin!(next(from, &mut requests)), displaced).await {
                Either::Left((step, _)) => step?,
                Either::Right(_) => None,
            };
            let Some(step) = step else { return Ok(()) };
            let SnapshotStep::Piece { offset: at, bytes } = step else {
                return Err(Refusal::malformed("no piece where one is missing"));
            };
            let next = offset.saturating_add(bytes.len() as u64);
            if at != offset || bytes.is_empty() || next > manifest.size_bytes {
                let size = manifest.size_bytes;
                let problem = format!("a piece at {at} where {offset} of {size} are here");
                return Err(Refusal::malformed(problem));
            }
            let written = self.transit.write(incoming, at, bytes).await;
            incoming = written.map_err(|error| disk(&error))?;
            offset = next;
            tell(answers, Received::Offset(offset)).await?;
        }
        self.install((vote, &manifest), incoming, &mut requests, answers).await
    }

    /// Refuses a snapshot that cannot be one of this cluster's: the engine panics at it.
    fn check(&self, manifest: &Manifest) -> Result<(), Refusal> {
        let metrics = self.raft.metrics();
        let committed = metrics.borrow_watched().local_committed;
        let (Some(last), Some(committed)) = (manifest.meta.last_log_id, committed) else {
            return Ok(());
        };
        if is_consistent(&last, &committed) {
            return Ok(());
        }
        let problem = format!("a snapshot of entry {last}, where {committed} is committed");
        Err(Refusal { code: Code::FailedPrecondition, problem })
    }

    /// Reads it in; whoever asks meanwhile is told that it goes on.
    async fn install(
        &self,
        (vote, manifest): (Vote, &Manifest),
        incoming: T::Incoming,
        requests: &mut BoxStream<'static, Result<Message, Broken>>,
        answers: &Answers,
    ) -> Result<(), Refusal> {
        let installing = async {
            let data = self.transit.finish(incoming).await.map_err(|error| disk(&error))?;
            self.check(manifest)?;
            let snapshot = Snapshot { meta: manifest.meta.clone(), snapshot: data };
            let installed = self.raft.install_full_snapshot(vote, snapshot).await;
            installed.map(|response| response.vote).map_err(|error| stopped_for(&error))
        };
        pin_mut!(installing);
        loop {
            // The leader may be gone: it is installed all the same, as it is whole.
            match requests.next().await {
                Some(Ok(message)) => is_question(message)?,
                Some(Err(_)) | None => return installing.await.map(drop),
            }
            let pause = R::sleep(self.alive);
            pin_mut!(pause);
            let said = match future::select(&mut installing, pause).await {
                Either::Left((installed, _)) => Received::Done(installed?),
                Either::Right(((), _)) => Received::Installing,
            };
            tell(answers, said).await?;
            if matches!(said, Received::Done(_)) {
                return Ok(());
            }
        }
    }
}

/// Whether a node that committed one entry can be sent a snapshot up to another.
fn is_consistent(last: &LogId, committed: &LogId) -> bool {
    last <= committed || last.index > committed.index
}

/// The next step of the sender; `None` when it is gone.
async fn next(
    from: NodeId,
    requests: &mut BoxStream<'static, Result<Message, Broken>>,
) -> Result<Option<SnapshotStep>, Refusal> {
    match requests.next().await {
        Some(Ok(message)) => wire::read_snapshot_step(from, message).map(Some),
        Some(Err(_)) | None => Ok(None),
    }
}

/// After the last piece there are only questions.
fn is_question(message: Message) -> Result<(), Refusal> {
    // Whose it is was seen with the offer.
    match wire::read_snapshot_step(0, message)? {
        SnapshotStep::Install => Ok(()),
        _ => Err(Refusal::malformed("more than the snapshot")),
    }
}

/// Tells the sender how far it is.
async fn tell(answers: &Answers, received: Received) -> Result<(), Refusal> {
    let gone = |_| Refusal { code: Code::Unavailable, problem: "the sender is gone".to_owned() };
    answers.send(Ok(wire::snapshot_reply(&received))).await.map_err(gone)
}

/// The disk does not take it, or it is not what it should be.
fn disk(error: &std::io::Error) -> Refusal {
    use std::io::ErrorKind;
    let code = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Code::DiskFull,
        ErrorKind::InvalidData => Code::MalformedData,
        _ => Code::Io,
    };
    Refusal { code, problem: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_sender_that_fell_silent_gives_its_place_to_the_next_one_of_its_term_or_later() {
        use openraft_rt_tokio::TokioRuntime as Runtime;
        let (slot, soon) = (Arc::new(Slot::default()), Duration::from_millis(20));
        let (first, second) = (Vote::new_committed(3, 1), Vote::new_committed(4, 2));
        let silent = tokio::spawn({
            let slot = Arc::clone(&slot);
            async move {
                let _place = slot.take::<Runtime>(&first, soon).await.unwrap();
                slot.displaced.notified().await;
            }
        });
        while slot.place.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let long = Duration::from_secs(60);
        let place = slot.take::<Runtime>(&second, long).await.unwrap();
        silent.await.unwrap();
        // One that is being read in, and one of an earlier term, are not given way to.
        assert!(slot.take::<Runtime>(&second, soon).await.is_err());
        drop(place);
        assert!(slot.take::<Runtime>(&first, soon).await.is_err());
        drop(slot.take::<Runtime>(&second, soon).await.unwrap());
    }

    #[test]
    fn a_snapshot_beside_what_is_committed_is_refused() {
        let at = LogId::new_term_index;
        assert!(is_consistent(&at(2, 9), &at(2, 9)));
        assert!(is_consistent(&at(2, 8), &at(2, 9)));
        assert!(is_consistent(&at(3, 10), &at(2, 9)));
        assert!(!is_consistent(&at(3, 9), &at(2, 9)));
        assert!(!is_consistent(&at(3, 8), &at(2, 9)));
    }
}
