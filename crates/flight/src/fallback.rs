//! What is served beside the namespaces.

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt as _};
use sheaf_retry::Code;

use crate::error::Error;
use crate::handler::{
    CallContext, EndpointEntry, FlightEntry, MessageStream, Progress, RawDescriptor,
};

/// The `app_metadata` of each PutResult of a put.
pub type PutResults = BoxStream<'static, Result<Bytes, Error>>;

/// Serves whatever no namespace of a Flight port claims: any command, any path,
/// any bytes as a ticket. For protocols on top of Flight whose names are not
/// text that begins with a namespace.
///
/// A ticket or path belongs to the namespace that it begins with, where the
/// port serves that, and a command that can be the id of a batch to the
/// namespace `batches`. What a call is not defined for is `unimplemented`.
///
/// 1. `put` may answer while it reads; an error among the answers ends the
///    call, and then nothing is kept.
/// 2. `get` yields the schema first.
/// 3. Every call may be dropped at any await.
#[async_trait]
pub trait Fallback: Send + Sync + 'static {
    /// Takes a stream, which begins with its schema.
    async fn put(
        &self,
        _context: &CallContext,
        _descriptor: RawDescriptor,
        _messages: MessageStream,
    ) -> Result<PutResults, Error> {
        Err(unimplemented("DoPut"))
    }

    /// Opens a stream by ticket.
    async fn get(&self, _context: &CallContext, _ticket: Bytes) -> Result<MessageStream, Error> {
        Err(unimplemented("DoGet"))
    }

    /// What is offered; by default nothing.
    async fn list(
        &self,
        _context: &CallContext,
        _criteria: &[u8],
    ) -> Result<BoxStream<'static, Result<FlightEntry, Error>>, Error> {
        Ok(stream::empty().boxed())
    }

    /// What a descriptor names.
    async fn info(
        &self,
        _context: &CallContext,
        _descriptor: RawDescriptor,
    ) -> Result<FlightEntry, Error> {
        Err(unimplemented("GetFlightInfo"))
    }

    /// How far the work is that makes a stream; by default all of it is done.
    async fn poll(
        &self,
        context: &CallContext,
        descriptor: RawDescriptor,
    ) -> Result<Progress, Error> {
        self.info(context, descriptor).await.map(Progress::from)
    }

    /// A conversation.
    async fn exchange(
        &self,
        _context: &CallContext,
        _descriptor: RawDescriptor,
        _messages: MessageStream,
    ) -> Result<MessageStream, Error> {
        Err(unimplemented("DoExchange"))
    }

    /// Makes a ticket good for longer (the action `RenewFlightEndpoint`).
    async fn renew(&self, _context: &CallContext, _ticket: Bytes) -> Result<EndpointEntry, Error> {
        Err(unimplemented("RenewFlightEndpoint"))
    }

    /// Gives up what a ticket stands for (the action `CancelFlightInfo`);
    /// answers whether there was anything to give up, by default not.
    async fn cancel(&self, _context: &CallContext, _ticket: Bytes) -> Result<bool, Error> {
        Ok(false)
    }
}

fn unimplemented(call: &str) -> Error {
    Error::new(Code::Unimplemented, format!("{call} is not served here for such a name"))
}
