//! The side that maps the segments.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use rustix::net::sockopt::socket_peercred;
use serde::Deserialize;
use sheaf_retry::{Code, Retryable as _};

use super::{MAX_ANSWER, MAX_LEASE, SCHEME, pass};
use crate::error::{Error, invalid};

/// Where a segment is handed over, and the lease to bring:
/// `shm+unix:///PATH?lease=LEASE`.
///
/// ```
/// use sheaf_flight::SegmentLocation;
///
/// let location: SegmentLocation = "shm+unix:///run/sheaf.sock.shm?lease=5e88".parse()?;
/// assert_eq!(location.to_string(), "shm+unix:///run/sheaf.sock.shm?lease=5e88");
/// assert!("grpc://localhost:8080".parse::<SegmentLocation>().is_err());
/// # Ok::<(), sheaf_flight::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct SegmentLocation {
    path: PathBuf,
    lease: String,
}

/// The lease is a secret.
impl std::fmt::Debug for SegmentLocation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SegmentLocation").field("path", &self.path).finish_non_exhaustive()
    }
}

impl std::fmt::Display for SegmentLocation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{SCHEME}{}?lease={}", self.path.display(), self.lease)
    }
}

impl FromStr for SegmentLocation {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let parsed = text.strip_prefix(SCHEME).and_then(|rest| rest.split_once("?lease="));
        let allowed = |lease: &str| {
            (1..=MAX_LEASE).contains(&lease.len())
                && lease.bytes().all(|byte| byte.is_ascii_alphanumeric())
        };
        match parsed {
            Some((path, lease)) if path.starts_with('/') && allowed(lease) => {
                Ok(SegmentLocation { path: path.into(), lease: lease.to_owned() })
            }
            _ => Err(invalid("the location is not of the form shm+unix:///PATH?lease=LEASE")),
        }
    }
}

/// A segment that was handed over.
#[derive(Debug)]
pub struct Received {
    /// The bytes; nobody writes to them.
    pub file: File,
    /// How to read them, as [`Segment::format`](super::Segment::format).
    pub format: String,
    /// The lease: the server is told that it ends when this is dropped.
    pub lease: UnixStream,
}

#[derive(Deserialize)]
struct Answer {
    bytes: Option<u64>,
    format: Option<String>,
    code: Option<String>,
    error: Option<String>,
}

impl SegmentLocation {
    /// The socket.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Fetches the segment. Blocks for `patience` at the most.
    ///
    /// # Errors
    /// `unavailable`, `permission_denied` where nobody hands over there, or
    /// somebody else than the user of this process does; what the server says.
    pub fn receive(&self, patience: Duration) -> Result<Received, Error> {
        let failed = |error: io::Error| {
            let code = match error.code() {
                code @ (Code::PermissionDenied | Code::Unavailable) => code,
                _ => Code::Unavailable,
            };
            Error::new(code, format!("no shared memory at {}: {error}", self.path.display()))
        };
        let mut lease = UnixStream::connect(&self.path).map_err(failed)?;
        self.check_peer(&lease)?;
        let patience = Some(patience.max(Duration::from_millis(1)));
        lease.set_read_timeout(patience).map_err(failed)?;
        lease.write_all(format!("{}\n", self.lease).as_bytes()).map_err(failed)?;
        let (line, file) = answer(&lease).map_err(failed)?;
        let wrong = |why: String| Error::new(Code::MalformedData, why);
        let answer: Answer = serde_json::from_slice(&line)
            .map_err(|error| wrong(format!("the answer for a lease is no JSON: {error}")))?;
        let Some(file) = file else {
            let code = answer.code.and_then(|code| code.parse().ok()).unwrap_or(Code::Unavailable);
            let text = answer.error.unwrap_or_else(|| "no shared memory was handed over".into());
            return Err(Error::new(code, text));
        };
        let length = file.metadata().map_err(failed)?.len();
        if answer.bytes != Some(length) {
            return Err(wrong(format!("a segment of {length} bytes, announced otherwise")));
        }
        Ok(Received { file, format: answer.format.unwrap_or_default(), lease })
    }

    /// What a process of somebody else hands over could change under the reader.
    fn check_peer(&self, stream: &UnixStream) -> Result<(), Error> {
        let peer = socket_peercred(stream).map(|peer| peer.uid);
        let own = rustix::process::geteuid();
        match peer {
            Ok(uid) if uid == own || uid.is_root() => Ok(()),
            _ => {
                let text = format!("{} is served by another user", self.path.display());
                Err(Error::new(Code::PermissionDenied, text))
            }
        }
    }
}

/// The line that comes, and the descriptor that comes with it.
fn answer(stream: &UnixStream) -> io::Result<(Vec<u8>, Option<File>)> {
    let (mut line, mut file) = (vec![0; MAX_ANSWER], None);
    let mut filled = 0;
    loop {
        let received = pass::receive(stream, &mut line[filled..], &mut file)?;
        filled += received;
        if line[..filled].ends_with(b"\n") {
            line.truncate(filled);
            return Ok((line, file));
        }
        if received == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}
