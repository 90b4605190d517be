//! The coordinator itself: what calls share, and the contract.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use fred::prelude::Value;
use futures::FutureExt as _;
use futures::stream::BoxStream;
use prometheus_client::registry::Registry;
use sheaf_coordinator::engine::Config as EngineConfig;
use sheaf_coordinator::{
    Answer, BatchSpec, Claim, ClaimRequest, Control, ControlReply, Coordinator, Error, Event,
    Extended, Extension, Query, Registered, SettleReply, SettleRequest, WatchFilter,
};
use sheaf_retry::{RetryPolicy, SharedClock};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::address::Address;
use crate::checks;
use crate::config::{Durability, Settings};
use crate::group::{self, Group, Run};
use crate::link::{Answer as Parts, Link};
use crate::listen;
use crate::metrics::Metrics;
use crate::pack;
use crate::parking::Parking;
use crate::schedule::Schedule;
use crate::script::Library;
use crate::turns::Turns;
use crate::watch::Watchers;
use crate::work::{Wanted, bytes, number};

/// What every answer says: the server's time in microseconds, and its run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Noted {
    pub(crate) now: u64,
    pub(crate) run: u64,
}

/// What calls and tasks share.
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) link: Arc<Link>,
    pub(crate) clock: SharedClock,
    pub(crate) parking: Arc<Parking>,
    pub(crate) schedule: Schedule,
    pub(crate) metrics: Metrics,
    pub(crate) watchers: Watchers,
    pub(crate) entering: Group<Vec<BatchSpec>, Vec<Registered>>,
    pub(crate) together: Group<Wanted, SettleReply>,
    pub(crate) turns: Turns,
    /// Names this process among those that listen.
    name: String,
    closed: AtomicBool,
    close: Notify,
}

impl Shared {
    /// Takes what stands before every answer: three numbers, and what there is to count.
    pub(crate) fn noted(&self, answer: &mut Parts) -> Noted {
        let mut next = || answer.next().map_or(0, |value| number(&value));
        let (now, due, run) = (next(), next(), next());
        self.schedule.note(now, due);
        self.metrics.told(&answer.next().map(bytes).unwrap_or_default());
        Noted { now, run }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(crate) async fn closed(&self) {
        let notified = self.close.notified();
        if !self.is_closed() {
            notified.await;
        }
    }

    /// A key that only this process listens to.
    pub(crate) fn own_key(&self) -> String {
        self.link.key(&format!("wp:{}", self.name))
    }

    /// Makes the listener look at what it has to listen to.
    pub(crate) async fn poke(&self) -> Result<(), Error> {
        let key = self.own_key();
        let arguments = vec![key.as_str().into(), Value::Integer(0), "1".into()];
        self.link.command_of("ZADD", arguments).await?;
        // Taken off at once, unless this process ends now.
        let arguments = vec![key.as_str().into(), Value::Integer(60)];
        self.link.command_of("EXPIRE", arguments).await.map(drop)
    }
}

/// How to connect: see [`ValkeyCoordinator::builder`].
#[derive(Debug)]
pub struct Builder {
    pub(crate) settings: Settings,
}

impl Builder {
    /// The user of an ACL; also part of a URL.
    #[must_use]
    pub fn username(mut self, username: impl Into<String>) -> Self {
        self.settings.username = Some(username.into());
        self
    }

    /// The password; also part of a URL.
    #[must_use]
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.settings.password = Some(password.into());
        self
    }

    /// Trust and identity of connections over TLS; without it, the machine's
    /// certificates are trusted.
    #[must_use]
    pub fn tls(mut self, tls: rustls::ClientConfig) -> Self {
        self.settings.tls = Some(tls);
        self
    }

    /// What all keys begin with, in braces: coordinators of different names
    /// know nothing of each other. Default `sheaf`.
    #[must_use]
    pub fn namespace(mut self, name: impl Into<String>) -> Self {
        self.settings.namespace = name.into();
        self
    }

