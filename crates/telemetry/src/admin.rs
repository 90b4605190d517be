//! The admin HTTP port.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;
use std::{fmt, io};

use axum::extract::{Query, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{any, get};
use axum::serve::Listener;
use axum::{Json, Router, middleware};
use serde::Deserialize;
use sheaf_flight::WebActions;
use sheaf_retry::Retryable as _;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;

use crate::health::Health;
use crate::heap::heap_profile;
use crate::metrics::{OPEN_METRICS, SharedRegistry, exposition};
use crate::profile::{DEFAULT_PROFILE_SECONDS, MAX_PROFILE_SECONDS, ProfileFormat, cpu_profile};
use crate::protection::{Protection, Stream, guard};
use crate::{Error, ProcessMetrics};

/// Most connections at once; further ones wait in the backlog of the listener.
pub const MAX_CONNECTIONS: usize = 64;
/// How long a reader may take nothing of what is written for it.
const WRITE_PATIENCE: Duration = Duration::from_secs(30);

/// Which pages a port has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pages {
    metrics: bool,
    profiles: bool,
}

impl Pages {
    /// Every page.
    pub const ALL: Pages = Pages { metrics: true, profiles: true };
    /// Metrics and health.
    pub const METRICS: Pages = Pages { metrics: true, profiles: false };
    /// Profiles.
    pub const PROFILES: Pages = Pages { metrics: false, profiles: true };
}

#[derive(Clone)]
struct Admin {
    /// What the Flight port answers, once it does.
    actions: Arc<OnceLock<WebActions>>,
    registry: SharedRegistry,
    health: Health,
    shutdown: CancellationToken,
}

/// Serves the admin port until it is shut down or dropped.
pub struct AdminServer {
    local_addr: SocketAddr,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
    actions: Arc<OnceLock<WebActions>>,
}

impl AdminServer {
    /// Serves on a bound listener, from the tokio runtime that this is called in.
    ///
    /// Adds [`ProcessMetrics`] to the registry.
    ///
    /// # Errors
    /// [`Error::Listener`] when the listener does not know its address.
    pub fn start(
        listener: TcpListener,
        registry: SharedRegistry,
        health: Health,
    ) -> Result<Self, Error> {
        Self::start_protected(listener, registry, health, Protection::none())
    }

    /// The same behind a protection.
    ///
    /// # Errors
    /// As [`AdminServer::start`].
    pub fn start_protected(
        listener: TcpListener,
        registry: SharedRegistry,
        health: Health,
        protection: Protection,
    ) -> Result<Self, Error> {
        Self::start_pages(listener, registry, health, protection, Pages::ALL)
    }

    /// The same with some of the pages only.
    ///
    /// # Errors
    /// As [`AdminServer::start`].
    pub fn start_pages(
        listener: TcpListener,
        registry: SharedRegistry,
        health: Health,
        protection: Protection,
        pages: Pages,
    ) -> Result<Self, Error> {
        Self::start_router(listener, registry, health, protection, pages, None)
    }

    /// Metrics and health, and pages of one's own, whose router has `/`. No two of its
    /// paths may be those of the others: `/metrics`, `/health`, `/healthz`, `/readyz`.
    ///
    /// A reader that takes nothing for half a minute is cut off, so that those that stand
    /// still do not hold connections for ever.
    ///
    /// # Errors
    /// As [`AdminServer::start`].
    pub fn start_with(
        listener: TcpListener,
        registry: SharedRegistry,
        health: Health,
        own: Router,
    ) -> Result<Self, Error> {
        let (protection, pages) = (Protection::none(), Pages::METRICS);
        Self::start_router(listener, registry, health, protection, pages, Some(own))
    }

