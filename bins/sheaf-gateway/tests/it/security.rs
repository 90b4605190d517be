//! Who may call a gateway, and how calls are encrypted.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use sheaf_testkit::{TempDir, TlsFiles, wait_until};

use crate::harness::{Kafka, PATIENCE, run};

/// Writes a file that nobody else may read.
fn put(folder: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn with_certificates_and_tokens_only_those_who_may_read() {
    let Some(kafka) = Kafka::start() else { return };
    kafka.create("logs", 1).await;
    kafka.produce("logs", (0..10).map(|n| (0, String::new(), Some(format!(r#"{{"n":{n}}}"#)))));
    let (tls, folder) = (TlsFiles::new().unwrap(), TempDir::new().unwrap());
    let [ca, cert, key] = [tls.ca(), tls.server_certificate(), tls.server_key()];
    let [for_topics, for_all] = ["topics-0123456789abcdef", "all-0123456789abcdef"];
    let tokens = format!("topics {for_topics} allow=topics:r\nall {for_all}\n");
    let tokens = put(&folder, "tokens", &tokens);
    let [reader, all] =
        [("reader", for_topics), ("all", for_all)].map(|(name, token)| put(&folder, name, token));
    let secured = [
        ["--tls-cert", text(&cert)],
        ["--tls-key", text(&key)],
        ["--token-file", text(&tokens)],
        ["--bind", "0.0.0.0"],
        ["--metrics-addr", "127.0.0.1:0"],
    ];
    let gateway = kafka.gateway("logs", &[&secured.concat()[..], &["--metrics"]].concat());
    let uri = gateway.uri().replace("0.0.0.0", "localhost");
    assert!(uri.starts_with("grpc+tls://"), "{uri}");
    assert!(gateway.ready.url("metrics").unwrap().starts_with("https://"));
    let ask = |more: &[&str]| {
        let first = ["client", "--server", &uri, "--output", "json", "--tls-ca", text(&ca)];
        run(&[&first[..], more].concat())
    };
    let read = ["--token-file", text(&reader), "--topic", "logs"];
    let is_read = || ask(&read).1.lines().count() == 10;
    wait_until(PATIENCE, "a token that may read", is_read).unwrap();
    let (code, out, error) = ask(&["--token-file", text(&all)]);
    assert_eq!((code, out.contains("logs")), (Some(0), true), "{error}");
    let (code, _, error) = ask(&["--topic", "logs"]);
    assert_eq!(code, Some(8), "{error}");
    let (code, _, error) = run(&["client", "--server", &uri, "--topic", "logs"]);
    assert_ne!(code, Some(0), "{error}");
}

#[test]
fn other_machines_need_certificates_and_tokens_or_consent() {
    let files = TlsFiles::new().unwrap();
    let [cert, key] = [files.server_certificate(), files.server_key()];
    let serve = ["serve", "--topics", "logs", "--port", "0", "--bind", "0.0.0.0"];
    let tls = ["--tls-cert", text(&cert), "--tls-key", text(&key)];
    for more in [&[][..], &tls] {
        let (code, _, error) = run(&[&serve[..], more].concat());
        assert_eq!(code, Some(5), "{error}");
        assert!(error.contains("--insecure"), "{error}");
    }
    let (code, _, error) = run(&[&serve[..], &tls[..2]].concat());
    assert_eq!(code, Some(2), "{error}");
    assert!(error.contains("--tls-key"), "{error}");
}
