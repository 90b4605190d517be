//! Which payloads were registered, and how: a file that is only appended to.
//!
//! ```text
//! SHEAFREG                   magic
//! version                    4 bytes, little endian
//! length  crc32c  record     4 bytes each, then a `RegistrationRecord`; again and again
//! ```
//!
//! The last record of a payload counts. A tail that a crash left torn is cut
//! off: it was not acknowledged as durable. A file that begins in another way is
//! set aside as `registered.damaged`.

mod scan;

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{ErrorKind, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use prost::Message as _;
use sheaf_proto::storage::v1::RegistrationRecord;

pub(crate) use scan::Scan;

use super::io::Disk;
use super::writer::remove_quietly;
use crate::error::{Error, io_error};
use crate::retention::{Mark, Place};
use crate::store::Noted;

/// Version of the file and of its records.
const VERSION: u32 = 1;
const MAGIC: &[u8; 8] = b"SHEAFREG";
/// Magic and version.
const HEAD: usize = 12;
/// Length and checksum of a record.
const FRAME: usize = 8;
/// Records that may be void besides as many as count.
const SLACK: u64 = 4_096;

/// The open file.
pub(crate) struct Journal {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    file: File,
    /// Bytes that are whole.
    length: u64,
    records: u64,
    /// Something is not synced.
    dirty: bool,
}

impl Journal {
    /// Opens the file, or makes it, and reads what counts in it: the place
    /// of every payload for which `is_there` and whose work is not over.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        path: PathBuf,
        is_there: impl Fn(&str) -> bool,
    ) -> Result<(Self, HashMap<String, Noted>), Error> {
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(io_error("read", &path, error)),
        };
        let Scan { records, whole, damaged } = Scan::of(&bytes, &path)?;
        let is_broken = damaged > 0 || (whole == 0 && !bytes.is_empty());
        if is_broken {
            // Whatever it is, it is kept; what can be read of it is written anew.
            let (aside, read) = (free_name(&path), records.len());
            tracing::error!(
                file = %path.display(), aside = %aside.display(), damaged, read,
                "the journal of registrations is damaged: it is set aside, and the coordinator is asked what it has"
            );
            // A copy: the file itself is there until the new one takes its place.
            std::fs::copy(&path, &aside).map_err(|error| io_error("copy", &path, error))?;
        } else if whole < bytes.len() {
            let lost = bytes.len() - whole;
            tracing::warn!(file = %path.display(), lost, "cut a torn end off");
        }
        let count = records.len() as u64;
        let (mut last, mut gone) = (HashMap::new(), Vec::new());
        for record in records {
            if record.over {
                last.remove(&record.id);
            } else {
                last.insert(record.id.clone(), record);
            }
        }
        // The next payload of that name must not have its mark.
        last.retain(|id, _| {
            is_there(id) || {
                gone.push(over(id));
                false
            }
        });
        let known = last.iter().map(|(id, record)| (id.clone(), noted(record))).collect();
        let void = count - last.len() as u64;
        let journal = if whole == 0 || is_broken || void > last.len() as u64 + SLACK {
            Journal::write_new(disk, path, last.values())?
        } else {
            let opened = File::options().read(true).append(true).open(&path);
            let file = opened.map_err(|error| io_error("open", &path, error))?;
            let length = whole as u64;
            let mut journal = Journal { disk, path, file, length, records: count, dirty: true };
            journal.cut()?;
            if !gone.is_empty() {
                journal.append(&gone)?;
            }
            journal
        };
        Ok((journal, known))
    }

    /// A file with only these records takes the place of the one there.
    fn write_new<'a>(
        disk: Arc<dyn Disk>,
        path: PathBuf,
        records: impl Iterator<Item = &'a RegistrationRecord>,
    ) -> Result<Self, Error> {
        let new = path.with_extension("new");
        match disk.remove(&new) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(io_error("remove", &new, error));
            }
            _ => {}
        }
        let (mut bytes, mut count) = (head(), 0);
        for record in records {
            frame(&record.encode_to_vec(), &mut bytes);
            count += 1;
        }
        let file = disk.create(&new).map_err(|error| io_error("create", &new, error))?;
        let written = disk
            .write(&file, &bytes)
            .and_then(|()| disk.sync_file(&file))
            .and_then(|()| disk.rename(&new, &path))
            .and_then(|()| disk.sync_dir(path.parent().unwrap_or(Path::new("."))));
        if let Err(error) = written {
            remove_quietly(disk.as_ref(), &new);
            return Err(io_error("write", &path, error));
        }
        let length = bytes.len() as u64;
        Ok(Journal { disk, path, file, length, records: count, dirty: false })
    }

    /// Writes records; they survive the process at once, and the machine once
    /// [`Journal::sync`] has returned.
    pub(crate) fn append(&mut self, records: &[RegistrationRecord]) -> Result<(), Error> {
        let mut bytes = Vec::new();
        records.iter().for_each(|record| frame(&record.encode_to_vec(), &mut bytes));
        if let Err(error) = self.disk.write(&self.file, &bytes) {
            // A part of it may be there: what comes next must not follow it.
            self.cut()?;
            return Err(io_error("write", &self.path, error));
        }
        self.length += bytes.len() as u64;
        self.records += records.len() as u64;
        self.dirty = true;
        Ok(())
    }

    pub(crate) fn sync(&mut self) -> Result<(), Error> {
        if std::mem::take(&mut self.dirty)
            && let Err(error) = self.disk.sync_file(&self.file)
        {
            self.dirty = true;
            return Err(io_error("sync", &self.path, error));
        }
        Ok(())
    }

    /// The last records of these payloads.
    pub(crate) fn read(&self, ids: &HashSet<&str>) -> Result<Vec<RegistrationRecord>, Error> {
        let mut found = HashMap::new();
        // What is damaged by now is missing: whoever asked will see that.
        for record in self.read_back()?.records {
            if ids.contains(record.id.as_str()) {
                found.insert(record.id.clone(), record);
            }
        }
        Ok(found.into_values().filter(|record| !record.over).collect())
    }

    /// The file as it is, for reading, and how much of it counts: that much
    /// stays as it is, whatever is appended or left out later.
    pub(crate) fn as_it_is(&self) -> Result<(File, u64), Error> {
        let file = File::open(&self.path).map_err(|error| io_error("open", &self.path, error))?;
        Ok((file, self.length))
    }

    /// Whether most records are void, with this many that count.
    pub(crate) fn is_long(&self, live: u64) -> bool {
        self.records > live.saturating_mul(2).saturating_add(SLACK)
    }

    /// Leaves out what does not count any more.
    pub(crate) fn compact(&mut self, is_marked: impl Fn(&str) -> bool) -> Result<(), Error> {
        let scan = self.read_back()?;
        if scan.damaged > 0 || scan.whole as u64 != self.length {
            // The next start sets it aside.
            let (path, expected) = (self.path.clone(), u64::from(VERSION));
            let found = format!("{} damaged bytes", scan.damaged.max(1));
            self.records = 0;
            return Err(Error::FormatUnreadable { path, found, expected });
        }
        let mut last = HashMap::new();
        for record in scan.records.into_iter().filter(|record| is_marked(&record.id)) {
            last.insert(record.id.clone(), record);
        }
        let records = last.values().filter(|record| !record.over);
        *self = Journal::write_new(Arc::clone(&self.disk), self.path.clone(), records)?;
        Ok(())
    }

    fn read_back(&self) -> Result<Scan, Error> {
        // Not by the position of the file, at which the next record is written.
        let mut bytes = vec![0; usize::try_from(self.length).unwrap_or(usize::MAX)];
        let read = self.file.read_exact_at(&mut bytes, 0);
        read.map_err(|error| io_error("read", &self.path, error))?;
        Scan::of(&bytes, &self.path)
    }

    fn cut(&mut self) -> Result<(), Error> {
        let mut file = &self.file;
        let cut = file.set_len(self.length).and_then(|()| file.seek(SeekFrom::End(0)));
        cut.map_err(|error| io_error("cut", &self.path, error))?;
        Ok(())
    }
}

