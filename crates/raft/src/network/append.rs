//! Appends in a row: several on their way, each answer held against its request.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::task::AtomicWaker;
use futures::{Stream, StreamExt, stream};
use openraft::AsyncRuntime;
use openraft::error::RPCError;
use openraft::network::{RPCOption, RPCTypes};
use openraft::raft::{AppendEntriesRequest, StreamAppendResult};
use tokio::sync::Notify;

use super::client::{Appending, InFlight, Peer, odd, of_engine, rpc_error};
use super::wire;
use super::{Broken, Lane, Message, Topic, Transit};
use crate::types::{LogId, Types, Vote};

/// A request that is on its way.
struct Sent {
    sequence: u64,
    vote: Vote,
    previous: Option<LogId>,
    last: Option<LogId>,
    bytes: usize,
}

/// The requests of a session that are on their way.
struct Window {
    limit: InFlight,
    sent: Mutex<VecDeque<Sent>>,
    /// There is room, or there is something to wait for.
    changed: Notify,
}

impl Window {
    fn has_room(&self) -> bool {
        let sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes: usize = sent.iter().map(|sent| sent.bytes).sum();
        sent.is_empty() || (sent.len() < self.limit.requests && bytes < self.limit.bytes)
    }

    /// Waits until another request may go.
    async fn room(&self) {
        while !self.has_room() {
            self.changed.notified().await;
        }
    }

    fn push(&self, sent: Sent) {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).push_back(sent);
    }

    /// Whether a request is on its way that ends at this entry, too, or before.
    fn ends_again_at(&self, last: &Option<LogId>) -> bool {
        let sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        sent.front().is_some_and(|next| next.last <= *last)
    }

    fn is_empty(&self) -> bool {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// The request that the next answer is to.
    fn pop(&self) -> Option<Sent> {
        let sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        self.changed.notify_one();
        sent
    }
}

impl<T: Transit> Peer<T> {
    /// Appends over a stream of their own.
    ///
    /// The engine's request is taken only when there is room for it: it has no limit itself.
    /// The first one is taken before the node is asked: there the engine waits after a failure,
    /// and a node that is away would be asked without end.
    pub(super) async fn pipelined<R, S>(
        &mut self,
        mut input: S,
        option: RPCOption,
    ) -> Appending<'_, R>
    where
        R: AsyncRuntime,
        S: Stream<Item = AppendEntriesRequest<Types<R>>> + Send + Unpin + 'static,
    {
        let Some(first) = input.next().await else { return Ok(stream::empty().boxed()) };
        let input = stream::iter([first]).chain(input);
        let limit = self.in_flight;
        let window = Arc::new(Window { limit, sent: Mutex::default(), changed: Notify::new() });
        let requests =
            Requests::new(requests::<R, _>(input, Arc::clone(&window), self.member.incarnation));
        let guard = Guard(requests.clone());
        let requests = requests.boxed();
        let opening =
            self.links.stream(self.target, &self.member, Lane::Data, Topic::Append, requests);
        // Setting up is given less than a heartbeat; a stream lives as long as it gets on.
        let answers = match R::timeout(option.soft_ttl(), opening).await {
            Ok(answers) => answers.map_err(|broken| self.broken(&broken))?,
            Err(_) => return Err(self.late(RPCTypes::AppendEntries, option.soft_ttl())),
        };
        // An answer may take a follower's flush of all that is on its way.
        let idle = option.soft_ttl().max(self.election_timeout);
        let session = Session { peer: &*self, answers, window, idle, requests: guard };
        let results = stream::unfold(Some(session), |session| async move {
            let mut session = session?;
            let result = session.next::<R>().await?;
            let goes_on = matches!(result, Ok(Ok(_)));
            Some((result, goes_on.then_some(session)))
        });
        Ok(results.boxed())
    }
}

/// The requests as they go on the wire, as fast as the window lets them.
fn requests<R, S>(
    input: S,
    window: Arc<Window>,
    incarnation: u64,
) -> stream::BoxStream<'static, Message>
where
    R: AsyncRuntime,
    S: Stream<Item = AppendEntriesRequest<Types<R>>> + Send + Unpin + 'static,
{
    let next = move |(mut input, window, sequence): (S, Arc<Window>, u64)| async move {
        window.room().await;
        let request = of_engine(input.next().await?, sequence, incarnation);
        let (vote, previous, last) = (request.vote, request.previous, request.last());
        let message = wire::append_request(request);
        let bytes = message.size_bytes();
        window.push(Sent { sequence, vote, previous, last, bytes });
        Some((message, (input, window, sequence + 1)))
    };
    stream::unfold((input, window, 1), next).boxed()
}

