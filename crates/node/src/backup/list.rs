//! `FILES`: one line per file, `CHECKSUM LENGTH NAME`.

use std::fs::File;
use std::io::{BufRead as _, BufReader, BufWriter, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use sheaf_store::REGISTERED_FILE;
use twox_hash::xxhash3_128::Hasher;

use super::COORDINATOR_FILE;
use super::error::Error;

pub(super) const LIST_FILE: &str = "FILES";
/// Files worked on at the same time: their syncs share flushes of the device.
const THREADS: usize = 8;
/// Bytes read at a time.
const PART: usize = 256 << 10;

/// One file of a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) checksum: String,
    pub(super) length: u64,
    pub(super) name: String,
}

/// Whether a name is one of a file in a data directory that is backed up.
/// Nothing else is written or read, whatever a server or a list says.
pub(super) fn is_name(name: &str) -> bool {
    if [COORDINATOR_FILE, REGISTERED_FILE].contains(&name) {
        return true;
    }
    let parts: Vec<&str> = name.split('/').collect();
    let [first, shard, file] = parts[..] else { return false };
    let is_shard = shard.len() == 2 && shard.bytes().all(|byte| byte.is_ascii_hexdigit());
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.%".contains(&byte);
    let is_file = !file.is_empty() && !file.starts_with('.') && file.bytes().all(plain);
    first == "batches" && is_shard && is_file
}

/// Whether it is that of a payload, not of a mark.
pub(super) fn is_payload(name: &str) -> bool {
    name.ends_with(".arrow")
}

/// xxh3-128 of what passes by, and its length.
pub(super) struct Sum {
    hasher: Hasher,
    length: u64,
}

impl Sum {
    pub(super) fn new() -> Self {
        Sum { hasher: Hasher::new(), length: 0 }
    }

    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.hasher.write(bytes);
        self.length += bytes.len() as u64;
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    pub(super) fn line(&self, name: &str) -> Line {
        let checksum = format!("{:032x}", self.hasher.finish_128());
        Line { checksum, length: self.length, name: name.to_owned() }
    }
}

/// Reads a file to its end, shows its bytes to `see`, and sums them up.
pub(super) fn sum(
    path: &Path,
    name: &str,
    mut see: impl FnMut(&[u8]) -> Result<(), Error>,
) -> Result<Line, Error> {
    let mut file = File::open(path).map_err(Error::io("read", path))?;
    let (mut sum, mut part) = (Sum::new(), vec![0; PART]);
    loop {
        let length = file.read(&mut part).map_err(Error::io("read", path))?;
        if length == 0 {
            return Ok(sum.line(name));
        }
        sum.add(&part[..length]);
        see(&part[..length])?;
    }
}

/// Writes the list.
pub(super) struct ListWriter {
    path: PathBuf,
    out: BufWriter<File>,
    sum: Sum,
}

impl ListWriter {
    pub(super) fn create(folder: &Path) -> Result<Self, Error> {
        let path = folder.join(LIST_FILE);
        let file = File::create(&path).map_err(Error::io("create", &path))?;
        Ok(ListWriter { path, out: BufWriter::new(file), sum: Sum::new() })
    }

    pub(super) fn add(&mut self, line: &Line) -> Result<(), Error> {
        let text = format!("{} {} {}\n", line.checksum, line.length, line.name);
        self.sum.add(text.as_bytes());
        self.out.write_all(text.as_bytes()).map_err(Error::io("write", &self.path))
    }

    /// Its checksum.
    pub(super) fn finish(mut self) -> Result<String, Error> {
        self.out.flush().map_err(Error::io("write", &self.path))?;
        Ok(self.sum.line(LIST_FILE).checksum)
    }
}

/// Does something with every file of a list, several at a time, until one fails.
pub(super) fn each(
    folder: &Path,
    work: impl Fn(&Line) -> Result<(), Error> + Sync,
) -> Result<(), Error> {
    let path = folder.join(LIST_FILE);
    let file = File::open(&path).map_err(Error::io("read", &path))?;
    let lines = Mutex::new((BufReader::new(file), 0_u64));
    let failure = Mutex::new(None);
    let next = || -> Result<Option<Line>, Error> {
        let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        lines.0.read_line(&mut text).map_err(Error::io("read", &path))?;
        lines.1 += 1;
        match text.is_empty() {
            true => Ok(None),
            false => parse(&text).map(Some).ok_or_else(|| {
                Error::damaged(&path, format!("line {} is no file of a backup", lines.1))
            }),
        }
    };
    let run = || {
        let step = || match next()? {
            Some(line) => work(&line).map(|()| true),
            None => Ok(false),
        };
        loop {
            let failed = failure.lock().unwrap_or_else(PoisonError::into_inner).is_some();
            match if failed { Ok(false) } else { step() } {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    let mut first = failure.lock().unwrap_or_else(PoisonError::into_inner);
                    first.get_or_insert(error);
                    return;
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..THREADS {
            scope.spawn(run);
        }
        run();
    });
    failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

fn parse(text: &str) -> Option<Line> {
    let mut parts = text.strip_suffix('\n')?.splitn(3, ' ');
    let (checksum, length, name) = (parts.next()?, parts.next()?.parse().ok()?, parts.next()?);
    let (checksum, name) = (checksum.to_owned(), name.to_owned());
    is_name(&name).then_some(Line { checksum, length, name })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_data_directories_are_taken() {
        let good =
            ["coordinator.redb", "registered.log", "batches/0f/a.arrow", "batches/ff/%3a-_b.pin"];
        assert!(good.iter().all(|name| is_name(name)));
        let bad = [
            "",
            "FORMAT",
            "/etc/passwd",
            "../coordinator.redb",
            "batches/../x",
            "batches/0f/../../x",
            "batches/0f/..",
            "batches/0f/",
            "batches/xy/a.arrow",
            "batches/0f/a/b",
            "other/0f/a",
            "batches/0f/a b.arrow",
            "batches/0f/.hidden",
        ];
        for name in bad {
            assert!(!is_name(name), "{name}");
        }
    }

    #[test]
    fn a_list_is_read_as_it_was_written_and_the_first_failure_ends_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = ListWriter::create(folder.path()).unwrap();
        let names: Vec<String> = (0..500).map(|n| format!("batches/00/{n}.arrow")).collect();
        for name in &names {
            let mut sum = Sum::new();
            sum.add(name.as_bytes());
            writer.add(&sum.line(name)).unwrap();
        }
        writer.finish().unwrap();
        let seen = Mutex::new(Vec::new());
        each(folder.path(), |line| {
            assert_eq!(line.length, line.name.len() as u64);
            seen.lock().unwrap().push(line.name.clone());
            Ok(())
        })
        .unwrap();
        let mut seen = seen.into_inner().unwrap();
        let mut wanted = names;
        seen.sort();
        wanted.sort();
        assert_eq!(seen, wanted);
        let error = each(folder.path(), |line| Err(Error::Stream(line.name.clone()))).unwrap_err();
        assert!(matches!(error, Error::Stream(_)), "{error}");
    }
}
