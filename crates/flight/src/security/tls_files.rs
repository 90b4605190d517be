//! TLS towards servers of other protocols, by the same rules.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use sheaf_retry::{Code, SharedClock};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::certificates::client_config;
use super::explain::explain;
use crate::error::{Error, invalid};

/// How a server of another protocol than Flight is checked under TLS, and what
/// it is shown: by the same rules and the same provider as everything else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// CA certificates in PEM, one of which signed the server's.
    pub ca: PathBuf,
    /// Certificate chain and private key in PEM, for servers that ask who calls.
    pub identity: Option<(PathBuf, PathBuf)>,
}

impl TlsFiles {
    /// Reads the files: TLS 1.2 and 1.3, certificates judged by the time of `clock`.
    ///
    /// # Errors
    /// `invalid_argument` for files that are no PEM or do not belong together,
    /// `failed_precondition` for a key that every user of the machine can read;
    /// else what the system says. Each names the file.
    pub async fn read(self, clock: &SharedClock) -> Result<rustls::ClientConfig, Error> {
        let clock = SharedClock::clone(clock);
        let read = tokio::task::spawn_blocking(move || {
            let identity = self.identity.as_ref();
            let identity = identity.map(|(cert, key)| (cert.as_path(), key.as_path()));
            let mut config = client_config(&self.ca, identity, &clock)?;
            // The other protocol has no name in this list.
            config.alpn_protocols.clear();
            Ok(config)
        });
        read.await.map_err(|_| Error::new(Code::Internal, "reading certificates ended badly"))?
    }

    /// Encrypts a connection to a server whose certificate is for `host`. What is spoken
    /// inside has no name in TLS.
    ///
    /// # Errors
    /// Those of [`TlsFiles::read`]; `invalid_argument` for a host that no certificate could
    /// have; why there was no handshake.
    pub async fn connect(
        self,
        stream: TcpStream,
        host: &str,
        clock: &SharedClock,
    ) -> Result<TlsStream<TcpStream>, Error> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| invalid(format!("{host:?} is no name that a certificate could have")))?;
        let config = Arc::new(self.read(clock).await?);
        let connected = TlsConnector::from(config).connect(name, stream).await;
        connected.map_err(|error| match explain(&error) {
            Some((code, text)) => Error::new(code, text),
            None => Error::new(Code::Unavailable, format!("no TLS connection: {error}")),
        })
    }
}
