//! The links over Arrow Flight: the transport, seen as a node sees it.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use sheaf_raft_transport::{self as transport, Engine, FlightTransport, Packet, PacketStream};
use sheaf_retry::{Code, Retryable as _};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::{Broken, Lane, Links, Message, Refusal, Service, Topic};
use crate::types::{Member, NodeId};

/// What the transport's word for a topic is; `hello` is its own.
const fn kind(topic: Topic) -> &'static str {
    match topic {
        Topic::Hello => "state",
        topic => topic.name(),
    }
}

fn topic(kind: &str) -> Option<Topic> {
    Topic::ALL.into_iter().find(|topic| self::kind(*topic) == kind)
}

const fn lane(lane: Lane) -> transport::Lane {
    match lane {
        Lane::Control => transport::Lane::Control,
        Lane::Data => transport::Lane::Data,
        Lane::Bulk => transport::Lane::Bulk,
    }
}

fn packet(message: Message) -> Packet {
    Packet { meta: message.head, payloads: message.payloads }
}

fn message(packet: Packet) -> Message {
    Message { head: packet.meta, payloads: packet.payloads }
}

/// The ways to the other nodes over one transport.
#[derive(Clone, Debug)]
pub struct FlightLinks {
    transport: FlightTransport,
    /// After which the address of a call without an answer is suspected.
    patience: Duration,
}

impl FlightLinks {
    /// Over a transport of the same cluster and node. A call without an answer is given
    /// up after `patience`; those that want less time are dropped by their caller.
    pub fn new(transport: FlightTransport, patience: Duration) -> Self {
        FlightLinks { transport, patience }
    }

    fn broken(node: NodeId, error: &transport::Error) -> Broken {
        let problem = told(error);
        match error {
            transport::Error::Unreachable { .. } | transport::Error::UnknownPeer { .. } => {
                Broken::Unreachable { node, problem }
            }
            transport::Error::Peer { source, .. } if is_refusal(source.code()) => {
                Broken::Refused { node, code: source.code(), problem }
            }
            transport::Error::TooLarge { .. } => {
                Broken::Refused { node, code: error.code(), problem }
            }
            _ => Broken::Cut { node, problem },
        }
    }
}

/// An error with its causes.
fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// Whether the other side said no, rather than nothing.
fn is_refusal(code: Code) -> bool {
    !matches!(
        code,
        Code::Unavailable | Code::DeadlineExceeded | Code::Draining | Code::Cancelled | Code::Io
    )
}

/// Ends a task with what it works for.
struct Pump(JoinHandle<()>);

impl Drop for Pump {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[async_trait]
impl Links for FlightLinks {
    async fn call(
        &self,
        to: NodeId,
        member: &Member,
        over: Lane,
        topic: Topic,
        message: Message,
    ) -> Result<Message, Broken> {
        let broken = |error: transport::Error| Self::broken(to, &error);
        self.transport.add_peer(to, member.endpoints.clone()).map_err(broken)?;
        let packet = packet(message);
        let answer = self.transport.call(to, lane(over), kind(topic), packet, self.patience);
        answer.await.map(self::message).map_err(broken)
    }

    async fn stream(
        &self,
        to: NodeId,
        member: &Member,
        over: Lane,
        topic: Topic,
        mut requests: BoxStream<'static, Message>,
    ) -> Result<BoxStream<'static, Result<Message, Broken>>, Broken> {
        let broken = move |error: transport::Error| Self::broken(to, &error);
        self.transport.add_peer(to, member.endpoints.clone()).map_err(broken)?;
        let opened = self.transport.open_stream(to, lane(over), kind(topic)).await;
        let (mut sender, replies) = opened.map_err(broken)?;
        let (failed, failure) = oneshot::channel();
        let pump = Pump(tokio::spawn(async move {
            while let Some(message) = requests.next().await {
                if let Err(error) = sender.send(packet(message)).await {
                    // Where the stream is over, the replies say why.
                    if !matches!(error, transport::Error::Ended { .. }) {
                        drop(failed.send(error));
                    }
                    return;
                }
            }
        }));
        let replies = replies.into_stream().map(move |reply| reply.map(message).map_err(broken));
        let state = (replies.boxed(), failure, pump);
        let answers = stream::unfold(state, move |(mut replies, mut failure, pump)| async move {
            let next = match replies.next().await {
                Some(reply) => reply,
                // In good order, unless a request could not be sent.
                None => Err(broken(failure.try_recv().ok()?)),
            };
            Some((next, (replies, failure, pump)))
        });
        Ok(answers.boxed())
    }
}

