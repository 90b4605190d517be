//! Handshakes of a server.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::ServerConfig;
use sheaf_retry::{Code, SharedClock};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::clients::Listed;
use super::der;
use crate::error::Error;

/// How long a client may take for its handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the other end of a refused handshake may take to read why.
const FAREWELL: Duration = Duration::from_secs(1);
/// Most bytes of it that are thrown away meanwhile.
const FAREWELL_BYTES: u64 = 64 << 10;
/// First byte of a TLS handshake.
const TLS_HANDSHAKE: u8 = 0x16;

/// What is spoken inside TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/2: gRPC and Flight.
    Grpc,
    /// HTTP/1.1.
    Http,
}

/// A connection of a client, encrypted or not.
pub struct SecureStream {
    inner: Inner,
    /// Ends the connection when its certificate is accepted no more.
    over: Option<(Pin<Box<WaitForCancellationFutureOwned>>, Listed)>,
}

enum Inner {
    Plain(TcpStream),
    Local(UnixStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl std::fmt::Debug for SecureStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let tls = matches!(self.inner, Inner::Tls(_));
        f.debug_struct("SecureStream").field("tls", &tls).finish_non_exhaustive()
    }
}

impl SecureStream {
    pub(super) fn plain(stream: TcpStream) -> Self {
        SecureStream { inner: Inner::Plain(stream), over: None }
    }

    /// Over a socket in the file system, which needs no encryption.
    pub(crate) fn local(stream: UnixStream) -> Self {
        SecureStream { inner: Inner::Local(stream), over: None }
    }

    pub(super) fn tls(stream: TlsStream<TcpStream>, listed: Option<Listed>) -> Self {
        let over = listed.map(|listed| (Box::pin(listed.over.clone().cancelled_owned()), listed));
        SecureStream { inner: Inner::Tls(Box::new(stream)), over }
    }

    /// The names in the certificate that the client showed, where it showed one.
    pub(crate) fn certificate_names(&self) -> Option<Arc<[String]>> {
        let Inner::Tls(stream) = &self.inner else { return None };
        let certificate = stream.get_ref().1.peer_certificates()?.first()?;
        // The handshake has read it: one of which nothing is read here has no names.
        Some(der::alternative_names(certificate).unwrap_or_default().into())
    }

    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match &mut self.over {
            Some((over, _)) => match over.as_mut().poll(context) {
                Poll::Ready(()) => Err(io::ErrorKind::ConnectionAborted.into()),
                Poll::Pending => Ok(()),
            },
            None => Ok(()),
        }
    }
}

/// Performs the handshake, within [`HANDSHAKE_TIMEOUT`].
pub(super) async fn handshake(
    config: Arc<ServerConfig>,
    stream: TcpStream,
    protocol: Protocol,
    clock: &SharedClock,
) -> Result<TlsStream<TcpStream>, Error> {
    let work = async {
        let mut first = [0];
        if stream.peek(&mut first).await.map_err(|error| failed(&error))? == 0 {
            return Err(Error::new(Code::Unavailable, "closed before a handshake"));
        }
        if first[0] != TLS_HANDSHAKE {
            refuse_plaintext(stream, protocol, clock).await;
            return Err(Error::new(Code::FailedPrecondition, "the client speaks no TLS"));
        }
        match TlsAcceptor::from(config).accept(stream).into_fallible().await {
            Ok(stream) => Ok(stream),
            Err((error, stream)) => {
                farewell(stream, clock).await;
                Err(failed(&error))
            }
        }
    };
    tokio::select! {
        biased;
        done = work => done,
        () = clock.sleep(HANDSHAKE_TIMEOUT) => Err(Error::new(
            Code::DeadlineExceeded,
            format!("no TLS handshake within {} s", HANDSHAKE_TIMEOUT.as_secs()),
        )),
    }
}

fn failed(error: &io::Error) -> Error {
    Error::new(Code::Unauthenticated, format!("the TLS handshake failed: {error}"))
}

/// Tells a client without TLS so in its own words, and closes.
async fn refuse_plaintext(mut stream: TcpStream, protocol: Protocol, clock: &SharedClock) {
    const WHY: &str = "this port speaks TLS only";
    let answer = match protocol {
        Protocol::Http => format!(
            "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\
             connection: close\r\n\r\n{WHY}\n",
            WHY.len() + 1
        )
        .into_bytes(),
        Protocol::Grpc => goaway(WHY),
    };
    // Who does not read it is not told.
    if stream.write_all(&answer).await.is_ok() {
        farewell(stream, clock).await;
    }
}

/// HTTP/2: empty SETTINGS, then GOAWAY with `INADEQUATE_SECURITY` and a text.
fn goaway(why: &str) -> Vec<u8> {
    let length = u8::try_from(8 + why.len()).unwrap_or(8);
    let mut bytes = vec![0, 0, 0, 4, 0, 0, 0, 0, 0];
    bytes.extend([0, 0, length, 7, 0, 0, 0, 0, 0]);
    bytes.extend([0, 0, 0, 0, 0, 0, 0, 0xc]);
    bytes.extend(why.as_bytes().iter().take(usize::from(length) - 8));
    bytes
}

/// Closes so that what was sent last can be read: bytes that nobody read would
/// have the system reset the connection, and the other end lose our words.
async fn farewell(mut stream: TcpStream, clock: &SharedClock) {
    let rest = async {
        if stream.shutdown().await.is_ok() {
            let mut sink = tokio::io::sink();
            let mut rest = (&mut stream).take(FAREWELL_BYTES);
            // How it ends is all the same: it is closed after that.
            drop(tokio::io::copy(&mut rest, &mut sink).await);
        }
    };
    tokio::select! {
        () = rest => {}
        () = clock.sleep(FAREWELL) => {}
    }
}

impl AsyncRead for SecureStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(context)?;
        match &mut self.inner {
            Inner::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Inner::Local(stream) => Pin::new(stream).poll_read(context, buffer),
            Inner::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for SecureStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        match &mut self.inner {
            Inner::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Inner::Local(stream) => Pin::new(stream).poll_write(context, bytes),
            Inner::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.inner {
            Inner::Plain(stream) => Pin::new(stream).poll_flush(context),
            Inner::Local(stream) => Pin::new(stream).poll_flush(context),
            Inner::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.inner {
            Inner::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Inner::Local(stream) => Pin::new(stream).poll_shutdown(context),
            Inner::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        match &mut self.inner {
            Inner::Plain(stream) => Pin::new(stream).poll_write_vectored(context, buffers),
            Inner::Local(stream) => Pin::new(stream).poll_write_vectored(context, buffers),
            Inner::Tls(stream) => Pin::new(stream).poll_write_vectored(context, buffers),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.inner {
            Inner::Plain(stream) => stream.is_write_vectored(),
            Inner::Local(stream) => stream.is_write_vectored(),
            Inner::Tls(stream) => stream.is_write_vectored(),
        }
    }
}
