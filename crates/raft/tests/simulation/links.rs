//! A network that is late, loses, sends twice, and is cut.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use openraft::AsyncRuntime as _;
use openraft::async_runtime::Instant as _;
use openraft_rt_sim::{SimInstant, SimRuntime};
use prost::Message as _;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use sheaf_proto::raft::v1 as proto;
use sheaf_raft::network::{Broken, Lane, Links, Message, Refusal, Service, Topic};
use sheaf_raft::types::{Member, NodeId};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;

use crate::disk::Bug;
use crate::observer::Observer;
use crate::registers::hash_bytes;
use crate::time::pass;

/// Messages of a stream that are under way.
const UNDER_WAY: usize = 16;

/// How long a stream that is cut off waits before it breaks.
const PATIENCE: Duration = Duration::from_millis(900);

/// All links.
pub(crate) struct Network {
    observer: Arc<Observer>,
    bug: Option<Bug>,
    state: Mutex<State>,
}

struct State {
    random: StdRng,
    /// Who runs: the count of its starts, and what it answers.
    nodes: BTreeMap<NodeId, (u64, Arc<dyn Service>)>,
    starts: u64,
    /// Directions in which nothing arrives.
    cut: BTreeSet<(NodeId, NodeId)>,
    /// Nodes that stand still until then.
    paused: BTreeMap<NodeId, SimInstant>,
    /// The longest way of a message.
    slowest: Duration,
    lost: f64,
    twice: f64,
}

/// A direction, between two starts of two nodes.
#[derive(Clone, Copy)]
struct Way {
    from: (NodeId, u64),
    to: (NodeId, u64),
}

impl Way {
    fn back(self) -> Way {
        Way { from: self.to, to: self.from }
    }
}

