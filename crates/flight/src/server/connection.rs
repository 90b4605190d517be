//! Accepted connections: counted, bounded, and closed for good when told.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, Stream};
use sheaf_retry::Code;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::TcpConnectInfo;

use super::audit::Refused;
use super::authority::Authorities;
use super::gate::Gate;
use super::local::SocketFile;
use super::places::Place;
use super::windows::Share;
use crate::caller::CertificateNames;
use crate::error::Error;
use crate::security::{Protocol, SecureStream};

/// How long to wait when the system has no file descriptors left, instead of
/// trying again at once for ever.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long a connection may take to leave whose place another one needs.
pub(super) const LEAVE_TIME: Duration = Duration::from_secs(1);

/// What HTTP/2 begins with, and HTTP/1 does not.
const PREFACE: [u8; 4] = *b"PRI ";

/// How often bytes are read from a connection that is being closed, at once.
const READS: usize = 64;

/// One client's connection.
pub(super) struct Connection {
    stream: SecureStream,
    info: TcpConnectInfo,
    end: CancellationToken,
    kill: Pin<Box<WaitForCancellationFutureOwned>>,
    share: Share,
    /// Since it was closed on this side: how long the other one may take.
    farewell: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// Of a socket in the file system.
    authorities: Option<Authorities>,
    /// Until its first byte has come: how long it may take.
    silence: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// Bytes that were looked at and are still to be read.
    first: Bytes,
    gate: Arc<Gate>,
    place: Arc<Place>,
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

impl Arrived {
    fn peer(&self) -> Option<SocketAddr> {
        match self {
            Arrived::Network(_, peer) => Some(*peer),
            Arrived::Local(_) => None,
        }
    }
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

/// Connections as they come; one over the limit is closed.
///
/// Hands are shaken beside each other, so that a slow client keeps nobody
/// waiting; each holds the place of its connection and has limited time. Who
/// finds no memory is closed. Where all places are taken, the connection goes
/// that made no call for longest.
pub(super) fn incoming(
    network: TcpListener,
    local: Option<(UnixListener, SocketFile)>,
    gate: Arc<Gate>,
    kill: CancellationToken,
) -> impl Stream<Item = Connection> {
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
                        return Some((connection, (doors, gate, kill, shaking)));
                    }
                    _ => continue,
                },
            };
            let permit = Arc::clone(&gate.connections).try_acquire_owned().ok();
            if permit.is_none() && !gate.places.end_idlest() {
                full(&gate, arrived.peer());
                continue;
            }
            let (gate, kill) = (Arc::clone(&gate), kill.clone());
            shaking.spawn(async move {
                let permit = match permit {
                    Some(permit) => permit,
                    None => left(&gate, arrived.peer()).await?,
                };
                match arrived {
                    Arrived::Network(stream, peer) => shake(stream, peer, gate, kill, permit).await,
                    Arrived::Local(stream) => at_home(stream, gate, kill, permit).await,
                }
            });
        }
    })
}

/// Tells of one over the limit, which is closed.
fn full(gate: &Gate, peer: Option<SocketAddr>) {
    gate.core.metrics.rejected("connections");
    let limit = gate.core.limits.max_connections;
    let text = format!("{limit} connections are open, max_connections allows no more");
    let who = Refused { method: "connect", peer, ..Refused::default() };
    gate.audit.refused(who, &Error::new(Code::Overloaded, text));
}

/// The place of a connection that was told to leave.
async fn left(gate: &Gate, peer: Option<SocketAddr>) -> Option<OwnedSemaphorePermit> {
    let permit = tokio::select! {
        biased;
        permit = Arc::clone(&gate.connections).acquire_owned() => permit.ok(),
        () = gate.core.clock.sleep(2 * LEAVE_TIME) => None,
    };
    if permit.is_none() {
        full(gate, peer);
    }
    permit
}

/// The connection of what was accepted, unless its handshake fails.
async fn shake(
    stream: TcpStream,
    peer: SocketAddr,
    gate: Arc<Gate>,
    kill: CancellationToken,
    permit: OwnedSemaphorePermit,
) -> Option<Connection> {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, %error, "cannot set TCP_NODELAY");
    }
    let share = share(&gate, &kill).await?;
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
    Some(Connection::new(stream, info, gate, &kill, share, permit))
}

