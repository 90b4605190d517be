//! Waits end before the server does.

use std::sync::Arc;
use std::time::Duration;

use sheaf_coordinator::Error;
use sheaf_retry::Code;
use tokio::sync::watch;

/// Ends what waits for work or events, so that a server that is to stop does
/// not have to sit out its callers' waits.
///
/// Clones share one state. After [`Waits::end`], claims that wait are dropped,
/// having taken nothing, and streams end; their callers see `draining` and try
/// again elsewhere or later. Calls that do not wait are answered as ever, so
/// that work under way can be settled.
///
/// ```
/// let waits = sheaf_rpc::Waits::new();
/// waits.clone().end();
/// assert!(waits.has_ended());
/// ```
#[derive(Clone, Debug)]
pub struct Waits {
    ended: Arc<watch::Sender<bool>>,
}

impl Waits {
    /// Nothing is ended yet.
    pub fn new() -> Self {
        Waits { ended: Arc::new(watch::Sender::new(false)) }
    }

    /// Ends them all, now and from now on.
    pub fn end(&self) {
        self.ended.send_replace(true);
    }

    /// Whether they were ended.
    pub fn has_ended(&self) -> bool {
        *self.ended.borrow()
    }

    /// Resolves when they are ended.
    pub(crate) async fn ended(&self) {
        let mut changes = self.ended.subscribe();
        // The sender lives as long as `self`: there is no error to see.
        if changes.wait_for(|ended| *ended).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// `call`, which may wait for up to `wait`, unless waits are ended first.
    pub(crate) async fn bound<T>(
        &self,
        wait: Duration,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        if wait.is_zero() {
            return call.await;
        }
        tokio::select! {
            biased;
            answer = call => answer,
            () = self.ended() => Err(closing()),
        }
    }
}

impl Default for Waits {
    fn default() -> Self {
        Waits::new()
    }
}

/// What ended waits are answered with.
pub(crate) fn closing() -> Error {
    Error::Unavailable {
        problem: "is shutting down and does not wait any more".to_owned(),
        code: Code::Draining,
    }
}