    fn start_router(
        listener: TcpListener,
        registry: SharedRegistry,
        health: Health,
        protection: Protection,
        pages: Pages,
        own: Option<Router>,
    ) -> Result<Self, Error> {
        let local_addr = listener.local_addr().map_err(Error::Listener)?;
        if pages.metrics {
            registry
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .register_collector(Box::new(ProcessMetrics));
        }
        let shutdown = CancellationToken::new();
        let actions = Arc::new(OnceLock::new());
        let admin =
            Admin { actions: Arc::clone(&actions), registry, health, shutdown: shutdown.clone() };
        let app = router(admin, pages, own);
        let app = app.layer(middleware::from_fn_with_state(protection.clone(), guard));
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let listener = Bounded { listener, places, protection, shaking: JoinSet::new() };
        let stopped = shutdown.clone().cancelled_owned();
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, app).with_graceful_shutdown(stopped).await {
                tracing::error!(%error, "the admin port stopped");
            }
        });
        Ok(AdminServer { local_addr, shutdown, task, actions })
    }

    /// Answers actions of a Flight port as JSON from now on; the first that are
    /// given stay.
    pub fn serve_actions(&self, actions: WebActions) {
        self.actions.get_or_init(|| actions);
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Takes no more requests, lets running ones end (profiles are cut short)
    /// and returns when the last is answered. A client that keeps an idle
    /// connection open does not delay it; one in the middle of sending a
    /// request does, so callers put a limit on the wait.
    pub async fn shutdown(mut self) {
        self.shutdown.cancel();
        if let Err(error) = (&mut self.task).await {
            tracing::error!(%error, "the admin port ended badly");
        }
    }
}

impl Drop for AdminServer {
    fn drop(&mut self) {
        self.shutdown.cancel();
        self.task.abort();
    }
}

impl fmt::Debug for AdminServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminServer").field("local_addr", &self.local_addr).finish()
    }
}

fn router(admin: Admin, pages: Pages, own: Option<Router>) -> Router {
    let index = || Router::new().route("/", get(move || async move { Html(index(pages)) }));
    let first = own.unwrap_or_else(index);
    let mut router = Router::new();
    if pages.metrics {
        router = router
            .route("/metrics", get(metrics))
            .route("/health", get(health))
            .route("/healthz", get(|| async { "ok\n" }))
            .route("/readyz", get(readyz))
            .route(WebActions::PATH, any(actions));
    }
    if pages.profiles {
        router = router
            .route("/debug/pprof/", get(profiles))
            .route("/debug/pprof/heap", get(heap))
            .route("/debug/pprof/profile", get(profile));
    }
    router.with_state(admin).merge(first)
}

/// Links to what there is.
fn index(pages: Pages) -> String {
    let metrics = ["/metrics", "/health", "/healthz", "/readyz"];
    let metrics = metrics.into_iter().filter(|_| pages.metrics);
    let profiles = ["/debug/pprof/"].into_iter().filter(|_| pages.profiles);
    let links: String =
        metrics.chain(profiles).map(|path| format!("<li><a href=\"{path}\">{path}</a>")).collect();
    format!("<!doctype html><title>sheaf admin</title><ul>{links}</ul>")
}

async fn metrics(State(admin): State<Admin>) -> Response {
    match exposition(&admin.registry) {
        Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => refuse(&error),
    }
}

async fn health(State(admin): State<Admin>) -> Response {
    let report = admin.health.report();
    let healthy = report.is_healthy();
    let body = serde_json::json!({
        "status": if healthy { "up" } else { "down" },
        "phase": report.phase,
        "version": env!("CARGO_PKG_VERSION"),
        "components": report.components,
    });
    let status = if healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(body)).into_response()
}

async fn readyz(State(admin): State<Admin>) -> Response {
    let reasons = admin.health.report().reasons();
    match reasons.is_empty() {
        true => "ready\n".into_response(),
        false => (StatusCode::SERVICE_UNAVAILABLE, reasons.join("\n") + "\n").into_response(),
    }
}

/// Actions of the Flight port, for whoever reaches only this one.
async fn actions(State(admin): State<Admin>, request: Request) -> Response {
    let Some(actions) = admin.actions.get() else {
        let text = "the Flight port does not answer actions yet, or has none\n";
        return (StatusCode::SERVICE_UNAVAILABLE, text).into_response();
    };
    actions.answer(request).await.into_response()
}

async fn profiles() -> Html<String> {
    Html(format!(
        "<!doctype html><title>profiles</title><h1>Profiles</h1><ul>\
         <li><a href=\"profile?seconds=5\">profile?seconds=N</a>: CPU time, 1 to \
         {MAX_PROFILE_SECONDS} seconds, {DEFAULT_PROFILE_SECONDS} by default; read it with \
         <code>go tool pprof</code>\
         <li><a href=\"profile?seconds=5&amp;format=folded\">profile?seconds=N&amp;format=folded</a>: \
         the same as one stack a line, for flame graphs\
         <li><a href=\"heap\">heap</a>: memory in use, by who allocated it, where it is sampled</ul>"
    ))
}

