//! Where things are: the workspace's root, its target directory, its packages.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    error::{Error, Result},
    process,
};

/// The workspace as cargo sees it.
#[derive(Debug)]
pub(crate) struct Workspace {
    /// The folder of the root manifest.
    pub(crate) root: PathBuf,
    /// Cargo's target directory, wherever the caller has put it.
    pub(crate) target: PathBuf,
    /// What `cargo metadata` said, for checks on packages and edges.
    pub(crate) metadata: serde_json::Value,
}

impl Workspace {
    /// Asks cargo.
    ///
    /// # Errors
    ///
    /// Fails when `cargo metadata` does, for example because Cargo.lock is stale.
    pub(crate) fn load() -> Result<Self> {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
        let mut command = Command::new(process::cargo());
        command
            .args(["metadata", "--format-version=1", "--all-features", "--manifest-path"])
            .arg(&manifest);
        let text = process::capture(&mut command)?;
        let metadata: serde_json::Value = serde_json::from_str(&text)
            .map_err(|source| Error::Json { what: "`cargo metadata`".into(), source })?;
        let folder = |key: &str| {
            metadata.get(key).and_then(serde_json::Value::as_str).map(PathBuf::from).ok_or_else(
                || Error::Message(format!("`cargo metadata` names no {key}: is cargo current?")),
            )
        };
        Ok(Self { root: folder("workspace_root")?, target: folder("target_directory")?, metadata })
    }

    /// A path below the root.
    pub(crate) fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.root.join(relative)
    }

    /// Where real servers and Python live; testkit is told by `SHEAF_SERVICES_DIR`.
    pub(crate) fn services(&self) -> PathBuf {
        self.target.join("services")
    }

    /// A cargo command in the root.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = Command::new(process::cargo());
        command.current_dir(&self.root);
        command
    }
}

/// All files below `folder`, sorted.
///
/// # Errors
///
/// Fails when a folder cannot be read.
pub(crate) fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).map_err(Error::io("read", &next))? {
            let path = entry.map_err(Error::io("read", &next))?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}
