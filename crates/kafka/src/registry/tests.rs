//! The client and a registry that does all kinds of things.

use std::fmt::Write as _;
use std::sync::Arc;

use sheaf_retry::{Code, ManualClock, Retryable as _, SystemClock, Timestamp};
use sheaf_testkit::{RegisteredSchema as Schema, RegistryFault, SchemaRegistry};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::error::Weight;
use super::*;
use crate::decode::RegisteredKind;

async fn of(url: impl Into<String>) -> Registry {
    let options = RegistryOptions { url: url.into(), login: None, ca: None };
    Registry::open(options, SystemClock::shared()).await.unwrap()
}

/// Answers each path on its own connection, as told; its address.
async fn server(answer: impl Fn(&str) -> String + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n")
                && stream.read_buf(&mut request).await.unwrap() > 0
            {}
            let request = String::from_utf8(request).unwrap();
            let answer = answer(request.split(' ').nth(1).unwrap_or_default());
            // A client that has enough does not wait for the rest.
            drop(stream.write_all(answer.as_bytes()).await);
        }
    });
    url
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn schemas_come_with_all_that_they_refer_to() {
    let server = SchemaRegistry::start().unwrap();
    server.register("a/b c", Schema::protobuf("a"));
    server.register("b", Schema::protobuf("b").referring("a.proto", "a/b c", 1));
    let c = Schema::protobuf("c").referring("b.proto", "b", 1).referring("a.proto", "a/b c", 1);
    let id = server.register("c", c);
    let json = server.register("d", Schema::json("{}"));
    let registry = of(server.url() + "/").await;
    let schema = registry.schema(id).await.unwrap();
    assert_eq!((schema.kind, &*schema.text), (RegisteredKind::Protobuf, "c"));
    let pair = |name: &str, text: &str| (name.to_owned(), text.to_owned());
    assert_eq!(schema.references, [pair("b.proto", "b"), pair("a.proto", "a")]);
    assert_eq!(registry.schema(json).await.unwrap().kind, RegisteredKind::Json);
    let missing = registry.schema(99).await.unwrap_err();
    assert_eq!((missing.weight(), missing.code()), (Weight::Final, Code::NotFound));
    let before = server.requests().len();
    for id in [0, MAX_ID + 1, u32::MAX] {
        assert_eq!(registry.schema(id).await.unwrap_err().weight(), Weight::Final);
    }
    assert_eq!(server.requests().len(), before, "there are no such ids");
}

