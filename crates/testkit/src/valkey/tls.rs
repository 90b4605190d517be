//! Servers with TLS, and certificates for them.

use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

use super::{Flavour, Valkey};
use crate::Error;

/// Whom the server's certificate is for.
const SERVER_NAMES: [&str; 2] = ["localhost", "127.0.0.1"];

/// A certificate authority of its own, with a certificate for a server on
/// `localhost` or 127.0.0.1 and one for a client: PEM files in a temporary
/// folder that goes with the last clone.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    folder: Arc<TempDir>,
}

impl TlsFiles {
    /// Makes all of them.
    ///
    /// # Errors
    /// [`Error::Io`] when they cannot be made or written.
    pub fn new() -> Result<Self, Error> {
        let folder = tempfile::tempdir().map_err(Error::io("make a temporary folder"))?;
        write_all(folder.path())?;
        Ok(TlsFiles { folder: Arc::new(folder) })
    }

    /// The authority's certificate, for whoever verifies.
    pub fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// The server's certificate.
    pub fn server_certificate(&self) -> PathBuf {
        self.folder.path().join("server.pem")
    }

    /// The server's private key.
    pub fn server_key(&self) -> PathBuf {
        self.folder.path().join("server.key")
    }

    /// A client's certificate.
    pub fn client_certificate(&self) -> PathBuf {
        self.folder.path().join("client.pem")
    }

    /// The client's private key.
    pub fn client_key(&self) -> PathBuf {
        self.folder.path().join("client.key")
    }

    pub(super) fn server_args(&self, addr: SocketAddr) -> Vec<String> {
        let path = |path: PathBuf| path.to_string_lossy().into_owned();
        let pairs = [
            ("--tls-port", addr.port().to_string()),
            ("--tls-ca-cert-file", path(self.ca())),
            ("--tls-cert-file", path(self.server_certificate())),
            ("--tls-key-file", path(self.server_key())),
            ("--tls-auth-clients", "no".to_owned()),
        ];
        pairs.into_iter().flat_map(|(option, value)| [option.to_owned(), value]).collect()
    }
}

impl Valkey {
    /// Starts a server that serves TLS too, at [`Valkey::tls_addr`]: a Valkey if
    /// the one that is installed was built with it ([`Flavour::has_tls`]), else
    /// a Redis. `None`, after a `SKIP` line, where neither was, even with
    /// `SHEAF_REQUIRE_SERVERS=1`: `valkey-server` from the Python package, which
    /// `cargo xtask services` installs, has no TLS, Debian's `redis-server` has.
    ///
    /// # Errors
    /// As [`Valkey::start`].
    pub fn start_tls(files: &TlsFiles, args: &[&str]) -> Result<Option<Valkey>, Error> {
        let Some(flavour) = Flavour::with_tls() else { return Ok(None) };
        Valkey::options(flavour).tls(files).args(args).start()
    }
}

fn write_all(folder: &Path) -> Result<(), Error> {
    let made = |error: rcgen::Error| Error::io("make certificates")(std::io::Error::other(error));
    let write = |name: &str, text: String| {
        let path = folder.join(name);
        let told = format!("write {}", path.display());
        // A key that others can read is refused by servers of ours.
        let mut options = std::fs::OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(&path);
        file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(Error::io(told))
    };
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "test authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().map_err(made)?;
    let certificate = params.self_signed(&key).map_err(made)?;
    write("ca.pem", certificate.pem())?;
    let issuer = Issuer::new(params, key);
    for (name, subjects) in [("server", &SERVER_NAMES[..]), ("client", &["client"][..])] {
        let subjects: Vec<String> = subjects.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(subjects).map_err(made)?;
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().map_err(made)?;
        let certificate = params.signed_by(&key, &issuer).map_err(made)?;
        write(&format!("{name}.pem"), certificate.pem())?;
        write(&format!("{name}.key"), key.serialize_pem())?;
    }
    Ok(())
}
