//! Where things are: the workspace's root, its target directory, its packages.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::{
    error::{Error, Result},
    process,
};

/// The platforms that the README promises.
const PLATFORMS: [&str; 4] = [
    "x86_64-unknown-linux-gnu",
    "aarch64-unknown-linux-gnu",
    "x86_64-apple-darwin",
    "aarch64-apple-darwin",
];

/// The workspace as cargo sees it.
#[derive(Debug)]
pub(crate) struct Workspace {
    /// The folder of the root manifest.
    pub(crate) root: PathBuf,
    /// Cargo's target directory, wherever the caller has put it.
    pub(crate) target: PathBuf,
    /// The workspace's own packages, without their dependencies.
    metadata: Value,
}

impl Workspace {
    /// Asks cargo; no network is needed.
    ///
    /// # Errors
    ///
    /// Fails when `cargo metadata` does, for example because a manifest is broken.
    pub(crate) fn load() -> Result<Self> {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
        let mut command = Command::new(process::cargo());
        command.args(["metadata", "--format-version=1", "--no-deps", "--manifest-path"]);
        let metadata = json_of(command.arg(&manifest))?;
        let folder = |key: &str| {
            metadata.get(key).and_then(Value::as_str).map(PathBuf::from).ok_or_else(|| {
                Error::Message(format!("`cargo metadata` names no {key}: is cargo current?"))
            })
        };
        Ok(Self { root: folder("workspace_root")?, target: folder("target_directory")?, metadata })
    }

    /// Every package that any supported platform and feature brings in.
    ///
    /// # Errors
    ///
    /// Fails when `cargo metadata` does, for example because Cargo.lock is stale.
    pub(crate) fn dependencies(&self) -> Result<Value> {
        let mut command = self.cargo();
        command.args(["metadata", "--format-version=1", "--all-features", "--locked"]);
        for platform in PLATFORMS {
            command.args(["--filter-platform", platform]);
        }
        json_of(&mut command)
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
    ///
    /// What cargo says to this program of its package is not passed on: build scripts look at
    /// those variables, `ring`'s at seven of them, and half of all crates would be built again
    /// whenever somebody uses cargo by itself in between.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = Command::new(process::cargo());
        let of_package = |name: &std::ffi::OsString| {
            let name = name.to_string_lossy();
            name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
        };
        let names = std::env::vars_os().map(|(name, _)| name).filter(of_package);
        names.for_each(|name| {
            command.env_remove(name);
        });
        command.current_dir(&self.root);
        command
    }

    /// The project's own files, relative to the root and sorted: what git tracks
    /// or would add; without git, everything but build output.
    ///
    /// # Errors
    ///
    /// Fails when the root cannot be read.
    pub(crate) fn sources(&self) -> Result<Vec<PathBuf>> {
        let mut git = Command::new("git");
        git.current_dir(&self.root).args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ]);
        let mut paths: Vec<PathBuf> = match process::capture(&mut git) {
            Ok(list) => list.split('\0').filter(|path| !path.is_empty()).map(Into::into).collect(),
            Err(_) => files_below(&self.root)?
                .into_iter()
                .filter_map(|path| path.strip_prefix(&self.root).ok().map(Path::to_path_buf))
                .filter(|path| {
                    !path
                        .iter()
                        .any(|part| part == "target" || part == ".git" || part == "__pycache__")
                })
                .collect(),
        };
        paths.retain(|path| self.path(path).is_file());
        paths.sort();
        Ok(paths)
    }

    /// The workspace's packages as `cargo metadata` describes them.
    pub(crate) fn packages(&self) -> &[Value] {
        self.metadata.get("packages").and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    /// Names of a package's targets of one kind: `bench`, `example`, …
    pub(crate) fn targets(&self, package: &str, kind: &str) -> Vec<String> {
        let targets = self
            .packages()
            .iter()
            .filter(|found| found["name"] == package)
            .filter_map(|found| found["targets"].as_array())
            .flatten();
        targets
            .filter(|target| {
                target["kind"].as_array().is_some_and(|all| all.iter().any(|k| k == kind))
            })
            .filter_map(|target| target["name"].as_str().map(str::to_owned))
            .collect()
    }

    /// The package whose folder holds this path, relative to the root.
    pub(crate) fn package_at(&self, path: &Path) -> Option<String> {
        let full = self.path(path);
        let holds = |package: &&Value| {
            let folder = package["manifest_path"].as_str().map(Path::new).and_then(Path::parent);
            folder.is_some_and(|folder| full.starts_with(folder))
        };
        self.packages()
            .iter()
            .find(holds)
            .and_then(|package| package["name"].as_str())
            .map(str::to_owned)
    }
}

fn json_of(command: &mut Command) -> Result<Value> {
    let text = process::capture(command)?;
    serde_json::from_str(&text)
        .map_err(|source| Error::Json { what: "`cargo metadata`".into(), source })
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
