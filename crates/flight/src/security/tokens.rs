//! The tokens that a server accepts now.

use std::path::PathBuf;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, PoisonError, RwLock};

use http::HeaderMap;
use http::header::AUTHORIZATION;
use sheaf_retry::{Code, SharedClock, Timestamp};
use subtle::ConstantTimeEq as _;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::grant::Grant;
use super::token_file::{self, Line, digest};
use super::token_words::TokenLimits;
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
    /// Whether it has a name, and not only a place in the file.
    pub(super) is_named: bool,
    digest: [u8; 32],
    pub(super) expires: Option<Timestamp>,
    pub(super) shared: Arc<Shared>,
}

/// What goes on where a new file has the same token.
#[derive(Debug)]
pub(super) struct Shared {
    /// Ends what was opened with it.
    pub(super) over: CancellationToken,
    /// Calls under way.
    pub(super) calls: AtomicUsize,
    /// As the file has them now.
    pub(super) limits: watch::Sender<TokenLimits>,
}

impl Entry {
    fn new(line: Line, shared: Option<Arc<Shared>>) -> Arc<Self> {
        let Line { name, is_named, digest, expires, limits, token: _ } = line;
        let shared = match shared {
            Some(shared) => {
                shared.limits.send_if_modified(|old| {
                    let is_changed = *old != limits;
                    *old = limits;
                    is_changed
                });
                shared
            }
            None => Arc::new(Shared {
                over: CancellationToken::new(),
                calls: AtomicUsize::new(0),
                limits: watch::Sender::new(limits),
            }),
        };
        Arc::new(Entry { name, is_named, digest, expires, shared })
    }

    /// That of a login, which may do everything.
    pub(super) fn of_login(name: &str, digest: [u8; 32], expires: Timestamp) -> Arc<Self> {
        Arc::new(Entry {
            name: name.to_owned(),
            is_named: true,
            digest,
            expires: Some(expires),
            shared: Arc::new(Shared {
                over: CancellationToken::new(),
                calls: AtomicUsize::new(0),
                limits: watch::Sender::new(TokenLimits::default()),
            }),
        })
    }

    pub(super) fn expired(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|at| at <= now)
    }
}

impl Tokens {
    pub(super) fn open(path: PathBuf, clock: SharedClock) -> Result<Self, Error> {
        let lines = token_file::read(&path)?.into_iter();
        let table = lines.map(|line| Entry::new(line, None)).collect();
        Ok(Tokens { path, clock, table: RwLock::new(table) })
    }

    /// Takes the lines of a changed file; what is gone or has expired ends.
    pub(super) fn replace(&self, lines: Vec<Line>) {
        let old = self.table();
        let same = |line: &Line| {
            let found = old.iter().find(|entry| entry.digest == line.digest);
            let shared = found.map(|entry| Arc::clone(&entry.shared));
            shared.filter(|shared| !shared.over.is_cancelled())
        };
        let new = lines.into_iter().map(|line| {
            let shared = same(&line);
            Entry::new(line, shared)
        });
        let new: Vec<Arc<Entry>> = new.collect();
        for entry in old.iter().filter(|old| !new.iter().any(|new| new.digest == old.digest)) {
            entry.shared.over.cancel();
        }
        *self.table.write().unwrap_or_else(PoisonError::into_inner) = new;
        self.expire();
    }

