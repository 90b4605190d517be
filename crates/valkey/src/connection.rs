//! Single connections to Valkey: how they are made, and made anew where one is silent.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use fred::interfaces::ClientLike as _;
use fred::prelude::{Builder, Client, ErrorKind, ReconnectPolicy, TcpConfig};
use fred::types::ConnectHandle;
use fred::types::config::{ReconnectError, UnresponsiveConfig};
use sheaf_coordinator::Error;
use sheaf_retry::Code;

use crate::config::Settings;
use crate::error::{backend, code};

/// First and longest delay before a lost connection is made again.
const RECONNECT_MS: (u32, u32) = (50, 1_000);
/// Longest time in which a connection is made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Between two looks for a connection that is silent.
const LOOK: Duration = Duration::from_secs(1);
/// Random part of that delay.
const RECONNECT_JITTER_MS: u32 = 50;
/// Commands of one connection that wait for their answer.
const MAX_BUFFERED: usize = 10_000;
/// A command may be sent this often: every script may run again.
const ATTEMPTS: u32 = 5;

/// A client whose connection ends with it, also where nobody says goodbye.
#[derive(Debug)]
pub(crate) struct Connection {
    client: Client,
    task: ConnectHandle,
}

impl std::ops::Deref for Connection {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // It holds the socket, and would go on to connect anew.
        self.task.abort();
    }
}

impl Connection {
    /// A connection for commands that block: its silence is watched by whoever waits on it.
    pub(crate) async fn blocking(settings: &Settings) -> Result<Self, Error> {
        init(&builder(settings, None)?, settings).await
    }
}

/// The connections for calls. Each stands in a place of its own, another one after it.
///
/// The client finds a silent connection by its last command without an answer, so
/// never where commands keep coming. Here a command that was not answered in time
/// counts: every connection that has answered nothing since it was sent is replaced,
/// also one that was asked nothing. What made one silent, as a restarted firewall,
/// does it to its siblings, and each of them would cost another call its time.
pub(crate) struct Connections {
    builder: Builder,
    settings: Settings,
    places: Vec<Place>,
    /// Calls so far.
    calls: AtomicU64,
}

#[derive(Debug)]
struct Place {
    current: RwLock<Arc<Connection>>,
    /// Calls that had been sent when this place answered last.
    answered: AtomicU64,
    replacing: AtomicBool,
}

impl Place {
    fn current(&self) -> Arc<Connection> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl std::fmt::Debug for Connections {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connections").field("places", &self.places).finish_non_exhaustive()
    }
}

/// A call that is on its way.
pub(crate) struct Sent<'a> {
    connections: &'a Arc<Connections>,
    at: usize,
    /// Calls up to this one.
    number: u64,
}

impl Connections {
    pub(crate) async fn connect(settings: &Settings) -> Result<Arc<Self>, Error> {
        let builder = builder(settings, Some(settings.timeout))?;
        let mut places = Vec::new();
        for _ in 0..settings.connections.max(1) {
            places.push(Place {
                current: RwLock::new(Arc::new(init(&builder, settings).await?)),
                answered: AtomicU64::new(0),
                replacing: AtomicBool::new(false),
            });
        }
        let settings = settings.clone();
        Ok(Arc::new(Connections { builder, settings, places, calls: AtomicU64::new(0) }))
    }

