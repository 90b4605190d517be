//! From the stream of a server to a backup.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;

use arrow_array::RecordBatch;

use super::error::Error;
use super::list::{ListWriter, Sum, is_name, is_payload};
use super::manifest::{Manifest, Missing};
use super::place::Place;
use super::verify::{state, verify};
use super::wire::{self, END, Head, Tail, VERSION};

/// Writes what comes, row by row. Blocks for as long as the disk does.
pub(crate) struct Receiver {
    place: Place,
    head: Head,
    list: ListWriter,
    open: Option<Open>,
    sent: Tail,
    tail: Option<Tail>,
}

/// The file that is being written.
struct Open {
    name: String,
    path: PathBuf,
    file: File,
    sum: Sum,
}

impl Receiver {
    /// # Errors
    /// [`Error::Newer`] for a stream of a newer server; [`Error::Io`].
    pub(crate) fn new(place: Place, head: Head) -> Result<Self, Error> {
        if head.version > VERSION {
            let path = PathBuf::from("what the server sends");
            return Err(Error::Newer { path, found: head.version, supported: VERSION });
        }
        let list = ListWriter::create(place.folder())?;
        Ok(Receiver { place, head, list, open: None, sent: Tail::default(), tail: None })
    }

    /// The next rows; how many payloads are there by now.
    ///
    /// # Errors
    /// [`Error::Stream`], [`Error::Io`].
    pub(crate) fn take(&mut self, batch: &RecordBatch) -> Result<u64, Error> {
        for (name, offset, data) in wire::rows(batch) {
            if self.tail.is_some() {
                return Err(Error::Stream(format!("file {name:?} comes after the end")));
            }
            if name == END {
                self.close()?;
                let tail = serde_json::from_slice(data)
                    .map_err(|error| Error::Stream(format!("its end is no JSON: {error}")))?;
                self.tail = Some(tail);
                continue;
            }
            if self.open.as_ref().is_none_or(|open| open.name != name) {
                self.close()?;
                self.open = Some(self.begin(name)?);
            }
            let Some(open) = &mut self.open else { continue };
            if offset != open.sum.length() {
                let there = open.sum.length();
                let text = format!("{name} goes on at {offset} where it has {there} bytes");
                return Err(Error::Stream(text));
            }
            open.sum.add(data);
            open.file.write_all(data).map_err(Error::io("write", &open.path))?;
        }
        Ok(self.sent.payloads)
    }

    fn begin(&self, name: &str) -> Result<Open, Error> {
        if !is_name(name) {
            return Err(Error::Stream(format!("{name:?} is no file of a data directory")));
        }
        let path = self.place.folder().join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
        }
        let file = File::create_new(&path).map_err(Error::io("create", &path))?;
        Ok(Open { name: name.to_owned(), path, file, sum: Sum::new() })
    }

    fn close(&mut self) -> Result<(), Error> {
        let Some(Open { name, sum, .. }) = self.open.take() else { return Ok(()) };
        let line = sum.line(&name);
        self.sent.files += 1;
        self.sent.bytes += line.length;
        self.sent.payloads += u64::from(is_payload(&name));
        self.list.add(&line)
    }

    /// The end of the stream: checks that it is one, reads back and compares
    /// everything, and gives the backup its name.
    ///
    /// # Errors
    /// [`Error::Stream`] for a stream without its end; what [`verify`] finds;
    /// [`Error::Io`].
    pub(crate) fn finish(self) -> Result<Manifest, Error> {
        let Receiver { place, head, list, sent, tail, .. } = self;
        let Some(tail) = tail else {
            return Err(Error::Stream("it ended too soon: it was broken off".to_owned()));
        };
        if sent != (Tail { damaged: 0, ..tail.clone() }) {
            return Err(Error::Stream(format!("{sent:?} came, {tail:?} were sent")));
        }
        let mut manifest = Manifest {
            version: VERSION,
            server_version: head.server_version,
            mode: head.mode,
            coordinator: head.coordinator,
            locations: head.locations,
            begun_at: head.begun_at,
            has_state: head.has_state,
            has_payloads: head.has_payloads,
            payloads: sent.payloads,
            bytes: sent.bytes,
            files: sent.files,
            files_checksum: list.finish()?,
            ..Manifest::default()
        };
        if let Some((found, missing)) = state(place.folder(), &manifest)? {
            (manifest.batches, manifest.live) = (found.batches, found.live);
            manifest.last_fence = found.last_fence.0.to_string();
            manifest.missing = missing;
        } else {
            manifest.missing = Missing::default();
        }
        manifest.write(place.folder())?;
        let manifest = verify(place.folder())?;
        place.keep()?;
        Ok(manifest)
    }
}