async fn heap() -> Response {
    match tokio::task::spawn_blocking(heap_profile).await {
        Ok(Ok(bytes)) => attachment("application/octet-stream", "heap.pb", bytes),
        Ok(Err(error)) => refuse(&error),
        Err(_) => refuse(&Error::ProfileCut),
    }
}

fn attachment(kind: &str, name: &str, bytes: Vec<u8>) -> Response {
    let headers = [
        (header::CONTENT_TYPE, kind.to_owned()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\"")),
    ];
    (headers, bytes).into_response()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProfileQuery {
    seconds: Option<u64>,
    format: Option<String>,
}

async fn profile(State(admin): State<Admin>, Query(query): Query<ProfileQuery>) -> Response {
    let (format, kind, name) = match query.format.as_deref() {
        None | Some("pprof") => (ProfileFormat::Pprof, "application/octet-stream", "profile.pb"),
        Some("folded") => (ProfileFormat::Folded, "text/plain; charset=utf-8", "profile.folded"),
        Some(other) => {
            let text = format!("{other:?} is no profile format: write pprof or folded\n");
            return (StatusCode::BAD_REQUEST, text).into_response();
        }
    };
    let seconds = query.seconds.unwrap_or(DEFAULT_PROFILE_SECONDS);
    match cpu_profile(seconds, format, &admin.shutdown).await {
        Ok(bytes) => attachment(kind, name, bytes),
        Err(error) => refuse(&error),
    }
}

fn refuse(error: &Error) -> Response {
    use sheaf_retry::Code;
    let status = match error.code() {
        Code::InvalidArgument => StatusCode::BAD_REQUEST,
        Code::FailedPrecondition => StatusCode::CONFLICT,
        Code::Overloaded => StatusCode::TOO_MANY_REQUESTS,
        Code::Draining | Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    (status, format!("{error}\n")).into_response()
}

/// A listener with a limit on the connections that are open at once.
struct Bounded {
    listener: TcpListener,
    places: Arc<Semaphore>,
    protection: Protection,
    /// Handshakes under way, each with its place.
    shaking: JoinSet<Option<(Placed, SocketAddr)>>,
}

impl Listener for Bounded {
    type Io = Placed;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Placed, SocketAddr) {
        loop {
            let accepted = async {
                let place = self.places.clone().acquire_owned().await.ok();
                (place, Listener::accept(&mut self.listener).await)
            };
            let (place, (stream, peer)) = tokio::select! {
                accepted = accepted => accepted,
                Some(done) = self.shaking.join_next() => match done {
                    Ok(Some(connection)) => return connection,
                    _ => continue,
                },
            };
            let stream = self.protection.accept(stream);
            self.shaking.spawn(async move { Some((Placed::new(stream.await?, place), peer)) });
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that holds one of the places.
struct Placed {
    stream: Box<dyn Stream>,
    _place: Option<OwnedSemaphorePermit>,
    /// How long a reader may take nothing.
    patience: Duration,
    /// When that is over, while it takes nothing.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl Placed {
    fn new(stream: Box<dyn Stream>, place: Option<OwnedSemaphorePermit>) -> Self {
        Placed { stream, _place: place, patience: WRITE_PATIENCE, waiting: None }
    }

    /// What became of a write; who has taken nothing for too long is cut off.
    fn patiently<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.waiting = None;
            return written;
        }
        let patience = self.patience;
        let sleep = || Box::pin(tokio::time::sleep(patience));
        match self.waiting.get_or_insert_with(sleep).as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Placed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Placed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.patiently(context, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.patiently(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn a_reader_that_takes_nothing_is_cut_off_and_one_that_reads_is_not() {
        let (ours, mut theirs) = tokio::io::duplex(64);
        let mut placed = Placed::new(Box::new(ours), None);
        let mut taken = vec![0; 10_000];
        let (written, read) =
            tokio::join!(placed.write_all(&[7; 10_000]), theirs.read_exact(&mut taken));
        assert_eq!((written.unwrap(), read.unwrap(), taken[9_999]), ((), 10_000, 7));
        placed.patience = Duration::from_millis(50);
        let error = placed.write_all(&[0; 65]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
