//! The links over Arrow Flight.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use sheaf_raft_transport::{
    Config, Engine, Error, FlightTransport, Lane as FlightLane, Packet, PacketStream,
    RaftTransport as _, StreamSender, WindowConfig,
};
use sheaf_retry::{Code, Retryable as _};
use tokio::sync::oneshot;

use super::{Broken, Lane, Links, Message, Refusal, Service, Topic};
use crate::config::RaftClusterConfig;
use crate::types::{Member, NodeId};

/// Bytes of a message beside the longest command: the heads of an append's entries, or what the
/// log reads at once of shorter ones.
const BESIDE_COMMANDS: usize = 2 << 20;

/// No answer takes longer; the engine has shorter limits of its own.
const LONGEST: Duration = Duration::from_secs(30);

/// How a transport is set up for a node of this configuration.
pub fn transport_config(config: &RaftClusterConfig) -> Config {
    let longest = usize::try_from(config.max_command_bytes).unwrap_or(usize::MAX);
    let max_message_bytes = longest.saturating_add(BESIDE_COMMANDS);
    let window = WindowConfig::default();
    Config {
        max_message_bytes,
        window: WindowConfig {
            requests: window.requests.max(config.requests_in_flight),
            bytes: window.bytes.max(config.bytes_in_flight).max(max_message_bytes),
            max_bytes: window.max_bytes.max(config.bytes_in_flight).max(max_message_bytes),
            ..window
        },
        message_timeout: LONGEST,
        reply_timeout: LONGEST,
        ..Config::new(config.cluster_id.clone(), config.node_id)
    }
}

/// The way to the other nodes over a transport, which learns of them as they are needed.
pub fn links(transport: FlightTransport) -> Arc<dyn Links> {
    Arc::new(FlightLinks { transport })
}

/// What a transport hands to a node.
pub fn engine(service: Arc<dyn Service>) -> Arc<dyn Engine> {
    Arc::new(NodeEngine { service })
}

struct FlightLinks {
    transport: FlightTransport,
}

impl From<Lane> for FlightLane {
    fn from(lane: Lane) -> Self {
        match lane {
            Lane::Control => FlightLane::Control,
            Lane::Data => FlightLane::Data,
            Lane::Bulk => FlightLane::Bulk,
        }
    }
}

fn packet(message: Message) -> Packet {
    Packet { meta: message.head, payloads: message.payloads }
}

fn message(packet: Packet) -> Message {
    Message { head: packet.meta, payloads: packet.payloads }
}

/// Whether the node was not reached, the link broke, or it refused.
fn broken(node: NodeId, error: &Error) -> Broken {
    let problem = match error {
        Error::Peer { source, .. } => source.to_string(),
        other => other.to_string(),
    };
    match error {
        Error::Unreachable { .. }
        | Error::UnknownPeer { .. }
        | Error::TooManyPeers { .. }
        | Error::Config { .. }
        | Error::Flight(_)
        | Error::Closed => Broken::Unreachable { node, problem },
        Error::TooLarge { .. } => Broken::Refused { node, code: error.code(), problem },
        Error::Frame { .. } | Error::Deadline { .. } | Error::Ended { .. } => {
            Broken::Cut { node, problem }
        }
        Error::Peer { .. } | Error::Engine { .. } => match error.code() {
            // A node that stops says the same as a connection that broke.
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Draining => {
                Broken::Cut { node, problem }
            }
            code => Broken::Refused { node, code, problem },
        },
    }
}

impl FlightLinks {
    fn know(&self, node: NodeId, member: &Member) -> Result<(), Broken> {
        let added = self.transport.add_peer(node, member.endpoints.clone());
        added.map_err(|error| broken(node, &error))
    }
}

#[async_trait]
impl Links for FlightLinks {
    async fn call(
        &self,
        to: NodeId,
        member: &Member,
        lane: Lane,
        topic: Topic,
        sent: Message,
    ) -> Result<Message, Broken> {
        self.know(to, member)?;
        let call = self.transport.call(to, lane.into(), topic.name(), packet(sent), LONGEST);
        call.await.map(message).map_err(|error| broken(to, &error))
    }

    async fn forget(&self, node: NodeId) {
        // One that is not known is forgotten.
        drop(self.transport.disconnect_from_peer(node).await);
    }