#[tokio::test]
async fn references_have_an_end() {
    let body = |name: &str, version: &str| {
        let reference = format!(r#"{{"name":"{name}","subject":"s","version":{version}}}"#);
        ok(&format!(r#"{{"schema":"x","schemaType":"PROTOBUF","references":[{reference}]}}"#))
    };
    let itself = of(server(move |_| body("a", "1")).await).await;
    let error = itself.schema(1).await.unwrap_err();
    assert!(matches!(error, Error::Cycle { version: 1, .. }), "{error}");
    let deep = server(move |path| {
        let depth = path.rsplit('/').next().unwrap().parse::<u32>().unwrap() + 1;
        body(&depth.to_string(), &depth.to_string())
    });
    let error = of(deep.await).await.schema(1).await.unwrap_err();
    assert!(matches!(error, Error::TooMany { .. }), "{error}");
    let wide = server(|_| {
        let mut references = String::new();
        for at in 0..=MAX_REFERENCES {
            let comma = if at > 0 { "," } else { "" };
            write!(references, r#"{comma}{{"name":"{at}","subject":"s{at}","version":1}}"#)
                .unwrap();
        }
        ok(&format!(r#"{{"schema":"x","references":[{references}]}}"#))
    });
    let error = of(wide.await).await.schema(1).await.unwrap_err();
    assert!(matches!(error, Error::TooMany { .. } | Error::Cycle { .. }), "{error}");
    let two = server(|path| match path {
        "/schemas/ids/1" => ok(r#"{"schema":"x","references":[
            {"name":"a","subject":"s","version":1},{"name":"a","subject":"s","version":2}]}"#),
        _ => ok(r#"{"schema":"x"}"#),
    });
    let error = of(two.await).await.schema(1).await.unwrap_err();
    assert!(matches!(error, Error::Ambiguous { .. }), "{error}");
    assert_eq!(error.weight(), Weight::Final);
}

#[tokio::test]
async fn what_goes_wrong_is_told_apart() {
    let mut server = SchemaRegistry::start().unwrap();
    let id = server.register("a", Schema::avro("\"string\""));
    let registry = of(server.url()).await;
    let faults = [
        (RegistryFault::Status(500), Weight::None, Code::Unavailable),
        (RegistryFault::Status(429), Weight::None, Code::Overloaded),
        (RegistryFault::Status(401), Weight::None, Code::Unauthenticated),
        (RegistryFault::Status(302), Weight::None, Code::FailedPrecondition),
        (RegistryFault::Status(404), Weight::Doubtful, Code::NotFound),
        (RegistryFault::Status(204), Weight::Doubtful, Code::FailedPrecondition),
        (RegistryFault::Body(b"<html>".to_vec()), Weight::Doubtful, Code::MalformedData),
        (RegistryFault::Body(b"{\"schema\":7}".to_vec()), Weight::Doubtful, Code::MalformedData),
        (RegistryFault::Body(vec![b' '; MAX_BYTES + 1]), Weight::Doubtful, Code::LimitExceeded),
        (RegistryFault::Truncated, Weight::None, Code::Unavailable),
    ];
    for (fault, weight, code) in faults {
        let what = format!("{fault:?}").chars().take(40).collect::<String>();
        server.fault(fault);
        let error = registry.schema(id).await.unwrap_err();
        assert_eq!((error.weight(), error.code()), (weight, code), "{what}: {}", error.whole());
    }
    server.heal();
    server.stop();
    let error = registry.schema(id).await.unwrap_err();
    assert_eq!((error.weight(), error.code()), (Weight::None, Code::Unavailable));
    assert!(error.whole().contains("refused"), "{}", error.whole());
    server.restart().unwrap();
    assert!(registry.schema(id).await.is_ok());
}

#[tokio::test]
async fn a_registry_that_hangs_is_left_after_its_time() {
    let server = SchemaRegistry::start().unwrap();
    server.fault(RegistryFault::Hang);
    let clock = ManualClock::new(Timestamp::EPOCH);
    let options = RegistryOptions { url: server.url(), login: None, ca: None };
    let registry = Registry::open(options, clock.clone()).await.unwrap();
    let (answer, ()) = tokio::join!(registry.schema(1), async {
        while server.requests().is_empty() {
            tokio::task::yield_now().await;
        }
        clock.advance(Duration::from_secs(5));
    });
    let error = answer.unwrap_err();
    assert_eq!((error.weight(), error.code()), (Weight::None, Code::DeadlineExceeded));
}

#[tokio::test]
async fn it_is_asked_until_it_answers() {
    let server = SchemaRegistry::start().unwrap();
    let id = server.register("a", Schema::avro("\"string\""));
    server.fault(RegistryFault::Status(503));
    let registry = of(server.url()).await;
    let (answer, ()) = tokio::join!(registry.insist(id), async {
        while server.requests().len() < 2 {
            tokio::task::yield_now().await;
        }
        server.heal();
    });
    assert_eq!(answer.unwrap().text, "\"string\"");
    assert!(registry.insist(99).await.unwrap_err().contains("Schema not found"));
}

#[tokio::test]
async fn a_login_is_sent_and_never_shown() {
    let server = SchemaRegistry::start_with_login("me", "hunter2:x").unwrap();
    let id = server.register("a", Schema::avro("\"string\""));
    let with = |user: &str, password: &str| {
        let login = Some((user.to_owned(), Secret::new(password)));
        let options = RegistryOptions { url: server.url(), login, ca: None };
        Registry::open(options, SystemClock::shared())
    };
    let registry = with("me", "hunter2:x").await.unwrap();
    assert!(registry.schema(id).await.is_ok());
    let shown = format!("{registry:?}");
    let encoded = BASE64_STANDARD.encode("me:hunter2:x");
    assert!(!shown.contains("hunter2") && !shown.contains(&encoded), "{shown}");
    let error = with("me", "hunter3").await.unwrap().schema(id).await.unwrap_err();
    assert_eq!(error.code(), Code::Unauthenticated);
    assert!(!error.whole().contains("hunter3"), "{}", error.whole());
    assert!(matches!(with("a:b", "c").await, Err(Error::Invalid(_))));
}

/// A door with TLS in front of a registry: its address.
async fn tls_door(files: &sheaf_testkit::TlsFiles, to: std::net::SocketAddr) -> String {
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let chain = CertificateDer::pem_file_iter(files.server_certificate()).unwrap();
    let chain = chain.collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_file(files.server_key()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider);
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let config = config.with_single_cert(chain, key).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut inside) = acceptor.accept(stream).await else { continue };
            let mut outside = tokio::net::TcpStream::connect(to).await.unwrap();
            drop(tokio::io::copy_bidirectional(&mut inside, &mut outside).await);
        }
    });
    url
}

#[tokio::test]
async fn https_is_checked_by_the_file_or_the_system() {
    let server = SchemaRegistry::start().unwrap();
    let id = server.register("a", Schema::avro("\"string\""));
    let (files, strangers) = (sheaf_testkit::TlsFiles::new(), sheaf_testkit::TlsFiles::new());
    let (files, strangers) = (files.unwrap(), strangers.unwrap());
    let url = tls_door(&files, server.addr()).await;
    let open = |ca| {
        let options = RegistryOptions { url: url.clone(), login: None, ca };
        Registry::open(options, SystemClock::shared())
    };
    let registry = open(Some(files.ca())).await.unwrap();
    assert_eq!(registry.schema(id).await.unwrap().text, "\"string\"");
    let error = open(Some(strangers.ca())).await.unwrap().schema(id).await.unwrap_err();
    assert_eq!(error.weight(), Weight::None, "{}", error.whole());
    // Where the system trusts somebody, that is not this one.
    match open(None).await {
        Ok(registry) => assert!(registry.schema(id).await.is_err()),
        Err(error) => assert!(error.to_string().contains("--schema-registry-ca"), "{error}"),
    }
    assert!(matches!(open(Some("/nowhere".into())).await, Err(Error::Tls { .. })));
    let plain = RegistryOptions { url: server.url(), login: None, ca: Some(files.ca()) };
    let plain = Registry::open(plain, SystemClock::shared()).await;
    assert!(matches!(plain, Err(Error::Invalid(_))));
}
