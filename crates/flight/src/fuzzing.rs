//! Ways in for fuzz targets: what a call does below gRPC's framing.
//!
//! No part of the interface, and there with the feature `fuzzing` only.

use arrow_flight::{FlightData, FlightDescriptor};
use bytes::Bytes;
use futures::{TryStreamExt as _, stream};

use crate::error::Error;
use crate::handler::{CallContext, Descriptor};
use crate::message::Message;
use crate::plain::{Plain, asked};
use crate::router::{FlightRouter, resolve};

/// Reads a descriptor.
///
/// # Errors
/// As of every call that takes one.
pub fn descriptor(wire: FlightDescriptor) -> Result<Descriptor, Error> {
    resolve::descriptor(asked(Some(wire)))
}

/// The namespace of a ticket, and its text.
///
/// # Errors
/// As of DoGet.
pub fn ticket(bytes: &[u8]) -> Result<(&str, &str), Error> {
    resolve::ticket(bytes)
}

/// DoPut of these messages.
///
/// # Errors
/// As of the call.
pub async fn put(router: &FlightRouter, messages: Vec<FlightData>) -> Result<Bytes, Error> {
    let plain = Plain::new(router.clone());
    let messages = stream::iter(messages.into_iter().map(Ok));
    let results: Vec<Bytes> =
        plain.put(&CallContext::default(), messages).await?.try_collect().await?;
    Ok(results.concat().into())
}

/// The messages of a gRPC stream that comes in these pieces.
///
/// # Errors
/// As of the stream of DoPut.
pub fn frames(pieces: Vec<Bytes>, limit: usize) -> Result<Vec<Message>, Error> {
    crate::wire::decode(pieces, limit)
}

/// DoGet of a ticket, to its end.
///
/// # Errors
/// As of the call, and of its stream.
pub async fn get(router: &FlightRouter, ticket: &[u8]) -> Result<Vec<Message>, Error> {
    router.get(&CallContext::default(), ticket).await?.try_collect().await
}

/// GetFlightInfo of a descriptor, in the form that goes out.
///
/// # Errors
/// As of the call.
pub async fn info(
    router: &FlightRouter,
    wire: FlightDescriptor,
) -> Result<arrow_flight::FlightInfo, Error> {
    let entry = router.info(&CallContext::default(), asked(Some(wire))).await?;
    Ok(crate::plain::info_to_wire(entry))
}

/// DoAction.
///
/// # Errors
/// As of the call.
pub async fn action(router: &FlightRouter, name: &str, body: Bytes) -> Result<Vec<Bytes>, Error> {
    Ok(router.action(&CallContext::default(), name, body).await?.results)
}

/// Name and password of a handshake's header.
///
/// # Errors
/// As of the handshake.
pub fn basic(header: &[u8]) -> Result<(String, String), Error> {
    crate::plain::basic(header)
}

/// Name and password of a handshake's message.
///
/// # Errors
/// As of the handshake.
pub fn basic_auth(payload: Bytes) -> Result<(String, String), Error> {
    crate::plain::basic_auth(payload)
}

/// Names of all actions.
pub fn actions(router: &FlightRouter) -> Vec<&'static str> {
    router.actions().into_iter().map(|(name, _)| name).collect()
}
