//! The engine's messages over the transport.

use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use sheaf_raft::network::{Broken, Lane, Links, Message, Topic};
use sheaf_raft::types::{Member, NodeId};
use sheaf_raft_transport::{self as transport, FlightTransport, Packet};
use sheaf_retry::{Code, Retryable as _};
use tokio::task::JoinHandle;

/// The node limits the time of each call itself.
const PATIENCE: Duration = Duration::from_secs(30);

/// The name of a kind on the transport, which has a hello of its own.
pub(super) const fn kind(topic: Topic) -> &'static str {
    match topic {
        Topic::Hello => "state",
        other => other.name(),
    }
}

pub(super) fn packet(message: Message) -> Packet {
    Packet { meta: message.head, payloads: message.payloads }
}

pub(super) fn message(packet: Packet) -> Message {
    Message { head: packet.meta, payloads: packet.payloads }
}

pub(super) struct Over(pub(super) FlightTransport);

impl Over {
    fn know(&self, to: NodeId, member: &Member) -> Result<(), Broken> {
        self.0.add_peer(to, member.endpoints.clone()).map_err(|error| broken(to, &error))
    }
}

#[async_trait]
impl Links for Over {
    async fn call(
        &self,
        to: NodeId,
        member: &Member,
        lane: Lane,
        topic: Topic,
        request: Message,
    ) -> Result<Message, Broken> {
        self.know(to, member)?;
        let answer = self.0.call(to, own(lane), kind(topic), packet(request), PATIENCE).await;
        answer.map(message).map_err(|error| broken(to, &error))
    }

    async fn stream(
        &self,
        to: NodeId,
        member: &Member,
        lane: Lane,
        topic: Topic,
        mut requests: BoxStream<'static, Message>,
    ) -> Result<BoxStream<'static, Result<Message, Broken>>, Broken> {
        self.know(to, member)?;
        let opened = self.0.open_stream(to, own(lane), kind(topic)).await;
        let (mut sender, receiver) = opened.map_err(|error| broken(to, &error))?;
        let sending = Ends(tokio::spawn(async move {
            while let Some(request) = requests.next().await {
                // The answers say why.
                if sender.send(packet(request)).await.is_err() {
                    return;
                }
            }
        }));
        let answers = stream::unfold((receiver, sending), |(mut receiver, sending)| async {
            Some((receiver.next().await?, (receiver, sending)))
        });
        let answers = answers.map(move |one| one.map(message).map_err(|error| broken(to, &error)));
        Ok(answers.boxed())
    }
}

/// A task that ends with the answers to what it sends.
struct Ends(JoinHandle<()>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn own(lane: Lane) -> transport::Lane {
    match lane {
        Lane::Control => transport::Lane::Control,
        Lane::Data => transport::Lane::Data,
        Lane::Bulk => transport::Lane::Bulk,
    }
}

fn broken(node: NodeId, error: &transport::Error) -> Broken {
    let problem = error.to_string();
    match error {
        transport::Error::Unreachable { .. } => Broken::Unreachable { node, problem },
        error if matches!(error.code(), Code::Unavailable | Code::DeadlineExceeded) => {
            Broken::Cut { node, problem }
        }
        error => Broken::Refused { node, code: error.code(), problem },
    }
}
