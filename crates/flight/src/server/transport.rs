//! HTTP/2 of each connection, with windows of its own.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;

use futures::{Stream, StreamExt as _};
use http::Request;
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use sheaf_retry::SharedClock;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::body::Body;

use super::call::CallService;
use super::connection::{Connection, LEAVE_TIME};
use super::gate::Gate;
use super::outflow::{self, Ended};
use super::places::Place;
use super::web::Web;
use super::{HEADER_BYTES, KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT};

/// Streams that a client may have reset before anybody looked at them, and
/// those that it made the server reset; beyond, its connection is closed.
const PENDING_RESETS: usize = 20;
const CAUSED_RESETS: usize = 256;

/// Bytes of a request's head in HTTP/1, and of what is read ahead of its body.
const HEADER_BUFFER: usize = 64 << 10;

/// Serves connections as they come, until told to end; then each as long as
/// its calls last.
pub(super) async fn serve(
    incoming: impl Stream<Item = Connection>,
    service: CallService,
    gate: Arc<Gate>,
    shutdown: CancellationToken,
) {
    let connections = TaskTracker::new();
    {
        // Closes the port before the connections end.
        let mut incoming = pin!(incoming);
        while let Some(Some(connection)) = shutdown.run_until_cancelled(incoming.next()).await {
            let (service, gate) = (service.clone(), Arc::clone(&gate));
            connections.spawn(one(connection, service, gate, shutdown.clone()));
        }
    }
    connections.close();
    connections.wait().await;
}

async fn one(
    mut connection: Connection,
    service: CallService,
    gate: Arc<Gate>,
    shutdown: CancellationToken,
) {
    if connection.is_http1().await {
        return web(connection, service, gate, shutdown).await;
    }
    let (place, clock) = (connection.place(), Arc::clone(&gate.core.clock));
    let leave = place.leave();
    let streams = Streams { gate, place: Arc::clone(&place), end: connection.end() };
    let builder = builder(&connection, streams);
    let (info, certificate) = (connection.info(), connection.certificate());
    let calls = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(info.clone());
        if let Some(names) = &certificate {
            request.extensions_mut().insert(names.clone());
        }
        let call = service.clone().run(request.map(Body::new));
        async move { Ok::<_, Infallible>(call.await) }
    });
    let mut serving = pin!(builder.serve_connection(TokioIo::new(connection), calls));
    let ended = tokio::select! {
        biased;
        ended = serving.as_mut() => ended,
        () = shutdown.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
        () = leave.cancelled() => {
            serving.as_mut().graceful_shutdown();
            tokio::select! {
                ended = serving => ended,
                () = left_alone(&place, &clock) => Ok(()),
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended");
    }
}

/// Actions over HTTP/1.1; the connection lasts as long as its client asks again in time.
async fn web(
    connection: Connection,
    service: CallService,
    gate: Arc<Gate>,
    shutdown: CancellationToken,
) {
    let (place, info) = (connection.place(), connection.info());
    let (leave, web) = (place.leave(), Web::new(service, &gate.core));
    let (patience, certificate) = (web.patience, connection.certificate());
    let calls = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(info.clone());
        if let Some(names) = &certificate {
            request.extensions_mut().insert(names.clone());
        }
        let (web, busy) = (web.clone(), place.call());
        async move {
            let _busy = busy;
            Ok::<_, Infallible>(web.answer(request).await)
        }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(patience).max_buf_size(HEADER_BUFFER);
    let mut serving = pin!(builder.serve_connection(TokioIo::new(connection), calls));
    let ended = tokio::select! {
        biased;
        ended = serving.as_mut() => ended,
        () = async { tokio::select! { () = shutdown.cancelled() => {}, () = leave.cancelled() => {} } } => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection of HTTP/1 ended");
    }
}

/// Resolves when a connection that is to leave had its time without a call: one
/// may still have come before its client learnt that it is to leave.
async fn left_alone(place: &Place, clock: &SharedClock) {
    loop {
        clock.sleep(LEAVE_TIME).await;
        if place.is_idle_for(LEAVE_TIME) {
            return;
        }
    }
}

fn builder(connection: &Connection, streams: Streams) -> http2::Builder<Streams> {
    let share = connection.share();
    let mut builder = http2::Builder::new(streams);
    builder
        .timer(TokioTimer::new())
        .max_frame_size(share.frame())
        .initial_stream_window_size(share.connection())
        .initial_connection_window_size(share.connection())
        .max_concurrent_streams(share.streams())
        .max_header_list_size(HEADER_BYTES)
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_local_error_reset_streams(CAUSED_RESETS)
        .keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT);
    builder
}

/// Runs the streams of one connection, and ends those that nobody reads.
#[derive(Clone)]
struct Streams {
    gate: Arc<Gate>,
    place: Arc<Place>,
    /// Ends the connection.
    end: CancellationToken,
}

impl<F> Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let Streams { gate, place, end } = self.clone();
        let busy = place.call();
        tokio::spawn(async move {
            let _busy = busy;
            let core = &gate.core;
            let patience = core.limits.get_idle_timeout;
            let ended = outflow::watch(stream, &core.clock, patience).await;
            if ended != Ended::Out {
                core.metrics.rejected("reader");
                let seconds = patience.as_secs();
                tracing::debug!(?ended, seconds, "a client does not read its answer");
            }
            if ended == Ended::Left {
                end.cancel();
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use sheaf_retry::{ManualClock, Timestamp};

    use super::super::places::Places;
    use super::*;

    #[test]
    fn who_has_to_leave_may_end_its_calls() {
        let clock = ManualClock::new(Timestamp::EPOCH);
        let place = Places::new(clock.clone()).add();
        let shared: SharedClock = clock.clone();
        let mut left = Box::pin(left_alone(&place, &shared));
        assert!(left.as_mut().now_or_never().is_none());
        let mut is_left = || {
            clock.advance(LEAVE_TIME);
            left.as_mut().now_or_never().is_some()
        };
        let call = place.call();
        assert!(!is_left() && !is_left(), "its call goes on");
        drop(call);
        assert!(is_left());
    }
}
