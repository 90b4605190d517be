//! Stored files, mapped into memory and served from there.

use std::any::Any;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use memmap2::{Advice, Mmap};
use rustix::io::Errno;
use sheaf_flight::Message;
use sheaf_proto::storage::v1::PayloadRecord;

use super::record::{self, Broken, TRAILER};
use crate::kept::Kept;

/// Read from the disk at once while messages are served: long enough that
/// asking for it costs nothing beside it.
const STEP: u64 = 4 << 20;

/// A file of this store with its record.
pub(crate) struct MappedFile {
    pub(crate) record: PayloadRecord,
    bytes: Bytes,
    mapping: Arc<Mapping>,
    file: Arc<File>,
    path: PathBuf,
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
        MappedFile::with(file, path.to_path_buf(), Box::new(()))
    }

    /// Maps a file that is open already, to read all of it; `keep` lives as
    /// long as the mapping does.
    pub(crate) fn of(file: File, keep: Box<dyn Any + Send + Sync>) -> Result<Self, OpenError> {
        let mapped = MappedFile::with(file, PathBuf::from("shared memory"), keep)?;
        // One call in place of a fault for every few pages.
        mapped.load_all().map_err(OpenError::Io)?;
        Ok(mapped)
    }

    fn with(
        file: File,
        path: PathBuf,
        keep: Box<dyn Any + Send + Sync>,
    ) -> Result<Self, OpenError> {
        let (record, _) = read_record(&file)?;
        let mapping = map(&file).map_err(OpenError::Io)?;
        let mapping = Arc::new(Mapping { mapping, _keep: keep });
        let bytes = Bytes::from_owner(Owner(Arc::clone(&mapping)));
        let mapped = MappedFile { record, bytes, mapping, file: Arc::new(file), path };
        Ok(mapped)
    }

    /// Where it was found.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes from the beginning of a message on to the end of another.
    fn span(&self, numbers: Range<usize>) -> Option<Range<usize>> {
        let records = self.record.messages.get(numbers)?;
        // Those of metadata only take no room.
        let ranges = records.iter().filter_map(record::range).filter(|range| range.2 > 0);
        let (start, end) = ranges.fold((u64::MAX, 0), |(start, end), (from, _, to)| {
            (u64::min(start, from), u64::max(end, to))
        });
        let (start, end) = (usize::try_from(start).ok()?, usize::try_from(end).ok()?);
        (start < end && end <= self.bytes.len()).then_some(start..end)
    }

    /// Reads these messages from the disk, if they are not in memory yet.
    ///
    /// A page that cannot be read would otherwise end the process when it is
    /// touched. Blocks.
    ///
    /// # Errors
    /// The disk cannot be read there, or the file became shorter.
    pub(crate) fn load_messages(&self, numbers: Range<usize>) -> io::Result<()> {
        self.span(numbers).map_or(Ok(()), |span| self.load(span))
    }

    /// The same with all of them, and the footer.
    ///
    /// # Errors
    /// As [`MappedFile::load_messages`].
    pub(crate) fn load_all(&self) -> io::Result<()> {
        self.load(0..self.bytes.len())
    }

    fn load(&self, span: Range<usize>) -> io::Result<()> {
        let mapping = &self.mapping.mapping;
        match mapping.advise_range(Advice::PopulateRead, span.start, span.len()) {
            Err(error) if error.raw_os_error() == Some(Errno::FAULT.raw_os_error()) => {
                let text = "the disk cannot be read there, or the file became shorter";
                Err(io::Error::other(text))
            }
            // A system older than Linux 5.14 reads when the pages are touched.
            Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => Ok(()),
            loaded => loaded,
        }
    }

    /// Where to stop so that messages from `first` on are read in steps that
    /// are worth it.
    pub(crate) fn step_from(&self, first: usize) -> usize {
        let messages = &self.record.messages;
        let mut bytes = 0;
        let rest = messages.get(first..).unwrap_or_default();
        let enough = rest.iter().position(|message| {
            bytes += message.body_length;
            bytes >= STEP
        });
        enough.map_or(messages.len(), |at| first + at + 1)
    }

    /// The file, for another process to map.
    pub(crate) fn file(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }

    /// Its messages in order.
    pub(crate) fn all(&self) -> impl Iterator<Item = Kept> {
        (0..).map_while(|number| self.kept(number))
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
    pub(crate) fn verify(&self) -> Result<(), OpenError> {
        let damaged = |text: String| OpenError::Broken(Broken::Damaged(text));
        for (number, record) in self.record.messages.iter().enumerate() {
            self.load_messages(number..number + 1).map_err(OpenError::Io)?;
            let message = self.message(number);
            let message = message.ok_or_else(|| damaged("a message outside the file".into()))?;
            if record::crc_of(&message) != record.crc32c {
                return Err(damaged(format!("message {number} does not match its checksum")));
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
    let (record, length) = read_record(&file)?;
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

/// The record of a file, and the length of the file.
fn read_record(file: &File) -> Result<(PayloadRecord, u64), OpenError> {
    let damaged = |text: &str| OpenError::Broken(Broken::Damaged(text.to_owned()));
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
    Ok((record, length))
}

/// Unmapped when the last slice of it is gone.
struct Mapping {
    mapping: Mmap,
    _keep: Box<dyn Any + Send + Sync>,
}

/// Of the slices.
struct Owner(Arc<Mapping>);

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.0.mapping
    }
}

#[allow(
    unsafe_code,
    reason = "serving files without copying them needs a mapping, which no safe interface offers"
)]
fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: memory that is mapped from a file changes when the file does,
    // and faults when the file becomes shorter. Neither happens. It is one of
    // two kinds: a file of a data directory, of which only one server writes
    // (it holds the lock in it), whose last byte is written before it gets the
    // name by which it is found, and which is only ever unlinked or renamed
    // after that, which leaves the mapping as it is; or memory that is sealed
    // against writing, shrinking and growing. A client has either from a
    // server of its own user, whose files it could change itself. Somebody who
    // changes files below a running server by hand is beyond that; the bytes
    // are plain `u8`, for which any value is valid.
    unsafe { Mmap::map(file) }
}
