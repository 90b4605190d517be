//! How a client shows who it is, and knows whom it talks to.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::HeaderValue;
use sheaf_retry::{Code, SharedClock};

use super::Target;
use crate::error::{Error, invalid};
use crate::security::{RELOAD_INTERVAL, Secret, first_usable, read_tokens};

/// Where a client has its token from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TokenSource {
    /// It has none.
    #[default]
    None,
    /// The first token of a file that has not expired; the file is read again
    /// when it has changed, so that tokens can be exchanged under a running
    /// client. It has the format of the server's token file.
    File(PathBuf),
    /// This one.
    Fixed(Secret),
}

/// How a client secures its connections.
///
/// Certificates are read at each connection that is made: new files count for
/// new connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientSecurity {
    /// CA certificates in PEM, one of which signed the server's; needed for
    /// targets `grpc+tls://…`.
    pub ca: Option<PathBuf>,
    /// Certificate chain and private key in PEM, for servers that ask who calls.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The token that is sent with every call.
    pub token: TokenSource,
    /// Sends the token even where the network can read it: unencrypted, to
    /// another machine.
    pub insecure: bool,
}

impl ClientSecurity {
    /// Whether a target may be called with this.
    ///
    /// # Errors
    /// `failed_precondition`: TLS without a CA to check the server by; a token
    /// that would go to another machine readable.
    pub fn check(&self, target: &Target) -> Result<(), Error> {
        if target.is_tls() {
            self.authority(target)?;
        }
        self.check_token(target)
    }

    /// The CA file by which a server is checked.
    pub(super) fn authority(&self, target: &Target) -> Result<&Path, Error> {
        self.ca.as_deref().ok_or_else(|| {
            Error::new(
                Code::FailedPrecondition,
                format!(
                    "{target} speaks TLS: name the file of the CA that signed its certificate \
                     (--tls-ca)"
                ),
            )
        })
    }

    /// Refuses to send a token where the network can read it.
    pub(super) fn check_token(&self, target: &Target) -> Result<(), Error> {
        let readable = !target.is_tls() && !self.insecure && !is_loopback(target);
        if !readable || self.token == TokenSource::None {
            return Ok(());
        }
        Err(Error::new(
            Code::FailedPrecondition,
            format!(
                "the token is not sent to {target}: everyone on the way could read it; \
                 use grpc+tls://, or --insecure where the network is trusted"
            ),
        ))
    }
}

/// Names other than `localhost` may lead anywhere.
fn is_loopback(target: &Target) -> bool {
    let host = target.host();
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    match bare.parse::<IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

/// The header of the calls of one pool.
#[derive(Debug)]
pub(super) struct Bearer {
    source: TokenSource,
    clock: SharedClock,
    read: Mutex<Option<Read>>,
}

/// What a file said, and when. `Debug` shows no header: it is marked as sensitive.
#[derive(Debug)]
struct Read {
    at: Duration,
    header: HeaderValue,
}

impl Bearer {
    pub(super) fn new(source: TokenSource, clock: SharedClock) -> Self {
        Bearer { source, clock, read: Mutex::new(None) }
    }

    /// The header `authorization` for a call now. Looks at a file at most once
    /// in [`RELOAD_INTERVAL`].
    pub(super) fn header(&self) -> Result<Option<HeaderValue>, Error> {
        let path = match &self.source {
            TokenSource::None => return Ok(None),
            TokenSource::Fixed(token) => return header_of(token).map(Some),
            TokenSource::File(path) => path,
        };
        let now = self.clock.elapsed();
        // Replaced as a whole: a panic elsewhere leaves it whole.
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Read { at, header }) = &*read
            && now.saturating_sub(*at) < RELOAD_INTERVAL
        {
            return Ok(Some(header.clone()));
        }
        let lines = match (read_tokens(path), &mut *read) {
            (Ok(lines), _) => lines,
            // A file that is being replaced: what it said last still counts.
            (Err(error), Some(known)) => {
                tracing::warn!(%error, "the token that was read last stays in use");
                known.at = now;
                return Ok(Some(known.header.clone()));
            }
            (Err(error), None) => return Err(error),
        };
        let Some(token) = first_usable(&lines, self.clock.now()) else {
            return Err(Error::new(
                Code::Unauthenticated,
                format!(
                    "the token file {} has no token to send: all have expired, or stand there as \
                     sha256: only",
                    path.display()
                ),
            ));
        };
        let header = header_of(token)?;
        *read = Some(Read { at: now, header: header.clone() });
        Ok(Some(header))
    }
}

fn header_of(token: &Secret) -> Result<HeaderValue, Error> {
    let mut value = HeaderValue::try_from(format!("Bearer {}", token.expose()))
        .map_err(|_| invalid("the token has characters that no header takes"))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sheaf_retry::{ManualClock, Retryable as _, Timestamp};

    fn write(path: &std::path::Path, text: &str) {
        std::fs::write(path, text).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
    }

    #[test]
    fn a_token_goes_nowhere_readable() {
        let token = TokenSource::Fixed(Secret::new("0123456789abcdef"));
        let security = ClientSecurity { token, ca: Some("ca".into()), ..Default::default() };
        let check =
            |security: &ClientSecurity, target: &str| security.check(&target.parse().unwrap());
        for fine in ["localhost:1", "127.0.0.9:1", "[::1]:1", "grpc+tls://h:1"] {
            assert!(check(&security, fine).is_ok(), "{fine}");
        }
        for readable in ["h:1", "10.0.0.1:1", "[fe80::1]:1", "localhost.example.org:1"] {
            let error = check(&security, readable).unwrap_err();
            assert_eq!(error.code(), Code::FailedPrecondition);
            assert!(error.message().contains("grpc+tls://"), "{error}");
        }
        let insecure = ClientSecurity { insecure: true, ..security.clone() };
        assert!(check(&insecure, "h:1").is_ok());
        assert!(check(&ClientSecurity::default(), "h:1").is_ok());
        let error = check(&ClientSecurity::default(), "grpc+tls://h:1").unwrap_err();
        assert!(error.message().contains("--tls-ca"), "{error}");
        assert!(!format!("{security:?}").contains("0123456789abcdef"));
    }

    #[test]
    fn a_file_is_read_again_when_it_has_changed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let clock = ManualClock::new(Timestamp::EPOCH);
        let bearer = Bearer::new(TokenSource::File(path.clone()), clock.clone());
        assert_eq!(bearer.header().unwrap_err().code(), Code::NotFound);
        write(&path, "0123456789abcdef-1 expires=1970-01-01T00:00:05Z\n0123456789abcdef-2\n");
        let sent = || bearer.header().unwrap().unwrap().to_str().unwrap().to_owned();
        assert_eq!(sent(), "Bearer 0123456789abcdef-1");
        clock.advance(Duration::from_secs(5));
        assert_eq!(sent(), "Bearer 0123456789abcdef-2");
        write(&path, "0123456789abcdef-3\n");
        assert_eq!(sent(), "Bearer 0123456789abcdef-2");
        clock.advance(RELOAD_INTERVAL);
        assert_eq!(sent(), "Bearer 0123456789abcdef-3");
        write(&path, "");
        clock.advance(RELOAD_INTERVAL);
        assert_eq!(sent(), "Bearer 0123456789abcdef-3");
        write(&path, &format!("sha256:{}\n", "0".repeat(64)));
        clock.advance(RELOAD_INTERVAL);
        assert!(bearer.header().unwrap_err().message().contains("sha256:"));
        assert!(!format!("{bearer:?}").contains("0123456789abcdef"), "{bearer:?}");
    }
}