impl Network {
    pub(crate) fn new(seed: u64, bug: Option<Bug>, observer: &Arc<Observer>) -> Arc<Self> {
        let state = State {
            random: StdRng::seed_from_u64(seed),
            nodes: BTreeMap::new(),
            starts: 0,
            cut: BTreeSet::new(),
            paused: BTreeMap::new(),
            slowest: Duration::from_millis(8),
            lost: 0.0,
            twice: 0.0,
        };
        let observer = Arc::clone(observer);
        Arc::new(Network { observer, bug, state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The links of a node that starts; it is reached once it is registered.
    pub(crate) fn links(self: &Arc<Self>, node: NodeId) -> Arc<dyn Links> {
        let mut state = self.state();
        state.starts += 1;
        Arc::new(SimLinks { network: Arc::clone(self), from: (node, state.starts) })
    }

    pub(crate) fn register(&self, node: NodeId, service: Arc<dyn Service>) {
        let mut state = self.state();
        let start = state.starts;
        state.nodes.insert(node, (start, service));
    }

    pub(crate) fn unregister(&self, node: NodeId) {
        self.state().nodes.remove(&node);
    }

    /// Nothing from one arrives at the other.
    pub(crate) fn cut(&self, from: NodeId, to: NodeId) {
        self.state().cut.insert((from, to));
    }

    /// How messages fare.
    pub(crate) fn weather(&self, slowest: Duration, lost: f64, twice: f64) {
        let mut state = self.state();
        (state.slowest, state.lost, state.twice) = (slowest, lost, twice);
    }

    /// Everything arrives again.
    pub(crate) fn heal(&self) {
        let mut state = self.state();
        state.cut.clear();
        (state.slowest, state.lost, state.twice) = (Duration::from_millis(8), 0.0, 0.0);
    }

    /// A node stands still for a while.
    pub(crate) fn pause(&self, node: NodeId, length: Duration) {
        self.state().paused.insert(node, SimInstant::now() + length);
    }

    /// Waits until a node goes on.
    pub(crate) async fn going_on(&self, node: NodeId) {
        loop {
            let until = self.state().paused.get(&node).copied();
            match until.filter(|until| *until > SimInstant::now()) {
                Some(until) => SimRuntime::sleep_until(until).await,
                None => break,
            }
        }
    }

    fn roll(&self, probability: impl Fn(&State) -> f64) -> bool {
        let mut state = self.state();
        let probability = probability(&state);
        probability > 0.0 && state.random.random_bool(probability)
    }

    fn delay(&self) -> Duration {
        let mut state = self.state();
        let longest = u64::try_from(state.slowest.as_micros()).unwrap_or(u64::MAX).max(60);
        Duration::from_micros(state.random.random_range(50..longest))
    }

    /// Whether both ends still run.
    fn lives(&self, way: Way) -> bool {
        let state = self.state();
        let runs = |(node, start): (NodeId, u64)| {
            state.nodes.get(&node).is_some_and(|(known, _)| *known == start)
        };
        runs(way.from) && runs(way.to)
    }

    fn is_open(&self, way: Way) -> bool {
        self.lives(way) && !self.state().cut.contains(&(way.from.0, way.to.0))
    }

    /// The way to a node as it runs now.
    fn find(&self, from: (NodeId, u64), to: NodeId) -> Option<(Way, Arc<dyn Service>)> {
        let state = self.state();
        let (start, service) = state.nodes.get(&to)?;
        Some((Way { from, to: (to, *start) }, Arc::clone(service)))
    }

    /// Takes a message along: `false` where it never arrives.
    async fn carry(&self, way: Way) -> bool {
        pass(self.delay()).await;
        self.going_on(way.from.0).await;
        self.going_on(way.to.0).await;
        self.is_open(way) && !self.roll(|state| state.lost)
    }

    /// Takes a message of a stream along, in its order: what is lost is sent again, what is cut
    /// off waits for a while.
    async fn carry_in_order(&self, way: Way) -> bool {
        pass(self.delay()).await;
        while self.roll(|state| state.lost) {
            pass(self.delay() * 4).await;
        }
        let mut waited = Duration::ZERO;
        loop {
            self.going_on(way.from.0).await;
            self.going_on(way.to.0).await;
            if self.is_open(way) {
                return true;
            }
            if !self.lives(way) || waited >= PATIENCE {
                return false;
            }
            let step = Duration::from_millis(50);
            pass(step).await;
            waited += step;
        }
    }

    fn saw(&self, way: Way, topic: Topic, message: &Message) {
        let words = [3, way.from.0, way.to.0, topic as u64, hash_bytes(&message.head)];
        self.observer.note(words);
        if topic == Topic::Append
            && let Ok(append) = proto::AppendRequest::decode(message.head.clone())
            && let Some(vote) = append.vote.filter(|vote| vote.is_committed)
        {
            self.observer.leads(vote.term, vote.node);
        }
    }
}

/// The links of one start of a node.
struct SimLinks {
    network: Arc<Network>,
    from: (NodeId, u64),
}

#[async_trait]
impl Links for SimLinks {
    async fn call(
        &self,
        to: NodeId,
        _: &Member,
        _: Lane,
        topic: Topic,
        message: Message,
    ) -> Result<Message, Broken> {
        let network = &self.network;
        if topic == Topic::PreVote && network.bug == Some(Bug::GrantPreVote) {
            return Ok(granted(&message));
        }
        let Some((way, service)) = network.find(self.from, to) else {
            pass(network.delay()).await;
            return Err(Broken::Unreachable { node: to, problem: "it does not run".to_owned() });
        };
        // A command that comes twice is two commands.
        let twice = topic != Topic::Propose && network.roll(|state| state.twice);
        let (answer, answered) = oneshot::channel();
        if twice {
            let (unheard, _) = oneshot::channel();
            let service = Arc::clone(&service);
            drop(SimRuntime::spawn(deliver(
                Arc::clone(network),
                (way, service),
                (topic, message.clone()),
                unheard,
            )));
        }
        drop(SimRuntime::spawn(deliver(
            Arc::clone(network),
            (way, service),
            (topic, message),
            answer,
        )));
        match answered.await {
            Ok(answer) => answer,
            // It was lost: nobody knows.
            Err(_) => std::future::pending().await,
        }
    }

    async fn stream(
        &self,
        to: NodeId,
        _: &Member,
        _: Lane,
        topic: Topic,
        requests: BoxStream<'static, Message>,
    ) -> Result<BoxStream<'static, Result<Message, Broken>>, Broken> {
        let network = Arc::clone(&self.network);
        let Some((way, service)) = network.find(self.from, to) else {
            pass(network.delay()).await;
            return Err(Broken::Unreachable { node: to, problem: "it does not run".to_owned() });
        };
        if !network.carry(way).await {
            return Err(Broken::Unreachable { node: to, problem: "it is cut off".to_owned() });
        }
        let (to_service, arrived) = mpsc::channel(UNDER_WAY);
        let (to_client, answers) = mpsc::channel(UNDER_WAY);
        let sent = Stream { network: Arc::clone(&network), way, topic };
        let frames = Frames::new(&network, topic);
        let forward = sent.forward(requests, to_service, to_client.clone(), frames.clone());
        drop(SimRuntime::spawn(forward));
        let replies = service.stream(way.from.0, topic, ReceiverStream::new(arrived).boxed());
        let sent = Stream { network, way, topic };
        drop(SimRuntime::spawn(sent.backward(replies, to_client, frames)));
        Ok(ReceiverStream::new(answers).boxed())
    }
}

/// One call, and its answer, where they arrive.
async fn deliver(
    network: Arc<Network>,
    (way, service): (Way, Arc<dyn Service>),
    (topic, message): (Topic, Message),
    answer: oneshot::Sender<Result<Message, Broken>>,
) {
    if !network.carry(way).await {
        return;
    }
    network.saw(way, topic, &message);
    let reply = service.call(way.from.0, topic, message).await;
    if network.carry(way.back()).await {
        // Whoever asked may have given up.
        answer.send(reply.map_err(|refusal| refused(way, refusal))).ok();
    }
}

fn refused(way: Way, refusal: Refusal) -> Broken {
    Broken::Refused { node: way.to.0, code: refusal.code, problem: refusal.problem }
}

fn cut(way: Way) -> Broken {
    Broken::Cut { node: way.to.0, problem: "it is cut off".to_owned() }
}

/// One stream of this network.
struct Stream {
    network: Arc<Network>,
    way: Way,
    topic: Topic,
}

type Hop<E> = mpsc::Sender<Result<Message, E>>;

impl Stream {
    /// Takes the requests along until one of the ends is gone.
    async fn forward(
        self,
        mut requests: BoxStream<'static, Message>,
        to_service: Hop<Broken>,
        to_client: Hop<Broken>,
        frames: Frames,
    ) {
        loop {
            // Whoever hears no answers any more sends no requests.
            let request = tokio::select! {
                biased;
                () = to_client.closed() => break,
                request = requests.next() => request,
            };
            let Some(request) = request else { break };
            if !self.network.carry_in_order(self.way).await {
                to_service.send(Err(cut(self.way))).await.ok();
                to_client.send(Err(cut(self.way))).await.ok();
                break;
            }
            self.network.saw(self.way, self.topic, &request);
            if self.network.bug == Some(Bug::DropFrame)
                && let Some(answer) = frames.drop_one(&self.network, &request)
            {
                to_client.send(Ok(answer)).await.ok();
                continue;
            }
            if to_service.send(Ok(frames.number(request))).await.is_err() {
                break;
            }
        }
    }

    /// Takes the answers back.
    async fn backward(
        self,
        mut replies: BoxStream<'static, Result<Message, Refusal>>,
        to_client: Hop<Broken>,
        frames: Frames,
    ) {
        while let Some(reply) = replies.next().await {
            let reply = if self.network.carry_in_order(self.way.back()).await {
                reply.map_err(|refusal| refused(self.way, refusal))
            } else {
                Err(cut(self.way))
            };
            let ends = reply.is_err();
            if to_client.send(reply.map(|reply| frames.answer(reply))).await.is_err() || ends {
                break;
            }
        }
    }
}

/// The planted bug that loses a frame, says that it arrived, and numbers the others anew.
#[derive(Clone)]
struct Frames {
    dropped: Option<Arc<Mutex<u64>>>,
}

impl Frames {
    fn new(network: &Network, topic: Topic) -> Self {
        let plants = network.bug == Some(Bug::DropFrame) && topic == Topic::Append;
        Frames { dropped: plants.then(Arc::default) }
    }

    fn count(&self) -> Option<MutexGuard<'_, u64>> {
        Some(self.dropped.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Loses a request, and answers it.
    fn drop_one(&self, network: &Network, request: &Message) -> Option<Message> {
        let mut dropped = self.count()?;
        let append = proto::AppendRequest::decode(request.head.clone()).ok()?;
        let term = append.entries.last()?.term;
        if !network.roll(|_| 0.05) {
            return None;
        }
        *dropped += 1;
        let first = append.previous.map_or(0, |previous| previous.index + 1);
        let last = proto::LogPosition { term, index: first + append.entries.len() as u64 - 1 };
        let matched = proto::append_reply::Result::Matched(proto::Matched { last: Some(last) });
        let reply = proto::AppendReply { sequence: append.sequence, result: Some(matched) };
        Some(Message { head: reply.encode_to_vec().into(), payloads: Vec::new() })
    }

    fn number(&self, mut request: Message) -> Message {
        if let Some(dropped) = self.count()
            && let Ok(mut append) = proto::AppendRequest::decode(request.head.clone())
        {
            append.sequence -= *dropped;
            request.head = append.encode_to_vec().into();
        }
        request
    }

    fn answer(&self, mut reply: Message) -> Message {
        if let Some(dropped) = self.count()
            && let Ok(mut append) = proto::AppendReply::decode(reply.head.clone())
        {
            append.sequence += *dropped;
            reply.head = append.encode_to_vec().into();
        }
        reply
    }
}

/// The planted bug that lets everybody be elected.
fn granted(message: &Message) -> Message {
    let asked = proto::VoteRequest::decode(message.head.clone()).unwrap_or_default();
    let reply = proto::VoteReply { vote: asked.vote, is_granted: true, last: None };
    Message { head: reply.encode_to_vec().into(), payloads: Vec::new() }
}
