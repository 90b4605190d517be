//! Towards a control plane elsewhere.

use sheaf_dataflow::TlsAssignment;
use sheaf_flight::{ClientConfig, Target, TlsFiles};
use sheaf_retry::Code;
use sheaf_terminal::Failure;

use super::FOLDER;
use crate::args::ServerArgs;

/// How a control plane elsewhere is called.
pub(crate) struct Away {
    pub(crate) target: Target,
    pub(crate) config: ClientConfig,
    /// To look at the health of components.
    pub(crate) health: Option<TlsFiles>,
}

impl Away {
    /// By an address; under TLS where it says so, or a folder with certificates is named.
    pub(crate) fn find(at: &ServerArgs) -> Result<Self, Failure> {
        let (server, folder) = (&at.server, at.tls_dir.as_ref());
        let address = match folder {
            Some(_) if !server.contains("://") => format!("grpc+tls://{server}"),
            _ => server.clone(),
        };
        let target: Target = address.parse().map_err(|error: sheaf_flight::Error| {
            Failure::from_error(&error).of("--server").help("write it as HOST:PORT")
        })?;
        if !target.is_tls() {
            return Ok(Away { target, config: ClientConfig::default(), health: None });
        }
        let default = || at.data.data_dir.join(FOLDER);
        let folder = folder.cloned().unwrap_or_else(default);
        let at = |name: &str| folder.join(name);
        let files = TlsAssignment {
            ca: at("ca.pem"),
            certificate: at("operator.pem"),
            key: at("operator.key"),
        };
        if !files.key.is_file() {
            let text = format!("{} speaks TLS, and there is no {}", server, files.key.display());
            return Err(Failure::new(Code::NotFound, text).help(
                "name the folder with its certificates with --tls-dir: the control plane prints it \
                 as tls= when it is up",
            ));
        }
        let health = Some(TlsFiles { ca: files.ca.clone(), identity: None });
        Ok(Away { target, config: files.client(), health })
    }
}
