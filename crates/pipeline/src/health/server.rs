//! The health endpoint of a component: `GET /health`.

use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;
use sheaf_flight::{Protocol, SecureStream, Security};
use sheaf_retry::{Retryable as _, SharedClock};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::PATH;
use crate::registry::Error;

/// Connections at a time; further ones are closed.
const MAX_CONNECTIONS: usize = 32;
/// How long one may take, request and answer.
const TIME: Duration = Duration::from_secs(5);
/// Bytes of a request's headers.
const MAX_HEADERS: usize = 8 << 10;

/// What a component says when it is asked: nothing, or why it is not well.
pub type Vitals = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// What another path of the same port answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Its media type.
    pub content_type: &'static str,
    /// What it says.
    pub body: String,
}

/// Answers the paths beside `/health`; `None` where there is nothing.
pub type Pages = Arc<dyn Fn(&str) -> Option<Page> + Send + Sync>;

/// Answers `GET /health` with `{"status":"healthy"}`, or with status 503 and
/// `{"status":"unhealthy","reason":"…"}`; until it is dropped.
///
/// Each answer asks the component anew. Nothing else is served but the pages of
/// [`HealthServer::bind_with`], and no connection is kept: who connects and says nothing has five seconds.
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
/// use sheaf_pipeline::health::{Endpoint, HealthServer, Poller};
/// use sheaf_pipeline::registry::Polled;
/// use sheaf_retry::SystemClock;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let clock = SystemClock::shared();
/// let server =
///     HealthServer::bind("127.0.0.1:0", Arc::new(|| Ok(())), clock.clone()).await?;
/// let port = format!(":{}", server.local_addr().port());
/// let endpoint = Endpoint::checked(&port, "grpc://127.0.0.1:50051")?.expect("it is named");
/// let poller = Poller::new(Duration::from_secs(2), clock);
/// assert_eq!(poller.look(&endpoint).await, Polled::Well);
/// # Ok(())
/// # }
/// ```
pub struct HealthServer {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl HealthServer {
    /// Listens on an address, such as `0.0.0.0:8088`, and begins to answer. Call
    /// it on a tokio runtime.
    ///
    /// # Errors
    /// [`Error::State`] where nothing can be bound there, with the code
    /// `address_in_use` or what else it is.
    pub async fn bind(address: &str, vitals: Vitals, clock: SharedClock) -> Result<Self, Error> {
        HealthServer::bind_with(address, vitals, Arc::new(|_| None), clock).await
    }

    /// As [`HealthServer::bind`], with further paths on the same port.
    ///
    /// # Errors
    /// As there.
    pub async fn bind_with(
        address: &str,
        vitals: Vitals,
        pages: Pages,
        clock: SharedClock,
    ) -> Result<Self, Error> {
        HealthServer::bind_secured(address, vitals, pages, Security::none(), clock).await
    }

    /// As [`HealthServer::bind_with`], under TLS where `security` has it.
    ///
    /// # Errors
    /// As there.
    pub async fn bind_secured(
        address: &str,
        vitals: Vitals,
        pages: Pages,
        security: Security,
        clock: SharedClock,
    ) -> Result<Self, Error> {
        let failed = |error: std::io::Error| Error::State {
            operation: format!("serve {PATH} on {address}"),
            code: error.code(),
            source: Some(Box::new(error)),
        };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let task = tokio::spawn(accept(listener, vitals, pages, security, clock));
        Ok(HealthServer { address, task })
    }

    /// Where it listens, with the port that it got.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for HealthServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for HealthServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HealthServer").field("address", &self.address).finish_non_exhaustive()
    }
}

async fn accept(
    listener: TcpListener,
    vitals: Vitals,
    pages: Pages,
    security: Security,
    clock: SharedClock,
) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, for instance: others may be given back.
                tracing::warn!(%error, "a connection to the health endpoint was not accepted");
                clock.sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        while connections.try_join_next().is_some() {}
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let (vitals, clock) = (Arc::clone(&vitals), Arc::clone(&clock));
        let (pages, security) = (Arc::clone(&pages), security.clone());
        connections.spawn(async move {
            let _place = place;
            let served = async {
                match security.accept(stream, Protocol::Http).await {
                    Ok(stream) => serve(stream, vitals, pages).await,
                    Err(error) => tracing::debug!(%error, "no handshake at the health endpoint"),
                }
            };
            tokio::select! {
                () = served => {}
                () = clock.sleep(TIME) => {}
            }
        });
    }
}

async fn serve(stream: SecureStream, vitals: Vitals, pages: Pages) {
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = answer(&request, &vitals, &pages);
        async move { Ok::<_, Infallible>(answer) }
    });
    let mut builder = http1::Builder::new();
    builder.keep_alive(false).max_buf_size(MAX_HEADERS);
    if let Err(error) = builder.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "a connection to the health endpoint broke");
    }
}

fn answer(request: &Request<Incoming>, vitals: &Vitals, pages: &Pages) -> Response<Full<Bytes>> {
    let is_get = matches!(*request.method(), Method::GET | Method::HEAD);
    if is_get
        && request.uri().path() != PATH
        && let Some(page) = pages(request.uri().path())
    {
        let mut response = Response::new(Full::from(page.body));
        let kind = header::HeaderValue::from_static(page.content_type);
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        return response;
    }
    let (status, body) = match (request.uri().path(), request.method()) {
        (PATH, &Method::GET | &Method::HEAD) => match vitals() {
            Ok(()) => (StatusCode::OK, json!({"status": "healthy"})),
            Err(reason) => {
                let body = json!({"status": "unhealthy", "reason": reason});
                (StatusCode::SERVICE_UNAVAILABLE, body)
            }
        },
        (PATH, _) => (StatusCode::METHOD_NOT_ALLOWED, json!({"error": "GET only"})),
        _ => (StatusCode::NOT_FOUND, json!({"error": format!("only {PATH} is served")})),
    };
    let mut response = Response::new(Full::from(body.to_string()));
    *response.status_mut() = status;
    let json = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}
