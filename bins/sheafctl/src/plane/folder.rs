//! The folder of a control plane.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use sheaf_pipeline::control::{ControlPlane, Options};
use sheaf_pipeline::state::State;
use sheaf_retry::{Retryable as _, SharedClock};
use sheaf_terminal::Failure;

use crate::args::PlaneArgs;

/// The control plane, with all that it remembers.
pub(super) fn open(
    args: &PlaneArgs,
    default: PathBuf,
    clock: &SharedClock,
) -> Result<ControlPlane, Failure> {
    let options = Options { state: state(args, default)?, ..Options::default() };
    let plane = ControlPlane::open(options, clock.clone());
    let plane = plane.map_err(|error| Failure::from_error(&error))?;
    for damaged in plane.damaged() {
        tracing::warn!(name = damaged.name, why = damaged.why, "a record was left out");
    }
    Ok(plane)
}

/// Where runs are remembered.
fn state(args: &PlaneArgs, default: PathBuf) -> Result<State, Failure> {
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
pub(crate) fn named(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(error.code(), format!("{} cannot be used: {error}", path.display()))
}
