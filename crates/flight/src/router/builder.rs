//! Puts a router together and finds what contradicts itself.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use prometheus_client::registry::Registry;
use sheaf_retry::{SharedClock, SystemClock};

use super::sessions::Sessions;
use super::{Action, Core, FlightRouter, Namespace, actions};
use crate::error::{Error, invalid};
use crate::handler::{ActionHandler, Handler};
use crate::health::Health;
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::wire::{Memory, Spare};

/// Longest name of a namespace.
const MAX_NAMESPACE: usize = 64;

/// Collects the parts of a [`FlightRouter`].
#[derive(Default)]
pub struct RouterBuilder {
    handlers: Vec<(String, Arc<dyn Handler>, Option<usize>)>,
    actions: Vec<Arc<dyn ActionHandler>>,
    limits: Limits,
    clock: Option<SharedClock>,
    spare_memory: Option<Spare>,
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

    /// Answers actions; may be called for several handlers.
    #[must_use]
    pub fn actions(mut self, handler: Arc<dyn ActionHandler>) -> Self {
        self.actions.push(handler);
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

    /// Tells how many bytes of its memory the server does not use at the moment.
    ///
    /// Memory of large bodies that are gone waits there for the next ones, for
    /// up to 15 seconds, since new memory costs more than copying into it.
    /// Without this it is 48 MiB at the most.
    #[must_use]
    pub fn spare_memory(mut self, spare: Arc<dyn Fn() -> u64 + Send + Sync>) -> Self {
        self.spare_memory = Some(spare);
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
    /// namespace, or an action that two handlers claim; all of it at once.
    pub fn build(self) -> Result<FlightRouter, Error> {
        let mut wrong = Vec::new();
        if let Err(error) = self.limits.validate() {
            wrong.push(error.message().to_owned());
        }
        let namespaces = namespaces(self.handlers, self.limits.max_message_bytes, &mut wrong);
        let actions = table(self.actions, &mut wrong);
        if !wrong.is_empty() {
            return Err(invalid(wrong.join("; ")));
        }
        let clock = self.clock.unwrap_or_else(SystemClock::shared);
        let sessions =
            Sessions::new(clock.clone(), self.limits.max_sessions, self.limits.session_idle);
        let memory = Memory::of_server(self.spare_memory, clock.clone());
        let core = Core {
            namespaces,
            actions,
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

fn table(
    handlers: Vec<Arc<dyn ActionHandler>>,
    wrong: &mut Vec<String>,
) -> BTreeMap<&'static str, Action> {
    let mut table: BTreeMap<_, _> = actions::STANDARD
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
