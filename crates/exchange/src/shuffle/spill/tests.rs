//! Files of chunks: what comes back, what is refused, what is left.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use sheaf_flight::{Budget, Message};
use sheaf_retry::{Code, Retryable as _};
use sheaf_store::{Disk, LocalDisk};

use super::{SpillDirectory, SpillFile};
use crate::shuffle::chunk::crc32c_of;
use crate::shuffle::error::Error;

fn open(path: &Path, limit: u64) -> Result<Arc<SpillDirectory>, Error> {
    SpillDirectory::open(path, limit, Arc::new(LocalDisk))
}

/// Of all shapes: without a body, in several pieces, larger than what is written at once.
fn messages() -> Vec<Message> {
    let bytes = |from: usize, length: usize| {
        Bytes::from((from..from + length).map(|at| (at % 251) as u8).collect::<Vec<_>>())
    };
    let pieces = |lengths: &[usize]| lengths.iter().map(|length| bytes(7, *length)).collect();
    let shapes: [(usize, &[usize]); 5] =
        [(8, &[]), (200, &[64]), (64, &[1, 63, 200]), (300, &[700_000, 5]), (1, &[300_000])];
    let message = |(header, body): (usize, &[usize])| Message {
        header: bytes(3, header),
        app_metadata: Bytes::new(),
        body: pieces(body),
    };
    shapes.map(message).to_vec()
}

fn read(file: &SpillFile, at: u32, message: &Message) -> Result<Message, Error> {
    let length = u32::try_from(message.len()).unwrap();
    file.read(at, length, crc32c_of(message), &Budget::new(1 << 30))
}

fn files(path: &Path) -> usize {
    fs::read_dir(path)
        .unwrap()
        .filter(|one| one.as_ref().unwrap().file_name() != "spill.lock")
        .count()
}

#[test]
fn chunks_of_all_shapes_come_back_aligned_and_the_file_goes_with_the_last() {
    let path = tempfile::tempdir().unwrap();
    let directory = open(path.path(), 1 << 30).unwrap();
    let messages = messages();
    let (file, starts) = SpillFile::write(&directory, messages.iter()).unwrap();
    assert_eq!(directory.used(), fs::metadata(file.path()).unwrap().len());
    let budget = Budget::new(1 << 30);
    for (message, at) in messages.iter().zip(&starts) {
        let length = message.len() as u32;
        let back = file.read(*at, length, crc32c_of(message), &budget).unwrap();
        assert_eq!(back.header, message.header);
        assert_eq!(back.contiguous_body(), message.contiguous_body());
        assert!(back.body.iter().all(|body| body.as_ptr().addr() % 64 == 0));
        assert!(budget.used() >= u64::from(length));
        drop(back);
        assert_eq!(budget.used(), 0);
    }
    let other = Arc::clone(&file);
    drop(file);
    assert_eq!(files(path.path()), 1);
    drop(other);
    assert_eq!((files(path.path()), directory.used()), (0, 0));
}

#[test]
fn a_chunk_that_is_not_what_was_written_is_an_error_that_names_the_file() {
    let path = tempfile::tempdir().unwrap();
    let directory = open(path.path(), 1 << 30).unwrap();
    let messages = messages();
    let (file, starts) = SpillFile::write(&directory, messages.iter()).unwrap();
    let whole = fs::read(file.path()).unwrap();
    let corrupt = |bytes: &[u8], chunk: usize| {
        fs::write(file.path(), bytes).unwrap();
        let error = read(&file, starts[chunk], &messages[chunk]).unwrap_err();
        assert!(matches!(error, Error::Spilled { .. }), "{error}");
        assert_eq!(error.code(), Code::Corrupt);
        assert!(error.to_string().contains(file.path().to_str().unwrap()), "{error}");
    };
    // Every byte of a chunk with its header, its body and the length of its header.
    let start = starts[1] as usize * 64;
    for at in start..start + messages[1].len() + 4 {
        let mut flipped = whole.clone();
        flipped[at] ^= 1;
        corrupt(&flipped, 1);
    }
    // The start of the file, as another version would have it.
    for at in 0..12 {
        let mut flipped = whole.clone();
        flipped[at] ^= 1;
        corrupt(&flipped, 1);
    }
    corrupt(&whole[..start + 10], 1);
    corrupt(&[], 0);
    fs::write(file.path(), &whole).unwrap();
    assert!(read(&file, starts[1], &messages[1]).is_ok());
    fs::remove_file(file.path()).unwrap();
    let error = read(&file, starts[1], &messages[1]).unwrap_err();
    assert!(error.to_string().contains("it is gone"), "{error}");
    drop(file);
    assert_eq!(directory.used(), 0);
}

