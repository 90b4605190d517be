//! Signals that tell a process to stop.

use sheaf_retry::Code;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::error::ComponentError;

/// What stops a component.
pub(super) struct Signals {
    pub(super) stop: CancellationToken,
    task: Option<JoinHandle<()>>,
}

impl Signals {
    /// SIGTERM and SIGINT.
    pub(super) fn listen() -> Result<Self, ComponentError> {
        let of = |kind| {
            signal(kind).map_err(|error| {
                ComponentError::new(Code::Io, "signals of this process cannot be received")
                    .because(error)
            })
        };
        let (terminate, interrupt) = (of(SignalKind::terminate())?, of(SignalKind::interrupt())?);
        let stop = CancellationToken::new();
        let task = tokio::spawn(wait(terminate, interrupt, stop.clone()));
        Ok(Signals { stop, task: Some(task) })
    }

    /// Whoever has this token.
    pub(super) fn of(stop: CancellationToken) -> Self {
        Signals { stop, task: None }
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

async fn wait(mut terminate: Signal, mut interrupt: Signal, stop: CancellationToken) {
    let name = tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    };
    tracing::info!(signal = name, "stopping");
    stop.cancel();
}
