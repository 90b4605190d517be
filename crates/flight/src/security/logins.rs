//! Logins: a name and a password for a token that goes with every call after it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use http::HeaderMap;
use ring::rand::{SecureRandom as _, SystemRandom};
use sheaf_retry::{Code, SharedClock};

use super::grant::Grant;
use super::token_file::digest;
use super::tokens::{Entry, bearer, expired, refused};
use crate::error::{Error, invalid};

/// Header with the token of a handshake, as Arrow's own clients send it.
pub(crate) const TOKEN_HEADER: &str = "auth-token-bin";

/// Base64 as gRPC writes binary headers and browsers write passwords: some pad
/// it, some do not.
pub(crate) const BASE64: base64::engine::GeneralPurpose = base64::engine::GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    base64::engine::GeneralPurposeConfig::new()
        .with_decode_padding_mode(base64::engine::DecodePaddingMode::Indifferent),
);

/// How long a login counts unless [`Logins::lifetime`] says otherwise.
const LIFETIME: Duration = Duration::from_secs(12 * 60 * 60);
/// Most logins at once.
const MAX_LOGINS: usize = 10_000;
/// Most logins of one name.
const MAX_LOGINS_OF_NAME: usize = 100;
/// Longest name and longest password, in bytes.
const MAX_CREDENTIAL: usize = 4 << 10;
/// Random bytes of a token: nobody guesses it.
const TOKEN_BYTES: usize = 32;

/// Knows whose passwords are right.
///
/// 1. `verify` answers in the time of one honest check, whether it knows the
///    name or not: else the time tells which names there are.
/// 2. It may be asked as often as a client likes: to slow down who guesses is
///    its part.
#[async_trait]
pub trait Passwords: Send + Sync + 'static {
    /// Whether `password` is the one of `name`.
    ///
    /// # Errors
    /// Where that cannot be found out now; the login fails with this error.
    async fn verify(&self, name: &str, password: &str) -> Result<bool, Error>;
}

/// Lets in who has shown a name and a password in Flight's Handshake, as
/// pyarrow's `authenticate_basic_token` and the older `ClientAuthHandler` do.
///
/// The handshake has them in the header `authorization: Basic …` or as the
/// protobuf message `BasicAuth`. Its answer has a token, in the header
/// `authorization: Bearer …` and for `BasicAuth` as a message too. The client
/// sends it with every call in `authorization: Bearer …` or in
/// `auth-token-bin`. Only digests of tokens are kept. At most 100 logins
/// of one name are kept, and 10,000 in all: who logs in beyond the one
/// displaces its own oldest login, beyond the other the oldest of the name that
/// has most. Cheap to clone; clones share everything.
///
/// ```
/// use std::sync::Arc;
///
/// use async_trait::async_trait;
/// use sheaf_flight::{Error, Logins, Passwords, Security};
/// use sheaf_retry::SystemClock;
///
/// struct One;
///
/// #[async_trait]
/// impl Passwords for One {
///     async fn verify(&self, name: &str, password: &str) -> Result<bool, Error> {
///         // A real one compares hashes.
///         Ok(name == "ada" && password == "analytical engine")
///     }
/// }
///
/// let logins = Logins::new(Arc::new(One), SystemClock::shared());
/// let security = Security::none().with_logins(logins.clone());
/// assert!(security.has_tokens());
/// // Ada has a new password: her old logins count no more.
/// logins.end("ada");
/// ```
#[derive(Clone)]
pub struct Logins {
    passwords: Arc<dyn Passwords>,
    clock: SharedClock,
    lifetime: Duration,
    table: Arc<Mutex<Table>>,
}

/// Logins by the digests of their tokens.
type Table = HashMap<[u8; 32], Arc<Entry>>;

impl Logins {
    /// Nobody is logged in yet; a login counts for twelve hours.
    pub fn new(passwords: Arc<dyn Passwords>, clock: SharedClock) -> Self {
        Logins { passwords, clock, lifetime: LIFETIME, table: Arc::default() }
    }

