//! What the web console of a control plane takes.

use std::path::PathBuf;

use clap::Args;

/// The web console of a control plane.
#[derive(Clone, Debug, Args)]
pub(crate) struct ConsoleArgs {
    /// Where to serve the web console, metrics and health; port 0 takes a free one. Beyond this
    /// machine it takes --insecure, since it is not encrypted
    #[arg(long, env = "SHEAF_ADMIN_ADDR", default_value = "127.0.0.1:0", value_name = "HOST:PORT")]
    pub(crate) admin_addr: String,
    /// The coordinator whose batches the console shows, such as grpc://127.0.0.1:8080
    #[arg(long, env = "SHEAF_COORDINATOR", value_name = "URI")]
    pub(crate) coordinator: Option<String>,
    /// File with the token to send to it
    #[arg(
        long,
        env = "SHEAF_COORDINATOR_TOKEN_FILE",
        value_name = "FILE",
        requires = "coordinator"
    )]
    pub(crate) coordinator_token_file: Option<PathBuf>,
    /// CA certificates in PEM by which it is checked, where it is grpc+tls://…
    #[arg(long, env = "SHEAF_COORDINATOR_TLS_CA", value_name = "FILE", requires = "coordinator")]
    pub(crate) coordinator_tls_ca: Option<PathBuf>,
}
