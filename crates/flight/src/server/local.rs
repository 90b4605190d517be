//! A socket in the file system: a port for programs of this machine alone.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use sheaf_retry::{Code, Retryable as _};

use crate::error::{Error, invalid};

/// Longest path of a socket, in bytes: what systems allow, and room for another
/// name beside it.
const MAX_PATH: usize = 98;

/// A bound socket in the file system.
///
/// Only the user of this process may connect: the file has mode 0600. It is
/// removed when this, or the server that serves it, is dropped. One that a
/// killed process left behind is replaced.
#[derive(Debug)]
pub struct LocalListener {
    inner: UnixListener,
    file: SocketFile,
}

/// The file of a socket, removed with this unless it is another one by then.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    /// Device and number of the file.
    id: (u64, u64),
}

impl LocalListener {
    /// Makes the socket `path`.
    ///
    /// `flag` is only for the texts of errors: what the user changes the path with.
    ///
    /// # Errors
    /// - `invalid_argument`: a path that does not begin with `/`, or is longer than
    ///   98 bytes.
    /// - `address_in_use`: another process serves there, or a file that is no
    ///   socket is in the way.
    /// - `permission_denied`, `io`: the system refused.
    pub fn bind(path: impl Into<PathBuf>, flag: &str) -> Result<Self, Error> {
        let path: PathBuf = path.into();
        let length = path.as_os_str().len();
        if length == 0 || length > MAX_PATH {
            return Err(invalid(format!(
                "{flag} {path:?} has {length} bytes, the path of a socket has 1 to {MAX_PATH}"
            )));
        }
        if !path.is_absolute() {
            return Err(invalid(format!("{flag} {path:?}: write the path whole, from / on")));
        }
        let inner = match bind(&path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                remove_stale(&path, flag)?;
                bind(&path)
            }
            bound => bound,
        };
        let refused = |error: io::Error| {
            let code = match error.code() {
                code @ (Code::AddressInUse | Code::PermissionDenied) => code,
                _ => Code::Io,
            };
            Error::new(code, format!("{flag} {} cannot be bound: {error}", path.display()))
        };
        let inner = inner.map_err(refused)?;
        let id = inner
            .set_nonblocking(true)
            .and_then(|()| fs::symlink_metadata(&path))
            .map(|metadata| (metadata.dev(), metadata.ino()))
            .map_err(refused)?;
        Ok(LocalListener { inner, file: SocketFile { path, id } })
    }

    /// Where it listens, as clients take it: `grpc+unix://PATH`.
    pub fn uri(&self) -> String {
        format!("grpc+unix://{}", self.file.path.display())
    }

    /// The file of the socket.
    pub(crate) fn path(&self) -> &Path {
        &self.file.path
    }

    pub(crate) fn into_tokio(self) -> Result<(tokio::net::UnixListener, SocketFile), Error> {
        let listener = tokio::net::UnixListener::from_std(self.inner).map_err(|error| {
            let path = self.file.path.display();
            Error::new(Code::Io, format!("cannot listen on {path}: {error}"))
        })?;
        Ok((listener, self.file))
    }
}

/// Binds a name of its own first: by its real one nobody can connect before the
/// mode is set.
fn bind(path: &Path) -> io::Result<UnixListener> {
    let taken = || io::Error::from(io::ErrorKind::AddrInUse);
    if fs::symlink_metadata(path).is_ok() {
        return Err(taken());
    }
    let own = beside(path);
    let listener = UnixListener::bind(&own)?;
    let named = fs::set_permissions(&own, Permissions::from_mode(0o600))
        // Fails where somebody was faster, instead of taking their place.
        .and_then(|()| match fs::hard_link(&own, path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                // Not every file system has links. Who was faster loses the name.
                fs::rename(&own, path)
            }
            linked => linked,
        });
    drop(fs::remove_file(&own));
    match named {
        Ok(()) => Ok(listener),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(taken()),
        Err(error) => Err(error),
    }
}

/// Another name in the same folder, which nobody else has.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    let id = uuid::Uuid::new_v4().simple().to_string();
    name.push(format!(".{}", &id[..8]));
    name.into()
}

fn id_of(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Removes a socket that nobody listens on any more.
fn remove_stale(path: &Path, flag: &str) -> Result<(), Error> {
    let in_use = |why: &str| {
        let path = path.display();
        Err(Error::new(Code::AddressInUse, format!("{flag} {path} {why}")))
    };
    let Ok(metadata) = fs::symlink_metadata(path) else { return Ok(()) };
    if !metadata.file_type().is_socket() {
        return in_use("is a file and no socket: give it another name, or move the file away");
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Ok(_) | Err(_) => {
            return in_use("is in use: stop what listens there, or give it another path");
        }
    }
    // Two servers may find it at once: what is taken away is looked at again.
    let aside = beside(path);
    match fs::rename(path, &aside) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return in_use(&format!("was left behind and cannot be removed: {error}")),
        Ok(()) => {}
    }
    if id_of(&aside) != Some((metadata.dev(), metadata.ino())) {
        drop(fs::rename(&aside, path));
        return in_use("is in use: another process was faster");
    }
    drop(fs::remove_file(&aside));
    Ok(())
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = id_of(&self.path) == Some(self.id);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "a socket stays behind");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_of_its_user_alone_and_goes_with_its_listener() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let listener = LocalListener::bind(&path, "--flight-uds").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(listener.uri(), format!("grpc+unix://{}", path.display()));
        let error = LocalListener::bind(&path, "--flight-uds").unwrap_err();
        assert_eq!(error.code(), Code::AddressInUse, "{error}");
        assert!(error.message().contains("--flight-uds"), "{error}");
        drop(listener);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_socket_that_was_left_behind_is_replaced_and_a_file_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "as after a kill -9");
        let listener = LocalListener::bind(&path, "--flight-uds").unwrap();
        // Its place was taken: it does not remove what is there now.
        fs::remove_file(&path).unwrap();
        fs::write(&path, "mine").unwrap();
        drop(listener);
        let error = LocalListener::bind(&path, "--flight-uds").unwrap_err();
        assert_eq!(error.code(), Code::AddressInUse, "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    }

    #[test]
    fn a_path_that_no_socket_can_have_is_refused() {
        for path in [String::new(), format!("/{}", "x".repeat(MAX_PATH)), "relative".to_owned()] {
            let error = LocalListener::bind(&path, "--flight-uds").unwrap_err();
            assert_eq!(error.code(), Code::InvalidArgument, "{error}");
        }
        let error = LocalListener::bind("/no/such/folder/s", "--flight-uds").unwrap_err();
        assert_eq!(error.code(), Code::Io, "{error}");
    }
}
