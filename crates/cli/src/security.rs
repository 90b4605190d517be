//! How commands show who they are.

use std::path::PathBuf;

use crate::failure::Failure;
use sheaf_flight::{ClientConfig, ClientSecurity, TokenSource};
use sheaf_retry::Code;

/// Certificates and token of a command. A token is never a flag: it would show
/// in the list of processes.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct SecurityArgs {
    /// File with the token to send
    #[arg(long, env = "SHEAF_TOKEN_FILE", value_name = "FILE", global = true)]
    pub token_file: Option<PathBuf>,
    /// CA certificates in PEM by which a server grpc+tls://… is checked
    #[arg(long, env = "SHEAF_TLS_CA", value_name = "FILE", global = true)]
    pub tls_ca: Option<PathBuf>,
    /// Certificate in PEM, for servers that ask for one
    #[arg(long, env = "SHEAF_TLS_CERT", value_name = "FILE", global = true)]
    pub tls_cert: Option<PathBuf>,
    /// Its private key in PEM
    #[arg(long, env = "SHEAF_TLS_KEY", value_name = "FILE", global = true)]
    pub tls_key: Option<PathBuf>,
    /// Send the token to other machines even unencrypted
    // Not the id of the setting of `serve`, which is a text.
    #[arg(id = "client-insecure", long = "insecure", global = true)]
    pub insecure: bool,
}

impl SecurityArgs {
    /// The settings of a client.
    ///
    /// # Errors
    /// `invalid_argument` for a certificate without key, or the other way round.
    pub fn config(&self) -> Result<ClientConfig, Failure> {
        let identity = match (self.tls_cert.clone(), self.tls_key.clone()) {
            (None, None) => None,
            (Some(cert), Some(key)) => Some((cert, key)),
            (cert, _) => {
                let (there, missing) = match cert {
                    Some(_) => ("--tls-cert", "--tls-key"),
                    None => ("--tls-key", "--tls-cert"),
                };
                let message = format!("{there} is no use without {missing}");
                return Err(Failure::new(Code::InvalidArgument, message));
            }
        };
        let token = self.token_file.clone().map_or(TokenSource::None, TokenSource::File);
        let insecure = self.insecure;
        let security = ClientSecurity { ca: self.tls_ca.clone(), identity, token, insecure };
        Ok(ClientConfig { security, ..ClientConfig::default() })
    }
}
