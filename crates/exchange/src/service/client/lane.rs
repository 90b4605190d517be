//! The chunks of one partition on their way to its worker.

use std::collections::VecDeque;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use sheaf_proto::exchange::v1 as proto;
use sheaf_proto::exchange::v1::data_transfer_request::Message as Said;
use sheaf_retry::Code;
use tokio::sync::{Mutex, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::{DataExchangeClient, begin};
use crate::shuffle::{Error, InFlight, PartitionKey, Sender, SentPartition, Totals};

/// Messages that wait for the connection.
const QUEUE: usize = 4;

/// How far a lane is driven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    /// What may go is on its way, and there is room for more chunks.
    Room,
    /// Every chunk was taken; the call stays open.
    Taken,
    /// Every chunk was taken; the call ends.
    Empty,
    /// Every chunk was taken, and the commit.
    Committed,
}

/// One partition of one sender.
///
/// A chunk is kept until its worker has taken it: a call that breaks is made again,
/// and goes on there.
pub(super) struct Lane {
    client: DataExchangeClient,
    peer: String,
    state: Mutex<State>,
    /// As in `state`, for who only looks.
    sent: SentPartition,
}

struct State {
    key: PartitionKey,
    sender: Sender,
    schema: proto::ArrowSchema,
    /// Not taken yet; the first of them is number `first`.
    pending: VecDeque<proto::DataChunk>,
    pending_bytes: u64,
    first: u64,
    /// Chunks that were ever on their way.
    tried: u64,
    commit: Option<Totals>,
    committed: bool,
    call: Option<Call>,
}

/// An open call.
struct Call {
    peer: String,
    requests: mpsc::Sender<proto::DataTransferRequest>,
    answers: Streaming<proto::DataTransferResponse>,
    /// Of chunks on their way, in order: what the governor counts of each.
    on_way: VecDeque<(u64, Option<InFlight>)>,
    on_way_bytes: u64,
    credit: u64,
    has_committed: bool,
}

impl Lane {
    pub(super) fn new(
        client: &DataExchangeClient,
        peer: String,
        key: PartitionKey,
        sender: Sender,
        schema: proto::ArrowSchema,
    ) -> Self {
        let totals = Totals::default();
        let sent = SentPartition { key: key.clone(), peer: peer.clone(), totals, bytes: 0 };
        let state = State {
            key,
            sender,
            schema,
            pending: VecDeque::new(),
            pending_bytes: 0,
            first: 0,
            tried: 0,
            commit: None,
            committed: false,
            call: None,
        };
        Lane { client: client.clone(), peer, state: Mutex::new(state), sent }
    }

    /// The number of the next chunk.
    pub(super) fn next_sequence(&self) -> u64 {
        self.sent.totals.chunks
    }

    /// Adds a chunk, of so many bytes before it was packed.
    pub(super) fn push(&mut self, chunk: proto::DataChunk, bytes: u64) {
        self.sent.totals.chunks += 1;
        self.sent.totals.rows += chunk.rows;
        self.sent.bytes += bytes;
        let state = self.state.get_mut();
        state.pending_bytes += chunk.payload.len() as u64;
        state.pending.push_back(chunk);
    }

    /// There are no more chunks.
    pub(super) fn commit(&mut self) {
        self.state.get_mut().commit = Some(self.sent.totals);
    }

    pub(super) fn into_sent(self) -> SentPartition {
        self.sent
    }

    /// Whether there is something to do.
    pub(super) fn has_to(&mut self, goal: Goal) -> bool {
        let state = self.state.get_mut();
        !state.pending.is_empty() || (goal == Goal::Committed && !state.committed)
    }

    /// Sends until the goal is reached, over as many calls as it takes. Cancel-safe.
    pub(super) async fn drive(&mut self, goal: Goal) -> Result<(), Error> {
        let Lane { client, peer, state, .. } = &*self;
        let (client, peer, state) = (client, &**peer, state);
        let call = || -> BoxFuture<'_, _> {
            Box::pin(async move {
                let mut state = state.lock().await;
                let driven = state.drive(client, peer, goal).await;
                if driven.is_err() || matches!(goal, Goal::Empty | Goal::Committed) {
                    state.call = None;
                }
                driven
            })
        };
        let driven = client.calls.with_retries(peer, call).await;
        driven.map_err(|cause| client.calls.send_failed(peer, &self.sent.key, cause))
    }
}

impl State {
    fn has_reached(&self, goal: Goal, window: u64) -> bool {
        match goal {
            Goal::Room => self.pending_bytes < window,
            Goal::Taken | Goal::Empty => self.pending.is_empty(),
            Goal::Committed => self.committed,
        }
    }

