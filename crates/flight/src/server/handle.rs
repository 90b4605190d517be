//! A running server, and how it ends.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::gate::{CutCall, Gate};
use super::web::WebActions;
use crate::health::Health;
use crate::router::Core;

/// How long connections may take at least to close once their calls are over:
/// what was answered last is still on its way.
const CLOSE_TIME: Duration = Duration::from_secs(1);

/// A running server. Dropping it closes the port and every connection at once.
pub struct ServerHandle {
    address: SocketAddr,
    core: Arc<Core>,
    gate: Arc<Gate>,
    shutdown: CancellationToken,
    kill: CancellationToken,
    task: Option<JoinHandle<()>>,
    web: WebActions,
}

/// How a drain ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Calls that were not over when the grace period was; longest first.
    pub cut: Vec<CutCall>,
}

impl ServerHandle {
    pub(super) fn new(
        address: SocketAddr,
        core: Arc<Core>,
        gate: Arc<Gate>,
        shutdown: CancellationToken,
        kill: CancellationToken,
        task: JoinHandle<()>,
        web: WebActions,
    ) -> Self {
        ServerHandle { address, core, gate, shutdown, kill, task: Some(task), web }
    }

    /// Where the server listens, with the port that it got.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// `grpc://ADDRESS:PORT`, or `grpc+tls://…` with TLS, as clients take it.
    pub fn uri(&self) -> String {
        let scheme = if self.gate.security.has_tls() { "grpc+tls" } else { "grpc" };
        format!("{scheme}://{}", self.address)
    }

    /// Its actions as JSON, for another port of the process.
    pub fn web_actions(&self) -> WebActions {
        self.web.clone()
    }

    /// The health that this server shows.
    pub fn health(&self) -> Health {
        self.core.health.clone()
    }

    /// Ends the server in good order: health turns to not serving, new calls
    /// are refused with `draining`, and those under way get `grace` to end.
    /// Then they are cut (their callers see `draining`), the port is closed, and
    /// connections that do not close in what is left of `grace`, but at least a
    /// second, are closed for them.
    ///
    /// Dropping the future closes everything at once.
    pub async fn drain(mut self, grace: Duration) -> Drained {
        self.core.health.drain().await;
        self.gate.start_drain();
        let clock = Arc::clone(&self.core.clock);
        let until = clock.elapsed().saturating_add(grace);
        tokio::select! {
            biased;
            () = self.gate.wait_until_idle() => {}
            () = clock.sleep(grace) => {}
        }
        let cut = self.gate.cut();
        if !cut.is_empty() {
            tracing::warn!(calls = cut.len(), "calls were cut at the end of the grace period");
        }
        self.shutdown.cancel();
        if let Some(mut task) = self.task.take() {
            let rest = until.saturating_sub(clock.elapsed()).max(CLOSE_TIME);
            let closed = tokio::select! {
                biased;
                _ = &mut task => true,
                () = clock.sleep(rest) => false,
            };
            if !closed {
                self.kill.cancel();
                if let Err(error) = task.await {
                    tracing::error!(%error, "the Flight server ended badly");
                }
            }
        }
        Drained { cut }
    }
}

impl Drop for ServerHandle {
    fn drop(&mut self) {
        self.shutdown.cancel();
        self.kill.cancel();
    }
}

impl std::fmt::Debug for ServerHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerHandle").field("address", &self.address).finish_non_exhaustive()
    }
}
