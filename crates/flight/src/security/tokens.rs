//! The tokens that a server accepts now.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use http::HeaderMap;
use http::header::AUTHORIZATION;
use sheaf_retry::{Code, SharedClock, Timestamp};
use subtle::ConstantTimeEq as _;
use tokio_util::sync::CancellationToken;

use super::token_file::{self, Line, digest};
use crate::error::Error;

/// The tokens of one file, by their digests: the tokens themselves are not kept.
#[derive(Debug)]
pub(super) struct Tokens {
    pub(super) path: PathBuf,
    clock: SharedClock,
    table: RwLock<Vec<Arc<Entry>>>,
}

/// A token of the file, or of a login.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) digest: [u8; 32],
    pub(super) expires: Option<Timestamp>,
    /// Ends what was opened with it; goes on where a new file has the same token.
    pub(super) over: CancellationToken,
}

/// What let a call in, and whether it still does.
#[derive(Clone, Debug, Default)]
pub struct Grant {
    entry: Option<Arc<Entry>>,
    clock: Option<SharedClock>,
}

impl Grant {
    pub(super) fn new(entry: Arc<Entry>, clock: SharedClock) -> Self {
        Grant { entry: Some(entry), clock: Some(clock) }
    }

    /// The name of the token or login; `None` where none was needed.
    pub fn name(&self) -> Option<&str> {
        self.entry.as_ref().map(|entry| entry.name.as_str())
    }

    /// Resolves when the token has expired or was taken out, with the reason.
    pub(crate) async fn lapsed(&self) -> Error {
        let (Some(entry), Some(clock)) = (&self.entry, &self.clock) else {
            return std::future::pending().await;
        };
        let expired = async {
            let Some(at) = entry.expires else { return std::future::pending().await };
            while !self.has_expired() {
                clock.sleep(at.since(clock.now())).await;
            }
        };
        tokio::select! {
            biased;
            () = entry.over.cancelled() => {}
            () = expired => {}
        }
        self.ended()
    }

    pub(super) fn has_expired(&self) -> bool {
        match (&self.entry, &self.clock) {
            (Some(entry), Some(clock)) => entry.expired(clock.now()),
            _ => false,
        }
    }

    /// Why the call ends that the token had let in.
    pub(crate) fn ended(&self) -> Error {
        match (&self.entry, &self.clock) {
            (Some(entry), Some(clock)) if entry.expired(clock.now()) => expired(entry),
            (Some(entry), _) => {
                refused(format!("the token {:?} was taken back while the call ran", entry.name))
            }
            (None, _) => refused("the call has no token any more"),
        }
    }
}

impl Entry {
    fn new(line: Line, over: CancellationToken) -> Arc<Self> {
        Arc::new(Entry { name: line.name, digest: line.digest, expires: line.expires, over })
    }

    pub(super) fn expired(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|at| at <= now)
    }
}

impl Tokens {
    pub(super) fn open(path: PathBuf, clock: SharedClock) -> Result<Self, Error> {
        let lines = token_file::read(&path)?.into_iter();
        let table = lines.map(|line| Entry::new(line, CancellationToken::new())).collect();
        Ok(Tokens { path, clock, table: RwLock::new(table) })
    }

    /// Takes the lines of a changed file; what is gone or has expired ends.
    pub(super) fn replace(&self, lines: Vec<Line>) {
        let old = self.table();
        let same = |line: &Line| {
            let found = old.iter().find(|entry| entry.digest == line.digest);
            found.map(|entry| entry.over.clone()).filter(|over| !over.is_cancelled())
        };
        let new = lines.into_iter().map(|line| {
            let over = same(&line).unwrap_or_default();
            Entry::new(line, over)
        });
        let new: Vec<Arc<Entry>> = new.collect();
        for entry in old.iter().filter(|old| !new.iter().any(|new| new.digest == old.digest)) {
            entry.over.cancel();
        }
        *self.table.write().unwrap_or_else(PoisonError::into_inner) = new;
        self.expire();
    }

    /// Ends what was opened with tokens that have expired since.
    pub(super) fn expire(&self) {
        let now = self.clock.now();
        for entry in self.table().iter().filter(|entry| entry.expired(now)) {
            entry.over.cancel();
        }
    }

