//! The security of a server: opened once, shared by its ports.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::time::Duration;

use http::HeaderMap;
use rustls::time_provider::TimeProvider as _;
use sheaf_retry::{Code, SharedClock, Timestamp};
use tokio::net::TcpStream;

use super::accept::{Protocol, SecureStream, handshake};
use super::certificates::{Pem, ServerSide, Time, server_side};
use super::clients::Clients;
use super::grant::Grant;
use super::logins::Logins;
use super::token_file::{self, Line};
use super::token_words::TokenLimits;
use super::tokens::Tokens;
use crate::error::{Error, invalid};

/// How often files and expiries are looked at: what was taken back counts no
/// longer than this.
pub const RELOAD_INTERVAL: Duration = Duration::from_secs(1);
/// How often open connections are asked whether their certificate has expired.
const RECHECK: Duration = Duration::from_secs(60);

/// Where a server has its certificates and tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecurityFiles {
    /// Certificate chain in PEM, the server's own first: turns TLS on.
    pub certificate: Option<PathBuf>,
    /// Its private key in PEM; not readable for every user of the machine.
    pub key: Option<PathBuf>,
    /// CA certificates in PEM: clients must have a certificate of one of them.
    pub client_ca: Option<PathBuf>,
    /// Tokens, one a line: `[NAME] TOKEN [expires=TIME] [allow=NAMESPACE:RIGHTS,…]
    /// [calls=N] [quota=SIZE]`, with `sha256:HEX` in place of a token that is not
    /// to stand there; `#` begins a comment line. Rights are those of [`Right`](super::Right).
    pub tokens: Option<PathBuf>,
}

/// TLS and tokens of a server. Cheap to clone; clones share everything.
///
/// The files are read again every [`RELOAD_INTERVAL`]. A file that cannot be
/// used leaves what was there and is logged once, by its name. Connections go
/// on when certificates change, but for those whose client certificate is not
/// accepted any more; calls go on but for those whose token was taken out, has
/// expired or lost a right that they needed.
#[derive(Clone, Debug, Default)]
pub struct Security {
    inner: Option<Arc<Inner>>,
    logins: Option<Logins>,
}

#[derive(Debug)]
struct Inner {
    files: SecurityFiles,
    clock: SharedClock,
    tls: Option<RwLock<Arc<ServerSide>>>,
    tokens: Option<Tokens>,
    clients: Arc<Clients>,
    seen: Mutex<Seen>,
}

/// What counts of a line of the token file: digest, expiry, name and limits.
type Facts = ([u8; 32], Option<Timestamp>, String, TokenLimits);

/// What the last look at the files found.
#[derive(Default)]
struct Seen {
    pem: Option<Pem>,
    tokens: Option<Vec<Facts>>,
    tls_problem: String,
    token_problem: String,
    checked: Duration,
}

impl std::fmt::Debug for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seen").finish_non_exhaustive()
    }
}

impl Security {
    /// No TLS and no tokens: everything is open and readable.
    pub fn none() -> Self {
        Security::default()
    }

    /// Reads the files and keeps an eye on them. Call it on a tokio runtime.
    ///
    /// # Errors
    /// `invalid_argument` and the codes of files: one that cannot be used, by
    /// its name; a certificate without a key or the other way round;
    /// `failed_precondition`: a key or token file is open to everybody, or
    /// this is no tokio runtime.
    pub fn open(files: SecurityFiles, clock: SharedClock) -> Result<Self, Error> {
        if files == SecurityFiles::default() {
            return Ok(Security::none());
        }
        let runtime = tokio::runtime::Handle::try_current().map_err(|_| {
            Error::new(Code::FailedPrecondition, "security can only be opened on a tokio runtime")
        })?;
        if files.certificate.is_some() != files.key.is_some() {
            return Err(invalid("a certificate and its private key are given together"));
        }
        if files.client_ca.is_some() && files.certificate.is_none() {
            return Err(invalid("a client CA needs a certificate of the server"));
        }
        let mut seen = Seen { checked: clock.elapsed(), ..Seen::default() };
        let tls = match files.pem()? {
            Some(pem) => {
                let side = server_side(&pem, &clock)?;
                seen.pem = Some(pem);
                Some(RwLock::new(Arc::new(side)))
            }
            None => None,
        };
        let tokens = match &files.tokens {
            Some(path) => Some(Tokens::open(path.clone(), Arc::clone(&clock))?),
            None => None,
        };
        let inner = Inner {
            files,
            clock: Arc::clone(&clock),
            tls,
            tokens,
            clients: Arc::default(),
            seen: Mutex::new(seen),
        };
        let inner = Arc::new(inner);
        runtime.spawn(keep_current(Arc::downgrade(&inner), clock));
        Ok(Security { inner: Some(inner), logins: None })
    }

    /// Lets in who logs in too, beside who has a token of the file.
    #[must_use]
    pub fn with_logins(mut self, logins: Logins) -> Self {
        self.logins = Some(logins);
        self
    }

    /// Who gives out tokens for names and passwords.
    pub(crate) fn logins(&self) -> Option<&Logins> {
        self.logins.as_ref()
    }

    /// Whether connections are encrypted.
    pub fn has_tls(&self) -> bool {
        self.inner.as_ref().is_some_and(|inner| inner.tls.is_some())
    }

    /// Whether calls need a token, of the file or of a login.
    pub fn has_tokens(&self) -> bool {
        self.tokens().is_some() || self.logins.is_some()
    }

    fn tokens(&self) -> Option<&Tokens> {
        self.inner.as_ref()?.tokens.as_ref()
    }

    /// Reads the files again now. Blocks for as long as that takes.
    pub fn reload(&self) {
        if let Some(inner) = &self.inner {
            inner.look();
        }
    }

