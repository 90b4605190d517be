//! Small files with secrets and certificates.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use sheaf_retry::{Code, Retryable as _};

use super::secret::Secret;
use crate::error::{Error, invalid};

/// The largest file of certificates, keys or tokens that is read.
const MAX_BYTES: u64 = 4 << 20;

/// The bytes of a file that may be read by anybody; `what` is for messages.
pub(crate) fn read(path: &Path, what: &str) -> Result<Vec<u8>, Error> {
    contents(&open(path, what)?, path, what)
}

/// The text of a file that holds one secret, such as a password, without the
/// line feed at its end; `what` is the file's name in errors.
///
/// # Errors
/// `failed_precondition` where every user of the machine can read or change it;
/// `invalid_argument` where it is empty or no text; else what the system says.
pub fn read_secret_file(path: &Path, what: &str) -> Result<Secret, Error> {
    let bytes = read_secret(path, what)?;
    match std::str::from_utf8(&bytes).map(str::trim_end) {
        Ok("") => Err(invalid(format!("the {what} {} is empty", path.display()))),
        Ok(text) => Ok(Secret::new(text)),
        Err(_) => Err(invalid(format!("the {what} {} is no text", path.display()))),
    }
}

/// The bytes of a file that holds secrets: refused where every user of the
/// machine can read or change it.
pub(crate) fn read_secret(path: &Path, what: &str) -> Result<Vec<u8>, Error> {
    let file = open(path, what)?;
    check_mode(&file, path, what)?;
    contents(&file, path, what)
}

/// Opening a pipe would wait for somebody who writes into it, perhaps for ever,
/// and it could be read only once; these files are read again when they change.
fn open(path: &Path, what: &str) -> Result<File, Error> {
    let found = std::fs::metadata(path).map_err(|error| failed(&error, path, what))?;
    if !found.is_file() {
        return Err(invalid(format!(
            "the {what} {} is no regular file: name a file, no folder, pipe or device",
            path.display()
        )));
    }
    File::open(path).map_err(|error| failed(&error, path, what))
}

fn contents(file: &File, path: &Path, what: &str) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|error| failed(&error, path, what))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(invalid(format!(
            "the {what} {} has over {MAX_BYTES} bytes: is it another file?",
            path.display()
        )));
    }
    Ok(bytes)
}

#[cfg(unix)]
fn check_mode(file: &File, path: &Path, what: &str) -> Result<(), Error> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = file.metadata().map_err(|error| failed(&error, path, what))?.permissions().mode();
    if mode & 0o006 == 0 {
        return Ok(());
    }
    Err(Error::new(
        Code::FailedPrecondition,
        format!(
            "the {what} {path} is open to every user of this machine (mode {mode:03o}): \
             run `chmod 600 {path}`",
            path = path.display(),
            mode = mode & 0o777,
        ),
    ))
}

#[cfg(not(unix))]
fn check_mode(_: &File, _: &Path, _: &str) -> Result<(), Error> {
    Ok(())
}

fn failed(error: &std::io::Error, path: &Path, what: &str) -> Error {
    Error::new(error.code(), format!("the {what} {} cannot be read: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn what_everybody_can_read_is_no_place_for_secrets() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        std::fs::write(&path, "x").unwrap();
        // Credentials of systemd have 0400, or 0440 where an access list lets the service in.
        let fine = [0o600, 0o640, 0o400, 0o440].map(|mode| (mode, true));
        let open = [0o644, 0o602, 0o444].map(|mode| (mode, false));
        for (mode, fine) in fine.into_iter().chain(open) {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let read = read_secret(&path, "token file");
            assert_eq!(read.is_ok(), fine, "{mode:o}");
            if let Err(error) = read {
                assert!(error.message().contains("chmod 600"), "{error}");
                assert!(error.message().contains(path.to_str().unwrap()), "{error}");
            }
        }
        assert!(super::read(&path, "certificate").is_ok());
    }

    #[cfg(unix)]
    #[test]
    fn what_is_no_regular_file_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let pipe = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        for path in [folder.path(), &socket, &pipe, Path::new("/dev/zero")] {
            for read in [read(path, "token file"), read_secret(path, "token file")] {
                let error = read.unwrap_err();
                assert_eq!(error.code(), Code::InvalidArgument, "{error}");
                let text = format!("token file {} is no regular file", path.display());
                assert!(error.message().contains(&text), "{error}");
            }
        }
        // A link to one is one: mounted secrets are links.
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        std::fs::write(&file, "x").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert_eq!(read(&link, "CA file").unwrap(), b"x");
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = read(Path::new("/nonexistent/ca.pem"), "CA file").unwrap_err();
        assert_eq!(error.code(), Code::NotFound);
        assert!(error.message().contains("CA file /nonexistent/ca.pem"), "{error}");
    }
}
