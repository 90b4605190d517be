//! Whether a file, wherever it lies, is the payload that was put.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use bytes::Bytes;
use sheaf_flight::Message;
use sheaf_flight::ipc::{Bounds, Recoder};
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
/// the whole as it was put, and that it lies under `name`, as in a data
/// directory. Takes 256 KiB of memory, and the footer's; for a message that the
/// store compressed as much as it has, compressed and not. Blocks.
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
    let mut recoder = Recoder::new(Bounds::default());
    for (number, message) in record.messages.iter().enumerate() {
        let added = match message.put_header.is_empty() {
            true => add(&file, message, &mut content, &mut part),
            false => add_restored(&file, message, &mut content, &mut recoder),
        };
        added.map_err(|fault| match fault {
            Fault::Io(error) => io_error("read", path, error),
            Fault::Damaged(detail) => damaged(format!("message {number} {detail}")),
        })?;
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

/// Why a message is not what was put.
enum Fault {
    Io(std::io::Error),
    Damaged(String),
}

impl From<std::io::Error> for Fault {
    fn from(error: std::io::Error) -> Self {
        Fault::Io(error)
    }
}

/// That a message has the CRC32C of its record.
fn compare(crc: u32, message: &MessageRecord) -> Result<(), Fault> {
    match crc == message.crc32c {
        true => Ok(()),
        false => Err(Fault::Damaged("does not match its checksum".to_owned())),
    }
}

/// Adds a message to the sum of the content, and compares its own CRC32C.
fn add(
    file: &File,
    message: &MessageRecord,
    content: &mut ContentHasher,
    part: &mut [u8],
) -> Result<(), Fault> {
    let (header_at, mut at, end) = range_of(message)?;
    let header = read(file, header_at, u64::from(message.header_length))?;
    let mut crc = crc32c::crc32c(&header);
    crc = crc32c::crc32c_append(crc, &message.app_metadata);
    content.begin(&header, &message.app_metadata, message.body_length);
    while at < end {
        let length = usize::try_from(end - at).unwrap_or(usize::MAX).min(part.len());
        let piece = &mut part[..length];
        file.read_exact_at(piece, at)?;
        crc = crc32c::crc32c_append(crc, piece);
        content.body(piece);
        at += length as u64;
    }
    compare(crc, message)
}

/// The same of a message that the store compressed: the sum is over what was put.
fn add_restored(
    file: &File,
    message: &MessageRecord,
    content: &mut ContentHasher,
    recoder: &mut Recoder,
) -> Result<(), Fault> {
    let (header_at, body_at, end) = range_of(message)?;
    let header = read(file, header_at, u64::from(message.header_length))?;
    let mut kept = Message::new(header, read(file, body_at, end - body_at)?);
    kept.app_metadata = message.app_metadata.clone();
    compare(record::crc_of(&kept), message)?;
    let restored = recoder
        .restore(&kept, &message.put_header)
        .map_err(|error| Fault::Damaged(format!("does not decompress: {}", error.message())))?;
    content.add(&restored);
    Ok(())
}

fn range_of(message: &MessageRecord) -> Result<(u64, u64, u64), Fault> {
    record::range(message).ok_or_else(|| Fault::Damaged("is outside the file".to_owned()))
}

/// A part of the file; the record was found to lie inside it.
fn read(file: &File, at: u64, length: u64) -> std::io::Result<Bytes> {
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    file.read_exact_at(&mut bytes, at)?;
    Ok(Bytes::from(bytes))
}