    /// The connections that stand now.
    pub(crate) fn current(&self) -> impl Iterator<Item = Arc<Connection>> + '_ {
        self.places.iter().map(Place::current)
    }

    /// The connection for the next call, whose end has to be told: in turn, without
    /// those that are known to be of no use just now.
    pub(crate) fn enter(self: &Arc<Self>) -> (Sent<'_>, Arc<Connection>) {
        let number = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        let count = self.places.len();
        let from = usize::try_from(number).unwrap_or_default() % count;
        let sent = |at| Sent { connections: self, at, number };
        for at in (from..from + count).map(|at| at % count) {
            let place = &self.places[at];
            let current = place.current();
            if current.is_connected() && !place.replacing.load(Ordering::Relaxed) {
                return (sent(at), current);
            }
        }
        (sent(from), self.places[from].current())
    }

    /// Replaces all that have answered nothing since a call of that number was sent.
    fn suspect(self: &Arc<Self>, number: u64) {
        for (at, place) in self.places.iter().enumerate() {
            if place.answered.load(Ordering::Relaxed) < number
                && !place.replacing.swap(true, Ordering::AcqRel)
            {
                tokio::spawn(Arc::clone(self).replace(at));
            }
        }
    }

    /// Gives up what is there as soon as there is something else.
    async fn replace(self: Arc<Self>, at: usize) {
        let place = &self.places[at];
        match init(&self.builder, &self.settings).await {
            Ok(connection) => {
                tracing::info!(address = %self.settings.address, "a silent connection is replaced");
                *place.current.write().unwrap_or_else(PoisonError::into_inner) =
                    Arc::new(connection);
                // Calls that wait on the one before say nothing about this one.
                self.answered(at);
            }
            // The next call that waits in vain tries again.
            Err(error) => tracing::debug!(%error, "a silent connection is not replaced"),
        }
        place.replacing.store(false, Ordering::Release);
    }

    fn answered(&self, at: usize) {
        let calls = self.calls.load(Ordering::Relaxed);
        self.places[at].answered.fetch_max(calls, Ordering::Relaxed);
    }
}

impl Sent<'_> {
    /// Tells how the call ended.
    pub(crate) fn ended(self, error: Option<&fred::error::Error>) {
        if error.is_none_or(|error| *error.kind() != ErrorKind::Timeout) {
            self.connections.answered(self.at);
        } else {
            self.connections.suspect(self.number);
        }
    }
}

fn builder(settings: &Settings, timeout: Option<Duration>) -> Result<Builder, Error> {
    let mut config = settings.address.config().clone();
    if let Some(username) = &settings.username {
        config.username = Some(username.clone());
    }
    if let Some(password) = &settings.password {
        config.password = Some(password.clone());
    }
    if let (true, Some(tls)) = (config.uses_rustls(), &settings.tls) {
        config.tls = Some(tls.clone().into());
    }
    let mut builder = Builder::from_config(config);
    let (first, longest) = RECONNECT_MS;
    let mut policy = ReconnectPolicy::new_exponential(0, first, longest, 2);
    policy.set_jitter(RECONNECT_JITTER_MS);
    builder.set_policy(policy);
    builder.with_performance_config(|performance| {
        performance.default_command_timeout = timeout.unwrap_or_default();
    });
    builder.with_connection_config(|connection| {
        connection.connection_timeout = settings.timeout.min(CONNECT_TIMEOUT);
        connection.internal_command_timeout = settings.timeout;
        connection.max_command_attempts = ATTEMPTS;
        connection.max_command_buffer_len = MAX_BUFFERED;
        connection.tcp = TcpConfig { nodelay: Some(true), ..TcpConfig::default() };
        connection.unresponsive =
            UnresponsiveConfig { max_timeout: timeout, interval: LOOK.min(settings.timeout / 4) };
        connection.reconnect_errors = vec![
            ReconnectError::ClusterDown,
            ReconnectError::Loading,
            ReconnectError::MasterDown,
            ReconnectError::ReadOnly,
        ];
    });
    Ok(builder)
}

/// Connects, or gives up in time.
async fn init(builder: &Builder, settings: &Settings) -> Result<Connection, Error> {
    let operation = || format!("connect to {}", settings.address);
    let client = builder.build().map_err(|error| backend(operation(), error))?;
    let listener = client.clone();
    let mut connected = std::pin::pin!(listener.wait_for_connect());
    // Listens before there is something to hear. As `init` of the client does it,
    // but the task is known also where this comes to nothing.
    let _not_yet = futures::poll!(connected.as_mut());
    let task = client.connect();
    let connection = Connection { client, task };
    let patience = settings.timeout.max(CONNECT_TIMEOUT);
    match tokio::time::timeout(patience, connected).await {
        Ok(Ok(())) => Ok(connection),
        Ok(Err(error)) => {
            let code = match code(&error) {
                Code::DeadlineExceeded | Code::Internal => Code::Unavailable,
                code => code,
            };
            Err(Error::Backend { operation: operation(), code, source: Some(Box::new(error)) })
        }
        Err(_) => Err(Error::Backend {
            operation: format!("{}: no answer in {patience:?}", operation()),
            code: Code::Unavailable,
            source: None,
        }),
    }
}