    pub(super) fn len(&self) -> usize {
        self.table.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn table(&self) -> Vec<Arc<Entry>> {
        // Replaced as a whole: a panic elsewhere leaves it whole.
        self.table.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the headers carry a token that counts.
    pub(super) fn authorize(&self, headers: &HeaderMap) -> Result<Grant, Error> {
        let presented = digest(bearer(headers)?);
        let mut found = None;
        // Every entry is looked at, whole: the time tells nothing of the tokens.
        for entry in self.table() {
            if bool::from(entry.digest.ct_eq(&presented)) {
                found = Some(entry);
            }
        }
        match found {
            None => Err(refused("the token is not accepted here: it is wrong, or was taken back")),
            Some(entry) if entry.expired(self.clock.now()) => Err(expired(&entry)),
            Some(entry) => Ok(Grant::new(entry, Arc::clone(&self.clock))),
        }
    }
}

/// The token of the header `authorization`.
pub(super) fn bearer(headers: &HeaderMap) -> Result<&[u8], Error> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Err(refused("there is no token: send the header `authorization: Bearer TOKEN`"));
    };
    if values.next().is_some() {
        return Err(refused("there are several headers `authorization`: send one"));
    }
    let value = value.as_bytes();
    match value.split_at_checked(7) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"bearer ") => Ok(token.trim_ascii()),
        _ => Err(refused(
            "there is no token: the header `authorization` does not begin with `Bearer `",
        )),
    }
}

fn expired(entry: &Entry) -> Error {
    let time = entry.expires.and_then(|at| i64::try_from(at.as_micros()).ok());
    let time = time
        .and_then(chrono::DateTime::from_timestamp_micros)
        .map(|time| time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true))
        .unwrap_or_default();
    refused(format!("the token {:?} has expired at {time}", entry.name))
}

pub(super) fn refused(message: impl Into<String>) -> Error {
    Error::new(Code::Unauthenticated, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sheaf_retry::ManualClock;
    use std::time::Duration;

    const A: &str = "0123456789abcdef-a";
    const B: &str = "0123456789abcdef-b";

    fn tokens(text: &str) -> (Tokens, Arc<ManualClock>, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let path = write(&folder, text);
        let clock = ManualClock::new(Timestamp::EPOCH);
        (Tokens::open(path, clock.clone()).unwrap(), clock, folder)
    }

    fn write(folder: &tempfile::TempDir, text: &str) -> PathBuf {
        let path = folder.path().join("tokens");
        std::fs::write(&path, text).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        path
    }

    fn headers(values: &[String]) -> HeaderMap {
        values.iter().map(|value| (AUTHORIZATION, value.parse().unwrap())).collect()
    }

    fn bearer_of(token: &str) -> HeaderMap {
        headers(&[format!("Bearer {token}")])
    }

    #[test]
    fn missing_wrong_and_expired_are_told_apart() {
        let (tokens, clock, _folder) =
            tokens(&format!("ci {A} expires=1970-01-01T00:00:10Z\n{B}\n"));
        assert_eq!(tokens.authorize(&bearer_of(A)).unwrap().name(), Some("ci"));
        assert!(tokens.authorize(&headers(&[format!("bearer  {B} ")])).is_ok());
        let text = |headers: &HeaderMap| {
            let error = tokens.authorize(headers).unwrap_err();
            assert_eq!(sheaf_retry::Retryable::code(&error), Code::Unauthenticated);
            error.message().to_owned()
        };
        assert!(text(&HeaderMap::new()).contains("there is no token"));
        assert!(text(&headers(&["Basic x".to_owned()])).contains("there is no token"));
        assert!(text(&headers(&["Bea".to_owned()])).contains("there is no token"));
        assert!(text(&bearer_of("")).contains("not accepted"));
        let wrong = format!("{A}x");
        assert!(text(&bearer_of(&wrong)).contains("not accepted"));
        let two = [format!("Bearer {A}"), format!("Bearer {B}")];
        assert!(text(&headers(&two)).contains("several"));
        clock.advance(Duration::from_secs(10));
        assert!(text(&bearer_of(A)).contains("\"ci\" has expired at 1970-01-01T00:00:10Z"));
        assert!(!text(&bearer_of(A)).contains(A));
    }

    #[test]
    fn a_token_taken_out_or_expired_ends_what_it_opened() {
        let (tokens, clock, folder) = tokens(&format!("{A}\nb {B} expires=1970-01-01T00:00:10Z\n"));
        let a = tokens.authorize(&bearer_of(A)).unwrap();
        let b = tokens.authorize(&bearer_of(B)).unwrap();
        let over = |grant: &Grant| grant.entry.as_ref().unwrap().over.is_cancelled();
        // The same token with a later end goes on.
        let later = format!("{A}\nb {B} expires=1970-01-01T00:00:20Z\n");
        tokens.replace(token_file::read(&write(&folder, &later)).unwrap());
        clock.advance(Duration::from_secs(15));
        tokens.expire();
        assert!(!over(&a) && !over(&b));
        clock.advance(Duration::from_secs(5));
        tokens.expire();
        assert!(!over(&a) && over(&b));
        assert!(b.ended().message().contains("has expired"), "{}", b.ended());
        tokens.replace(token_file::read(&write(&folder, &format!("b {B}\n"))).unwrap());
        assert!(over(&a));
        assert!(a.ended().message().contains("taken back"), "{}", a.ended());
        // Renewed after it had expired: new calls are let in.
        assert!(!over(&tokens.authorize(&bearer_of(B)).unwrap()));
    }
}
