//! Sends back what comes in a conversation.

use std::net::SocketAddr;

use async_trait::async_trait;
use sheaf_flight::{CallContext, Error, Fallback, MessageStream, RawDescriptor, Server, invalid};

struct Echo;

pub(crate) fn server(_: SocketAddr) -> Result<Server, Error> {
    crate::only(Echo)
}

#[async_trait]
impl Fallback for Echo {
    async fn exchange(
        &self,
        _: &CallContext,
        asked: RawDescriptor,
        messages: MessageStream,
    ) -> Result<MessageStream, Error> {
        match asked {
            // Schema, metadata and all: nothing is decoded on the way.
            RawDescriptor::Command(command) if command == "echo" => Ok(messages),
            other => Err(invalid(format!("{other:?} is not the command \"echo\""))),
        }
    }
}