    /// Whether the headers of a request let it in.
    ///
    /// # Errors
    /// `unauthenticated`, saying whether the token is missing, wrong or expired.
    pub fn authorize(&self, headers: &HeaderMap) -> Result<Grant, Error> {
        match (self.tokens(), &self.logins) {
            (None, None) => Ok(Grant::default()),
            (Some(tokens), None) => tokens.authorize(headers),
            (None, Some(logins)) => logins.authorize(headers),
            (Some(tokens), Some(logins)) => {
                logins.authorize(headers).or_else(|_| tokens.authorize(headers))
            }
        }
    }

    /// Makes a connection of what was accepted: with TLS after its handshake,
    /// which may take ten seconds, else at once.
    ///
    /// # Errors
    /// Why there was no handshake; the client has been told as far as TLS
    /// allows, and the connection is closed.
    pub async fn accept(
        &self,
        stream: TcpStream,
        protocol: Protocol,
    ) -> Result<SecureStream, Error> {
        let Some((inner, side)) = self.side() else { return Ok(SecureStream::plain(stream)) };
        let config = match protocol {
            Protocol::Grpc => Arc::clone(&side.grpc),
            Protocol::Http => Arc::clone(&side.http),
        };
        let stream = handshake(config, stream, protocol, &inner.clock).await?;
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let listed = (!chain.is_empty()).then(|| {
            let chain = chain.iter().map(|one| one.clone().into_owned()).collect();
            inner.clients.add(chain)
        });
        // The CA may have been exchanged while the hands were shaken.
        if let Some(now) = inner.side().filter(|now| !Arc::ptr_eq(now, &side))
            && let Some(clients) = &now.clients
        {
            inner.recheck(clients.as_ref());
        }
        Ok(SecureStream::tls(stream, listed))
    }

    fn side(&self) -> Option<(&Inner, Arc<ServerSide>)> {
        let inner = self.inner.as_deref()?;
        Some((inner, inner.side()?))
    }
}

impl SecurityFiles {
    fn pem(&self) -> Result<Option<Pem>, Error> {
        match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => {
                let identity = Some((certificate.as_path(), key.as_path()));
                Pem::read(identity, self.client_ca.as_deref(), "client CA file").map(Some)
            }
            _ => Ok(None),
        }
    }
}

/// Looks at the files until nobody uses them any more.
async fn keep_current(inner: Weak<Inner>, clock: SharedClock) {
    loop {
        clock.sleep(RELOAD_INTERVAL).await;
        let Some(inner) = inner.upgrade() else { return };
        // Reading may block, on a network file system for long.
        if tokio::task::spawn_blocking(move || inner.look()).await.is_err() {
            tracing::error!("a look at certificates and tokens ended badly");
        }
    }
}

impl Inner {
    fn side(&self) -> Option<Arc<ServerSide>> {
        let side = self.tls.as_ref()?.read().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(&side))
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self) {
        // Held throughout: two looks at once could put an old file over a new one.
        let mut seen = self.seen();
        if let Some(tls) = &self.tls {
            let problem = self.look_at_certificates(tls, &mut seen).err();
            tell(problem, &mut seen.tls_problem, "certificates");
        }
        if let Some(tokens) = &self.tokens {
            let problem = self.look_at_tokens(tokens, &mut seen).err();
            tell(problem, &mut seen.token_problem, "tokens");
        }
    }

    fn look_at_certificates(
        &self,
        tls: &RwLock<Arc<ServerSide>>,
        seen: &mut Seen,
    ) -> Result<(), Error> {
        let (pem, now) = (self.files.pem()?, self.clock.elapsed());
        let changed = pem != seen.pem;
        if changed && let Some(pem) = &pem {
            let side = Arc::new(server_side(pem, &self.clock)?);
            *tls.write().unwrap_or_else(PoisonError::into_inner) = side;
            tracing::info!("new certificates are in use");
            seen.pem = Some(pem.clone());
        }
        if (changed || now.saturating_sub(seen.checked) >= RECHECK)
            && let Some(clients) = self.side().and_then(|side| side.clients.clone())
        {
            seen.checked = now;
            self.recheck(clients.as_ref());
        }
        Ok(())
    }

    fn recheck(&self, clients: &dyn rustls::server::danger::ClientCertVerifier) {
        let Some(now) = Time(Arc::clone(&self.clock)).current_time() else { return };
        match self.clients.check(clients, now) {
            0 => {}
            ended => tracing::warn!(ended, "connections ended: their certificate does not count"),
        }
    }

    fn look_at_tokens(&self, tokens: &Tokens, seen: &mut Seen) -> Result<(), Error> {
        // Whatever is wrong with the file, what has expired ends.
        tokens.expire();
        let lines = token_file::read(&tokens.path)?;
        let facts =
            |line: &Line| (line.digest, line.expires, line.name.clone(), line.limits.clone());
        let now: Vec<_> = lines.iter().map(facts).collect();
        if seen.tokens.as_ref() == Some(&now) {
            return Ok(());
        }
        tokens.replace(lines);
        // The first look is at what was opened.
        if seen.tokens.replace(now).is_some() {
            tracing::info!(tokens = tokens.len(), "the token file was read again");
        }
        Ok(())
    }
}

/// Logs a problem when it is new.
fn tell(problem: Option<Error>, known: &mut String, what: &str) {
    let problem = problem.map(|error| error.message().to_owned()).unwrap_or_default();
    if problem != *known {
        match problem.as_str() {
            "" => tracing::info!("the files of the {what} can be used again"),
            problem => tracing::error!(problem, "the old {what} stay in use"),
        }
        *known = problem;
    }
}
