//! One request and its answer, each on a connection of its own: schemas are
//! asked for seldom.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ::http::{HeaderValue, Request, header};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use sheaf_flight::TlsFiles;
use sheaf_retry::SharedClock;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::Error;
use super::address::Address;
use super::answer::Response;

/// How long a request may take, connection and body included.
const LIMIT: Duration = Duration::from_secs(5);
/// Bytes of an answer at most.
pub(super) const MAX_BYTES: usize = 16 << 20;

const ACCEPT: &str = "application/vnd.schemaregistry.v1+json, application/json";

/// Whom to ask, and how.
pub(super) struct Http {
    pub(super) address: Address,
    authorization: Option<HeaderValue>,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    clock: SharedClock,
}

impl std::fmt::Debug for Http {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Http").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Http {
    pub(super) async fn open(
        address: Address,
        authorization: Option<HeaderValue>,
        ca: Option<PathBuf>,
        clock: &SharedClock,
    ) -> Result<Self, Error> {
        let tls = match address.is_tls {
            true => {
                let name = ServerName::try_from(address.host.clone());
                let name = name.map_err(|error| tls("find the name of the registry", error))?;
                Some((TlsConnector::from(Arc::new(client_config(ca, clock).await?)), name))
            }
            false if ca.is_some() => {
                let problem = "a CA file is given, and the schema registry is not https";
                return Err(Error::Invalid(problem.to_owned()));
            }
            false => None,
        };
        Ok(Http { address, authorization, tls, clock: Arc::clone(clock) })
    }

    /// The answer to a path below the address, whatever its status.
    pub(super) async fn get(&self, path: &str) -> Result<Response, Error> {
        tokio::select! {
            response = self.exchange(path) => response,
            () = self.clock.sleep(LIMIT) => {
                let address = self.address.to_string();
                Err(Error::Slow { address, limit_ms: LIMIT.as_millis() })
            }
        }
    }

    async fn exchange(&self, path: &str) -> Result<Response, Error> {
        let connected = self.connect().await.map_err(|error| self.unreachable(error))?;
        let handshake = http1::handshake(TokioIo::new(connected)).await;
        let (mut sender, connection) = handshake.map_err(|error| self.unreachable(error))?;
        let mut request = Request::get(format!("{}{path}", self.address.prefix))
            .header(header::HOST, &self.address.authority)
            .header(header::ACCEPT, ACCEPT)
            .header(header::USER_AGENT, "sheaf-gateway");
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let request = request.body(Empty::<Bytes>::new());
        let request = request.map_err(|error| self.unreachable(error))?;
        let mut answer = std::pin::pin!(async {
            let response = sender.send_request(request).await;
            let (head, body) = response.map_err(|error| self.unreachable(error))?.into_parts();
            let body = Limited::new(body, MAX_BYTES).collect().await;
            let body = body.map_err(|error| match error.is::<LengthLimitError>() {
                true => Error::TooLarge { path: path.to_owned(), limit: MAX_BYTES },
                false => self.unreachable(error),
            })?;
            let (status, headers) = (head.status, head.headers);
            Ok(Response { status, headers, body: body.to_bytes() })
        });
        tokio::select! {
            answer = &mut answer => answer,
            // What ended the connection is the answer's error, if it was not whole.
            _ = connection => answer.await,
        }
    }

    async fn connect(&self) -> Result<Box<dyn Connected>, std::io::Error> {
        let stream = TcpStream::connect((&*self.address.host, self.address.port)).await?;
        stream.set_nodelay(true)?;
        match &self.tls {
            None => Ok(Box::new(stream)),
            Some((tls, name)) => Ok(Box::new(tls.connect(name.clone(), stream).await?)),
        }
    }

    fn unreachable(&self, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        Error::Unreachable { address: self.address.to_string(), source: error.into() }
    }
}

trait Connected: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connected for T {}

/// Trusts the CA of a file, else those that the system trusts.
async fn client_config(ca: Option<PathBuf>, clock: &SharedClock) -> Result<ClientConfig, Error> {
    if let Some(ca) = ca {
        let files = TlsFiles { ca, identity: None };
        return files.read(clock).await.map_err(|error| tls("read the CA file", error));
    }
    let roots = tokio::task::spawn_blocking(|| {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        // Some system has some that rustls does not take: the others count.
        roots.add_parsable_certificates(found.certs);
        roots
    });
    let roots = roots.await.map_err(|error| tls("read the system's CA certificates", error))?;
    if roots.is_empty() {
        let problem = "this system has no CA certificates; give a file of them as \
                       --schema-registry-ca";
        return Err(Error::Invalid(problem.to_owned()));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder
        .with_safe_default_protocol_versions()
        .map_err(|error| tls("set up TLS for the schema registry", error))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn tls(
    operation: &'static str,
    error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> Error {
    Error::Tls { operation, source: error.into() }
}