/// The same over a socket in the file system, where no hands are shaken.
async fn at_home(
    stream: UnixStream,
    gate: Arc<Gate>,
    kill: CancellationToken,
    permit: OwnedSemaphorePermit,
) -> Option<Connection> {
    let share = share(&gate, &kill).await?;
    let info = TcpConnectInfo { local_addr: None, remote_addr: None };
    Some(Connection::new(SecureStream::local(stream), info, gate, &kill, share, permit))
}

/// What the connection may have under way, unless there is no memory for one more.
async fn share(gate: &Gate, kill: &CancellationToken) -> Option<Share> {
    let share = kill.run_until_cancelled(gate.windows.share()).await?;
    if share.is_none() {
        gate.core.metrics.rejected("memory");
        tracing::warn!("no memory for one more connection, it is closed");
    }
    share
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
        kill: &CancellationToken,
        share: Share,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        gate.core.metrics.connections.inc();
        let end = kill.child_token();
        let kill = Box::pin(end.clone().cancelled_owned());
        let silence: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(silence(&gate));
        let authorities = info.remote_addr.is_none().then(Authorities::new);
        let (silence, place) = (Some(silence), Arc::new(gate.places.add()));
        Connection {
            stream,
            info,
            end,
            kill,
            share,
            farewell: None,
            authorities,
            silence,
            first: Bytes::new(),
            gate,
            place,
            _permit: permit,
        }
    }

    /// Whether the client begins as HTTP/1 does. Sockets in the file system have
    /// HTTP/2 only; and so has whoever sends nothing that either of them knows.
    pub(super) async fn is_http1(&mut self) -> bool {
        if self.authorities.is_some() {
            return false;
        }
        let mut first = [0; PREFACE.len()];
        let mut read = 0;
        let late = silence(&self.gate);
        let look = async {
            while read < first.len() && first[..read] == PREFACE[..read] {
                match self.read(&mut first[read..]).await {
                    Ok(0) | Err(_) => break,
                    Ok(more) => read += more,
                }
            }
        };
        tokio::select! {
            biased;
            () = look => {}
            () = late => {}
        }
        let first = &first[..read];
        self.first = Bytes::copy_from_slice(first);
        let is_word = first.iter().all(|byte| byte.is_ascii_uppercase() || *byte == b' ');
        !first.is_empty() && is_word && !PREFACE.starts_with(first)
    }

    /// Whose it is.
    pub(super) fn info(&self) -> TcpConnectInfo {
        self.info.clone()
    }

    /// Whom the certificate of the other end is for, where it showed one.
    pub(super) fn certificate(&self) -> Option<CertificateNames> {
        self.stream.certificate_names().map(CertificateNames)
    }

    /// What it may have under way.
    pub(super) fn share(&self) -> &Share {
        &self.share
    }

    /// Its place among the others.
    pub(super) fn place(&self) -> Arc<Place> {
        Arc::clone(&self.place)
    }

    /// Closes it when cancelled.
    pub(super) fn end(&self) -> CancellationToken {
        self.end.clone()
    }

    /// Ready when the other end has closed too, or took its time for it. What it
    /// sent meanwhile is read: with bytes that nobody read, the system would
    /// reset the connection, and take back what was answered last.
    fn poll_farewell(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let mut scratch = [0; 4 << 10];
        for _ in 0..READS {
            let mut buffer = ReadBuf::new(&mut scratch);
            match Pin::new(&mut self.stream).poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {}
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => {
                    let is_killed = self.check(context).is_err();
                    let Some(farewell) = &mut self.farewell else { return Poll::Ready(()) };
                    return if is_killed {
                        Poll::Ready(())
                    } else {
                        farewell.as_mut().poll(context)
                    };
                }
            }
        }
        // One that goes on sending is not listened to for ever.
        Poll::Ready(())
    }

    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.kill.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::ConnectionAborted.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(context)?;
        if !self.first.is_empty() {
            let count = self.first.len().min(buffer.remaining());
            buffer.put_slice(&self.first.split_to(count));
            return Poll::Ready(Ok(()));
        }
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
        if self.farewell.is_none() {
            ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
            let clock = Arc::clone(&self.gate.core.clock);
            self.farewell = Some(Box::pin(async move { clock.sleep(LEAVE_TIME).await }));
        }
        self.poll_farewell(context).map(Ok)
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
