//! Connections to Valkey, and calls of scripts over them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use fred::interfaces::ClientLike as _;
use fred::prelude::{Client, Value};
use fred::types::{ClusterHash, CustomCommand};
use sheaf_coordinator::{Error, Fence};
use sheaf_retry::Code;

use crate::config::{Durability, Settings};
use crate::connection::Connections;
use crate::error::{backend, unexpected};
use crate::pack::Packed;
use crate::script::{Function, Library};

/// The library is loaded this often for one call: it may be forgotten again
/// before the call comes.
const MAX_LOADS: u32 = 3;

/// A few connections that are shared by all calls.
#[derive(Debug)]
pub(crate) struct Link {
    connections: Arc<Connections>,
    loading: tokio::sync::Mutex<()>,
    slot: u16,
    meta_key: String,
    library: Arc<Library>,
    settings: Bytes,
    /// The greatest token that was seen.
    seen: AtomicU64,
    durability: Durability,
    timeout: Duration,
}

/// The calls of a script, with the answer's parts behind `ok`.
pub(crate) type Answer = std::vec::IntoIter<Value>;

impl Link {
    pub(crate) async fn connect(settings: &Settings, packed: Bytes) -> Result<Arc<Self>, Error> {
        let connections = Connections::connect(settings).await?;
        let meta_key = format!("{}m", settings.prefix());
        Ok(Arc::new(Link {
            connections,
            loading: tokio::sync::Mutex::default(),
            slot: redis_slot(&meta_key),
            meta_key,
            library: Arc::clone(&settings.library),
            settings: packed,
            seen: AtomicU64::new(0),
            durability: settings.durability,
            timeout: settings.timeout,
        }))
    }

    pub(crate) fn key(&self, rest: &str) -> String {
        format!("{}{rest}", self.prefix())
    }

    /// Remembers a token that was given out: a server that lost its state goes on
    /// above it.
    pub(crate) fn saw(&self, fence: Fence) {
        self.seen.fetch_max(fence.0, Ordering::Relaxed);
    }

    fn settings_and_token(&self) -> Bytes {
        let mut packed = Packed::default();
        packed.raw(&self.settings).fence(Fence(self.seen.load(Ordering::Relaxed)));
        packed.done()
    }

    /// The functions that are called.
    pub(crate) fn library(&self) -> &Library {
        &self.library
    }

    /// What all keys begin with.
    pub(crate) fn prefix(&self) -> &str {
        self.meta_key.strip_suffix('m').unwrap_or_default()
    }

    pub(crate) fn slot(&self) -> u16 {
        self.slot
    }

    /// Calls a script; an answer that something was refused is an error of the
    /// caller's making: see [`Refusal`].
    ///
    /// # Errors
    /// Of the connection and of the server.
    pub(crate) async fn call(
        &self,
        function: &Function,
        arguments: Vec<Bytes>,
        durable: bool,
    ) -> Result<Result<Answer, Refusal>, Error> {
        let mut all: Vec<Value> = Vec::with_capacity(arguments.len() + 4);
        all.push(function.called.as_str().into());
        all.push(Value::Integer(1));
        all.push(self.meta_key.as_str().into());
        all.push(Value::Bytes(self.settings_and_token()));
        all.extend(arguments.into_iter().map(Value::Bytes));
        let durable = durable && self.durability != Durability::Async;
        let (call, client) = self.connections.enter();
        let mut answer = Box::pin(self.send(&client, function, all.clone(), durable)).await;
        for _ in 0..MAX_LOADS {
            let unknown = |error: &fred::error::Error| error.details().contains(NO_FUNCTION);
            if !answer.as_ref().is_err_and(unknown) {
                break;
            }
            // Flushed, or a server that does not know it yet.
            if let Err(error) = Box::pin(self.load(&client)).await {
                call.ended(Some(&error));
                return Err(backend("load the library of scripts into Valkey", error));
            }
            answer = Box::pin(self.send(&client, function, all.clone(), durable)).await;
        }
        call.ended(answer.as_ref().err());
        match answer {
            Ok(value) => parts(value).ok_or_else(|| unexpected(function.name)),
            Err(error) if is_not_durable(&error) => Err(not_durable(self.durability, &error)),
            Err(error) => Err(backend(format!("call {:?} on Valkey", function.name), error)),
        }
    }

    async fn send(
        &self,
        client: &Client,
        function: &Function,
        arguments: Vec<Value>,
        durable: bool,
    ) -> Result<Value, fred::error::Error> {
        if durable {
            return Box::pin(self.send_and_wait(client, function, arguments)).await;
        }
        client.custom(self.command("FCALL"), arguments).await
    }

