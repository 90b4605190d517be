//! Where the process driver keeps what it knows of an instance.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::identity::Identity;
use crate::driver::LaunchId;

/// The version of the records.
const VERSION: u32 = 1;
/// Bytes of a record that are read at most.
const MAX_RECORD: u64 = 1 << 20;

/// The folder of one instance. It is there for its owner only.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    folder: PathBuf,
}

/// A process that was started for a place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LaunchRecord {
    version: u32,
    pub(crate) place: String,
    pub(crate) attempt: u64,
    /// The process that keeps it.
    pub(crate) keeper: Identity,
    /// Itself, the first of its process group.
    pub(crate) component: Identity,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EndRecord {
    version: u32,
    pub(crate) attempt: u64,
    pub(crate) success: bool,
    pub(crate) why: String,
}

impl LaunchRecord {
    pub(crate) fn new(id: &LaunchId, keeper: Identity, component: Identity) -> Self {
        let LaunchId { place, attempt } = id.clone();
        LaunchRecord { version: VERSION, place, attempt, keeper, component }
    }

    pub(crate) fn id(&self) -> LaunchId {
        LaunchId { place: self.place.clone(), attempt: self.attempt }
    }
}

impl EndRecord {
    pub(crate) fn new(attempt: u64, success: bool, why: String) -> Self {
        EndRecord { version: VERSION, attempt, success, why }
    }
}

impl Files {
    /// The folder of a place below that of all pipelines.
    ///
    /// Answers `None` for what is no `PIPELINE:INSTANCE`, so that no name leads elsewhere.
    pub(crate) fn of(root: &Path, place: &str) -> Option<Self> {
        let (pipeline, instance) = place.split_once(':')?;
        let good = |name: &str| {
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            !name.is_empty() && !name.starts_with('.') && name.chars().all(plain)
        };
        let both = good(pipeline) && good(instance);
        both.then(|| Files { folder: Files::all(root, pipeline).join(instance) })
    }

    /// The folder with those of all instances of a pipeline.
    pub(crate) fn all(root: &Path, pipeline: &str) -> PathBuf {
        root.join(pipeline).join("instances")
    }

    /// Of a folder that was found.
    pub(crate) fn at(folder: PathBuf) -> Self {
        Files { folder }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn create(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)
    }

    pub(crate) fn assignment(&self) -> PathBuf {
        self.folder.join("assignment.json")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// Where the process that becomes the component says why it could not.
    pub(crate) fn failure(&self) -> PathBuf {
        self.folder.join("failure")
    }

    fn launch(&self) -> PathBuf {
        self.folder.join("launch.json")
    }

    fn end(&self) -> PathBuf {
        self.folder.join("ended.json")
    }

    /// Takes away what an earlier launch has left, its log apart.
    pub(crate) fn clear(&self) -> io::Result<()> {
        for path in [self.launch(), self.end(), self.failure()] {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    pub(crate) fn write_launch(&self, record: &LaunchRecord) -> io::Result<()> {
        write_private(&self.launch(), &serde_json::to_vec(record)?)
    }

    /// What was started last, if it was said; a record of another version is none.
    pub(crate) fn read_launch(&self) -> io::Result<Option<LaunchRecord>> {
        let record: Option<LaunchRecord> = read(&self.launch())?;
        Ok(record.filter(|record| record.version == VERSION))
    }

    pub(crate) fn write_end(&self, record: &EndRecord) -> io::Result<()> {
        write_private(&self.end(), &serde_json::to_vec(record)?)
    }

    /// How this launch ended, if that was written down.
    pub(crate) fn read_end(&self, attempt: u64) -> io::Result<Option<EndRecord>> {
        let record: Option<EndRecord> = read(&self.end())?;
        Ok(record.filter(|record| record.version == VERSION && record.attempt == attempt))
    }
}

/// Makes a folder, and those above it, that only its owner may look into.
pub(crate) fn create_private(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Writes a file that only its owner may read: whole, or not at all.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let partial = path.with_extension("partial");
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
    file.write_all(bytes)?;
    drop(file);
    fs::rename(&partial, path)
}

/// Reads a JSON file; `None` where there is none.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    let length = match fs::metadata(path) {
        Ok(found) => found.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if length > MAX_RECORD {
        let problem = format!("{}: {length} bytes are over the limit of 1 MiB", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
    }
    let bytes = fs::read(path)?;
    serde_json::from_slice(&bytes).map(Some).map_err(|error| {
        let problem = format!("{}: {error}; remove it to go on without it", path.display());
        io::Error::new(io::ErrorKind::InvalidData, problem)
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn no_name_leads_out_of_the_folder() {
        let root = Path::new("/data");
        let found = Files::of(root, "linear:numbers.1").unwrap();
        assert_eq!(found.folder(), Path::new("/data/linear/instances/numbers.1"));
        for bad in ["linear", ":a", "a:", "..:a", "a:..", "a:b/c", "a/b:c", "a:b:c", "a:.b"] {
            assert!(Files::of(root, bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn records_come_back_and_are_for_their_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::of(folder.path(), "linear:numbers").unwrap();
        files.create().unwrap();
        assert_eq!(files.read_launch().unwrap(), None);
        let this = Identity::of(i32::try_from(std::process::id()).unwrap()).unwrap();
        let id = LaunchId { place: "linear:numbers".to_owned(), attempt: 3 };
        let record = LaunchRecord::new(&id, this.clone(), this);
        files.write_launch(&record).unwrap();
        assert_eq!(files.read_launch().unwrap(), Some(record));
        files.write_end(&EndRecord::new(3, true, String::new())).unwrap();
        assert!(files.read_end(3).unwrap().unwrap().success);
        assert_eq!(files.read_end(2).unwrap(), None, "that of another launch");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(files.folder()), mode(&files.end())), (0o700, 0o600));
        files.clear().unwrap();
        assert_eq!((files.read_launch().unwrap(), files.read_end(3).unwrap()), (None, None));
    }

    #[test]
    fn a_damaged_record_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("launch.json");
        fs::write(&path, "{").unwrap();
        let error = read::<LaunchRecord>(&path).unwrap_err().to_string();
        assert!(error.contains("launch.json") && error.contains("remove it"), "{error}");
    }
}
