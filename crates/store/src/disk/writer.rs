//! Writes one payload as an Arrow IPC file.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use sheaf_flight::ipc::Kind;
use sheaf_proto::storage::v1::{MessageRecord, PayloadRecord};

use super::io::Disk;
use super::record::{self, Block};
use crate::error::{Error, io_error};
use crate::kept::Kept;

/// Bodies begin at multiples of this, so that their buffers do in memory too.
const ALIGN: u64 = 64;
const ZEROS: [u8; 128] = [0; 128];
/// Small writes are gathered up to this many bytes.
const GATHER: usize = 256 << 10;

/// A file under a temporary name: dropped unfinished, it is removed.
pub(crate) struct FileWriter {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    file: Option<File>,
    gathered: Vec<u8>,
    at: u64,
    messages: Vec<MessageRecord>,
    dictionaries: Vec<Block>,
    batches: Vec<Block>,
}

/// A message with what was found out about it.
#[derive(Clone, Debug)]
pub(crate) struct Checked {
    pub(crate) kept: Kept,
    pub(crate) kind: Kind,
    pub(crate) rows: u64,
    pub(crate) crc: u32,
}

impl FileWriter {
    pub(crate) fn create(disk: Arc<dyn Disk>, path: PathBuf) -> Result<Self, Error> {
        let file = disk.create(&path).map_err(|error| io_error("create", &path, error))?;
        let mut writer = FileWriter {
            disk,
            path,
            file: Some(file),
            gathered: Vec::new(),
            at: 0,
            messages: Vec::new(),
            dictionaries: Vec::new(),
            batches: Vec::new(),
        };
        writer.put(b"ARROW1\0\0")?;
        Ok(writer)
    }

    pub(crate) fn append(&mut self, checked: &Checked) -> Result<(), Error> {
        let Checked { kept: Kept { message, put_header }, kind, rows, crc } = checked;
        let header_length = u32::try_from(message.header.len())
            .map_err(|_| Error::Invalid("a message header of 4 GiB or more".to_owned()))?;
        let record = MessageRecord {
            offset: self.at,
            header_length,
            body_length: message.body_len() as u64,
            crc32c: *crc,
            // A part of the message's memory would keep all of it.
            app_metadata: Bytes::copy_from_slice(&message.app_metadata),
            rows: *rows,
            put_header: put_header.clone(),
        };
        if *kind != Kind::Metadata {
            let start = self.at;
            let metadata_end = (start + 8 + u64::from(header_length)).next_multiple_of(ALIGN);
            let metadata_length = u32::try_from(metadata_end - start)
                .map_err(|_| Error::Invalid("a message header of 4 GiB or more".to_owned()))?;
            self.put(&[0xff; 4])?;
            self.put(&(metadata_length - 8).to_le_bytes())?;
            self.put(&message.header)?;
            self.pad()?;
            for piece in &message.body {
                self.put(piece)?;
            }
            self.pad()?;
            let block = Block { offset: start, metadata_length, body_length: record.body_length };
            match kind {
                Kind::Dictionary { .. } => self.dictionaries.push(block),
                Kind::RecordBatch => self.batches.push(block),
                Kind::Schema | Kind::Metadata => {}
            }
        }
        self.messages.push(record);
        Ok(())
    }

    /// Writes the end of the file; `durable` waits until a crash cannot undo it.
    ///
    /// The caller owns the file at the temporary path afterwards.
    pub(crate) fn finish(
        mut self,
        record: PayloadRecord,
        schema: &[u8],
        replaced: bool,
        durable: bool,
    ) -> Result<Written, Error> {
        let messages = std::mem::take(&mut self.messages);
        let record = PayloadRecord { messages, ..record };
        let footer =
            record::encode(&record, schema, &self.dictionaries, &self.batches, replaced)
                .ok_or_else(|| Error::Invalid("a payload with a footer of 2 GiB".to_owned()))?;
        self.put(&[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0])?;
        self.put(&footer)?;
        self.flush()?;
        let file = self.file.take();
        let path = self.path.clone();
        let disk = Arc::clone(&self.disk);
        let written = Written { disk, path, file, length: self.at, kept: false };
        if let Some(file) = &written.file
            && durable
        {
            self.disk.sync_file(file).map_err(|error| io_error("sync", &self.path, error))?;
        }
        Ok(written)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.at += bytes.len() as u64;
        if self.gathered.len() + bytes.len() > GATHER {
            self.flush()?;
        }
        if bytes.len() > GATHER {
            return self.write_out(bytes);
        }
        self.gathered.extend_from_slice(bytes);
        Ok(())
    }

    fn pad(&mut self) -> Result<(), Error> {
        let missing = self.at.next_multiple_of(ALIGN) - self.at;
        // Less than 64.
        self.put(&ZEROS[..usize::try_from(missing).unwrap_or(0)])
    }

    fn flush(&mut self) -> Result<(), Error> {
        let gathered = std::mem::take(&mut self.gathered);
        self.write_out(&gathered)?;
        self.gathered = gathered;
        self.gathered.clear();
        Ok(())
    }

    fn write_out(&self, bytes: &[u8]) -> Result<(), Error> {
        let Some(file) = &self.file else { return Ok(()) };
        self.disk.write(file, bytes).map_err(|error| io_error("write", &self.path, error))
    }
}

impl Drop for FileWriter {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            remove_quietly(self.disk.as_ref(), &self.path);
        }
    }
}

/// A complete file under a temporary name: dropped, it is removed.
pub(crate) struct Written {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    file: Option<File>,
    length: u64,
    kept: bool,
}

impl Written {
    /// Bytes of the file.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// The file itself, where it has no name to be kept under.
    pub(crate) fn into_file(mut self) -> Option<File> {
        self.file.take()
    }

    /// Gives the file its name; the directory is not synced.
    pub(crate) fn rename(mut self, to: &Path) -> Result<(), Error> {
        self.disk.rename(&self.path, to).map_err(|error| io_error("rename to", to, error))?;
        self.kept = true;
        Ok(())
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        if !self.kept {
            remove_quietly(self.disk.as_ref(), &self.path);
        }
    }
}

/// Where removing fails too, the next start removes it.
pub(crate) fn remove_quietly(disk: &dyn Disk, path: &Path) {
    if let Err(error) = disk.remove(path) {
        tracing::warn!(path = %path.display(), %error, "could not remove a file");
    }
}
