//! What turns TLS on.

use std::path::PathBuf;

use clap::Args;

/// Encryption of everything that goes between the control plane and components.
#[derive(Clone, Debug, Args)]
pub(crate) struct TlsArgs {
    /// Encrypt everything, and have each end show who it is: with certificates that are made for
    /// it, in a folder that only its owner may read
    #[arg(long, env = "SHEAF_TLS")]
    pub(crate) tls: bool,
    /// The certificate of an authority that signs them, in PEM, in place of one that is made for
    /// it; turns TLS on
    #[arg(long, env = "SHEAF_TLS_AUTHORITY", value_name = "FILE", requires = "tls_authority_key")]
    pub(crate) tls_authority: Option<PathBuf>,
    /// The private key of that authority, in PEM
    #[arg(long, env = "SHEAF_TLS_AUTHORITY_KEY", value_name = "FILE", requires = "tls_authority")]
    pub(crate) tls_authority_key: Option<PathBuf>,
}

impl TlsArgs {
    pub(crate) fn is_wanted(&self) -> bool {
        self.tls || self.tls_authority.is_some()
    }
}
