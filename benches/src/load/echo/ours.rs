//! Ours: a stream over the data lane, on which each message has its answer, or a call for
//! each message.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use sheaf_raft_transport::{
    Config, Engine, Error as TransportError, FlightTransport, Lane, NodeId, Packet, PacketStream,
    StreamReceiver, StreamSender,
};
use sheaf_retry::SystemClock;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::measure::{Measured, Phase, phases, since};
use super::{Caller, message};
use crate::error::{Error, Result};

/// Of calls and of streams.
const KIND: &str = "echo";
/// Larger than what is measured, with room for headers.
const LIMIT: usize = 2 << 20;
const PATIENCE: Duration = Duration::from_secs(10);

/// Answers with what it was sent.
struct Echo;

#[async_trait]
impl Engine for Echo {
    fn actions(&self) -> Vec<(&'static str, &'static str)> {
        vec![("raft.echo.v1", "gives back what it is sent")]
    }

    async fn call(&self, _: NodeId, _: &str, packet: Packet) -> Result<Packet, TransportError> {
        Ok(packet)
    }

    async fn stream(
        &self,
        _: NodeId,
        _: &str,
        requests: PacketStream,
    ) -> Result<PacketStream, TransportError> {
        Ok(requests)
    }
}

/// A node that serves, and where.
pub(super) async fn serve(node: NodeId) -> Result<(String, FlightTransport)> {
    let transport = start(node)?;
    transport.listen("127.0.0.1:0", Arc::new(Echo)).await?;
    let address =
        transport.local_addr().ok_or_else(|| Error::Message("it serves nowhere".into()))?;
    Ok((format!("grpc://{address}"), transport))
}

/// A node that only sends.
pub(super) fn start(node: NodeId) -> Result<FlightTransport> {
    let config = Config { max_message_bytes: LIMIT, ..Config::new("bench", node) };
    Ok(FlightTransport::try_new(config, SystemClock::shared())?)
}

/// A peer of a transport.
#[derive(Clone)]
pub(in crate::load) struct Client {
    transport: FlightTransport,
    peer: NodeId,
}

impl Client {
    pub(in crate::load) fn new(
        transport: &FlightTransport,
        peer: NodeId,
        server: &str,
    ) -> Result<Self> {
        let endpoint = server.trim_start_matches("grpc://").to_owned();
        transport.add_peer(peer, vec![endpoint])?;
        Ok(Client { transport: transport.clone(), peer })
    }

    /// Keeps requests under way on one stream.
    pub(in crate::load) async fn drive(
        &self,
        pids: &[String],
        seconds: f64,
        requests: Requests,
    ) -> Result<Measured> {
        let opened = self.transport.open_stream(self.peer, Lane::Data, requests.kind).await?;
        let (sender, receiver) = opened;
        let (phase, sent) = (Phase::default(), Sent::default());
        let Requests { depth, next, answer, .. } = requests;
        let sending = send(sender, phase.clone(), Arc::clone(&sent), depth, next);
        let receiving = receive(receiver, phase.clone(), sent, answer);
        let (sending, receiving) = (tokio::spawn(sending), tokio::spawn(receiving));
        let pids = pids.to_vec();
        let timed = tokio::task::spawn_blocking(move || phases(&phase, &pids, seconds));
        let lost = |error| Error::Message(format!("a task is gone: {error}"));
        let (seconds, cpu_seconds) = timed.await.map_err(lost)??;
        let nanoseconds = receiving.await.map_err(lost)??;
        sending.await.map_err(lost)??;
        Ok(Measured { nanoseconds, seconds, cpu_seconds })
    }

    /// Sends these on a stream of their own, one after the other, and waits for each answer.
    pub(in crate::load) async fn all(
        &self,
        kind: &str,
        requests: impl IntoIterator<Item = Packet>,
    ) -> Result<()> {
        let opened = self.transport.open_stream(self.peer, Lane::Data, kind).await?;
        let (mut sender, mut receiver) = opened;
        for request in requests {
            sender.send(request).await?;
            let answer = receiver.next().await;
            answer.ok_or_else(|| Error::Message("the stream is over".into()))??;
        }
        Ok(())
    }
}

/// What is sent on a stream.
pub(in crate::load) struct Requests {
    pub(in crate::load) kind: &'static str,
    /// How many are under way.
    pub(in crate::load) depth: usize,
    pub(in crate::load) next: Box<dyn FnMut() -> Packet + Send>,
    /// What each is answered.
    pub(in crate::load) answer: Bytes,
}

impl Requests {
    /// Messages that come back.
    pub(super) fn echo(depth: usize, size: usize) -> Self {
        let message = message(size);
        let packet = Packet { meta: Bytes::new(), payloads: vec![message.clone()] };
        Requests { kind: KIND, depth, next: Box::new(move || packet.clone()), answer: message }
    }
}

/// Messages without an answer: when they were sent, whether they count, and their places.
type Sent = Arc<Mutex<VecDeque<(Instant, bool, OwnedSemaphorePermit)>>>;

async fn send(
    mut sender: StreamSender,
    phase: Phase,
    sent: Sent,
    depth: usize,
    mut next: Box<dyn FnMut() -> Packet + Send>,
) -> Result<()> {
    let places = Arc::new(Semaphore::new(depth));
    while !phase.is_over() {
        let place = Arc::clone(&places).acquire_owned().await;
        let place = place.map_err(|error| Error::Message(error.to_string()))?;
        let entry = (Instant::now(), phase.counts(), place);
        sent.lock().unwrap_or_else(PoisonError::into_inner).push_back(entry);
        sender.send(next()).await?;
    }
    Ok(())
}

async fn receive(
    mut receiver: StreamReceiver,
    phase: Phase,
    sent: Sent,
    expected: Bytes,
) -> Result<Vec<u32>> {
    let mut nanoseconds = Vec::new();
    while let Some(answer) = receiver.next().await {
        let answer = answer?;
        let first = answer.payloads.first().unwrap_or(&answer.meta).first();
        if answer.len() != expected.len() || first != expected.first() {
            let (is, should) = (answer.len(), expected.len());
            return Err(Error::Message(format!("an answer of {is} bytes is not the {should}")));
        }
        let entry = sent.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        if let Some((start, true, _)) = entry
            && phase.counts()
        {
            nanoseconds.push(since(start));
        }
    }
    Ok(nanoseconds)
}

impl Caller for Client {
    fn call(&self, message: Bytes) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let sent = message.len();
            let packet = Packet { meta: Bytes::new(), payloads: vec![message] };
            let answer = self.transport.call(self.peer, Lane::Data, KIND, packet, PATIENCE).await?;
            let back = answer.len();
            if back == sent {
                return Ok(());
            }
            Err(Error::Message(format!("{back} of {sent} bytes came back")))
        })
    }
}