    async fn send_and_wait(
        &self,
        client: &Client,
        function: &Function,
        arguments: Vec<Value>,
    ) -> Result<Value, fred::error::Error> {
        // On the same connection: it waits for what was written over it.
        let pipeline = client.pipeline();
        let () = pipeline.custom(self.command("FCALL"), arguments).await?;
        let mark = vec![MARK.into(), Value::Integer(1), self.key("mk").into()];
        let () = pipeline.custom(self.command("EVAL"), mark).await?;
        let millis = i64::try_from(self.timeout.as_millis() / 2).unwrap_or(i64::MAX);
        let (wait, numbers): (_, &[i64]) = match self.durability {
            Durability::Replicated => ("WAIT", &[1, millis]),
            Durability::Async | Durability::Fsynced => ("WAITAOF", &[1, 0, millis]),
        };
        let numbers: Vec<Value> = numbers.iter().map(|number| Value::Integer(*number)).collect();
        let () = pipeline.custom(self.command(wait), numbers).await?;
        let mut answers = pipeline.try_all::<Value>().await.into_iter();
        let mut next = || answers.next().unwrap_or(Ok(Value::Null));
        let (answer, marked, waited) = (next()?, next(), next());
        let _marked = marked?;
        let reached = match waited? {
            Value::Integer(replicas) => replicas,
            Value::Array(counts) => counts.first().and_then(Value::as_i64).unwrap_or(0),
            _ => 0,
        };
        if reached < 1 {
            let details = format!("{NOT_DURABLE}{}", function.name);
            return Err(fred::error::Error::new(fred::error::ErrorKind::Unknown, details));
        }
        Ok(answer)
    }

    /// Makes the library known to the server that has the keys.
    async fn load(&self, client: &Client) -> Result<(), fred::error::Error> {
        let Ok(_loading) = self.loading.try_lock() else {
            // Another call does it just now: the server compiles it once.
            drop(self.loading.lock().await);
            return Ok(());
        };
        let arguments: Vec<Value> = vec!["LOAD".into(), self.library.text.as_str().into()];
        let loaded: Result<Value, _> = client.custom(self.command("FUNCTION"), arguments).await;
        match loaded {
            Err(error) if !error.details().contains("already exists") => Err(error),
            _ => Ok(()),
        }
    }

    fn command(&self, name: &'static str) -> CustomCommand {
        CustomCommand::new_static(name, ClusterHash::Custom(self.slot), false)
    }

    /// Any other command on the keys of this coordinator.
    ///
    /// # Errors
    /// As [`Link::call`].
    pub(crate) async fn command_of(
        &self,
        name: &'static str,
        arguments: Vec<Value>,
    ) -> Result<Value, Error> {
        let (call, client) = self.connections.enter();
        let sent = client.custom(self.command(name), arguments).await;
        call.ended(sent.as_ref().err());
        sent.map_err(|error| backend(format!("ask Valkey with {name}"), error))
    }

    /// Whether any connection stands.
    pub(crate) fn is_connected(&self) -> bool {
        self.connections.current().any(|connection| connection.is_connected())
    }

    pub(crate) async fn close(&self) {
        for connection in self.connections.current() {
            if let Err(error) = connection.quit().await {
                tracing::debug!(%error, "a connection to Valkey did not end in order");
            }
        }
    }
}

/// Waits wait for what their connection wrote last. A call that finds its work
/// done, as one that is sent again, writes nothing, and would be answered before
/// what it found is durable: this is written after each call that waits.
const MARK: &str = "#!lua flags=allow-oom\nreturn redis.call('SET', KEYS[1], '')";

/// What a server says that does not know the library.
const NO_FUNCTION: &str = "Function not found";

/// Marks our own error among those of the client.
const NOT_DURABLE: &str = "not durable: ";

fn is_not_durable(error: &fred::error::Error) -> bool {
    error.details().starts_with(NOT_DURABLE)
}

fn not_durable(durability: Durability, error: &fred::error::Error) -> Error {
    let name = error.details().trim_start_matches(NOT_DURABLE);
    let problem = match durability {
        Durability::Replicated => "no replica has it yet; look at `INFO replication`",
        Durability::Async | Durability::Fsynced => {
            "it is not yet on disk; look at the disk of Valkey and at `appendonly`"
        }
    };
    Error::Unavailable {
        problem: format!("has written {name:?}, but {problem}; sent again it is answered alike"),
        code: Code::Unavailable,
    }
}

/// What a script refused, before it changed anything: a word and its details.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) word: String,
    pub(crate) details: Vec<Value>,
}

impl Refusal {
    pub(crate) fn text(&self, at: usize) -> String {
        let value = self.details.get(at).and_then(Value::as_string);
        value.unwrap_or_default()
    }

    pub(crate) fn bytes(&self, at: usize) -> Bytes {
        let value = self.details.get(at).cloned();
        value.and_then(Value::into_bytes).unwrap_or_default()
    }

    pub(crate) fn number(&self, at: usize) -> u64 {
        self.text(at).parse().unwrap_or(0)
    }
}

fn parts(value: Value) -> Option<Result<Answer, Refusal>> {
    let Value::Array(parts) = value else { return None };
    let mut parts = parts.into_iter();
    match parts.next()?.as_string()?.as_str() {
        "ok" => Some(Ok(parts)),
        "err" => {
            let word = parts.next()?.as_string()?;
            Some(Err(Refusal { word, details: parts.collect() }))
        }
        _ => None,
    }
}

fn redis_slot(key: &str) -> u16 {
    match ClusterHash::from(key.as_bytes()) {
        ClusterHash::Custom(slot) => slot,
        _ => 0,
    }
}