    async fn drive(
        &mut self,
        client: &DataExchangeClient,
        peer: &str,
        goal: Goal,
    ) -> Result<(), Error> {
        let window = client.shared.options.window_bytes;
        loop {
            if self.call.is_none() {
                self.call = Some(self.open(client, peer).await?);
            }
            self.hand_on(client).await?;
            if self.has_reached(goal, window) {
                return Ok(());
            }
            let call = self.call.as_mut().ok_or_else(broken_off)?;
            let answer = client.within(call.answers.message()).await?;
            self.answered(&answer.ok_or_else(broken_off)?)?;
        }
    }

    /// Begins, or goes on with, the attempt in a new call.
    async fn open(&mut self, client: &DataExchangeClient, peer: &str) -> Result<Call, Error> {
        let (requests, outgoing) = mpsc::channel(QUEUE);
        let begin = begin(&self.key, self.sender, self.schema.clone());
        // The channel is new: there is room.
        requests.send(begin).await.map_err(|_| broken_off())?;
        let mut stub = client.client(peer)?;
        let answers = client.within(stub.stream_data(ReceiverStream::new(outgoing))).await?;
        let mut answers = answers.into_inner();
        let answer = client.within(answers.message()).await?.ok_or_else(broken_off)?;
        let next = answer.next_sequence;
        if next < self.first {
            let first = self.first;
            let text = format!("{peer} has chunks up to {next}, it had taken those up to {first}");
            return Err(sheaf_flight::Error::new(Code::PayloadLost, text).into());
        }
        // What somebody else has sent of this attempt is sent again, to be compared.
        while self.first < next.min(self.tried) {
            self.taken();
        }
        Ok(Call {
            peer: peer.to_owned(),
            requests,
            answers,
            on_way: VecDeque::new(),
            on_way_bytes: 0,
            credit: answer.credit_bytes,
            has_committed: false,
        })
    }

    /// Hands on what the worker and the governor allow: one chunk always. What is
    /// counted as on its way was handed on: nothing waits in between.
    async fn hand_on(&mut self, client: &DataExchangeClient) -> Result<(), Error> {
        let call = self.call.as_mut().ok_or_else(broken_off)?;
        let limit = call.credit.min(client.shared.options.window_bytes);
        while let Some(chunk) = self.pending.get(call.on_way.len()) {
            let bytes = chunk.payload.len();
            let governor = &client.shared.governor;
            let permit = if call.on_way.is_empty() {
                governor.acquire(bytes).await
            } else if call.on_way_bytes + bytes as u64 > limit {
                break;
            } else {
                // Who has chunks on their way must not wait here: their answers
                // give back what others wait for.
                match governor.acquire(bytes).now_or_never() {
                    Some(permit) => permit,
                    None => break,
                }
            };
            // Where the call is over, its answers say why.
            let Ok(place) = call.requests.reserve().await else { return Ok(()) };
            let message = Some(Said::Chunk(chunk.clone()));
            place.send(proto::DataTransferRequest { message });
            self.tried = self.tried.max(chunk.sequence + 1);
            client.calls.sent(&call.peer, 1, bytes);
            call.on_way.push_back((bytes as u64, permit));
            call.on_way_bytes += bytes as u64;
        }
        if let Some(Totals { chunks, rows }) = self.commit
            && call.on_way.len() == self.pending.len()
            && !call.has_committed
            && let Ok(place) = call.requests.reserve().await
        {
            let message = Some(Said::Commit(proto::TransferCommit { chunks, rows }));
            place.send(proto::DataTransferRequest { message });
            call.has_committed = true;
        }
        Ok(())
    }

    fn answered(&mut self, answer: &proto::DataTransferResponse) -> Result<(), Error> {
        let call = self.call.as_mut().ok_or_else(broken_off)?;
        call.credit = answer.credit_bytes;
        if let Some((bytes, _permit)) = call.on_way.pop_front() {
            let (next, first) = (answer.next_sequence, self.first);
            if next <= first {
                let text = format!("chunk {next} is said to be next after chunk {first}");
                return Err(Error::Protocol(text));
            }
            call.on_way_bytes -= bytes;
            self.taken();
            return Ok(());
        }
        if !answer.committed {
            return Err(Error::Protocol(format!("{answer:?} is no answer to a commit")));
        }
        self.committed = true;
        Ok(())
    }

    /// The worker has the first that is pending.
    fn taken(&mut self) {
        if let Some(chunk) = self.pending.pop_front() {
            self.pending_bytes -= chunk.payload.len() as u64;
        }
        self.first += 1;
    }
}

fn broken_off() -> Error {
    let text = "a call to send a partition ended before its answers";
    Error::Flight(sheaf_flight::Error::new(Code::Unavailable, text))
}
