//! TLS of a server.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use sheaf_testkit::{Flavour, TlsFiles, Valkey};

/// The answer to a PING over TLS by someone who trusts one authority.
fn ping(addr: SocketAddr, trusts: &TlsFiles, shows: Option<&TlsFiles>) -> std::io::Result<String> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(trusts.ca()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match shows {
        None => config.with_no_client_auth(),
        Some(files) => {
            let chain = vec![CertificateDer::from_pem_file(files.client_certificate()).unwrap()];
            let key = PrivateKeyDer::from_pem_file(files.client_key()).unwrap();
            config.with_client_auth_cert(chain, key).unwrap()
        }
    };
    let name = "localhost".try_into().unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let socket = TcpStream::connect(addr)?;
    socket.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut stream = StreamOwned::new(connection, socket);
    stream.write_all(b"PING\r\n")?;
    let mut answer = [0; 7];
    stream.read_exact(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[test]
fn a_server_with_tls_is_who_its_authority_says() {
    let (files, others) = (TlsFiles::new().unwrap(), TlsFiles::new().unwrap());
    let Some(mut server) = Valkey::start_tls(&files, &[]).unwrap() else { return };
    let addr = server.tls_addr().unwrap();
    assert_eq!(ping(addr, &files, None).unwrap(), "+PONG\r\n");
    assert!(ping(addr, &others, None).is_err(), "an authority that nobody trusts");
    assert_eq!(server.command(&["PING"]).unwrap().text(), Some("PONG"), "without TLS, too");
    server.restart().unwrap();
    assert_eq!(ping(addr, &files, None).unwrap(), "+PONG\r\n");
}

#[test]
fn clients_show_a_certificate_where_they_must() {
    let (files, others) = (TlsFiles::new().unwrap(), TlsFiles::new().unwrap());
    let args = ["--tls-auth-clients", "yes"];
    let Some(server) = Valkey::start_tls(&files, &args).unwrap() else { return };
    let addr = server.tls_addr().unwrap();
    assert_eq!(ping(addr, &files, Some(&files)).unwrap(), "+PONG\r\n");
    assert!(ping(addr, &files, None).is_err());
    assert!(ping(addr, &files, Some(&others)).is_err());
}

#[test]
fn a_server_without_tls_says_so() {
    for flavour in Flavour::ALL {
        let Some(server) = Valkey::options(flavour).start().unwrap() else { continue };
        assert_eq!(server.tls_addr(), None);
        let files = TlsFiles::new().unwrap();
        let started = Valkey::options(flavour).tls(&files).start();
        assert_eq!(started.is_ok(), flavour.has_tls(), "{flavour:?}");
    }
}