    /// Ends what was opened with tokens that have expired since.
    pub(super) fn expire(&self) {
        let now = self.clock.now();
        for entry in self.table().iter().filter(|entry| entry.expired(now)) {
            entry.shared.over.cancel();
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

/// The token was good until a while ago.
pub(super) fn expired(entry: &Entry) -> Error {
    let time = entry.expires.and_then(|at| i64::try_from(at.as_micros()).ok());
    let time = time
        .and_then(chrono::DateTime::from_timestamp_micros)
        .map(|time| time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true))
        .unwrap_or_default();
    refused(format!("the token {:?} has expired at {time}", entry.name))
}

/// No token that counts.
pub(super) fn refused(message: impl Into<String>) -> Error {
    Error::new(Code::Unauthenticated, message)
}

#[cfg(test)]
mod tests {
    use super::super::rights::Right;
    use super::*;
    use futures::FutureExt as _;
    use sheaf_retry::{ManualClock, Retryable as _};
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
            assert_eq!(error.code(), Code::Unauthenticated);
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
        let over = |grant: &Grant| grant.is_over();
        let why = |grant: &Grant| grant.clone().lost().now_or_never().unwrap();
        // The same token with a later end goes on.
        let later = format!("{A}\nb {B} expires=1970-01-01T00:00:20Z\n");
        tokens.replace(token_file::read(&write(&folder, &later)).unwrap());
        clock.advance(Duration::from_secs(15));
        tokens.expire();
        assert!(!over(&a) && !over(&b));
        clock.advance(Duration::from_secs(5));
        tokens.expire();
        assert!(!over(&a) && over(&b));
        assert!(why(&b).message().contains("has expired"), "{}", why(&b));
        tokens.replace(token_file::read(&write(&folder, &format!("b {B}\n"))).unwrap());
        assert!(over(&a));
        assert!(why(&a).message().contains("taken back"), "{}", why(&a));
        // Renewed after it had expired: new calls are let in.
        assert!(!over(&tokens.authorize(&bearer_of(B)).unwrap()));
    }

    #[test]
    fn a_changed_right_counts_at_once_and_ends_only_what_it_had_opened() {
        let (tokens, _, folder) = tokens(&format!("a {A} allow=b:rw\n"));
        let exchange = |text: &str| {
            tokens.replace(token_file::read(&write(&folder, text)).unwrap());
        };
        let grant = || tokens.authorize(&bearer_of(A)).unwrap();
        let (reads, writes) = (grant(), grant());
        reads.require("b", Right::Read).unwrap();
        writes.require("b", Right::Write).unwrap();
        let denied = reads.require("b", Right::Change).unwrap_err();
        assert_eq!(denied.code(), Code::PermissionDenied);
        for part in ["\"a\"", "\"b\"", "lacks x", "allow=b:rw"] {
            assert!(denied.message().contains(part), "{part} in {denied}");
        }
        let lost = |grant: &Grant| grant.clone().lost().now_or_never();
        assert!(lost(&reads).is_none(), "what was refused is not lost later");
        exchange(&format!("a {A} allow=b:r\n"));
        let error = lost(&writes).unwrap();
        assert_eq!(error.code(), Code::PermissionDenied);
        assert!(error.message().contains("lacks w"), "{error}");
        assert!(lost(&reads).is_none());
        // Of calls under way and of new ones alike.
        for grant in [&reads, &grant()] {
            assert!(grant.require("b", Right::Write).is_err());
        }
        exchange(&format!("a {A}\n"));
        for grant in [&reads, &grant()] {
            grant.require("c", Right::Change).unwrap();
        }
        exchange(&format!("a {A} allow=b:r\n"));
        assert!(lost(&reads).unwrap().message().contains("namespace \"c\""));
    }

    #[tokio::test]
    async fn a_call_that_waits_hears_of_a_right_taken_back() {
        let (tokens, _, folder) = tokens(&format!("a {A} allow=b:rw\n"));
        let grant = tokens.authorize(&bearer_of(A)).unwrap();
        grant.require("b", Right::Write).unwrap();
        let mut lost = std::pin::pin!(grant.lost());
        assert!(lost.as_mut().now_or_never().is_none());
        tokens.replace(token_file::read(&write(&folder, &format!("a {A} allow=b:r\n"))).unwrap());
        assert_eq!(lost.await.code(), Code::PermissionDenied);
    }

    #[test]
    fn calls_of_one_token_are_counted_together_and_over_a_new_file() {
        let (tokens, _, folder) = tokens(&format!("a {A} calls=2\n{B}\n"));
        let grant = || tokens.authorize(&bearer_of(A)).unwrap();
        let (one, two) = (grant().begin().unwrap(), grant().begin().unwrap());
        assert_eq!(grant().begin().err(), Some(2));
        assert!(tokens.authorize(&bearer_of(B)).unwrap().begin().is_ok());
        drop(one);
        tokens.replace(token_file::read(&write(&folder, &format!("a {A} calls=1\n"))).unwrap());
        assert_eq!(grant().begin().err(), Some(1), "the other call goes on");
        drop(two);
        let again = grant().begin().unwrap();
        assert!(grant().begin().is_err());
        drop(again);
        assert!(Grant::default().begin().is_ok());
    }
}