#[test]
fn one_process_has_a_directory_and_removes_what_a_dead_one_left() {
    let path = tempfile::tempdir().unwrap();
    let path = path.path();
    fs::write(path.join("3.spill"), "of a dead process").unwrap();
    fs::write(path.join("mine.txt"), "of somebody else").unwrap();
    let directory = open(path, 1 << 30).unwrap();
    assert!(!path.join("3.spill").exists() && path.join("mine.txt").exists());
    let (file, _) = SpillFile::write(&directory, messages().iter()).unwrap();
    let error = open(path, 1 << 30).unwrap_err();
    assert_eq!(error.code(), Code::DirectoryLocked, "{error}");
    assert!(file.path().exists(), "the other one has removed it");
    // It has the directory for as long as it has a file.
    drop(directory);
    assert!(open(path, 1 << 30).is_err());
    drop(file);
    assert!(open(path, 1 << 30).is_ok());
    let error = open(&path.join("mine.txt"), 1).unwrap_err();
    assert_eq!(error.code(), Code::Io, "{error}");
}

#[test]
fn what_does_not_fit_is_refused_and_leaves_nothing() {
    let path = tempfile::tempdir().unwrap();
    let messages = messages();
    let directory = open(path.path(), 1 << 30).unwrap();
    drop(SpillFile::write(&directory, messages.iter()).unwrap());
    drop(directory);
    let directory = open(path.path(), 1_000_000).unwrap();
    let error = SpillFile::write(&directory, messages.iter()).unwrap_err();
    assert!(matches!(error, Error::SpillFull { used: 0, limit: 1_000_000, .. }), "{error}");
    let (file, _) = SpillFile::write(&directory, messages[..3].iter()).unwrap();
    let used = directory.used();
    assert!(used > 0);
    let error =
        SpillFile::write(&directory, messages[3..4].iter().chain(&messages[3..])).unwrap_err();
    assert_eq!(error.code(), Code::DiskFull, "{error}");
    assert_eq!((files(path.path()), directory.used()), (1, used));
    drop(file);
}

/// A disk that is full while it is told so, after some bytes.
#[derive(Default)]
pub(in crate::shuffle) struct FullDisk {
    pub(in crate::shuffle) is_full: AtomicBool,
}

impl Disk for FullDisk {
    fn write(&self, file: &fs::File, bytes: &[u8]) -> io::Result<()> {
        if self.is_full.load(Ordering::SeqCst) {
            LocalDisk.write(file, &bytes[..bytes.len() / 2])?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        LocalDisk.write(file, bytes)
    }
}

#[test]
fn a_write_that_fails_leaves_nothing() {
    let path = tempfile::tempdir().unwrap();
    let disk = Arc::new(FullDisk::default());
    let directory = SpillDirectory::open(path.path(), 1 << 30, disk.clone()).unwrap();
    disk.is_full.store(true, Ordering::SeqCst);
    let error = SpillFile::write(&directory, messages().iter()).unwrap_err();
    assert_eq!(error.code(), Code::DiskFull, "{error}");
    assert!(error.to_string().contains("0.spill"), "{error}");
    assert_eq!((files(path.path()), directory.used()), (0, 0));
    disk.is_full.store(false, Ordering::SeqCst);
    assert!(SpillFile::write(&directory, messages().iter()).is_ok());
}
