//! A leader's stream of appends.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use futures::stream::{self, BoxStream, StreamExt};
use openraft::AsyncRuntime;
use openraft::raft::StreamAppendError;
use openraft::storage::RaftStateMachine;

use super::owner::Owner;
use super::{stopped_for, to_engine};
use crate::network::wire::{self, AppendRequest, Appended};
use crate::network::{Broken, Message, Refusal};
use crate::types::{NodeId, Types};

/// What the two ends of a session share.
#[derive(Default)]
struct Session {
    /// The numbers of the requests that the engine has.
    sequences: VecDeque<u64>,
    /// How many requests there were.
    count: u64,
    /// Why no more are taken.
    refusal: Option<Refusal>,
}

/// Gives the engine one request after the other, and the leader the answers in their order.
///
/// A request that cannot be, or one that is missing, ends the session: none is passed over.
pub(super) fn answer<R, S>(
    owner: Owner<R, S>,
    from: NodeId,
    requests: BoxStream<'static, Result<Message, Broken>>,
) -> BoxStream<'static, Result<Message, Refusal>>
where
    R: AsyncRuntime,
    S: RaftStateMachine<Types<R>>,
{
    let raft = owner.raft.clone();
    let session = Arc::new(Mutex::new(Session::default()));
    let taking = Arc::clone(&session);
    let input = requests.scan((), move |(), request| {
        let mut session = taking.lock().unwrap_or_else(PoisonError::into_inner);
        futures::future::ready(match read(&owner, from, request, &mut session) {
            Ok(request) => Some(to_engine(request)),
            Err(refusal) => {
                session.refusal = refusal;
                None
            }
        })
    });
    let answering = Arc::clone(&session);
    let answers = raft.stream_append(input).map(move |result| {
        let mut session = answering.lock().unwrap_or_else(PoisonError::into_inner);
        let sequence = session.sequences.pop_front().unwrap_or(0);
        let appended = match result {
            Ok(Ok(matched)) => Appended::Matched(matched),
            Ok(Err(StreamAppendError::Conflict(id))) => Appended::Conflict(id),
            Ok(Err(StreamAppendError::HigherVote(vote))) => Appended::Higher(vote),
            Err(fatal) => return Err(stopped_for(&fatal)),
        };
        Ok(wire::append_reply(sequence, &appended))
    });
    let last = stream::once(async move {
        session.lock().unwrap_or_else(PoisonError::into_inner).refusal.take()
    });
    answers.chain(last.filter_map(|refusal| async move { refusal.map(Err) })).boxed()
}

/// Reads a request; the error is what the leader is told, where it is still there.
fn read<R, S>(
    owner: &Owner<R, S>,
    from: NodeId,
    request: Result<Message, Broken>,
    session: &mut Session,
) -> Result<AppendRequest, Option<Refusal>>
where
    R: AsyncRuntime,
    S: RaftStateMachine<Types<R>>,
{
    // The link is gone: there is nobody to tell.
    let message = request.map_err(|_| None)?;
    let request = wire::read_append_request(from, message).map_err(Some)?;
    owner.check(from, request.incarnation).map_err(Some)?;
    session.count += 1;
    if request.sequence != session.count {
        let problem = format!("request {} where {} is due", request.sequence, session.count);
        return Err(Some(Refusal::malformed(problem)));
    }
    session.sequences.push_back(request.sequence);
    Ok(request)
}
