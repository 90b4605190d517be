//! Calls: hello, messages for the inbox, and those of the engine.

use async_trait::async_trait;
use bytes::Bytes;
use sheaf_flight::{ActionHandler, CallContext, Need, Right};
use sheaf_retry::Code;

use super::{HELLO, MESSAGE, NAMESPACE, Service, kind_of, of_engine, only};
use crate::frame::{Kind, Order, Packer, decode, join, split};
use crate::packet::{Lane, Packet};
use crate::{Error, NodeId};

#[async_trait]
impl ActionHandler for Service {
    fn actions(&self) -> Vec<(&'static str, &'static str)> {
        let own = [
            (HELLO, "Whether a node of this cluster, under this protocol, is here"),
            ("raft.message.v1", "A message for the node's inbox, answered by whoever takes it"),
        ];
        own.into_iter().chain(self.engine.actions()).collect()
    }

    fn needs(&self, _: &str) -> Need {
        Need::One(NAMESPACE, Right::Write)
    }

    /// Nodes speak gRPC.
    fn has_json(&self) -> bool {
        false
    }

    async fn call(
        &self,
        caller: &CallContext,
        action: &str,
        body: Bytes,
    ) -> Result<Vec<Bytes>, sheaf_flight::Error> {
        let asked = match action {
            HELLO => self.read_hello(caller, body),
            _ => self.read_call(caller, body),
        };
        let (from, session, packet) = asked.map_err(|error| self.refuse(caller, error))?;
        let (kind, reply) = match kind_of(action) {
            _ if action == HELLO => (Kind::Hello, Packet::of(self.context.hello.to_bytes())),
            Some(MESSAGE) => (Kind::Reply, self.deliver(from, packet).await?),
            Some(kind) => {
                let reply = self.engine.call(from, kind, packet).await.map_err(of_engine)?;
                self.context.check_reply(&reply)?;
                (Kind::Reply, reply)
            }
            None => {
                let text = format!("{action:?} is no action of raft");
                return Err(sheaf_flight::Error::new(Code::Unimplemented, text));
            }
        };
        let compression = self.context.compression(Lane::Control);
        let mut packer = Packer::new(self.context.ends_to(from), session, compression);
        let packets = [reply];
        let frame = packer.frame(kind, &packets).message;
        if kind == Kind::Reply {
            self.context.metrics.sent(&packets);
        }
        Ok(vec![join(&frame)])
    }
}

impl Service {
    fn read_hello(
        &self,
        caller: &CallContext,
        body: Bytes,
    ) -> Result<(NodeId, u64, Packet), Error> {
        let frame = decode(split(body)?, self.context.config.max_frame_bytes())?;
        let hello = only(frame.packets.clone())?;
        let (from, session, _) = self.greet(caller, &frame, hello.meta, Kind::Hello)?;
        Ok((from, session, Packet::default()))
    }

    fn read_call(&self, caller: &CallContext, body: Bytes) -> Result<(NodeId, u64, Packet), Error> {
        let frame = decode(split(body)?, self.context.config.max_frame_bytes())?;
        let (from, session) = (frame.header.ends.from, frame.header.session);
        let ends = self.context.ends_to(from).turned();
        Order::new(ends, session, Kind::Request).accept(&frame)?;
        self.admit(caller, from)?;
        self.context.metrics.received(&frame.packets);
        let packet = only(frame.packets)?;
        tracing::debug!(target: "transport", bytes = packet.len(), "message received from {from}");
        Ok((from, session, packet))
    }

    /// Puts a message into the inbox, and waits for its reply.
    async fn deliver(&self, from: NodeId, packet: Packet) -> Result<Packet, sheaf_flight::Error> {
        let payload = match packet.payloads.as_slice() {
            [] => packet.meta,
            [one] => one.clone(),
            many => many.concat().into(),
        };
        let reply = self.inbox.offer(from, payload).inspect_err(|_| {
            self.context.metrics.inbox_refused();
            self.context.metrics.failed("inbox");
        })?;
        let reply = reply.await.map_err(|_| {
            let text = "the message was taken and dropped without a reply";
            sheaf_flight::Error::new(Code::Cancelled, text)
        })?;
        let reply = Packet { payloads: vec![reply], ..Packet::default() };
        self.context.check_reply(&reply)?;
        Ok(reply)
    }
}