    /// Sets how long a login counts; calls that are under way then end.
    #[must_use]
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// Ends the logins of a name, with the calls that they let in.
    pub fn end(&self, name: &str) {
        self.table().retain(|_, entry| {
            let stays = entry.name != name;
            if !stays {
                entry.shared.over.cancel();
            }
            stays
        });
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Every change is one insertion or removal: a panic between them harms nothing.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A token for who knows the password.
    pub(crate) async fn login(&self, name: &str, password: &str) -> Result<String, Error> {
        for (what, text) in [("name", name), ("password", password)] {
            if text.len() > MAX_CREDENTIAL {
                return Err(Error::new(
                    Code::LimitExceeded,
                    format!(
                        "the {what} has {} bytes, at most {MAX_CREDENTIAL} are allowed",
                        text.len()
                    ),
                ));
            }
        }
        if name.is_empty() {
            return Err(invalid("the name to log in with is empty"));
        }
        if !self.passwords.verify(name, password).await? {
            return Err(refused("the name or the password is wrong"));
        }
        let token = random_token()?;
        self.keep(name, digest(token.as_bytes()));
        Ok(token)
    }

    fn keep(&self, name: &str, digest: [u8; 32]) {
        let now = self.clock.now();
        let mut table = self.table();
        if table.len() >= MAX_LOGINS {
            table.retain(|_, entry| !entry.expired(now));
        }
        if table.values().filter(|entry| entry.name == name).count() >= MAX_LOGINS_OF_NAME {
            displace(&mut table, name);
        } else if table.len() >= MAX_LOGINS {
            let mut counts: HashMap<&str, usize> = HashMap::new();
            table.values().for_each(|entry| *counts.entry(&entry.name).or_default() += 1);
            let most = counts.into_iter().max_by_key(|&(_, count)| count);
            if let Some(most) = most.map(|(name, _)| name.to_owned()) {
                displace(&mut table, &most);
            }
        }
        table.insert(digest, Entry::of_login(name, digest, now.plus(self.lifetime)));
    }

    /// Whether the headers carry the token of a login that counts.
    pub(super) fn authorize(&self, headers: &HeaderMap) -> Result<Grant, Error> {
        let presented = match headers.get(TOKEN_HEADER).filter(|value| !value.is_empty()) {
            Some(value) => BASE64
                .decode(value.as_bytes())
                .map_err(|_| refused(format!("the header `{TOKEN_HEADER}` is no base64")))?,
            None => bearer(headers).map_err(|error| without(&error))?.to_vec(),
        };
        let found = self.table().get(&digest(&presented)).cloned();
        let entry = found.ok_or_else(|| {
            refused("the token is not accepted here: it is of no login, or of one that has ended")
        })?;
        match entry.expired(self.clock.now()) {
            true => Err(expired(&entry)),
            false => Ok(Grant::new(entry, Arc::clone(&self.clock))),
        }
    }
}

impl std::fmt::Debug for Logins {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Logins").field("open", &self.table().len()).finish_non_exhaustive()
    }
}

/// Ends the oldest login of a name.
fn displace(table: &mut Table, name: &str) {
    let own = table.iter().filter(|(_, entry)| entry.name == name);
    let oldest = own.min_by_key(|(_, entry)| entry.expires).map(|(digest, _)| *digest);
    if let Some(removed) = oldest.and_then(|digest| table.remove(&digest)) {
        removed.shared.over.cancel();
    }
}

/// Says how a token is had.
fn without(error: &Error) -> Error {
    refused(format!("{}; Flight's Handshake has one for a name and a password", error.message()))
}

