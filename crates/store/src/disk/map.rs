//! Stored files, mapped into memory and served from there.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use bytes::Bytes;
use memmap2::Mmap;
use sheaf_flight::Message;
use sheaf_proto::storage::v1::PayloadRecord;

use super::record::{self, Broken, TRAILER};
use crate::kept::Kept;

/// A file of this store with its record.
pub(crate) struct MappedFile {
    pub(crate) record: PayloadRecord,
    bytes: Bytes,
}

/// Why a file could not be opened.
#[derive(Debug)]
pub(crate) enum OpenError {
    Io(io::Error),
    Broken(Broken),
}

impl MappedFile {
    /// Maps a file and reads its footer; messages are not checked.
    pub(crate) fn open(path: &Path) -> Result<Self, OpenError> {
        let file = File::open(path).map_err(OpenError::Io)?;
        let bytes = map(&file).map_err(OpenError::Io)?;
        let record = read_record(&bytes).map_err(OpenError::Broken)?;
        Ok(MappedFile { record, bytes })
    }

    /// The whole file: no bytes are copied.
    pub(crate) fn bytes(&self) -> Bytes {
        self.bytes.clone()
    }

    /// A message as it is kept: no bytes of it are copied.
    pub(crate) fn kept(&self, number: usize) -> Option<Kept> {
        let message = self.message(number)?;
        let put_header = self.record.messages.get(number)?.put_header.clone();
        Some(Kept { message, put_header })
    }

    /// A message: no bytes are copied.
    fn message(&self, number: usize) -> Option<Message> {
        let record = self.record.messages.get(number)?;
        let (header, body, end) = record::range(record)?;
        let slice = |from: u64, to: u64| {
            let (from, to) = (usize::try_from(from).ok()?, usize::try_from(to).ok()?);
            (from <= to && to <= self.bytes.len()).then(|| self.bytes.slice(from..to))
        };
        let header = slice(header, header + u64::from(record.header_length))?;
        let body = if record.body_length == 0 { Bytes::new() } else { slice(body, end)? };
        let mut message = Message::new(header, body);
        message.app_metadata = record.app_metadata.clone();
        Some(message)
    }

    /// That every message is what was written.
    pub(crate) fn verify(&self) -> Result<(), String> {
        for (number, record) in self.record.messages.iter().enumerate() {
            let message = self.message(number).ok_or("a message outside the file")?;
            if record::crc_of(&message) != record.crc32c {
                return Err(format!("message {number} does not match its checksum"));
            }
        }
        Ok(())
    }
}

/// What a start needs to know of a file.
pub(super) struct Footer {
    pub(super) record: PayloadRecord,
    pub(super) schema: Bytes,
    pub(super) length: u64,
}

/// Reads the record and the schema of a file, without mapping it.
pub(super) fn read_footer(path: &Path) -> Result<Footer, OpenError> {
    let damaged = |text: &str| OpenError::Broken(Broken::Damaged(text.to_owned()));
    let file = File::open(path).map_err(OpenError::Io)?;
    let metadata = file.metadata().map_err(OpenError::Io)?;
    let length = metadata.len();
    if !metadata.is_file() {
        return Err(damaged("not a file"));
    }
    if length < TRAILER {
        return Err(damaged("too short"));
    }
    let mut trailer = [0; 10];
    file.read_exact_at(&mut trailer, length - TRAILER).map_err(OpenError::Io)?;
    let at = record::footer_at(trailer, length).map_err(OpenError::Broken)?;
    // At most 4 GiB, and no more than the file has.
    let mut footer = vec![0; usize::try_from(length - TRAILER - at).unwrap_or(0)];
    file.read_exact_at(&mut footer, at).map_err(OpenError::Io)?;
    let record = record::decode(&footer, at).map_err(OpenError::Broken)?;
    let first = record.messages.first().ok_or_else(|| damaged("no schema"))?;
    let (start, ..) = record::range(first).ok_or_else(|| damaged("no schema"))?;
    let mut schema = vec![0; usize::try_from(first.header_length).unwrap_or(0)];
    file.read_exact_at(&mut schema, start).map_err(OpenError::Io)?;
    let mut message = Message::new(Bytes::from(schema), Bytes::new());
    message.app_metadata = first.app_metadata.clone();
    if record::crc_of(&message) != first.crc32c {
        return Err(damaged("the schema does not match its checksum"));
    }
    Ok(Footer { schema: message.header, record, length })
}

fn read_record(bytes: &[u8]) -> Result<PayloadRecord, Broken> {
    let trailer = bytes.last_chunk::<10>();
    let trailer = trailer.ok_or_else(|| Broken::Damaged("too short".to_owned()))?;
    let at = record::footer_at(*trailer, bytes.len() as u64)?;
    let start = usize::try_from(at).map_err(|_| Broken::Damaged("too long".to_owned()))?;
    record::decode(&bytes[start..bytes.len() - trailer.len()], at)
}

/// Owner of the mapping: unmapped when the last slice of it is gone.
struct Mapping(Mmap);

impl AsRef<[u8]> for Mapping {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

#[allow(
    unsafe_code,
    reason = "serving files without copying them needs a mapping, which no safe interface offers"
)]
fn map(file: &File) -> io::Result<Bytes> {
    // SAFETY: memory that is mapped from a file changes when the file does,
    // and faults when the file becomes shorter. Neither happens: only this
    // process uses the data directory (it holds the lock in it), a file has
    // its last byte written before it gets the name by which it is found, and
    // is only ever unlinked or renamed after that, which leaves the mapping
    // as it is. Somebody who changes files below a running server by hand is
    // beyond that; the bytes are plain `u8`, for which any value is valid.
    let mapping = unsafe { Mmap::map(file)? };
    Ok(Bytes::from_owner(Mapping(mapping)))
}
