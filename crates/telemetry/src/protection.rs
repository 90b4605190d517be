//! Who may use the admin port, and how connections to it are encrypted: as the
//! Flight ports have it, since TLS and tokens have one home, or as one says.

use std::pin::Pin;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use sheaf_flight::{Audit, Protocol, Right, Security};
use sheaf_retry::{Code, Retryable as _, SharedClock};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// A connection, encrypted or not.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection that is being made.
pub type Accepting = Pin<Box<dyn Future<Output = Option<Box<dyn Stream>>> + Send>>;

type Accept = dyn Fn(TcpStream) -> Accepting + Send + Sync;
type Authorize = dyn Fn(&str, &HeaderMap) -> Result<(), Refusal> + Send + Sync;

/// Why a request is not let in, in words for whoever sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Nobody knows who asks: answered with 401.
    Unauthenticated(String),
    /// Who asks may not: answered with 403.
    Forbidden(String),
}

/// How the admin port is protected.
#[derive(Clone)]
pub struct Protection {
    accept: Arc<Accept>,
    authorize: Arc<Authorize>,
}

impl std::fmt::Debug for Protection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Protection").finish_non_exhaustive()
    }
}

impl Protection {
    /// Nothing is encrypted, and whoever reaches the port may use it.
    pub fn none() -> Self {
        Protection::new(|stream| Box::pin(async { Some(Box::new(stream) as _) }), |_, _| Ok(()))
    }

    /// `accept` performs the handshake of a connection, in limited time, and
    /// gives `None` where it failed; `authorize` says by the path and the
    /// headers of a request why it is not let in.
    pub fn new(
        accept: impl Fn(TcpStream) -> Accepting + Send + Sync + 'static,
        authorize: impl Fn(&str, &HeaderMap) -> Result<(), Refusal> + Send + Sync + 'static,
    ) -> Self {
        Protection { accept: Arc::new(accept), authorize: Arc::new(authorize) }
    }

    /// TLS and tokens as a Flight port has them: a token needs the right to read in
    /// `namespace`. Calls that are refused are in the log.
    pub fn by(security: &Security, namespace: &'static str, clock: &SharedClock) -> Self {
        let audit = Audit::new(clock.clone());
        let (accepting, asking) = (security.clone(), security.clone());
        Protection::new(
            move |stream| {
                let security = accepting.clone();
                Box::pin(async move {
                    match security.accept(stream, Protocol::Http).await {
                        Ok(stream) => Some(Box::new(stream) as _),
                        Err(error) => {
                            tracing::debug!(%error, "connection to the admin port refused");
                            None
                        }
                    }
                })
            },
            move |path, headers| {
                let let_in = audit.authorize(&asking, headers, path, (namespace, Right::Read));
                let_in.map_err(|error| match error.code() {
                    Code::PermissionDenied => Refusal::Forbidden(error.message().to_owned()),
                    _ => Refusal::Unauthenticated(error.message().to_owned()),
                })
            },
        )
    }

    pub(crate) fn accept(&self, stream: TcpStream) -> Accepting {
        (self.accept)(stream)
    }
}

/// `http`, or `https` where ports speak TLS.
pub fn scheme(security: &Security) -> &'static str {
    if security.has_tls() { "https" } else { "http" }
}

/// Lets probes of orchestrators in, and everybody else who is authorized.
pub(crate) async fn guard(
    State(protection): State<Protection>,
    request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path();
    if matches!(path, "/health" | "/healthz" | "/readyz") {
        return next.run(request).await;
    }
    match (protection.authorize)(path, request.headers()) {
        Ok(()) => next.run(request).await,
        Err(Refusal::Unauthenticated(why)) => {
            let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
            (StatusCode::UNAUTHORIZED, challenge, why + "\n").into_response()
        }
        Err(Refusal::Forbidden(why)) => (StatusCode::FORBIDDEN, why + "\n").into_response(),
    }
}
