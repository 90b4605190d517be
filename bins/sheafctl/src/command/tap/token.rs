//! The data token of a run, which whoever started it may read.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use sheaf_flight::{Secret, read_secret_file};
use sheaf_retry::Code;
use sheaf_terminal::Failure;

use crate::args::DataArgs;

/// What a run must not forget, in the folder of its pipeline.
const FILE: &str = "run.json";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Run {
    data_token: String,
}

/// Reads it from the file that was named, or that of the run.
pub(super) fn read(
    file: Option<&Path>,
    data: &DataArgs,
    pipeline: &str,
) -> Result<Secret, Failure> {
    let path: PathBuf = match file {
        Some(path) => path.to_owned(),
        None => data.pipelines().join(pipeline).join(FILE),
    };
    let text = read_secret_file(&path, "file of the data token").map_err(|error| {
        let failure = Failure::from_error(&error);
        match file {
            Some(_) => failure,
            None => failure.help(
                "rows of a run are shown to who may read its run.json only: name the folder of \
                 its control plane by --data-dir, or the file by --token-file",
            ),
        }
    })?;
    if !text.expose().starts_with('{') {
        return Ok(text);
    }
    match serde_json::from_str::<Run>(text.expose()) {
        Ok(run) if !run.data_token.is_empty() => Ok(Secret::new(run.data_token)),
        // The error of the parser could show a part of the secret.
        _ => {
            let text = format!("{} has no `dataToken`", path.display());
            Err(Failure::new(Code::InvalidArgument, text).help("name the run.json of the run"))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn data() -> DataArgs {
        DataArgs { data_dir: "elsewhere".into() }
    }

    fn written(text: &str, mode: u32) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.json");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        (folder, path)
    }

    #[test]
    fn the_file_of_a_run_and_a_token_alone_are_read() {
        for text in ["{\"version\":1,\"dataToken\":\"t0p\"}", "t0p\n"] {
            let (_folder, path) = written(text, 0o600);
            assert_eq!(read(Some(&path), &data(), "p").unwrap().expose(), "t0p");
        }
    }

    #[test]
    fn what_everybody_can_read_is_no_secret_and_what_has_none_is_named() {
        let (_folder, path) = written("t0p", 0o644);
        assert_eq!(read(Some(&path), &data(), "p").unwrap_err().code(), Code::FailedPrecondition);
        let (_folder, path) = written("{\"token\":\"t0p\"}", 0o600);
        let text = read(Some(&path), &data(), "p").unwrap_err().to_text();
        assert!(text.contains("dataToken") && !text.contains("t0p"), "{text}");
        let text = read(None, &data(), "none-such").unwrap_err().to_text();
        assert!(text.contains("elsewhere/pipelines/none-such/run.json"), "{text}");
    }
}