fn random_token() -> Result<String, Error> {
    let mut bytes = [0; TOKEN_BYTES];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| Error::new(Code::Unavailable, "the system gives no random numbers now"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use http::header::AUTHORIZATION;
    use sheaf_retry::{ManualClock, Retryable as _, Timestamp};

    use super::*;

    struct One;

    #[async_trait]
    impl Passwords for One {
        async fn verify(&self, name: &str, password: &str) -> Result<bool, Error> {
            Ok(name != "mallory" && password == "right")
        }
    }

    fn logins() -> (Logins, Arc<ManualClock>) {
        let clock = ManualClock::new(Timestamp::EPOCH);
        (Logins::new(Arc::new(One), clock.clone()), clock)
    }

    fn both_ways(token: &str) -> [HeaderMap; 2] {
        let header = |name: &str, value: String| {
            HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())])
        };
        let bearer = header(AUTHORIZATION.as_str(), format!("Bearer {token}"));
        [bearer, header(TOKEN_HEADER, BASE64.encode(token))]
    }

    #[tokio::test]
    async fn only_the_token_of_a_login_lets_in() {
        let (logins, clock) = logins();
        for (name, password) in [("ada", "wrong"), ("mallory", "right"), ("ada", "")] {
            let error = logins.login(name, password).await.unwrap_err();
            assert_eq!(error.message(), "the name or the password is wrong");
            assert_eq!(error.code(), Code::Unauthenticated);
        }
        assert_eq!(logins.login("", "right").await.unwrap_err().code(), Code::InvalidArgument);
        let long = "x".repeat(MAX_CREDENTIAL + 1);
        assert_eq!(logins.login(&long, "right").await.unwrap_err().code(), Code::LimitExceeded);

        let (ada, bob) = (logins.login("ada", "right").await, logins.login("bob", "right").await);
        let (ada, bob) = (ada.unwrap(), bob.unwrap());
        for (token, name) in [(&ada, "ada"), (&bob, "bob")] {
            for headers in both_ways(token) {
                assert_eq!(logins.authorize(&headers).unwrap().name(), Some(name));
            }
        }
        for headers in both_ways("of nobody") {
            let error = logins.authorize(&headers).unwrap_err();
            assert!(error.message().contains("of no login"), "{error}");
        }
        let error = logins.authorize(&HeaderMap::new()).unwrap_err();
        assert!(error.message().contains("there is no token"), "{error}");
        assert!(!format!("{logins:?}").contains(&ada));

        clock.advance(LIFETIME);
        let error = logins.authorize(&both_ways(&ada)[0]).unwrap_err();
        assert!(error.message().contains("\"ada\" has expired at 1970-01-01T12:00:00Z"), "{error}");
    }

    #[tokio::test]
    async fn what_a_login_let_in_ends_with_it() {
        let (logins, clock) = logins();
        let grant = async |name: &str| {
            let token = logins.login(name, "right").await.unwrap();
            logins.authorize(&both_ways(&token)[0]).unwrap()
        };
        let (ada, bob) = (grant("ada").await, grant("bob").await);
        logins.end("ada");
        assert!(ada.lost().await.message().contains("taken back"));
        assert!(futures::FutureExt::now_or_never(bob.clone().lost()).is_none());
        let lapsed = tokio::spawn(async move { bob.lost().await });
        while clock.sleepers() == 0 {
            tokio::task::yield_now().await;
        }
        clock.advance(LIFETIME);
        assert!(lapsed.await.unwrap().message().contains("\"bob\" has expired"));
    }

    #[tokio::test]
    async fn who_logs_in_for_ever_displaces_itself() {
        let (logins, clock) = logins();
        let bob = logins.login("bob", "right").await.unwrap();
        let first = logins.login("ada", "right").await.unwrap();
        clock.advance(Duration::from_secs(1));
        let second = logins.login("ada", "right").await.unwrap();
        for number in 2..MAX_LOGINS_OF_NAME {
            logins.keep("ada", digest(&number.to_le_bytes()));
        }
        let grant = logins.authorize(&both_ways(&first)[0]).unwrap();
        clock.advance(Duration::from_secs(1));
        let last = logins.login("ada", "right").await.unwrap();
        assert_eq!(logins.table().len(), MAX_LOGINS_OF_NAME + 1);
        assert!(logins.authorize(&both_ways(&first)[0]).is_err() && grant.is_over());
        for token in [bob, second, last] {
            assert!(logins.authorize(&both_ways(&token)[0]).is_ok());
        }
    }

    #[tokio::test]
    async fn where_there_is_no_more_room_the_name_with_most_logins_loses_one() {
        let (logins, clock) = logins();
        let bob = logins.login("bob", "right").await.unwrap();
        let first = logins.login("ada", "right").await.unwrap();
        clock.advance(Duration::from_secs(1));
        let second = logins.login("ada", "right").await.unwrap();
        // Names of one login each.
        let full = MAX_LOGINS - 3;
        (0..full)
            .for_each(|number| logins.keep(&format!("n{number}"), digest(&number.to_le_bytes())));
        let eve = logins.login("eve", "right").await.unwrap();
        assert_eq!(logins.table().len(), MAX_LOGINS);
        assert!(logins.authorize(&both_ways(&first)[0]).is_err());
        for token in [bob, second, eve] {
            assert!(logins.authorize(&both_ways(&token)[0]).is_ok());
        }
        clock.advance(LIFETIME);
        logins.login("eve", "right").await.unwrap();
        assert_eq!(logins.table().len(), 1);
    }
}
