//! Peers of comparisons, each in a folder of its own below the services.
//!
//! What a peer is written in shows in its folder below `benches/peers`: a
//! `requirements.txt` makes a Python environment, a `package.json` what npm
//! installs beside a copy of the scripts, a `Cargo.toml` a release build. All
//! of them are pinned, to the last dependency.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use super::{Services, on_path};
use crate::{
    error::{Error, Result},
    process,
    workspace::{Workspace, files_below},
};

/// Provisions a peer; one of Node.js is skipped aloud where there is no npm.
///
/// # Errors
///
/// Fails when its folder holds no list of pins, the installer is missing or
/// does not succeed, or the pins do not go together.
pub(crate) fn install(workspace: &Workspace, name: &str) -> Result<()> {
    let peer = Peer {
        name,
        source: workspace.path("benches/peers").join(name),
        services: Services { folder: workspace.services().join("peers").join(name) },
    };
    let folder = &peer.services.folder;
    fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    let lock_path = folder.join("lock");
    let lock = File::create(&lock_path).map_err(Error::io("create", &lock_path))?;
    lock.lock().map_err(Error::io("lock", &lock_path))?;
    let there = |file: &str| peer.source.join(file).is_file();
    let installed = if there("package.json") {
        peer.npm()?
    } else if there("Cargo.toml") {
        Some(peer.cargo(workspace)?)
    } else {
        Some(peer.python()?)
    };
    if let Some(path) = installed {
        println!("{name}: {}", path.display());
    }
    Ok(())
}

struct Peer<'a> {
    name: &'a str,
    source: PathBuf,
    services: Services,
}

impl Peer<'_> {
    fn read(&self, file: &str) -> Result<String> {
        let path = self.source.join(file);
        fs::read_to_string(&path).map_err(Error::io("read", &path))
    }

    /// An environment with what `requirements.txt` pins.
    fn python(&self) -> Result<PathBuf> {
        let wanted = self.read("requirements.txt")?;
        let python = self.services.environment()?;
        let pins = self.source.join("requirements.txt").to_string_lossy().into_owned();
        self.services.once("packages", &wanted, &python, || {
            // The pins are the whole list: what they lack is not chosen here.
            self.services.pip_install(&python, &["--no-deps", "--requirement", &pins])?;
            let mut check = Command::new(&python);
            process::capture(check.args(["-m", "pip", "check", "--disable-pip-version-check"]))
                .map(drop)
        })
    }

    /// What `package-lock.json` pins, and the scripts: a script finds only
    /// packages of the folder that it is in.
    fn npm(&self) -> Result<Option<PathBuf>> {
        let folder = &self.services.folder;
        let copy = |path: &Path| {
            let name = path.file_name().unwrap_or_default();
            fs::copy(path, folder.join(name)).map_err(Error::io("copy", path)).map(drop)
        };
        let modules = folder.join("node_modules");
        let (Some(npm), Some(_)) = (on_path("npm"), on_path("node")) else {
            eprintln!("SKIP the peer {}: install Node.js 20 or newer with npm", self.name);
            return Ok(None);
        };
        for script in files_below(&self.source)? {
            if script.extension().is_some_and(|extension| extension == "mjs") {
                copy(&script)?;
            }
        }
        // The first line is what is shown.
        let wanted = format!("what package-lock.json pins\n{}", self.read("package-lock.json")?);
        self.services.once("packages", &wanted, &modules, || {
            copy(&self.source.join("package.json"))?;
            copy(&self.source.join("package-lock.json"))?;
            // Nothing of the network runs at installation.
            let mut command = Command::new(&npm);
            command.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]);
            process::capture(command.current_dir(folder)).map(drop)
        })?;
        Ok(Some(modules))
    }

    /// A release build; cargo itself knows whether it is current.
    fn cargo(&self, workspace: &Workspace) -> Result<PathBuf> {
        let target = self.services.folder.join("target");
        let mut command = workspace.cargo();
        command.args(["build", "--release", "--locked", "--manifest-path"]);
        command.arg(self.source.join("Cargo.toml")).arg("--target-dir").arg(&target);
        let protoc = workspace.services().join("protoc/protoc");
        if protoc.is_file() {
            command.env("PROTOC", protoc);
        }
        process::run(&mut command)?;
        Ok(target.join("release"))
    }
}