/// A name for a damaged journal that nothing has.
fn free_name(path: &Path) -> PathBuf {
    let numbered = |number: u32| path.with_extension(format!("damaged.{number}"));
    let mut names = std::iter::once(path.with_extension("damaged")).chain((1..100).map(numbered));
    // A hundredth is written over the first.
    let free = names.find(|name| !name.exists());
    free.unwrap_or_else(|| path.with_extension("damaged"))
}

/// How every file begins.
pub(crate) fn head() -> Vec<u8> {
    [MAGIC.as_slice(), &VERSION.to_le_bytes()].concat()
}

/// Appends one encoded record.
pub(crate) fn frame(bytes: &[u8], out: &mut Vec<u8>) {
    // Specifications are bounded far below.
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&crc32c::crc32c(bytes).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// The payload was registered so.
pub(crate) fn registered(id: &str, mark: Mark) -> RegistrationRecord {
    RegistrationRecord {
        version: VERSION,
        id: id.to_owned(),
        run: mark.place.run,
        sequence: mark.place.sequence,
        spec: mark.spec,
        waits: mark.waits,
        over: false,
    }
}

/// What is in memory of a record.
fn noted(record: &RegistrationRecord) -> Noted {
    let place = Place { run: record.run, sequence: record.sequence };
    Noted { place, waits: record.waits }
}

/// The mark that a record tells.
pub(crate) fn mark(record: RegistrationRecord) -> Mark {
    let Noted { place, waits } = noted(&record);
    Mark { place, spec: record.spec, waits }
}

/// Work on the payload is over.
pub(crate) fn over(id: &str) -> RegistrationRecord {
    let id = id.to_owned();
    RegistrationRecord { version: VERSION, id, over: true, ..RegistrationRecord::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LocalDisk;

    fn open(path: &Path) -> (Journal, HashMap<String, Noted>) {
        let there = |id: &str| id != "gone";
        Journal::open(Arc::new(LocalDisk), path.to_path_buf(), there).unwrap()
    }

    fn at(sequence: u64) -> Noted {
        Noted { place: Place { run: 7, sequence }, waits: false }
    }

    fn record(id: &str, sequence: u64, spec: &'static str) -> RegistrationRecord {
        registered(id, Mark { place: at(sequence).place, spec: spec.into(), waits: false })
    }

    #[test]
    fn the_last_word_on_a_payload_counts_also_after_a_torn_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("registered.log");
        let (mut journal, known) = open(&path);
        assert!(known.is_empty());
        let records = [
            record("a", 1, "one"),
            record("b", 1, "two"),
            record("gone", 1, ""),
            over("b"),
            record("a", 2, "three"),
        ];
        journal.append(&records).unwrap();
        journal.sync().unwrap();
        let found = journal.read(&["a", "b"].into()).unwrap();
        assert_eq!(found, [record("a", 2, "three")]);
        let whole = std::fs::read(&path).unwrap();
        let (_, known) = open(&path);
        assert_eq!(known, [("a".to_owned(), at(2))].into());
        // Torn at every byte of the last record: the one before it counts.
        let last = prost::Message::encoded_len(&records[4]) + FRAME;
        for cut in 1..=last {
            std::fs::write(&path, &whole[..whole.len() - cut]).unwrap();
            let (mut journal, known) = open(&path);
            assert_eq!(known, [("a".to_owned(), at(1))].into(), "{cut} bytes are missing");
            journal.append(&[record("c", 3, "")]).unwrap();
            let (_, known) = open(&path);
            assert_eq!(known.len(), 2, "what follows is read: {cut} bytes were missing");
        }
    }

    #[test]
    fn a_damaged_part_costs_what_is_in_it_and_nothing_after_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("registered.log");
        let names: Vec<String> = (0..5).map(|n| format!("payload-{n}")).collect();
        let (mut journal, _) = open(&path);
        for (n, name) in (1..).zip(&names) {
            journal.append(&[record(name, n, "spec")]).unwrap();
        }
        let whole = std::fs::read(&path).unwrap();
        let length = (whole.len() - HEAD) / names.len();
        // Every bit of the second record: its length, its checksum, its content.
        for bit in 0..length * 8 {
            let mut bytes = whole.clone();
            bytes[HEAD + length + bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, &bytes).unwrap();
            let (journal, known) = open(&path);
            assert_eq!(known.len(), 4, "bit {bit}: {known:?}");
            assert!(!known.contains_key(&names[1]), "bit {bit}");
            let aside = path.with_extension("damaged");
            assert_eq!(std::fs::read(&aside).unwrap(), bytes, "it is kept");
            std::fs::remove_file(aside).unwrap();
            drop(journal);
            assert_eq!(open(&path).1.len(), 4, "what was read stays");
        }
        // While it is open: what is left is read, nothing is written over it.
        std::fs::write(&path, &whole).unwrap();
        let (mut journal, _) = open(&path);
        let mut bytes = whole.clone();
        bytes[HEAD + length + FRAME + 2] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let ids = names.iter().map(String::as_str).collect();
        assert_eq!(journal.read(&ids).unwrap().len(), 4);
        assert!(journal.compact(|_| true).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
        // Zeros at the end, as some file systems leave them.
        let zeros = [whole.as_slice(), &[0; 100]].concat();
        std::fs::write(&path, zeros).unwrap();
        assert_eq!(open(&path).1.len(), 5);
    }

    #[test]
    fn a_newer_file_is_refused_and_void_records_are_left_out() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("registered.log");
        let (mut journal, _) = open(&path);
        for n in 0..3 * SLACK {
            journal.append(&[record("a", n, "")]).unwrap();
        }
        assert!(journal.is_long(1));
        journal.compact(|id| id == "a").unwrap();
        assert!(!journal.is_long(1));
        journal.append(&[record("b", 7, "x")]).unwrap();
        let (_, known) = open(&path);
        assert_eq!(known, [("a".to_owned(), at(3 * SLACK - 1)), ("b".to_owned(), at(7))].into());

        let mut bytes = std::fs::read(&path).unwrap();
        bytes[8] = 9;
        std::fs::write(&path, &bytes).unwrap();
        let opened = Journal::open(Arc::new(LocalDisk), path, |_| true);
        assert!(matches!(opened, Err(Error::FormatNewer { found: 9, supported: 1, .. })));
    }
}
