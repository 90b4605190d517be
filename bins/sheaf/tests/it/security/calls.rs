//! Calls of any method, with any token and certificate.

use std::io::Read as _;
use std::net::TcpStream;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use sheaf_flight::{ChannelPool, ClientConfig, ClientSecurity, Error, Secret, TokenSource};
use sheaf_retry::SystemClock;
use tonic::{Request, Streaming};

/// Every method of every gRPC service on the port but health.
pub(super) const METHODS: [&str; 20] = [
    "arrow.flight.protocol.FlightService/Handshake",
    "arrow.flight.protocol.FlightService/ListFlights",
    "arrow.flight.protocol.FlightService/GetFlightInfo",
    "arrow.flight.protocol.FlightService/PollFlightInfo",
    "arrow.flight.protocol.FlightService/GetSchema",
    "arrow.flight.protocol.FlightService/DoGet",
    "arrow.flight.protocol.FlightService/DoPut",
    "arrow.flight.protocol.FlightService/DoExchange",
    "arrow.flight.protocol.FlightService/DoAction",
    "arrow.flight.protocol.FlightService/ListActions",
    "sheaf.coordinator.v1.Coordinator/Register",
    "sheaf.coordinator.v1.Coordinator/Claim",
    "sheaf.coordinator.v1.Coordinator/ClaimStream",
    "sheaf.coordinator.v1.Coordinator/Settle",
    "sheaf.coordinator.v1.Coordinator/Extend",
    "sheaf.coordinator.v1.Coordinator/Query",
    "sheaf.coordinator.v1.Coordinator/Control",
    WATCH,
    "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];
pub(super) const WATCH: &str = "sheaf.coordinator.v1.Coordinator/Watch";
pub(super) const HEALTH: &str = "grpc.health.v1.Health/Check";

pub(super) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// A pool of connections with this token, CA and certificate.
pub(super) fn pool(
    token: Option<&str>,
    ca: Option<&str>,
    identity: Option<(&str, &str)>,
) -> ChannelPool {
    let token = token.map_or(TokenSource::None, |token| TokenSource::Fixed(Secret::new(token)));
    let security = ClientSecurity {
        ca: ca.map(Into::into),
        identity: identity.map(|(cert, key)| (cert.into(), key.into())),
        token,
        insecure: false,
    };
    let config = ClientConfig { security, ..ClientConfig::default() };
    ChannelPool::new(config, SystemClock::shared())
}

/// Calls a method with an empty message; the answers, once they begin.
pub(super) async fn call(
    pool: &ChannelPool,
    uri: &str,
    method: &'static str,
) -> Result<Streaming<()>, Error> {
    let channel = pool.channel(&uri.parse()?)?;
    let mut client = tonic::client::Grpc::new(channel);
    let ready = client.ready().await;
    ready.map_err(|error| Error::from(tonic::Status::from_error(Box::new(error))))?;
    let path = format!("/{method}").parse().unwrap();
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    let answer = client.server_streaming(Request::new(()), path, codec).await;
    Ok(answer.map_err(Error::from)?.into_inner())
}

/// What an HTTP port answers to a request with these headers: status and body.
pub(super) fn http(
    mut stream: impl std::io::Read + std::io::Write,
    path: &str,
    header: &str,
) -> std::io::Result<(u16, String)> {
    write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\n{header}connection: close\r\n\r\n")?;
    stream.flush()?;
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        // HTTP says where it ends; how TLS is closed is no matter.
        Err(error) if answer.is_empty() => return Err(error),
        _ => {}
    }
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok((status.unwrap_or(0), body.to_owned()))
}

/// A TLS connection that trusts this CA, with this certificate.
pub(super) fn tls(
    address: std::net::SocketAddr,
    ca: &str,
    identity: Option<(&str, &str)>,
) -> impl std::io::Read + std::io::Write + use<> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match identity {
        Some((cert, key)) => builder
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_file(cert).unwrap()],
                PrivateKeyDer::from_pem_file(key).unwrap(),
            )
            .unwrap(),
        None => builder.with_no_client_auth(),
    };
    let name = ServerName::try_from("localhost").unwrap();
    let session = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    rustls::StreamOwned::new(session, TcpStream::connect(address).unwrap())
}

/// Reads until the other end closes; whatever it says.
pub(super) fn drain(stream: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    drop(stream.read_to_end(&mut all));
    all
}
