//! Puts a router together and finds what contradicts itself.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use prometheus_client::registry::Registry;
use sheaf_retry::{SharedClock, SystemClock};

use super::session_options::SessionCheck;
use super::sessions::Sessions;
use super::{Action, Core, FlightRouter, Namespace, actions};
use crate::budget::MemoryBudget;
use crate::error::{Error, invalid};
use crate::fallback::Fallback;
use crate::handler::{ActionHandler, Handler};
use crate::health::Health;
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::wire::Memory;

/// Longest name of a namespace.
const MAX_NAMESPACE: usize = 64;

/// Collects the parts of a [`FlightRouter`].
#[derive(Default)]
pub struct RouterBuilder {
    handlers: Vec<(String, Arc<dyn Handler>, Option<usize>)>,
    fallback: Option<Arc<dyn Fallback>>,
    actions: Vec<Arc<dyn ActionHandler>>,
    peers: Option<&'static str>,
    standard: Option<Vec<&'static str>>,
    session_check: Option<SessionCheck>,
    limits: Limits,
    clock: Option<SharedClock>,
    memory: Option<Arc<dyn MemoryBudget>>,
    metrics: Metrics,
}

impl RouterBuilder {
    /// Serves a namespace: 1 to 64 characters of `[a-z0-9_-]`.
    #[must_use]
    pub fn handler(mut self, namespace: impl Into<String>, handler: Arc<dyn Handler>) -> Self {
        self.handlers.push((namespace.into(), handler, None));
        self
    }

    /// Serves a namespace that takes messages of at most `max_message_bytes`,
    /// which may lower the limit of the server and not raise it.
    #[must_use]
    pub fn handler_with_limit(
        mut self,
        namespace: impl Into<String>,
        handler: Arc<dyn Handler>,
        max_message_bytes: usize,
    ) -> Self {
        self.handlers.push((namespace.into(), handler, Some(max_message_bytes)));
        self
    }

    /// Serves what no namespace claims, instead of refusing it.
    #[must_use]
    pub fn fallback(mut self, fallback: Arc<dyn Fallback>) -> Self {
        self.fallback = Some(fallback);
        self
    }

    /// Answers only these of the standard actions: `CancelFlightInfo`,
    /// `CloseSession`, `GetSessionOptions`, `HealthCheck`,
    /// `RenewFlightEndpoint`, `SetSessionOptions`. By default all of them.
    #[must_use]
    pub fn standard_actions(mut self, names: impl IntoIterator<Item = &'static str>) -> Self {
        self.standard = Some(names.into_iter().collect());
        self
    }

    /// Decides which options a session may have; by default any. It is not
    /// asked when an option is taken away.
    #[must_use]
    pub fn session_check(mut self, check: SessionCheck) -> Self {
        self.session_check = Some(check);
        self
    }

    /// Answers actions; may be called for several handlers.
    #[must_use]
    pub fn actions(mut self, handler: Arc<dyn ActionHandler>) -> Self {
        self.actions.push(handler);
        self
    }

    /// Counts calls with the header [`PEER_HEADER`](crate::PEER_HEADER) apart from
    /// those of clients, up to 256 of them: they are taken while the server drains,
    /// and a drain does not wait for them. For servers that work for each other: where
    /// there are tokens, one needs [`Right::Write`](crate::Right) in this namespace.
    #[must_use]
    pub fn peers(mut self, namespace: &'static str) -> Self {
        self.peers = Some(namespace);
        self
    }

    /// What the server takes at most.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Where time comes from; by default the machine's clock.
    #[must_use]
    pub fn clock(mut self, clock: SharedClock) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Counts the memory of the server, which is part of a larger whole.
    ///
    /// An eighth of what it has to spare is taken for the windows of
    /// connections, 512 MiB at the most. Bodies of messages are counted as they
    /// come, and stay counted for as long as somebody has them. What is spare
    /// keeps, for up to 15 seconds, the memory of large bodies that are gone for
    /// the next ones, since new memory costs more than copying into it.
    ///
    /// Without a budget nothing of this is counted, and what is kept is 48 MiB at
    /// the most.
    #[must_use]
    pub fn memory(mut self, budget: Arc<dyn MemoryBudget>) -> Self {
        self.memory = Some(budget);
        self
    }

