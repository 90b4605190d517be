//! Whether a file, wherever it lies, is the payload that was put.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use bytes::Bytes;
use sheaf_proto::BatchId;
use sheaf_proto::storage::v1::MessageRecord;

use super::RECORD_VERSION;
use super::directory::{EXTENSION, relative};
use super::map::{Footer, OpenError, read_footer};
use super::record::{self, Broken};
use crate::content::ContentHasher;
use crate::error::{Error, io_error};

/// Bytes read at a time.
const PART: usize = 256 << 10;

/// A payload's file of which every byte was compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedPayload {
    /// Its name.
    pub id: BatchId,
    /// xxh3-128 over its messages and their lengths.
    pub checksum: String,
    /// Bytes of its messages.
    pub bytes: u64,
}

/// Where a payload lies in a data directory, with `/` between the parts.
pub fn payload_name(id: &BatchId) -> String {
    relative(id, EXTENSION)
}

/// Reads a payload's file to its end and compares everything that is known of
/// it: the CRC32C of its footer and of each message, xxh3-128 and length of
/// the whole, and that it lies under `name`, as in a data directory. Takes
/// 256 KiB of memory, and the footer's. Blocks.
///
/// # Errors
/// [`Error::Damaged`], which names the file; [`Error::FormatNewer`];
/// [`Error::Io`].
pub fn check_payload(path: &Path, name: &str) -> Result<CheckedPayload, Error> {
    let damaged = |detail: String| Error::Damaged { path: path.to_path_buf(), detail };
    let Footer { record, .. } = read_footer(path).map_err(|error| match error {
        OpenError::Io(error) => io_error("read", path, error),
        OpenError::Broken(Broken::Damaged(detail)) => damaged(detail),
        OpenError::Broken(Broken::Newer(found)) => {
            let supported = u64::from(RECORD_VERSION);
            Error::FormatNewer { path: path.to_path_buf(), found, supported }
        }
    })?;
    let id = BatchId::try_new(&record.id).map_err(|error| damaged(error.to_string()))?;
    if payload_name(&id) != name {
        return Err(damaged(format!("it holds payload {id}, under the name {name}")));
    }
    let file = File::open(path).map_err(|error| io_error("read", path, error))?;
    let mut content = ContentHasher::default();
    let mut part = vec![0; PART];
    for (number, message) in record.messages.iter().enumerate() {
        let crc = add(&file, message, &mut content, &mut part)
            .map_err(|error| io_error("read", path, error))?;
        if crc != Some(message.crc32c) {
            return Err(damaged(format!("message {number} does not match its checksum")));
        }
    }
    let found = (content.checksum(), content.bytes());
    if found != (record.checksum.clone(), record.bytes) {
        let (checksum, bytes) = found;
        return Err(damaged(format!(
            "its content is {checksum} of {bytes} bytes, what was put is {} of {}",
            record.checksum, record.bytes
        )));
    }
    Ok(CheckedPayload { id, checksum: record.checksum, bytes: record.bytes })
}

/// Adds a message to the sum of the content; its own CRC32C.
fn add(
    file: &File,
    message: &MessageRecord,
    content: &mut ContentHasher,
    part: &mut [u8],
) -> std::io::Result<Option<u32>> {
    let Some((header_at, mut at, end)) = record::range(message) else { return Ok(None) };
    // The record was found to lie inside the file.
    let mut header = vec![0; usize::try_from(message.header_length).unwrap_or(0)];
    file.read_exact_at(&mut header, header_at)?;
    let mut crc = crc32c::crc32c(&header);
    crc = crc32c::crc32c_append(crc, &message.app_metadata);
    content.begin(&Bytes::from(header), &message.app_metadata, message.body_length);
    while at < end {
        let length = usize::try_from(end - at).unwrap_or(usize::MAX).min(part.len());
        let piece = &mut part[..length];
        file.read_exact_at(piece, at)?;
        crc = crc32c::crc32c_append(crc, piece);
        content.body(piece);
        at += length as u64;
    }
    Ok(Some(crc))
}
