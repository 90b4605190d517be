//! What a backup says of itself.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_128;

use super::error::Error;

/// Form of the backup that this build writes, and the newest it reads.
pub(super) const VERSION: u32 = 1;
pub(super) const MANIFEST_FILE: &str = "MANIFEST.json";

/// What a backup is of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Form of the backup.
    pub version: u32,
    /// Version of the server.
    pub server_version: String,
    /// Mode of the server.
    pub mode: String,
    /// The Valkey that has the coordinator's state, without user and password;
    /// empty where none has.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub coordinator: String,
    /// Addresses under which payloads of the server are registered.
    pub locations: Vec<String>,
    /// When it was begun, by the server's clock: RFC 3339.
    pub begun_at: String,
    /// Whether the coordinator's state is in it.
    pub has_state: bool,
    /// Whether the server has payloads of its own.
    pub has_payloads: bool,
    /// Batches in the state.
    pub batches: u64,
    /// Of them those that are not over.
    pub live: u64,
    /// The last fencing token given out before, as a string.
    pub last_fence: String,
    /// Payloads in it.
    pub payloads: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Files, this one and `FILES` left out.
    pub files: u64,
    /// xxh3-128 of `FILES`.
    pub files_checksum: String,
    /// Batches that are not over and whose payload was lost on the server already.
    pub missing: Missing,
    /// xxh3-128 of this manifest with this field empty.
    pub checksum: String,
}

/// Batches without a payload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// How many there are.
    pub count: u64,
    /// The first of them.
    pub batch_ids: Vec<String>,
}

impl Manifest {
    fn sum(&self) -> Result<String, serde_json::Error> {
        let bare = Manifest { checksum: String::new(), ..self.clone() };
        Ok(format!("{:032x}", XxHash3_128::oneshot(&serde_json::to_vec(&bare)?)))
    }

    /// As it stands in its file.
    fn text(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(self).map(|text| text + "\n")
    }

    /// Writes it into a backup, with its checksum. Not synced.
    pub(super) fn write(&mut self, folder: &Path) -> Result<(), Error> {
        let path = folder.join(MANIFEST_FILE);
        let broken = |error: serde_json::Error| Error::damaged(&path, error.to_string());
        self.checksum = self.sum().map_err(broken)?;
        fs::write(&path, self.text().map_err(broken)?).map_err(Error::io("write", &path))
    }

    /// Reads that of a complete backup.
    pub(super) fn read(folder: &Path) -> Result<Self, Error> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let path = folder.join(MANIFEST_FILE);
        let text = match fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && folder.is_dir() => {
                return Err(Error::Incomplete { path: folder.to_path_buf() });
            }
            read => read.map_err(Error::io("read", &path))?,
        };
        let broken = |error: serde_json::Error| Error::damaged(&path, error.to_string());
        // First of all: the rest may be of another form.
        let Version { version: found } = serde_json::from_slice(&text).map_err(broken)?;
        if found > VERSION {
            let path = folder.to_path_buf();
            return Err(Error::Newer { path, found, supported: VERSION });
        }
        let manifest: Manifest = serde_json::from_slice(&text).map_err(broken)?;
        let is_whole = manifest.sum().map_err(broken)? == manifest.checksum
            && manifest.text().map_err(broken)?.as_bytes() == text;
        if !is_whole {
            return Err(Error::damaged(&path, "it does not match its checksum"));
        }
        Ok(manifest)
    }
}
