//! The action `ServerInfo`: what a server is, for whoever looks after it.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sheaf_flight::{ActionHandler, CallContext, Error, Need, Right, invalid};
use sheaf_retry::{Code, SharedClock};
use sheaf_terminal::rfc3339;

use crate::config::{Config, Mode};

/// What a server says of itself in answer to the action `ServerInfo {}`.
///
/// Fields are only ever added; a reader leaves out what it does not know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerInfo {
    /// Its version, such as `0.1.0`.
    pub version: String,
    /// Its mode: `all`, `flight` or `coordinator`.
    pub mode: String,
    /// Its time of day in RFC 3339, when it answered.
    pub time: String,
    /// How long it has been up, in milliseconds.
    pub uptime_ms: u64,
    /// Its process on its machine.
    pub pid: u32,
    /// Where its admin port is, on its machine.
    pub admin: String,
    /// Format of data directories that it writes.
    pub format: u64,
    /// Version of coordinator records that it writes.
    pub records: u32,
    /// Who remembers the work: `embedded`, `none`, or an address such as
    /// `valkey://HOST:PORT`; empty from a server that does not tell.
    #[serde(default)]
    pub coordinator: String,
}

/// Where a token needs the right to read for it.
pub(super) const NAMESPACE: &str = "server";

/// Name of the action.
pub(crate) const SERVER_INFO: &str = "ServerInfo";

/// Serves the action.
pub(super) struct InfoActions {
    mode: Mode,
    coordinator: String,
    admin: String,
    clock: SharedClock,
    started: Duration,
}

impl InfoActions {
    /// For a server that starts now.
    pub(super) fn new(config: &Config, admin: String, clock: SharedClock) -> Self {
        let (mode, coordinator) = (config.mode(), config.backend().to_string());
        let started = clock.elapsed();
        InfoActions { mode, coordinator, admin, clock, started }
    }

    fn info(&self) -> ServerInfo {
        let uptime = self.clock.elapsed().saturating_sub(self.started);
        ServerInfo {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            mode: self.mode.to_string(),
            time: rfc3339(self.clock.now()),
            uptime_ms: u64::try_from(uptime.as_millis()).unwrap_or(u64::MAX),
            pid: std::process::id(),
            admin: self.admin.clone(),
            format: sheaf_store::Survey::FORMAT,
            records: sheaf_coordinator::engine::RECORD_VERSION,
            coordinator: self.coordinator.clone(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[async_trait]
impl ActionHandler for InfoActions {
    fn actions(&self) -> Vec<(&'static str, &'static str)> {
        vec![(SERVER_INFO, "Version, mode, time of day and formats of the server, as JSON")]
    }

    fn needs(&self, _action: &str) -> Need {
        Need::One(NAMESPACE, Right::Read)
    }

    async fn call(&self, _: &CallContext, action: &str, body: Bytes) -> Result<Vec<Bytes>, Error> {
        if action != SERVER_INFO {
            return Err(Error::new(Code::Unimplemented, format!("no action {action:?}")));
        }
        if !body.trim_ascii().is_empty() {
            let Nothing {} = serde_json::from_slice(&body)
                .map_err(|error| invalid(format!("{SERVER_INFO}: {error}")))?;
        }
        let bytes = serde_json::to_vec(&self.info())
            .map_err(|error| Error::new(Code::Internal, format!("no answer: {error}")))?;
        Ok(vec![bytes.into()])
    }
}
