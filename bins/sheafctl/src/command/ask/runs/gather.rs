//! Where runs are remembered: by control planes that run, and in the files of those that do not.

use std::path::{Path, PathBuf};

use sheaf_pipeline::control::{ControlPlane, Options};
use sheaf_pipeline::registry::Pipeline;
use sheaf_pipeline::state::State;
use sheaf_retry::{Code, Retryable as _, SharedClock};
use sheaf_terminal::Failure;

use crate::args::AskArgs;
use crate::remote::Remote;

/// What a control plane that runs knows, and what those have left that do not.
pub(super) async fn gather(remote: &Remote, args: &AskArgs) -> Result<Vec<Pipeline>, Failure> {
    let mut all = match remote.registry.pipelines(&[], false).await {
        Ok(all) => all,
        Err(error) if error.code() == Code::Unavailable => Vec::new(),
        Err(error) => return Err(remote.failed(&error)),
    };
    for path in states(args) {
        match read(&path, &remote.clock).await {
            Ok(found) => all.extend(found),
            // The control plane that has it was asked, or is another one's.
            Err(failure) if failure.code() == Code::DirectoryLocked => {}
            Err(failure) => return Err(failure),
        }
    }
    Ok(all)
}

fn states(args: &AskArgs) -> Vec<PathBuf> {
    let folders = std::fs::read_dir(args.at.data.pipelines()).into_iter().flatten().flatten();
    let files = folders.map(|folder| args.at.data.run_state(&folder.file_name().to_string_lossy()));
    let mut all: Vec<PathBuf> = files.chain([args.at.data.server_state()]).collect();
    all.retain(|path| path.is_file());
    all.sort();
    all
}

pub(super) async fn read(path: &Path, clock: &SharedClock) -> Result<Vec<Pipeline>, Failure> {
    let failed = |error| Failure::from_error(&error);
    if !path.is_file() {
        let message = format!("there is no state file {}", path.display());
        return Err(Failure::new(Code::NotFound, message).help("check the path after --state"));
    }
    let options = Options { state: State::File(path.to_owned()), ..Options::default() };
    let plane = ControlPlane::open(options, clock.clone()).map_err(failed)?;
    let all = plane.pipelines().await.map_err(failed)?;
    plane.close().await.map_err(failed)?;
    Ok(all.iter().map(|one| Pipeline::clone(one)).collect())
}
