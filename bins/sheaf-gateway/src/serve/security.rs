//! The flags of certificates and tokens.

use std::path::PathBuf;

use sheaf_flight::{Exposure, SecurityFiles};

/// Who may call, and how calls are encrypted; on all ports.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct ServerSecurityArgs {
    /// Certificate chain in PEM, the gateway's own first: turns TLS on
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its private key in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// CA certificates in PEM: clients must have a certificate of one of them
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_client_ca: Option<PathBuf>,
    /// File with the tokens of those who may call, one a line, as `sheaf serve` takes it
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Allow addresses that other machines reach, without TLS and tokens
    #[arg(long)]
    pub(super) insecure: bool,
}

impl ServerSecurityArgs {
    /// Where they are.
    pub(super) fn files(&self) -> SecurityFiles {
        let own = self.clone();
        SecurityFiles {
            certificate: own.tls_cert,
            key: own.tls_key,
            client_ca: own.tls_client_ca,
            tokens: own.token_file,
        }
    }

    /// Who may reach the ports.
    pub(super) fn exposure(&self) -> Exposure {
        match (self.insecure, &self.tls_cert, &self.token_file) {
            (true, ..) => Exposure::Insecure,
            (false, Some(_), Some(_)) => Exposure::Secured,
            _ => Exposure::Loopback,
        }
    }
}
