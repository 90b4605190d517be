//! Accepted connections: counted, bounded, and closed for good when told.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::stream::{self, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::{Connected, TcpConnectInfo};

use super::gate::Gate;

/// How long to wait when the system has no file descriptors left, instead of
/// trying again at once for ever.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// One client's connection.
pub(super) struct Connection {
    stream: TcpStream,
    info: TcpConnectInfo,
    kill: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Until its first byte has come: how long it may take.
    silence: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    gate: Arc<Gate>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.gate.core.metrics.connections.dec();
    }
}

/// Connections as they come; one over the limit is closed at once.
pub(super) fn incoming(
    listener: TcpListener,
    gate: Arc<Gate>,
    kill: CancellationToken,
) -> impl Stream<Item = io::Result<Connection>> {
    stream::unfold((listener, gate, kill), |(listener, gate, kill)| async move {
        loop {
            let (stream, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    gate.core.clock.sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Ok(permit) = Arc::clone(&gate.connections).try_acquire_owned() else {
                gate.core.metrics.rejected("connections");
                let limit = gate.core.limits.max_connections;
                tracing::warn!(%peer, limit, "max_connections reached, connection closed");
                continue;
            };
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%peer, %error, "cannot set TCP_NODELAY");
            }
            gate.core.metrics.connections.inc();
            let info =
                TcpConnectInfo { local_addr: stream.local_addr().ok(), remote_addr: Some(peer) };
            let connection = Connection {
                stream,
                info,
                kill: Box::pin(kill.clone().cancelled_owned()),
                silence: Some(Box::pin(silence(&gate))),
                gate: Arc::clone(&gate),
                _permit: permit,
            };
            return Some((Ok(connection), (listener, gate, kill)));
        }
    })
}

/// A connection on which nothing ever comes has no keepalive yet, and would
/// hold its place for ever.
fn silence(gate: &Gate) -> impl Future<Output = ()> + Send + use<> {
    let (clock, limit) = (Arc::clone(&gate.core.clock), gate.core.limits.put_idle_timeout);
    async move { clock.sleep(limit).await }
}

impl Connection {
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.kill.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::ConnectionAborted.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.info.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(context)?;
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.silence = None;
        } else if read.is_pending()
            && let Some(silence) = &mut self.silence
            && silence.as_mut().poll(context).is_ready()
        {
            self.gate.core.metrics.rejected("idle");
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
