//! The directory of a log: one owner at a time, and whose it is.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use prost::Message as _;
use sheaf_proto::raft::v1 as proto;

use super::Error;
use crate::types::NodeId;

/// The version of the file that this build writes: since 2 it has the incarnation.
const VERSION: u32 = 2;

const LOCK: &str = "lock";
const IDENTITY: &str = "identity";
const TEMPORARY: &str = "identity.tmp";

/// Whose log it is: fixed when the directory is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster's name.
    pub cluster: String,
    /// The node's number in it.
    pub node: NodeId,
}

/// Held as long as the log is open.
pub(super) struct Directory {
    pub(super) path: PathBuf,
    lock: File,
}

impl Drop for Directory {
    fn drop(&mut self) {
        // A process that is just being started may share the lock for a moment.
        if let Err(error) = self.lock.unlock() {
            tracing::warn!(path = %self.path.display(), %error, "the lock could not be released");
        }
    }
}

/// Makes the entries of a directory durable.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

impl Directory {
    /// Makes it where there is none, and takes its lock.
    pub(super) fn lock(path: &Path) -> Result<Directory, Error> {
        std::fs::create_dir_all(path).map_err(Error::io("create", path))?;
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            sync_directory(parent).map_err(Error::io("sync", parent))?;
        }
        let name = path.join(LOCK);
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&name)
            .map_err(Error::io("open", &name))?;
        match lock.try_lock() {
            Ok(()) => Ok(Directory { path: path.to_path_buf(), lock }),
            Err(TryLockError::WouldBlock) => Err(Error::Locked { path: path.to_path_buf() }),
            Err(TryLockError::Error(error)) => Err(Error::io("lock", &name)(error)),
        }
    }

    /// Lets go of the lock, as the end of a process does.
    #[cfg(feature = "planted-bugs")]
    pub(super) fn release(&self) -> io::Result<()> {
        self.lock.unlock()
    }

    /// Where a segment is.
    pub(super) fn segment(&self, start: u64) -> PathBuf {
        self.path.join(format!("{start:020}.log"))
    }

    /// Where the segments begin, in order.
    pub(super) fn segments(&self) -> Result<Vec<u64>, Error> {
        let mut starts = Vec::new();
        let reading = || Error::io("list", &self.path);
        for entry in std::fs::read_dir(&self.path).map_err(reading())? {
            let name = entry.map_err(reading())?.file_name();
            let start = name.to_str().and_then(|name| name.strip_suffix(".log"));
            starts.extend(start.and_then(|digits| digits.parse::<u64>().ok()));
        }
        starts.sort_unstable();
        Ok(starts)
    }

    /// The incarnation of the log, where the directory is of this node already, 0 where it is of
    /// an earlier version and has none; an error where it is of another node.
    pub(super) fn incarnation(&self, identity: &Identity) -> Result<Option<u64>, Error> {
        let path = self.path.join(IDENTITY);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("read", &path)(error)),
        };
        let damaged = |problem: String| Error::Damaged { path: path.clone(), at: 0, problem };
        let stored = proto::LogIdentity::decode(bytes.as_slice())
            .map_err(|error| damaged(format!("it cannot be read: {error}")))?;
        if stored.version > VERSION {
            return Err(Error::Newer { path, actual: stored.version, limit: VERSION });
        }
        if checksum(&stored) != stored.crc32c {
            return Err(damaged("it does not match its checksum".to_owned()));
        }
        if stored.cluster != identity.cluster || stored.node != identity.node {
            return Err(Error::Foreign {
                path: self.path.clone(),
                actual_cluster: stored.cluster,
                actual_node: stored.node,
                cluster: identity.cluster.clone(),
                node: identity.node,
            });
        }
        Ok(Some(stored.incarnation))
    }

    /// Says whose the directory is, once its first segment is on disk.
    pub(super) fn claim(&self, identity: &Identity, incarnation: u64) -> Result<(), Error> {
        let mut stored = proto::LogIdentity {
            version: VERSION,
            cluster: identity.cluster.clone(),
            node: identity.node,
            incarnation,
            crc32c: 0,
        };
        stored.crc32c = checksum(&stored);
        let temporary = self.path.join(TEMPORARY);
        let run = || {
            let mut file = File::create(&temporary)?;
            file.write_all(&stored.encode_to_vec())?;
            file.sync_all()?;
            std::fs::rename(&temporary, self.path.join(IDENTITY))?;
            sync_directory(&self.path)
        };
        run().map_err(Error::io("write", &temporary))
    }
}

fn checksum(identity: &proto::LogIdentity) -> u32 {
    let bare = proto::LogIdentity { crc32c: 0, ..identity.clone() };
    crc32c::crc32c(&bare.encode_to_vec())
}
