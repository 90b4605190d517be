//! A file of JSON lines, one per committed batch. Several processes append to
//! it, and a crash does not tear it: a line is there when its line feed is.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sheaf_proto::BatchId;

/// One line. It is the transaction: rows and token become visible together.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) id: BatchId,
    pub(crate) fence: u64,
    pub(crate) rows: Vec<serde_json::Value>,
}

#[derive(Clone, Debug)]
pub(crate) struct CommitLog(PathBuf);

impl CommitLog {
    /// The file is made where it is not there yet; its folder has to be.
    pub(crate) fn open(path: impl Into<PathBuf>) -> io::Result<Self> {
        let log = CommitLog(path.into());
        log.lock()?;
        let folder = log.0.parent().unwrap_or(Path::new("."));
        // Without this its name may be gone after a crash, and all lines with it.
        File::open(folder)?.sync_all()?;
        Ok(log)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Waits until nobody else has the file, and reads it.
    pub(crate) fn lock(&self) -> io::Result<Locked> {
        let mut file = File::options().read(true).append(true).create(true).open(&self.0)?;
        file.lock()?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        // What a crash in the middle of an append has left.
        let end = text.rfind('\n').map_or(0, |last| last + 1);
        if end < text.len() {
            file.set_len(end as u64)?;
            text.truncate(end);
        }
        let entries = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        Ok(Locked { file, entries })
    }
}

/// The log, for one process alone until this is dropped.
#[derive(Debug)]
pub(crate) struct Locked {
    file: File,
    pub(crate) entries: Vec<Entry>,
}

impl Locked {
    pub(crate) fn find(&self, id: &BatchId) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.id == *id)
    }

    /// Durable on return.
    pub(crate) fn append(&mut self, entry: &Entry) -> io::Result<()> {
        let line = format!("{}\n", serde_json::to_string(entry)?);
        self.file.write_all(line.as_bytes())?;
        self.file.sync_data()
    }
}
