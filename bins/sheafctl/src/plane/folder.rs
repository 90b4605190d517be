//! The folder of a control plane.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use sheaf_pipeline::state::State;
use sheaf_retry::Retryable as _;
use sheaf_terminal::Failure;

use crate::args::PlaneArgs;

/// Where runs are remembered.
pub(super) fn state(args: &PlaneArgs, default: PathBuf) -> Result<State, Failure> {
    let path = match args.state.as_deref() {
        Some("memory") => return Ok(State::Memory),
        Some(path) => PathBuf::from(path),
        None => default,
    };
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        create(folder)?;
    }
    Ok(State::File(path))
}

/// The folder, which no repository takes in.
pub(super) fn prepare(folder: &Path) -> Result<(), Failure> {
    create(folder)?;
    let ignore = folder.join(".gitignore");
    if !ignore.exists() {
        std::fs::write(&ignore, "*\n").map_err(|error| named(&ignore, &error))?;
    }
    Ok(())
}

fn create(folder: &Path) -> Result<(), Failure> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|error| named(folder, &error).help("name another folder with --data-dir"))
}

/// A path that cannot be used.
pub(super) fn named(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(error.code(), format!("{} cannot be used: {error}", path.display()))
}