    async fn stream(
        &self,
        to: NodeId,
        member: &Member,
        lane: Lane,
        topic: Topic,
        requests: BoxStream<'static, Message>,
    ) -> Result<BoxStream<'static, Result<Message, Broken>>, Broken> {
        self.know(to, member)?;
        let opened = self.transport.open_stream(to, lane.into(), topic.name()).await;
        let (sender, receiver) = opened.map_err(|error| broken(to, &error))?;
        let (alive, ended) = oneshot::channel();
        // It ends with its requests, with the link, or with whoever hears the answers.
        drop(tokio::spawn(send(sender, requests, ended)));
        let answers = stream::unfold((receiver, alive), |(mut receiver, alive)| async move {
            Some((receiver.next().await?, (receiver, alive)))
        });
        let answer = move |answer: Result<Packet, Error>| {
            answer.map(message).map_err(|error| broken(to, &error))
        };
        Ok(answers.map(answer).boxed())
    }
}

/// Sends the requests as the window of the link lets them.
async fn send(
    mut sender: StreamSender,
    mut requests: BoxStream<'static, Message>,
    mut ended: oneshot::Receiver<()>,
) {
    loop {
        let request = tokio::select! {
            biased;
            _ = &mut ended => break,
            request = requests.next() => request,
        };
        let Some(request) = request else { break };
        // Where it fails, the answers say why.
        if sender.send(packet(request)).await.is_err() {
            break;
        }
    }
}

struct NodeEngine {
    service: Arc<dyn Service>,
}

fn of(kind: &str) -> Result<Topic, Error> {
    let unknown = || Error::engine(Code::Unimplemented, format!("a node has no {kind:?}"));
    Topic::of(kind).ok_or_else(unknown)
}

fn refused(refusal: Refusal) -> Error {
    Error::engine(refusal.code, refusal.problem)
}

#[async_trait]
impl Engine for NodeEngine {
    fn actions(&self) -> Vec<(&'static str, &'static str)> {
        vec![
            ("raft.append.v1", "a heartbeat of the leader"),
            ("raft.vote.v1", "a candidate asks for a vote"),
            ("raft.pre-vote.v1", "a node asks whether it could be elected"),
            ("raft.transfer.v1", "the leader hands the lead over"),
            ("raft.read-index.v1", "what a linearizable read waits for"),
            ("raft.propose.v1", "a command for the leader"),
            ("raft.hello-node.v1", "what a node has"),
        ]
    }

    async fn call(&self, from: NodeId, kind: &str, packet: Packet) -> Result<Packet, Error> {
        let answer = self.service.call(from, of(kind)?, message(packet)).await;
        answer.map(self::packet).map_err(refused)
    }

    async fn stream(
        &self,
        from: NodeId,
        kind: &str,
        requests: PacketStream,
    ) -> Result<PacketStream, Error> {
        let topic = of(kind)?;
        let request = move |request: Result<Packet, Error>| {
            request.map(message).map_err(|error| broken(from, &error))
        };
        let answers = self.service.stream(from, topic, requests.map(request).boxed());
        Ok(answers.map(|answer| answer.map(packet).map_err(refused)).boxed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_topic_that_is_called_is_an_action() {
        let service = NoService;
        let actions = NodeEngine { service: Arc::new(service) }.actions();
        for topic in Topic::ALL.into_iter().filter(|topic| *topic != Topic::Snapshot) {
            let action = format!("raft.{}.v1", topic.name());
            assert!(actions.iter().any(|(name, _)| *name == action), "{action}");
        }
    }

    struct NoService;

    #[async_trait]
    impl Service for NoService {
        async fn call(&self, _: NodeId, _: Topic, message: Message) -> Result<Message, Refusal> {
            Ok(message)
        }

        fn stream(
            &self,
            _: NodeId,
            _: Topic,
            _: BoxStream<'static, Result<Message, Broken>>,
        ) -> BoxStream<'static, Result<Message, Refusal>> {
            stream::empty().boxed()
        }
    }

    #[test]
    fn the_transport_takes_the_longest_command() {
        let mut config = RaftClusterConfig::new("a", 1).node(1, "a:1");
        for bytes in [1, 1 << 20, 8 << 20] {
            config.max_command_bytes = bytes;
            transport_config(&config).validate().unwrap();
        }
    }
}