/// Hands what the transport receives to a node, as soon as there is one.
#[derive(Clone, Default)]
pub struct FlightEngine {
    service: Arc<OnceLock<Arc<dyn Service>>>,
}

impl std::fmt::Debug for FlightEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let is_attached = self.service.get().is_some();
        f.debug_struct("FlightEngine").field("is_attached", &is_attached).finish()
    }
}

impl FlightEngine {
    /// Answers nobody yet.
    pub fn new() -> Self {
        FlightEngine::default()
    }

    /// Answers for this node from now on; the first that is given stays.
    pub fn attach(&self, service: Arc<dyn Service>) {
        self.service.get_or_init(|| service);
    }

    fn service(&self) -> Result<&Arc<dyn Service>, transport::Error> {
        self.service.get().ok_or_else(|| {
            transport::Error::engine(Code::Unavailable, "this node is still starting")
        })
    }
}

fn unknown(kind: &str) -> transport::Error {
    let kind: String = kind.chars().take(64).collect();
    transport::Error::engine(Code::Unimplemented, format!("a node of Raft has no {kind:?}"))
}

fn refused(refusal: Refusal) -> transport::Error {
    transport::Error::engine(refusal.code, refusal.problem)
}

#[async_trait]
impl Engine for FlightEngine {
    fn actions(&self) -> Vec<(&'static str, &'static str)> {
        vec![
            ("raft.vote.v1", "Between nodes: asks for a vote"),
            ("raft.pre-vote.v1", "Between nodes: asks whether a vote would be given"),
            ("raft.transfer.v1", "Between nodes: hands the lead over"),
            ("raft.read-index.v1", "Between nodes: what a linearizable read waits for"),
            ("raft.propose.v1", "Between nodes: passes a command on to the leader"),
            ("raft.append.v1", "Between nodes: a heartbeat"),
            ("raft.state.v1", "Between nodes: term and last entry"),
        ]
    }

    async fn call(
        &self,
        from: NodeId,
        kind: &str,
        packet: Packet,
    ) -> Result<Packet, transport::Error> {
        let topic = topic(kind).ok_or_else(|| unknown(kind))?;
        let answer = self.service()?.call(from, topic, message(packet)).await;
        answer.map(self::packet).map_err(refused)
    }

    async fn stream(
        &self,
        from: NodeId,
        kind: &str,
        requests: PacketStream,
    ) -> Result<PacketStream, transport::Error> {
        let topic = topic(kind).ok_or_else(|| unknown(kind))?;
        let broken = move |error: transport::Error| FlightLinks::broken(from, &error);
        let requests = requests.map(move |request| request.map(message).map_err(broken));
        let answers = self.service()?.stream(from, topic, requests.boxed());
        Ok(answers.map(|answer| answer.map(self::packet).map_err(refused)).boxed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_topic_has_a_word_of_its_own_which_the_transport_does_not_use() {
        for one in Topic::ALL {
            assert_eq!(topic(kind(one)), Some(one));
            assert!(!["hello", "message"].contains(&kind(one)), "{one:?}");
        }
        assert_eq!(topic("hello"), None);
    }

    #[test]
    fn only_an_answer_is_a_refusal() {
        let peer = |code| transport::Error::Peer {
            peer: 2,
            source: sheaf_flight::Error::new(code, "why"),
        };
        let broken = FlightLinks::broken(2, &peer(Code::Unavailable));
        assert!(matches!(broken, Broken::Cut { node: 2, .. }), "{broken:?}");
        let broken = FlightLinks::broken(2, &peer(Code::FailedPrecondition));
        assert!(matches!(&broken, Broken::Refused { problem, .. } if problem.contains("why")));
    }
}