/// The requests, until their session is over.
///
/// The engine's requests of all sessions come from one place, which whoever waits for one has
/// locked: a link that kept the requests of an old session would hold up the next one.
///
/// While the engine takes an answer in, no request is taken from it: see [`Session::next`].
#[derive(Clone)]
struct Requests {
    state: Arc<Mutex<Taking>>,
    /// Whoever waits for a request.
    reader: Arc<AtomicWaker>,
}

struct Taking {
    requests: Option<stream::BoxStream<'static, Message>>,
    is_held: bool,
}

impl Requests {
    fn new(requests: stream::BoxStream<'static, Message>) -> Self {
        let taking = Taking { requests: Some(requests), is_held: false };
        Requests { state: Arc::new(Mutex::new(taking)), reader: Arc::default() }
    }

    fn state(&self) -> MutexGuard<'_, Taking> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on no request is taken, or again.
    fn hold(&self, is_held: bool) {
        self.state().is_held = is_held;
        if !is_held {
            self.reader.wake();
        }
    }
}

impl Stream for Requests {
    type Item = Message;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Message>> {
        self.reader.register(context.waker());
        let mut state = self.state();
        if state.is_held {
            return Poll::Pending;
        }
        let Some(requests) = state.requests.as_mut() else { return Poll::Ready(None) };
        let polled = requests.as_mut().poll_next(context);
        if matches!(polled, Poll::Ready(None)) {
            state.requests = None;
        }
        polled
    }
}

/// Ends the requests with their session.
struct Guard(Requests);

impl Drop for Guard {
    fn drop(&mut self) {
        let requests = {
            let mut state = self.0.state();
            state.is_held = false;
            state.requests.take()
        };
        drop(requests);
        self.0.reader.wake();
    }
}

/// One session of a leader with a follower; its answers go nowhere else.
struct Session<'s, T> {
    peer: &'s Peer<T>,
    answers: stream::BoxStream<'static, Result<Message, Broken>>,
    window: Arc<Window>,
    idle: Duration,
    requests: Guard,
}

impl<T: Transit> Session<'_, T> {
    /// The next answer, for the engine; `None` when all requests are answered.
    ///
    /// The engine takes an answer for one to every request that ends at the same entry or
    /// before, also to those that went out later and are not answered: a heartbeat behind
    /// entries. It would believe to lead at the time of the later one, and a read would be
    /// stale. So it hears of an entry only with the last answer to a request that ends there,
    /// and gives no further request while it takes the answer in.
    async fn next<R: AsyncRuntime>(
        &mut self,
    ) -> Option<Result<StreamAppendResult<Types<R>>, RPCError<Types<R>>>> {
        self.requests.0.hold(false);
        loop {
            let result = self.one::<R>().await?;
            let Ok(Ok(matched)) = &result else { return Some(result) };
            self.requests.0.hold(true);
            if !self.window.ends_again_at(matched) {
                return Some(result);
            }
            self.requests.0.hold(false);
        }
    }

    /// The next answer as it comes.
    async fn one<R: AsyncRuntime>(
        &mut self,
    ) -> Option<Result<StreamAppendResult<Types<R>>, RPCError<Types<R>>>> {
        let answer = loop {
            match R::timeout(self.idle, self.answers.next()).await {
                Ok(answer) => break answer,
                // A leader without entries has nothing to send: that is no failure.
                Err(_) if self.window.is_empty() => {}
                Err(_) => return Some(Err(self.peer.late(RPCTypes::AppendEntries, self.idle))),
            }
        };
        let answer = match answer {
            Some(Ok(answer)) => answer,
            Some(Err(broken)) => return Some(Err(self.peer.broken(&broken))),
            None if self.window.is_empty() => return None,
            None => {
                let problem = "the stream ended before its answers".to_owned();
                return Some(Err(rpc_error(&Broken::Cut { node: self.peer.target, problem })));
            }
        };
        Some(self.read(&answer))
    }

    fn read<R: AsyncRuntime>(
        &self,
        answer: &Message,
    ) -> Result<StreamAppendResult<Types<R>>, RPCError<Types<R>>> {
        let Some(sent) = self.window.pop() else {
            let problem = "an answer without a request".to_owned();
            return Err(rpc_error(&Broken::Cut { node: self.peer.target, problem }));
        };
        let appended = wire::read_append_reply(answer, sent.sequence, sent.previous, sent.last)
            .map_err(|refusal| odd(&refusal))?;
        self.peer.appended(&sent.vote, appended)
    }
}
