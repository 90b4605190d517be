//! Schemas as messages.

use arrow_schema::{Schema, SchemaRef};
use bytes::Bytes;
use sheaf_flight::Message;
use sheaf_flight::ipc::{Bounds, Decoded, Decoder, Kind, decode_schema, encode_schema};
use sheaf_proto::exchange::v1 as proto;
use sheaf_retry::Code;
use twox_hash::XxHash3_64;

use super::frame::{frame, unframe};
use crate::shuffle::{Error, check_schema_compatibility};

/// A schema as messages have it; equal schemas give equal bytes.
///
/// # Errors
/// [`Error::Protocol`] for a schema too large to be framed.
pub fn serialize_schema(schema: &Schema) -> Result<proto::ArrowSchema, Error> {
    to_proto(&encode_schema(schema))
}

/// The schema in a message.
///
/// # Errors
/// [`Error::Protocol`] for what is no encapsulated schema message, or has another
/// fingerprint than it says; [`Error::Flight`] for what cannot be read here.
pub fn deserialize_schema(schema: &proto::ArrowSchema) -> Result<SchemaRef, Error> {
    let mut decoder = Decoder::new(Bounds::default());
    match decoder.push(&from_proto(schema)?)? {
        Decoded::Schema(schema) => Ok(schema),
        _ => Err(Error::Protocol("the schema is another message".to_owned())),
    }
}

/// A schema message as gRPC has it.
pub(super) fn to_proto(message: &Message) -> Result<proto::ArrowSchema, Error> {
    let fingerprint = fingerprint(message);
    Ok(proto::ArrowSchema { ipc_schema: Bytes::from(frame(message)?), fingerprint })
}

/// A schema message from gRPC, in memory of its own.
pub(super) fn from_proto(schema: &proto::ArrowSchema) -> Result<Message, Error> {
    let limit = Bounds::default().max_schema_bytes;
    let bytes = schema.ipc_schema.len();
    if bytes > limit {
        let text = format!("the schema has {bytes} bytes, the limit is {limit}");
        return Err(Error::Flight(sheaf_flight::Error::new(Code::LimitExceeded, text)));
    }
    let (message, outline) = unframe(&schema.ipc_schema)?;
    if outline.kind != Kind::Schema {
        return Err(Error::Protocol(format!("a {} where a schema is expected", outline.kind)));
    }
    let message = Message::new(Bytes::copy_from_slice(&message.header), Bytes::new());
    let found = fingerprint(&message);
    if !schema.fingerprint.is_empty() && schema.fingerprint != found {
        let said: String = schema.fingerprint.chars().take(32).collect();
        let text = format!("the schema has the fingerprint {found}, {said:?} is said");
        return Err(Error::Protocol(text));
    }
    Ok(message)
}

/// As a partition's report has it: of the schema as this build encodes it.
pub(super) fn fingerprint(message: &Message) -> String {
    let hash = match decode_schema(&message.header) {
        Ok(schema) => XxHash3_64::oneshot(&encode_schema(&schema).header),
        Err(_) => XxHash3_64::oneshot(&message.header),
    };
    format!("{hash:016x}")
}

/// That a schema message fits one that is expected.
pub(super) fn check_expected(
    found: &Message,
    expected: Option<&proto::ArrowSchema>,
) -> Result<(), Error> {
    let Some(expected) = expected else { return Ok(()) };
    let expected = deserialize_schema(expected)?;
    check_schema_compatibility(&decode_schema(&found.header)?, &expected)
}
