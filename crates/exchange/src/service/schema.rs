//! Schemas as messages, and whether one fits where another is expected.

use std::sync::Arc;

use arrow_schema::{Field, Schema, SchemaRef};
use bytes::Bytes;
use sheaf_flight::Message;
use sheaf_flight::ipc::{Bounds, Decoded, Decoder, Kind, decode_schema, encode_schema};
use sheaf_proto::exchange::v1 as proto;
use sheaf_retry::Code;
use twox_hash::XxHash3_64;

use super::frame::{frame, unframe};
use crate::shuffle::Error;

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

/// That data of one schema can be read as data of another: columns of the same
/// names and types in the same order, and nulls only where they are expected.
/// Metadata is not looked at.
///
/// # Errors
/// `failed_precondition`, naming the first column that does not fit.
///
/// ```
/// use arrow_schema::{DataType, Field, Schema};
/// use sheaf_exchange::service::check_schema_compatibility;
///
/// let found = Schema::new(vec![Field::new("n", DataType::Int64, false)]);
/// let expected = Schema::new(vec![Field::new("n", DataType::Int64, true)]);
/// assert!(check_schema_compatibility(&found, &expected).is_ok());
/// let error = check_schema_compatibility(&expected, &found).unwrap_err();
/// assert!(error.to_string().contains("null"), "{error}");
/// ```
pub fn check_schema_compatibility(found: &Schema, expected: &Schema) -> Result<(), Error> {
    let (has, wanted) = (found.fields().len(), expected.fields().len());
    let refuse = |text: String| {
        let text = format!("the schema does not fit: {text}");
        Err(Error::Flight(sheaf_flight::Error::new(Code::FailedPrecondition, text)))
    };
    if has != wanted {
        return refuse(format!("{has} columns, {wanted} are expected"));
    }
    for (at, (its, ours)) in found.fields().iter().zip(expected.fields()).enumerate() {
        if its.name() != ours.name() {
            let (its, ours) = (its.name(), ours.name());
            return refuse(format!("column {at} is {its:?}, {ours:?} is expected"));
        }
        if !is_contained(its, ours) {
            let name = its.name();
            if its.data_type() == ours.data_type() {
                return refuse(format!("column {name:?} may have nulls, none are expected"));
            }
            let (its, ours) = (its.data_type(), ours.data_type());
            return refuse(format!("column {name:?} is {its}, {ours} is expected"));
        }
    }
    Ok(())
}

/// Whether values of one field are values of the other. Names of fields inside
/// maps and lists are no part of their type.
fn is_contained(found: &Field, expected: &Field) -> bool {
    (expected.is_nullable() || !found.is_nullable())
        && (found.data_type() == expected.data_type()
            || found.data_type().equals_datatype(expected.data_type()))
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
    check_schema_compatibility(&Arc::new(decode_schema(&found.header)?), &expected)
}
