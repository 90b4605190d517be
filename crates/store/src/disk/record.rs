//! What a file says about its payload, and whether to believe it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flatbuffers::VerifierOptions;
use prost::Message as _;
use sheaf_flight::Message;
use sheaf_proto::storage::v1::{MessageRecord, PayloadRecord};

use super::footer;

/// Key of the record in the footer's metadata: base64 of a `PayloadRecord`.
const RECORD_KEY: &str = "sheaf.payload";
/// CRC32C of the record's bytes, eight hexadecimal digits.
const CRC_KEY: &str = "sheaf.payload.crc32c";
/// Says `replaced` where readers of the file format, which has one dictionary
/// per field, would see wrong values.
const DICTIONARIES_KEY: &str = "sheaf.dictionaries";

/// The newest format of [`PayloadRecord`] and of the file around it that is read.
pub(crate) const RECORD_VERSION: u32 = 2;
/// The format of a payload of which nothing was compressed by the store.
const PLAIN_VERSION: u32 = 1;

/// The oldest format that says all there is to say: who reads only that is to
/// refuse others, and no more than these.
pub(crate) fn version_for(is_shrunk: bool) -> u32 {
    if is_shrunk { RECORD_VERSION } else { PLAIN_VERSION }
}

/// Footer length and magic.
pub(super) const TRAILER: u64 = 10;

/// Where one encapsulated message lies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block {
    pub(super) offset: u64,
    pub(super) metadata_length: u32,
    pub(super) body_length: u64,
}

/// Why a file is not what it should be.
#[derive(Debug)]
pub(crate) enum Broken {
    /// Torn or changed.
    Damaged(String),
    /// Written by a newer version.
    Newer(u64),
}

/// CRC32C over header, application metadata and body.
pub(crate) fn crc_of(message: &Message) -> u32 {
    let parts = [&message.header, &message.app_metadata];
    parts.into_iter().chain(&message.body).fold(0, |crc, part| crc32c::crc32c_append(crc, part))
}

/// The footer of a file with this record.
pub(super) fn encode(
    record: &PayloadRecord,
    schema: &[u8],
    dictionaries: &[Block],
    batches: &[Block],
    replaced: bool,
) -> Option<Vec<u8>> {
    let message = arrow_ipc::root_as_message_with_opts(&options(schema.len()), schema).ok()?;
    let schema_at = message.header_as_schema()?._tab.loc();
    let bytes = record.encode_to_vec();
    let crc = format!("{:08x}", crc32c::crc32c(&bytes));
    let text = STANDARD.encode(&bytes);
    let handling = if replaced { "replaced" } else { "one per field" };
    let metadata =
        [(RECORD_KEY, text.as_str()), (CRC_KEY, crc.as_str()), (DICTIONARIES_KEY, handling)];
    footer::encode(message.version(), schema, schema_at, dictionaries, batches, &metadata)
}

/// Where the footer begins, from the last bytes of a file and its length.
pub(super) fn footer_at(trailer: [u8; 10], file_length: u64) -> Result<u64, Broken> {
    let damaged = |text: &str| Broken::Damaged(text.to_owned());
    if trailer[4..] != *b"ARROW1" {
        return Err(damaged("no end mark: it was cut off"));
    }
    let length = u64::from(u32::from_le_bytes([trailer[0], trailer[1], trailer[2], trailer[3]]));
    file_length
        .checked_sub(TRAILER)
        .and_then(|rest| rest.checked_sub(length))
        .ok_or_else(|| damaged("the footer is longer than the file"))
}

/// The record in the bytes of a footer.
pub(super) fn decode(footer: &[u8], footer_at: u64) -> Result<PayloadRecord, Broken> {
    let damaged = |text: String| Broken::Damaged(text);
    let parsed = arrow_ipc::root_as_footer_with_opts(&options(footer.len()), footer)
        .map_err(|_| damaged("the footer is no flatbuffer".to_owned()))?;
    let find = |key: &str| {
        let entries = parsed.custom_metadata()?;
        entries.iter().find(|entry| entry.key() == Some(key))?.value()
    };
    let text = find(RECORD_KEY).ok_or_else(|| damaged("no record in the footer".to_owned()))?;
    let bytes = STANDARD.decode(text).map_err(|_| damaged("the record is no base64".to_owned()))?;
    let crc = find(CRC_KEY).and_then(|text| u32::from_str_radix(text, 16).ok());
    if crc != Some(crc32c::crc32c(&bytes)) {
        return Err(damaged("the record does not match its checksum".to_owned()));
    }
    let record = PayloadRecord::decode(bytes.as_slice())
        .map_err(|error| damaged(format!("the record is not readable: {error}")))?;
    if record.version > RECORD_VERSION {
        return Err(Broken::Newer(u64::from(record.version)));
    }
    for (number, message) in record.messages.iter().enumerate() {
        let inside = range(message).is_some_and(|(_, _, end)| end <= footer_at);
        if !inside {
            return Err(damaged(format!("message {number} is outside the file")));
        }
    }
    if record.messages.is_empty() {
        return Err(damaged("no messages in the record".to_owned()));
    }
    Ok(record)
}

/// Start of the header, start and end of the body; a message of metadata only
/// takes no room.
pub(super) fn range(message: &MessageRecord) -> Option<(u64, u64, u64)> {
    if message.header_length == 0 {
        return Some((message.offset, message.offset, message.offset));
    }
    let header = message.offset.checked_add(8)?;
    let header_end = header.checked_add(u64::from(message.header_length))?;
    let body = header_end.checked_next_multiple_of(64)?;
    Some((header, body, body.checked_add(message.body_length)?))
}

/// These bytes were checked as a stream before: what bounds the work here is
/// their number.
fn options(bytes: usize) -> VerifierOptions {
    VerifierOptions { max_depth: 1_024, max_tables: bytes.max(1_000_000), ..Default::default() }
}
