//! Connections under TLS.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use futures::future::BoxFuture;
use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use sheaf_retry::{Code, SharedClock};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tower::Service;

use super::{ClientSecurity, Target};
use crate::error::{Error, invalid};
use crate::security::{alternative_names, client_config, explain};

/// How long the server's first word is waited for.
const FIRST_WORD: Duration = Duration::from_secs(1);
/// Most of it that is read ahead.
const FIRST_BYTES: usize = 1 << 10;

/// Connects to one target; its errors are ours, and found again in the status
/// that gRPC makes of them.
#[derive(Clone)]
pub(super) struct Connector {
    target: Target,
    /// The host that its certificate has to be for.
    host: Arc<str>,
    security: Arc<ClientSecurity>,
    /// A name that the server's certificate has to have besides its host's.
    name: Option<Arc<str>>,
    clock: SharedClock,
}

impl Connector {
    pub(super) fn new(
        target: Target,
        host: Arc<str>,
        security: Arc<ClientSecurity>,
        name: Option<Arc<str>>,
        clock: SharedClock,
    ) -> Self {
        Connector { target, host, security, name, clock }
    }

    /// Refuses a server whose certificate is for somebody else.
    fn check_name(&self, stream: &TlsStream<TcpStream>) -> Result<(), Error> {
        let Some(name) = &self.name else { return Ok(()) };
        let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let found = certificate.and_then(|one| alternative_names(one)).unwrap_or_default();
        if found.iter().any(|found| **found == **name) {
            return Ok(());
        }
        let found = found.join(", ");
        let text = format!("the server's certificate is for {found}, and not for {name}");
        Err(Error::new(Code::Unauthenticated, text))
    }

    async fn connect(self) -> Result<TokioIo<Opened>, Error> {
        let config = self.config().await?;
        let bare = |host: &'_ str| {
            let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
            inner.unwrap_or(host).to_owned()
        };
        let host = bare(&self.host);
        let name = ServerName::try_from(host.clone())
            .map_err(|_| invalid(format!("{host:?} is no name that a certificate could have")))?;
        let host = bare(self.target.host());
        let stream =
            TcpStream::connect((host.as_str(), self.target.port())).await.map_err(|error| {
                // The words of gRPC's own connector.
                Error::new(Code::Unavailable, format!("tcp connect error: {error}"))
            })?;
        stream.set_nodelay(true).map_err(|error| broken(&error))?;
        let tls = TlsConnector::from(Arc::new(config));
        let mut stream = tls.connect(name, stream).await.map_err(|error| broken(&error))?;
        self.check_name(&stream)?;
        let first = self.first_word(&mut stream).await?;
        Ok(TokioIo::new(Opened { first, stream }))
    }

    async fn config(&self) -> Result<rustls::ClientConfig, Error> {
        let (security, clock) = (Arc::clone(&self.security), Arc::clone(&self.clock));
        let target = self.target.clone();
        let read = tokio::task::spawn_blocking(move || {
            let ca = security.authority(&target)?;
            let identity = security.identity.as_ref();
            client_config(ca, identity.map(|(cert, key)| (cert.as_path(), key.as_path())), &clock)
        });
        read.await.map_err(|_| Error::new(Code::Internal, "reading certificates ended badly"))?
    }

    /// In TLS 1.3 a client has finished before the server has judged its
    /// certificate: only what the server says next shows how that went. HTTP/2
    /// servers speak first, so it is waited for; one that does not is given
    /// the benefit of the doubt.
    async fn first_word(&self, stream: &mut TlsStream<TcpStream>) -> Result<Bytes, Error> {
        let mut first = vec![0; FIRST_BYTES];
        tokio::select! {
            biased;
            read = stream.read(&mut first) => match read {
                Ok(0) => Err(Error::new(Code::Unavailable, "closed right after the TLS handshake")),
                Ok(length) => {
                    first.truncate(length);
                    Ok(first.into())
                }
                Err(error) => Err(broken(&error)),
            },
            () = self.clock.sleep(FIRST_WORD) => Ok(Bytes::new()),
        }
    }
}

fn broken(error: &io::Error) -> Error {
    match explain(error) {
        Some((code, text)) => Error::new(code, text),
        None => Error::new(Code::Unavailable, format!("no TLS connection: {error}")),
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Opened>;
    type Error = Error;
    type Future = BoxFuture<'static, Result<TokioIo<Opened>, Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        Box::pin(self.clone().connect())
    }
}

/// A connection of which the first bytes have been read.
pub(super) struct Opened {
    first: Bytes,
    stream: TlsStream<TcpStream>,
}

impl AsyncRead for Opened {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let length = self.first.len().min(buffer.remaining());
        buffer.put_slice(&self.first[..length]);
        self.first.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Opened {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
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
        Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
