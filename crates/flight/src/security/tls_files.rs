//! TLS towards servers of other protocols, by the same rules.

use std::path::PathBuf;

use sheaf_retry::{Code, SharedClock};

use super::certificates::client_config;
use crate::error::Error;

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
}
