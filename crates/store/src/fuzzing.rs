//! Ways in for fuzz targets: a start of the store that finds one file.
//!
//! No part of the interface, and there with the feature `fuzzing` only.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use prost::Message as _;
use sheaf_flight::Message;
use sheaf_proto::BatchId;

use crate::disk::{
    Directory, Journal, LocalDisk, MappedFile, check_data_format, crc_of, journal, recover_shard,
};
use crate::error::{Error, io_error};
use crate::retention::{Mark, Place};

/// A data directory in which a start finds what somebody has put there.
pub struct DataDir {
    directory: Directory,
}

/// What became of a file.
#[derive(Debug)]
pub enum Found {
    /// Set aside when the store was started.
    SetAside,
    /// Refused when it was read.
    Corrupt,
    /// Served.
    Served {
        /// Rows, as a start tells them.
        rows: u64,
        /// As they would be sent.
        messages: Vec<Message>,
        /// xxh3-128 of what was put, as the file has it.
        checksum: String,
        /// CRC32C of each message, as the file has it and as it is.
        crcs: Vec<(u32, u32)>,
    },
}

impl DataDir {
    /// Takes the directory.
    ///
    /// # Errors
    /// As of [`Store::open`](crate::Store::open).
    pub fn open(root: &Path) -> Result<Self, Error> {
        Ok(DataDir { directory: Directory::open(root, &LocalDisk)? })
    }

    /// Where a payload lies.
    pub fn path(&self, id: &BatchId) -> PathBuf {
        self.directory.payload(id)
    }

    /// What a start does about the file of this payload, and what a read of it
    /// answers. The directory is as before, afterwards.
    ///
    /// # Errors
    /// [`Error::FormatNewer`] for a file of a newer version, [`Error::Io`].
    pub fn find(&self, id: &BatchId, bytes: &[u8]) -> Result<Found, Error> {
        let path = self.path(id);
        fs::write(&path, bytes).map_err(|error| io_error("write", &path, error))?;
        let found = self.recover(&path);
        self.tidy(&path)?;
        found
    }

    fn recover(&self, path: &Path) -> Result<Found, Error> {
        let shard = path.parent().unwrap_or(path);
        let (found, _) = recover_shard(&self.directory, &LocalDisk, shard)?;
        let Some(payload) = found.into_iter().next() else { return Ok(Found::SetAside) };
        let Ok(mapped) = MappedFile::open(&payload.path) else { return Ok(Found::Corrupt) };
        if mapped.verify().is_err() {
            return Ok(Found::Corrupt);
        }
        let messages: Vec<Message> =
            (0..).map_while(|number| Some(mapped.kept(number)?.message)).collect();
        let crcs = mapped.record.messages.iter().zip(&messages);
        Ok(Found::Served {
            rows: payload.record.rows,
            crcs: crcs.map(|(record, message)| (record.crc32c, crc_of(message))).collect(),
            // The mapping must not outlive the file that is written anew.
            messages: messages.iter().map(copied).collect(),
            checksum: payload.record.checksum,
        })
    }

    fn tidy(&self, path: &Path) -> Result<(), Error> {
        let aside = self.directory.root().join("batches/quarantine");
        let name = path.file_name().unwrap_or_default();
        for file in [path.to_path_buf(), aside.join(name)] {
            if file.exists() {
                fs::remove_file(&file).map_err(|error| io_error("remove", &file, error))?;
            }
        }
        Ok(())
    }
}

fn copied(message: &Message) -> Message {
    let body = message.contiguous_body();
    let mut copy = Message::new(
        bytes::Bytes::copy_from_slice(&message.header),
        bytes::Bytes::copy_from_slice(&body),
    );
    copy.app_metadata = bytes::Bytes::copy_from_slice(&message.app_metadata);
    copy
}

/// That a data directory with these bytes as `FORMAT` can be used.
///
/// # Errors
/// As of [`Store::open`](crate::Store::open).
pub fn format(root: &Path, bytes: &[u8]) -> Result<(), Error> {
    let path = root.join("FORMAT");
    fs::write(&path, bytes).map_err(|error| io_error("write", &path, error))?;
    check_data_format(root)
}

/// What a journal of registrations says of one payload.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Registration {
    /// Which payload.
    pub id: String,
    /// Of its mark.
    pub sequence: u64,
    /// Of its mark.
    pub spec: Vec<u8>,
}

impl Registration {
    fn mark(&self) -> Mark {
        let place = Place { run: 1, sequence: self.sequence };
        Mark { place, spec: self.spec.clone().into(), waits: false }
    }
}

/// Opens a journal at `path`, appends one record, and answers what counted in
/// it before that. Every payload is there.
///
/// # Errors
/// As of [`Store::open`](crate::Store::open).
pub fn journal(path: &Path, append: Option<&Registration>) -> Result<Vec<Registration>, Error> {
    let disk = Arc::new(LocalDisk);
    let (mut journal, known) = Journal::open(disk, path.to_path_buf(), |_| true)?;
    let ids = known.keys().map(String::as_str).collect();
    let found = journal.read(&ids)?.into_iter().map(|record| Registration {
        id: record.id,
        sequence: record.sequence,
        spec: record.spec.to_vec(),
    });
    let found = found.collect();
    if let Some(one) = append {
        journal.append(&[journal::registered(&one.id, one.mark())])?;
        journal.sync()?;
    }
    Ok(found)
}

/// The encoded records of payloads that were registered, some of them over.
pub fn journal_records(records: &[Registration], over: &[&str]) -> Vec<Vec<u8>> {
    let registered = records.iter().map(|one| journal::registered(&one.id, one.mark()));
    let over = over.iter().map(|id| journal::over(id));
    registered.chain(over).map(|record| record.encode_to_vec()).collect()
}

/// A file with these.
pub fn journal_file(records: &[Registration], over: &[&str]) -> Vec<u8> {
    journal_of(&journal_records(records, over))
}

/// A file with these bytes as records.
pub fn journal_of(records: &[Vec<u8>]) -> Vec<u8> {
    let mut out = journal::head();
    records.iter().for_each(|record| journal::frame(record, &mut out));
    out
}
