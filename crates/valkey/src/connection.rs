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

/// Where a connection for calls stands, and another one after it.
///
/// The client finds a silent connection by its last command without an answer, so
/// never where commands keep coming. Here a command that was not answered in time
/// counts, while nothing else was answered since it was sent either: such a
/// connection is replaced, for calls that come would wait in vain as well.
pub(crate) struct Place {
    builder: Builder,
    settings: Settings,
    current: RwLock<Arc<Connection>>,
    /// Answers so far; what else counts is only whether there were more.
    answers: AtomicU64,
    replacing: AtomicBool,
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Place").field("answers", &self.answers).finish_non_exhaustive()
    }
}

/// A call that is on its way.
pub(crate) struct Sent<'a> {
    place: &'a Arc<Place>,
    /// Answers before it.
    answers: u64,
}

impl Place {
    pub(crate) async fn connect(settings: &Settings) -> Result<Arc<Self>, Error> {
        let builder = builder(settings, Some(settings.timeout))?;
        let connection = Arc::new(init(&builder, settings).await?);
        Ok(Arc::new(Place {
            builder,
            settings: settings.clone(),
            current: RwLock::new(connection),
            answers: AtomicU64::new(0),
            replacing: AtomicBool::new(false),
        }))
    }

    pub(crate) fn current(&self) -> Arc<Connection> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The connection for a call, whose end has to be told.
    pub(crate) fn enter(self: &Arc<Self>) -> (Sent<'_>, Arc<Connection>) {
        (Sent { place: self, answers: self.answers.load(Ordering::Relaxed) }, self.current())
    }

    /// Gives up what is there as soon as there is something else.
    async fn replace(self: Arc<Self>) {
        match init(&self.builder, &self.settings).await {
            Ok(connection) => {
                tracing::info!(address = %self.settings.address, "a silent connection is replaced");
                let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
                *current = Arc::new(connection);
                // Calls that wait on the one before say nothing about this one.
                self.answers.fetch_add(1, Ordering::Relaxed);
            }
            // The next call that waits in vain tries again.
            Err(error) => tracing::debug!(%error, "a silent connection is not replaced"),
        }
        self.replacing.store(false, Ordering::Release);
    }
}

impl Sent<'_> {
    /// Tells how the call ended.
    pub(crate) fn ended(self, error: Option<&fred::error::Error>) {
        let Sent { place, answers } = self;
        if error.is_none_or(|error| *error.kind() != ErrorKind::Timeout) {
            place.answers.fetch_add(1, Ordering::Relaxed);
        } else if place.answers.load(Ordering::Relaxed) == answers
            && !place.replacing.swap(true, Ordering::AcqRel)
        {
            tokio::spawn(Arc::clone(place).replace());
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