    /// Registers the metrics `sheaf_flight_*`.
    #[must_use]
    pub fn metrics(self, registry: &mut Registry) -> Self {
        self.metrics.register(registry);
        self
    }

    /// Checks everything and makes the router.
    ///
    /// # Errors
    /// `invalid_argument`: limits that refuse everything, a bad or duplicate
    /// namespace, a standard action that there is not, or an action that two
    /// handlers claim; all of it at once.
    pub fn build(self) -> Result<FlightRouter, Error> {
        let mut wrong = Vec::new();
        if let Err(error) = self.limits.validate() {
            wrong.push(error.message().to_owned());
        }
        let namespaces = namespaces(self.handlers, self.limits.max_message_bytes, &mut wrong);
        let standard = standard(self.standard, &mut wrong);
        let actions = table(standard, self.actions, &mut wrong);
        if !wrong.is_empty() {
            return Err(invalid(wrong.join("; ")));
        }
        let clock = self.clock.unwrap_or_else(SystemClock::shared);
        let sessions =
            Sessions::new(clock.clone(), self.limits.max_sessions, self.limits.session_idle)
                .checked(self.session_check);
        let memory = Memory::of_server(self.memory, clock.clone());
        let core = Core {
            namespaces,
            fallback: self.fallback,
            actions,
            peers: self.peers,
            limits: self.limits,
            clock,
            metrics: self.metrics,
            health: Health::default(),
            memory,
            sessions,
        };
        Ok(FlightRouter { core: Arc::new(core) })
    }
}

impl std::fmt::Debug for RouterBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let namespaces: Vec<&str> = self.handlers.iter().map(|(name, ..)| name.as_str()).collect();
        f.debug_struct("RouterBuilder")
            .field("namespaces", &namespaces)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// Whether a text can be the name of a namespace.
pub(crate) fn is_namespace(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c);
    (1..=MAX_NAMESPACE).contains(&name.len()) && name.chars().all(allowed)
}

fn namespaces(
    handlers: Vec<(String, Arc<dyn Handler>, Option<usize>)>,
    server_limit: usize,
    wrong: &mut Vec<String>,
) -> BTreeMap<String, Namespace> {
    let mut namespaces = BTreeMap::new();
    for (name, handler, limit) in handlers {
        if !is_namespace(&name) {
            wrong.push(format!("namespace {name:?} is not 1 to {MAX_NAMESPACE} of [a-z0-9_-]"));
        }
        let max_message_bytes = limit.unwrap_or(server_limit).min(server_limit);
        match namespaces.entry(name) {
            Entry::Vacant(free) => {
                free.insert(Namespace { handler, max_message_bytes });
            }
            Entry::Occupied(taken) => {
                wrong.push(format!("namespace {:?} has two handlers", taken.key()));
            }
        }
    }
    namespaces
}

/// The standard actions that are answered.
fn standard(
    names: Option<Vec<&'static str>>,
    wrong: &mut Vec<String>,
) -> Vec<(&'static str, &'static str)> {
    let Some(names) = names else { return actions::STANDARD.to_vec() };
    let known = |name: &str| actions::STANDARD.iter().any(|(known, _)| *known == name);
    for name in names.iter().filter(|name| !known(name)) {
        let all = actions::STANDARD.map(|(name, _)| name).join(", ");
        wrong.push(format!("{name:?} is no standard action; there are: {all}"));
    }
    actions::STANDARD.into_iter().filter(|(name, _)| names.contains(name)).collect()
}

fn table(
    standard: Vec<(&'static str, &'static str)>,
    handlers: Vec<Arc<dyn ActionHandler>>,
    wrong: &mut Vec<String>,
) -> BTreeMap<&'static str, Action> {
    let mut table: BTreeMap<_, _> = standard
        .into_iter()
        .map(|(name, description)| (name, Action { description, handler: None }))
        .collect();
    for handler in handlers {
        for (name, description) in handler.actions() {
            let action = Action { description, handler: Some(Arc::clone(&handler)) };
            if table.insert(name, action).is_some() {
                wrong.push(format!("action {name:?} is there twice"));
            }
        }
    }
    table
}
