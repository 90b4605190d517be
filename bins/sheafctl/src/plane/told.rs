//! What a control plane says of itself, and its end.

use std::time::Duration;

use sheaf_terminal::Failure;

use super::Plane;

/// How long calls may go on when it is closed.
const GRACE: Duration = Duration::from_secs(2);

impl Plane {
    /// Where it serves: `grpc://HOST:PORT`.
    pub(crate) fn uri(&self) -> String {
        self.server.uri()
    }

    /// The folder with what it takes to call it under TLS, for the line that says where it is.
    pub(crate) fn tls_shown(&self) -> String {
        let folder = self.tls.as_ref();
        folder.map_or_else(String::new, |folder| format!(" tls={}", folder.display()))
    }

    /// Where the console is: `http://HOST:PORT`.
    pub(crate) fn console(&self) -> String {
        self.web.uri()
    }

    /// Ends calls and writes everything down.
    pub(crate) async fn close(self) -> Result<(), Failure> {
        self.web.close(GRACE).await;
        self.server.drain(GRACE).await;
        self.plane.close().await.map_err(|error| Failure::from_error(&error))
    }
}
