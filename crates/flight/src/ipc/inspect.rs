//! Reads the flatbuffer of a message without trusting it.

use arrow_ipc::{MessageHeader, MetadataVersion};
use flatbuffers::{InvalidFlatbuffer, VerifierOptions};
use sheaf_retry::Code;

use crate::error::Error;

/// Tables between the root and a field of depth 1: message and schema, and
/// below the deepest field its type, dictionary and index type.
const DEPTH_AROUND_FIELDS: usize = 8;

/// Deeper than that nobody who builds a schema gets.
const OWN_DEPTH: usize = 4_096;

/// What an IPC message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The schema, with which a stream begins.
    Schema,
    /// Values of a dictionary, or more of them.
    Dictionary {
        /// Which dictionary of the schema.
        id: i64,
        /// Whether they are added to those there are; otherwise they replace them.
        is_delta: bool,
    },
    /// A record batch.
    RecordBatch,
    /// No Arrow data at all: application metadata only.
    Metadata,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Kind::Schema => "schema",
            Kind::Dictionary { .. } => "dictionary",
            Kind::RecordBatch => "record batch",
            Kind::Metadata => "message of metadata only",
        })
    }
}

/// The outside of a message: its buffers are not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outline {
    /// What it is.
    pub kind: Kind,
    /// Rows of a record batch, values of a dictionary, otherwise 0.
    pub rows: u64,
    /// Bytes of the body that belongs to it.
    pub body_len: u64,
}

/// Verifies a header, the flatbuffer `Message` without its length prefix, and
/// reads what it is. An empty header is a message of metadata only.
///
/// # Errors
/// [`Code::MalformedData`] where it is no valid flatbuffer, of a version before
/// V4, a tensor, or has a negative length.
pub fn inspect(header: &[u8]) -> Result<Outline, Error> {
    outline(header, &super::Bounds::default())
}

pub(super) fn outline(header: &[u8], bounds: &super::Bounds) -> Result<Outline, Error> {
    if header.is_empty() {
        return Ok(Outline { kind: Kind::Metadata, rows: 0, body_len: 0 });
    }
    let message = parse(header, bounds)?;
    let body_len = u64::try_from(message.bodyLength())
        .map_err(|_| malformed(format!("body length {} is negative", message.bodyLength())))?;
    let (kind, length) = match message.header_type() {
        MessageHeader::Schema if message.header_as_schema().is_some() => (Kind::Schema, 0),
        MessageHeader::RecordBatch => {
            let batch = message.header_as_record_batch();
            (Kind::RecordBatch, batch.ok_or_else(|| malformed("no record batch in it"))?.length())
        }
        MessageHeader::DictionaryBatch => {
            let batch = message.header_as_dictionary_batch();
            let batch = batch.ok_or_else(|| malformed("no dictionary in it"))?;
            let data = batch.data().ok_or_else(|| malformed("a dictionary without values"))?;
            (Kind::Dictionary { id: batch.id(), is_delta: batch.isDelta() }, data.length())
        }
        other => {
            let name = other.variant_name().unwrap_or("unknown");
            return Err(malformed(format!("a message of kind {name} has no place in a stream")));
        }
    };
    let rows = u64::try_from(length).map_err(|_| malformed(format!("{length} rows")))?;
    Ok(Outline { kind, rows, body_len })
}

/// The verified flatbuffer.
pub(super) fn parse<'a>(
    header: &'a [u8],
    bounds: &super::Bounds,
) -> Result<arrow_ipc::Message<'a>, Error> {
    let options = VerifierOptions {
        max_depth: bounds.max_depth + DEPTH_AROUND_FIELDS,
        ..VerifierOptions::default()
    };
    let message =
        arrow_ipc::root_as_message_with_opts(&options, header).map_err(|error| match error {
            InvalidFlatbuffer::DepthLimitReached => {
                limit(format!("fields are nested deeper than the limit of {}", bounds.max_depth))
            }
            InvalidFlatbuffer::TooManyTables | InvalidFlatbuffer::ApparentSizeTooLarge => {
                limit("the header unfolds to more than a million tables or 2 GiB")
            }
            InvalidFlatbuffer::Utf8Error { error, .. } => malformed(format!(
                "a name or a value of metadata is not UTF-8, as Arrow has it ({error}); \
                 write bytes as base64"
            )),
            other => {
                let text = other.to_string();
                let first = text.lines().next().unwrap_or_default();
                malformed(format!("header of {} bytes is no flatbuffer: {first}", header.len()))
            }
        })?;
    match message.version() {
        MetadataVersion::V4 | MetadataVersion::V5 => Ok(message),
        other => {
            let number = i32::from(other.0) + 1;
            Err(malformed(format!("metadata version {number} is not V4 or V5")))
        }
    }
}

/// A header that was made in this process, of whatever depth and size.
pub(super) fn own(header: &[u8]) -> Option<arrow_ipc::Message<'_>> {
    let options = VerifierOptions {
        max_depth: OWN_DEPTH,
        max_tables: usize::MAX,
        max_apparent_size: usize::MAX,
        ..VerifierOptions::default()
    };
    arrow_ipc::root_as_message_with_opts(&options, header).ok()
}

pub(super) fn malformed(text: impl Into<String>) -> Error {
    Error::new(Code::MalformedData, text)
}

pub(super) fn limit(text: impl Into<String>) -> Error {
    Error::new(Code::LimitExceeded, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sheaf_retry::Retryable as _;

    #[test]
    fn garbage_is_malformed_and_nothing_is_metadata() {
        for garbage in [&b"x"[..], &[0; 4], &[0xff; 64], &[4, 0, 0, 0, 0, 0, 0, 0]] {
            assert_eq!(inspect(garbage).unwrap_err().code(), Code::MalformedData, "{garbage:?}");
        }
        assert_eq!(inspect(&[]).unwrap().kind, Kind::Metadata);
    }
}
