//! Certificates: none, of another CA, expired, right; exchanged while running.

use std::net::TcpStream;

use sheaf_retry::{Code, Retryable as _};

use super::calls::{HEALTH, METHODS, WATCH, call, drain, http, pool, runtime, tls};
use super::files::{Authority, RIGHT, Secured, write};
use crate::harness::PATIENCE;

const LIST: &str = METHODS[9];

#[test]
fn a_client_must_have_the_right_certificate_on_both_ports() {
    let clients = Authority::new();
    let other = Authority::new();
    let folder = sheaf_testkit::TempDir::new().unwrap();
    let client_ca = folder.path().join("clients").to_str().unwrap().to_owned();
    write(&client_ca, &clients.pem);
    let secured = Secured::start(&["--workers", "0", "--tls-client-ca", &client_ca]);
    let (uri, ca) = (secured.uri().to_owned(), secured.path("ca"));
    let admin = secured.server.ready.addr("admin").unwrap();
    let right = clients.write(folder.path(), "right", false);
    let expired = clients.write(folder.path(), "expired", true);
    let foreign = other.write(folder.path(), "foreign", false);
    let runtime = runtime();
    for (identity, why) in [
        (None, "server requires one"),
        (Some(&foreign), "certificate of this client"),
        (Some(&expired), "it has expired"),
        (Some(&right), ""),
    ] {
        let identity = identity.map(|(cert, key)| (cert.as_str(), key.as_str()));
        let pool = pool(Some(RIGHT), Some(&ca), identity);
        let header = format!("authorization: Bearer {RIGHT}\r\n");
        let page = |path| http(tls(admin, &ca, identity), path, &header);
        if why.is_empty() {
            runtime.block_on(call(&pool, &uri, LIST)).unwrap();
            assert_eq!(page("/metrics").unwrap().0, 200);
            continue;
        }
        // Health needs no token, but TLS comes before any call.
        for method in [LIST, HEALTH] {
            let error = runtime.block_on(call(&pool, &uri, method)).unwrap_err();
            assert_eq!(error.code(), Code::Unauthenticated, "{error}");
            assert!(error.message().contains(why), "{error}");
        }
        for path in ["/metrics", "/healthz"] {
            assert!(page(path).is_err(), "{path} with {identity:?}");
        }
    }
    // A CA that counts no more ends the connections of its clients.
    let identity = Some((right.0.as_str(), right.1.as_str()));
    let known = pool(Some(RIGHT), Some(&ca), identity);
    let mut stream = runtime.block_on(call(&known, &uri, WATCH)).unwrap();
    write(&client_ca, &other.pem);
    let end = runtime.block_on(async { tokio::time::timeout(PATIENCE, stream.message()).await });
    assert!(end.unwrap().is_err());
    let error = runtime.block_on(call(&known, &uri, LIST)).unwrap_err();
    assert_eq!(error.code(), Code::Unauthenticated, "{error}");
}

#[test]
fn a_server_of_another_ca_gets_no_call() {
    let secured = Secured::start(&["--workers", "0"]);
    let other = secured.path("other-ca");
    write(&other, &Authority::new().pem);
    let runtime = runtime();
    let error = runtime.block_on(call(&pool(Some(RIGHT), Some(&other), None), secured.uri(), LIST));
    let error = error.unwrap_err();
    assert_eq!(error.code(), Code::Unauthenticated);
    assert!(error.message().contains("signed by no CA"), "{error}");
}

#[test]
fn who_speaks_no_tls_is_told_so_and_holds_nobody_up() {
    let secured = Secured::start(&["--workers", "0"]);
    let runtime = runtime();
    let plain = secured.uri().replace("grpc+tls", "grpc");
    let error = runtime.block_on(call(&pool(None, None, None), &plain, LIST)).unwrap_err();
    assert!(error.message().contains("this port speaks TLS only"), "{error}");
    let admin = secured.server.ready.addr("admin").unwrap();
    let (status, body) = http(TcpStream::connect(admin).unwrap(), "/healthz", "").unwrap();
    assert_eq!((status, body.as_str()), (400, "this port speaks TLS only\n"));
    // Silent and senseless clients, and beside them one that is served.
    let flight = secured.server.ready.addr("flight").unwrap();
    let silent: Vec<_> = (0..50).map(|_| TcpStream::connect(flight).unwrap()).collect();
    let mut nonsense = TcpStream::connect(flight).unwrap();
    std::io::Write::write_all(&mut nonsense, &[0x16, 3, 1, 0, 4, 1, 2, 3, 4]).unwrap();
    let ca = secured.path("ca");
    runtime.block_on(call(&pool(Some(RIGHT), Some(&ca), None), secured.uri(), LIST)).unwrap();
    drain(&mut nonsense);
    drop(silent);
    assert!(!secured.server.process.stderr().contains("panicked"));
}

#[test]
fn certificates_are_exchanged_without_a_break() {
    let secured = Secured::start(&["--workers", "0"]);
    let (uri, ca) = (secured.uri().to_owned(), secured.path("ca"));
    let runtime = runtime();
    let before = pool(Some(RIGHT), Some(&ca), None);
    let mut stream = runtime.block_on(call(&before, &uri, WATCH)).unwrap();
    // A key that does not fit leaves the old pair in use.
    let next = Authority::new();
    let (certificate, key) = next.signed(false);
    write(&secured.path("server.pem"), &certificate);
    let mut secured = secured;
    let told = |line: &str| line.contains("does not belong to").then_some(());
    secured.server.process.wait_for_stderr_line(PATIENCE, told).unwrap();
    runtime.block_on(call(&pool(Some(RIGHT), Some(&ca), None), &uri, LIST)).unwrap();
    write(&secured.path("server.key"), &key);
    let new_ca = secured.path("new-ca");
    write(&new_ca, &next.pem);
    sheaf_testkit::wait_until(PATIENCE, "the new certificate", || {
        let fresh = pool(Some(RIGHT), Some(&new_ca), None);
        runtime.block_on(call(&fresh, &uri, LIST)).is_ok()
    })
    .unwrap();
    let error = runtime.block_on(call(&pool(Some(RIGHT), Some(&ca), None), &uri, LIST));
    assert_eq!(error.unwrap_err().code(), Code::Unauthenticated);
    // The connection that was there goes on, and so does its stream.
    runtime.block_on(call(&before, &uri, LIST)).unwrap();
    let more = runtime.block_on(async {
        tokio::time::timeout(std::time::Duration::from_millis(50), stream.message()).await
    });
    assert!(more.is_err(), "{more:?}");
}
