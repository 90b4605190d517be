//! Where a source goes on, in a file of its folder.

use std::io::{ErrorKind, Write as _};
use std::path::Path;

use bytes::Bytes;
use sheaf_retry::{Code, Retryable as _};
use sheaf_terminal::Failure;

const NAME: &str = "offset";

/// The offset that is there.
pub(super) fn read(folder: &Path) -> Result<Option<Bytes>, Failure> {
    std::fs::create_dir_all(folder).map_err(|error| failed(folder, &error))?;
    match std::fs::read(folder.join(NAME)) {
        Ok(bytes) => Ok(Some(bytes.into())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(folder, &error)),
    }
}

/// Puts another one into its place, whole or not at all.
pub(super) fn write(folder: &Path, offset: &Bytes) -> Result<(), Failure> {
    let write = || {
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(offset)?;
        file.persist(folder.join(NAME)).map(drop).map_err(|error| error.error)
    };
    write().map_err(|error| failed(folder, &error))
}

fn failed(folder: &Path, error: &std::io::Error) -> Failure {
    let code = match error.code() {
        Code::Io => Code::FailedPrecondition,
        code => code,
    };
    Failure::new(code, format!("--state {} cannot be used", folder.display())).because(error)
}
