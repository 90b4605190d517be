//! PEM files, and what rustls makes of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::CertifiedKey;
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use sheaf_retry::SharedClock;

use super::file;
use crate::error::{Error, invalid};

/// Certificates are judged by the time of the injected clock.
#[derive(Debug)]
pub(super) struct Time(pub(super) SharedClock);

impl TimeProvider for Time {
    fn current_time(&self) -> Option<UnixTime> {
        let since = std::time::Duration::from_micros(self.0.now().as_micros());
        Some(UnixTime::since_unix_epoch(since))
    }
}

/// The bytes of the files of one end: read together, compared as a whole.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Pem {
    identity: Option<(Named, Named)>,
    ca: Option<Named>,
}

#[derive(Clone, PartialEq, Eq)]
struct Named {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl Pem {
    /// Reads the files; `ca` is called `ca_name` in messages.
    pub(super) fn read(
        identity: Option<(&Path, &Path)>,
        ca: Option<&Path>,
        ca_name: &str,
    ) -> Result<Self, Error> {
        let named = |path: &Path, bytes| Named { path: path.to_owned(), bytes };
        let identity = match identity {
            Some((cert, key)) => Some((
                named(cert, file::read(cert, "certificate")?),
                named(key, file::read_secret(key, "private key")?),
            )),
            None => None,
        };
        let ca = ca.map(|path| Ok::<_, Error>(named(path, file::read(path, ca_name)?)));
        Ok(Pem { identity, ca: ca.transpose()? })
    }

    fn identity(&self) -> Result<Option<CertifiedKey>, Error> {
        let Some((cert, key)) = &self.identity else { return Ok(None) };
        let chain = certificates(cert, "certificate")?;
        let (cert, path) = (cert.path.display(), key.path.display());
        // The parser's own words could quote the key.
        let key = PrivateKeyDer::from_pem_slice(&key.bytes)
            .map_err(|_| invalid(format!("the private key {path} holds no PEM private key")))?;
        let key = provider().key_provider.load_private_key(key);
        let key =
            key.map_err(|error| invalid(format!("the private key {path} is no use: {error}")))?;
        let certified = CertifiedKey::new(chain, key);
        match certified.keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {
                Ok(Some(certified))
            }
            Err(error @ rustls::Error::InconsistentKeys(_)) => Err(invalid(format!(
                "the private key {path} does not belong to the certificate {cert}: {error}"
            ))),
            Err(error) => Err(invalid(format!("the certificate {cert} is no use: {error}"))),
        }
    }

    fn roots(&self, what: &str) -> Result<Option<RootCertStore>, Error> {
        let Some(ca) = &self.ca else { return Ok(None) };
        let mut roots = RootCertStore::empty();
        for certificate in certificates(ca, what)? {
            roots.add(certificate).map_err(|error| {
                invalid(format!("the {what} {} is no use: {error}", ca.path.display()))
            })?;
        }
        Ok(Some(roots))
    }
}

fn certificates(file: &Named, what: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let path = file.path.display();
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&file.bytes)
        .collect::<Result<_, _>>()
        .map_err(|error| invalid(format!("the {what} {path} is no PEM file: {error}")))?;
    match chain.is_empty() {
        true => Err(invalid(format!("the {what} {path} holds no PEM certificate"))),
        false => Ok(chain),
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// What a server needs for its handshakes.
#[derive(Debug)]
pub(super) struct ServerSide {
    pub(super) grpc: Arc<ServerConfig>,
    pub(super) http: Arc<ServerConfig>,
    /// Judges the certificates of clients, where they must have one.
    pub(super) clients: Option<Arc<dyn ClientCertVerifier>>,
}

/// TLS 1.2 and 1.3; clients must show a certificate where there is a CA for them.
pub(super) fn server_side(pem: &Pem, clock: &SharedClock) -> Result<ServerSide, Error> {
    let unusable =
        |error: &dyn std::fmt::Display| invalid(format!("TLS cannot be set up: {error}"));
    let Some(identity) = pem.identity()? else {
        return Err(invalid("TLS needs a certificate and its private key"));
    };
    let clients = match pem.roots("client CA file")? {
        Some(roots) => Some(
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
                .build()
                .map_err(|error| unusable(&error))?,
        ),
        None => None,
    };
    let time = Arc::new(Time(Arc::clone(clock)));
    let builder = ServerConfig::builder_with_details(provider(), time)
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(&error))?;
    let builder = match &clients {
        Some(verifier) => builder.with_client_cert_verifier(Arc::clone(verifier)),
        None => builder.with_no_client_auth(),
    };
    let resolver = rustls::sign::SingleCertAndKey::from(identity);
    let mut grpc = builder.with_cert_resolver(Arc::new(resolver));
    // A session that is taken up again does not show its certificate again:
    // with every handshake a whole one, a CA that was taken out counts at once.
    grpc.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    grpc.send_tls13_tickets = 0;
    let mut http = grpc.clone();
    // What is no gRPC on that port are actions as JSON.
    grpc.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    http.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(ServerSide { grpc: Arc::new(grpc), http: Arc::new(http), clients })
}

/// TLS 1.2 and 1.3 to servers whose certificate is signed by a CA of the file.
/// Reads the files, so call it where blocking is allowed.
pub(crate) fn client_config(
    ca: &Path,
    identity: Option<(&Path, &Path)>,
    clock: &SharedClock,
) -> Result<ClientConfig, Error> {
    let pem = Pem::read(identity, Some(ca), "CA file")?;
    let roots = pem.roots("CA file")?.unwrap_or_else(RootCertStore::empty);
    let time = Arc::new(Time(Arc::clone(clock)));
    let builder = ClientConfig::builder_with_details(provider(), time)
        .with_safe_default_protocol_versions()
        .map_err(|error| invalid(format!("TLS cannot be set up: {error}")))?
        .with_root_certificates(roots);
    let mut config = match pem.identity()? {
        Some(identity) => builder
            .with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(identity))),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}
