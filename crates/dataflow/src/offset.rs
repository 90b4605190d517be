//! The last offset of a source that all its readers have acknowledged, in a file.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sheaf_retry::{Code, Retryable as _};

use crate::error::ComponentError;

const VERSION: u32 = 1;
/// The longest that [`Made`](crate::Made) allows.
pub(crate) const MAX_OFFSET: usize = 64 << 10;

/// The first line of the file, as JSON; the bytes of the offset follow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Head {
    version: u32,
    /// Which pass over the data; earlier builds have numbers of runs here.
    #[serde(rename = "run")]
    pass: u64,
    /// The source has ended, and all was acknowledged.
    ended: bool,
    size: usize,
    crc32c: u32,
}

/// What is known of a source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) pass: u64,
    pub(crate) ended: bool,
    pub(crate) offset: Option<Bytes>,
}

impl Kept {
    /// Where a source goes on in this pass: nowhere after a pass that came to its end.
    pub(crate) fn start(self, pass: u64) -> Option<Bytes> {
        self.offset.filter(|_| !self.ended || self.pass == pass)
    }
}

/// The file of one source.
#[derive(Clone, Debug)]
pub(crate) struct OffsetFile {
    path: PathBuf,
}

impl OffsetFile {
    pub(crate) fn new(state_dir: &Path) -> Self {
        OffsetFile { path: state_dir.join("offset") }
    }

    /// What it has; nothing where there is none.
    pub(crate) fn read(&self) -> Result<Kept, ComponentError> {
        let bytes = match fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Kept::default()),
            Err(error) => return Err(self.failed("read", error)),
        };
        let end = bytes.iter().position(|&byte| byte == b'\n');
        let end = end.ok_or_else(|| self.corrupt("it has no first line"))?;
        let head: Head = serde_json::from_slice(&bytes[..end])
            .map_err(|error| self.corrupt("its first line cannot be read").because(error))?;
        if head.version > VERSION {
            let (path, version) = (self.path.display(), head.version);
            let text = format!("{path} is of format {version}, this build reads {VERSION}");
            return Err(ComponentError::new(Code::FormatNewer, text));
        }
        let offset = &bytes[end + 1..];
        if offset.len() != head.size || crc32c::crc32c(offset) != head.crc32c {
            return Err(self.corrupt("size or checksum are other ones"));
        }
        let offset = Some(Bytes::copy_from_slice(offset));
        Ok(Kept { pass: head.pass, ended: head.ended, offset })
    }

    /// Replaces it as a whole, and has the disk keep it. It blocks.
    pub(crate) fn write(
        &self,
        pass: u64,
        ended: bool,
        offset: &[u8],
    ) -> Result<(), ComponentError> {
        let (size, crc32c) = (offset.len(), crc32c::crc32c(offset));
        let head = Head { version: VERSION, pass, ended, size, crc32c };
        let head = serde_json::to_vec(&head)
            .map_err(|error| self.failed("write", io::Error::other(error)))?;
        let new = self.path.with_extension("new");
        let write = || -> io::Result<()> {
            let mut file = File::create(&new)?;
            file.write_all(&head)?;
            file.write_all(b"\n")?;
            file.write_all(offset)?;
            file.sync_all()?;
            fs::rename(&new, &self.path)?;
            match self.path.parent() {
                Some(folder) => File::open(folder)?.sync_all(),
                None => Ok(()),
            }
        };
        write().map_err(|error| self.failed("write", error))
    }

    fn failed(&self, verb: &str, error: io::Error) -> ComponentError {
        let text = format!("cannot {verb} the offset in {}", self.path.display());
        ComponentError::new(error.code(), text).because(error)
    }

    fn corrupt(&self, why: &str) -> ComponentError {
        let path = self.path.display();
        let text = format!("{path} is damaged: {why}; remove it to have the source begin anew");
        ComponentError::new(Code::Corrupt, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_is_kept_for_a_pass_that_was_broken_off() {
        let folder = tempfile::tempdir().unwrap();
        let file = OffsetFile::new(folder.path());
        assert_eq!(file.read().unwrap(), Kept::default());
        file.write(1, false, b"a\nb").unwrap();
        let kept = file.read().unwrap();
        assert_eq!(kept.clone().start(1).unwrap(), "a\nb");
        assert_eq!(kept.start(2).unwrap(), "a\nb");
        file.write(2, true, b"").unwrap();
        let kept = file.read().unwrap();
        assert_eq!(kept.clone().start(2).unwrap(), "", "a process of the pass that ended");
        assert_eq!(kept.start(3), None, "another pass begins anew");
    }

    #[test]
    fn a_damaged_or_newer_file_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let file = OffsetFile::new(folder.path());
        file.write(1, false, b"offset").unwrap();
        let path = folder.path().join("offset");
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        assert_eq!(file.read().unwrap_err().code(), Code::Corrupt);
        fs::write(&path, b"").unwrap();
        assert_eq!(file.read().unwrap_err().code(), Code::Corrupt);
        let newer = String::from_utf8(whole).unwrap().replace("\"version\":1", "\"version\":2");
        fs::write(&path, newer).unwrap();
        assert_eq!(file.read().unwrap_err().code(), Code::FormatNewer);
    }
}
