//! Accepted connections: counted, bounded, and closed for good when told.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::stream::{self, Stream};
use sheaf_retry::Code;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::{Connected, TcpConnectInfo};

use super::audit::Refused;
use super::authority::Authorities;
use super::gate::Gate;
use super::local::SocketFile;
use crate::error::Error;
use crate::security::{Protocol, SecureStream};

/// How long to wait when the system has no file descriptors left, instead of
/// trying again at once for ever.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// One client's connection.
pub(super) struct Connection {
    stream: SecureStream,
    info: TcpConnectInfo,
    kill: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Of a socket in the file system.
    authorities: Option<Authorities>,
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

/// Where connections come from.
struct Doors {
    network: TcpListener,
    local: Option<(UnixListener, SocketFile)>,
}

/// One that came through a door.
enum Arrived {
    Network(TcpStream, SocketAddr),
    Local(UnixStream),
}

impl Doors {
    async fn accept(&self) -> io::Result<Arrived> {
        let network = async {
            let (stream, peer) = self.network.accept().await?;
            Ok(Arrived::Network(stream, peer))
        };
        let local = async {
            match &self.local {
                Some((listener, _)) => Ok(Arrived::Local(listener.accept().await?.0)),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            accepted = network => accepted,
            accepted = local => accepted,
        }
    }
}

/// Connections as they come; one over the limit is closed at once.
///
/// Hands are shaken beside each other, so that a slow client keeps nobody
/// waiting; each holds the place of its connection and has limited time.
pub(super) fn incoming(
    network: TcpListener,
    local: Option<(UnixListener, SocketFile)>,
    gate: Arc<Gate>,
    kill: CancellationToken,
) -> impl Stream<Item = io::Result<Connection>> {
    let shaking: JoinSet<Option<Connection>> = JoinSet::new();
    let doors = Doors { network, local };
    stream::unfold((doors, gate, kill, shaking), |(doors, gate, kill, mut shaking)| async move {
        loop {
            let arrived = tokio::select! {
                accepted = doors.accept() => match accepted {
                    Ok(arrived) => arrived,
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection");
                        gate.core.clock.sleep(ACCEPT_PAUSE).await;
                        continue;
                    }
                },
                Some(done) = shaking.join_next() => match done {
                    Ok(Some(connection)) => {
                        return Some((Ok(connection), (doors, gate, kill, shaking)));
                    }
                    _ => continue,
                },
            };
            let Ok(permit) = Arc::clone(&gate.connections).try_acquire_owned() else {
                refuse(&gate, &arrived);
                continue;
            };
            match arrived {
                Arrived::Network(stream, peer) => {
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!(%peer, %error, "cannot set TCP_NODELAY");
                    }
                    shaking.spawn(shake(stream, peer, Arc::clone(&gate), kill.clone(), permit));
                }
                Arrived::Local(stream) => {
                    let stream = SecureStream::local(stream);
                    let info = TcpConnectInfo { local_addr: None, remote_addr: None };
                    let connection =
                        Connection::new(stream, info, Arc::clone(&gate), kill.clone(), permit);
                    return Some((Ok(connection), (doors, gate, kill, shaking)));
                }
            }
        }
    })
}

/// Tells of one over the limit, which is closed.
fn refuse(gate: &Gate, arrived: &Arrived) {
    gate.core.metrics.rejected("connections");
    let peer = match arrived {
        Arrived::Network(_, peer) => Some(*peer),
        Arrived::Local(_) => None,
    };
    let limit = gate.core.limits.max_connections;
    let text = format!("{limit} connections are open, max_connections allows no more");
    let who = Refused { method: "connect", peer, ..Refused::default() };
    gate.audit.refused(who, &Error::new(Code::Overloaded, text));
}

/// The connection of what was accepted, unless its handshake fails.
async fn shake(
    stream: TcpStream,
    peer: SocketAddr,
    gate: Arc<Gate>,
    kill: CancellationToken,
    permit: OwnedSemaphorePermit,
) -> Option<Connection> {
    let info = TcpConnectInfo { local_addr: stream.local_addr().ok(), remote_addr: Some(peer) };
    let accepted = gate.security.accept(stream, Protocol::Grpc);
    let stream = match kill.run_until_cancelled(accepted).await? {
        Ok(stream) => stream,
        Err(error) => {
            gate.core.metrics.rejected("handshake");
            tracing::debug!(%peer, %error, "connection refused");
            return None;
        }
    };
    Some(Connection::new(stream, info, gate, kill, permit))
}

/// A connection on which nothing ever comes has no keepalive yet, and would
/// hold its place for ever.
fn silence(gate: &Gate) -> impl Future<Output = ()> + Send + use<> {
    let (clock, limit) = (Arc::clone(&gate.core.clock), gate.core.limits.put_idle_timeout);
    async move { clock.sleep(limit).await }
}

impl Connection {
    fn new(
        stream: SecureStream,
        info: TcpConnectInfo,
        gate: Arc<Gate>,
        kill: CancellationToken,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        gate.core.metrics.connections.inc();
        let kill = Box::pin(kill.cancelled_owned());
        let silence: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(silence(&gate));
        let authorities = info.remote_addr.is_none().then(Authorities::new);
        let silence = Some(silence);
        Connection { stream, info, kill, authorities, silence, gate, _permit: permit }
    }

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
        if let Some(authorities) = &mut self.authorities {
            authorities.pass(&mut buffer.filled_mut()[before..]);
        }
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