    /// When an answer counts. Default [`Durability::Async`].
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.settings.durability = durability;
        self
    }

    /// Connections that calls share, from 1; one more listens for work.
    /// Default 4.
    #[must_use]
    pub fn connections(mut self, connections: usize) -> Self {
        self.settings.connections = connections;
        self
    }

    /// How long a call waits for its answer. Default 5 s, from 100 ms.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.settings.timeout = timeout;
        self
    }

    /// How often a waiting claim looks although nothing woke it. Default 5 s.
    #[must_use]
    pub fn poll_interval(mut self, interval: Duration) -> Self {
        self.settings.poll = interval;
        self
    }

    /// The policy of batches that bring none.
    #[must_use]
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.settings.engine.retry = policy;
        self
    }

    /// All limits and times, as the embedded coordinator has them. Every
    /// process applies its own to what it does itself: give all the same.
    #[must_use]
    pub fn limits(mut self, config: EngineConfig) -> Self {
        self.settings.engine = config;
        self
    }

    /// Changes the scripts, part by part: for tests that plant mistakes, or
    /// run two versions beside each other.
    #[doc(hidden)]
    #[must_use]
    pub fn edit_scripts(mut self, edit: impl Fn(&str) -> String) -> Self {
        self.settings.library = Arc::new(Library::edited(edit));
        self
    }

    /// Makes blocks of fewer batches, so that tests have them everywhere; the scripts
    /// have a number of their own for those that are taken.
    #[doc(hidden)]
    #[must_use]
    pub fn smallest_block(mut self, batches: usize) -> Self {
        self.settings.smallest_block = batches;
        self
    }

    /// Connects, checks the server, and starts what runs beside the calls.
    ///
    /// # Errors
    /// `Invalid` for settings that make no sense; `Backend` where the server
    /// does not answer, does not let this user in, is too old, could forget
    /// batches by itself, or holds those of a newer version; the message says
    /// what to do.
    pub async fn connect(self, clock: SharedClock) -> Result<ValkeyCoordinator, Error> {
        let settings = self.settings;
        settings.check()?;
        let link = Link::connect(&settings, pack::settings(&settings.engine)).await?;
        checks::server(&link, &settings).await?;
        let (entering, registers) = Group::new();
        let (together, works) = Group::new();
        let shared = Arc::new(Shared {
            link,
            entering,
            turns: Turns::default(),
            together,
            parking: Arc::default(),
            schedule: Schedule::new(clock.clone()),
            metrics: Metrics::new(),
            watchers: Watchers::default(),
            name: uuid::Uuid::new_v4().simple().to_string(),
            closed: AtomicBool::new(false),
            close: Notify::new(),
            clock,
            settings,
        });
        shared.sweep(Vec::new()).await?;
        let tasks = vec![
            tokio::spawn(listen::listener(Arc::clone(&shared))),
            tokio::spawn(listen::sweeper(Arc::clone(&shared))),
            tokio::spawn(group::lead(registers, registering(&shared))),
            tokio::spawn(group::lead(works, working(&shared))),
        ];
        Ok(ValkeyCoordinator { shared, tasks: Mutex::new(tasks) })
    }
}

fn registering(shared: &Arc<Shared>) -> Run<Vec<BatchSpec>, Vec<Registered>> {
    let shared = Arc::clone(shared);
    Box::new(move |calls| {
        let shared = Arc::clone(&shared);
        async move { shared.register_calls(&calls).await }.boxed()
    })
}

fn working(shared: &Arc<Shared>) -> Run<Wanted, SettleReply> {
    let shared = Arc::clone(shared);
    Box::new(move |calls| {
        let shared = Arc::clone(&shared);
        async move { shared.work_all(&calls).await }.boxed()
    })
}

/// A [`Coordinator`] whose state is in Valkey: any number of processes with
/// one of these over the same server and namespace are one coordinator.
///
/// See the [crate](crate) for what it promises and how it is laid out.
pub struct ValkeyCoordinator {
    pub(crate) shared: Arc<Shared>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl std::fmt::Debug for ValkeyCoordinator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ValkeyCoordinator")
            .field("address", &self.shared.settings.address)
            .finish_non_exhaustive()
    }
}

impl ValkeyCoordinator {
    /// Begins with an address, in one of the forms of [`Address`].
    ///
    /// # Errors
    /// As [`Address::parse`].
    pub fn builder(address: &str) -> Result<Builder, Error> {
        Ok(Builder { settings: Settings::new(Address::parse(address)?) })
    }

    /// Begins with an address that was read before.
    pub fn at(address: Address) -> Builder {
        Builder { settings: Settings::new(address) }
    }

    /// Adds the metrics `sheaf_coordinator_*` to a registry.
    pub fn register_metrics(&self, registry: &mut Registry) {
        self.shared.metrics.register(registry);
    }

    /// Whether a connection stands now.
    pub fn is_connected(&self) -> bool {
        self.shared.link.is_connected()
    }

    /// Where it is, without user and password.
    pub fn address(&self) -> &Address {
        &self.shared.settings.address
    }

    /// Answers waiting claims with nothing and ends the connections; the
    /// state stays in Valkey. The second call does nothing.
    pub async fn close(&self) {
        self.shared.closed.store(true, Ordering::Release);
        self.shared.close.notify_waiters();
        self.shared.parking.wake_all();
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        for task in tasks {
            // A task that was waiting for the server is not waited for.
            task.abort();
        }
        self.shared.link.close().await;
    }
}

impl Drop for ValkeyCoordinator {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::Release);
        self.shared.close.notify_waiters();
        for task in self.tasks.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            task.abort();
        }
    }
}

#[async_trait]
impl Coordinator for ValkeyCoordinator {
    async fn register(&self, specs: Vec<BatchSpec>) -> Result<Vec<Registered>, Error> {
        self.shared.timed("register", self.shared.register(specs)).await
    }

    async fn claim(&self, request: ClaimRequest) -> Result<Claim, Error> {
        self.shared.counted("claim", self.shared.claim(&request)).await
    }

    async fn settle(&self, request: SettleRequest) -> Result<SettleReply, Error> {
        self.shared.counted("settle", self.shared.settle_and_claim(request)).await
    }

    async fn extend(&self, leases: Vec<Extension>) -> Result<Vec<Extended>, Error> {
        self.shared.timed("extend", self.shared.extend(&leases)).await
    }

    async fn query(&self, query: Query) -> Result<Answer, Error> {
        self.shared.timed("query", Box::pin(self.shared.query(query))).await
    }

    async fn control(&self, control: Control) -> Result<ControlReply, Error> {
        self.shared.timed("control", self.shared.control(control)).await
    }

    async fn watch(&self, filter: WatchFilter) -> Result<BoxStream<'static, Event>, Error> {
        crate::watch::watch(&self.shared, filter).await
    }
}
