//! Tokens: missing, wrong, expired, taken back, right; on every port.

use std::net::TcpStream;

use sheaf_retry::{Code, Retryable as _};

use super::calls::{HEALTH, METHODS, WATCH, call, http, pool, runtime};
use super::files::{GONE, OLD, RIGHT, Secured, WRONG, tokens, write};
use crate::harness::{PATIENCE, Server};

/// A server without TLS, on loopback, that asks for tokens.
fn plain() -> (Server, sheaf_testkit::TempDir, String) {
    let folder = sheaf_testkit::TempDir::new().unwrap();
    let path = folder.path().join("tokens").to_str().unwrap().to_owned();
    write(&path, &tokens());
    (Server::start(&["--workers", "0", "--token-file", &path]), folder, path)
}

/// Waits until a token is refused, as one taken back is.
fn wait_for_refusal(uri: &str, token: &str) {
    let runtime = runtime();
    let pool = pool(Some(token), None, None);
    sheaf_testkit::wait_until(PATIENCE, "the token to be taken back", || {
        runtime.block_on(call(&pool, uri, METHODS[9])).is_err()
    })
    .unwrap();
}

#[test]
fn every_method_and_page_asks_for_a_token() {
    let (server, _folder, path) = plain();
    let (uri, admin) = (server.ready.url("flight").unwrap(), server.ready.addr("admin").unwrap());
    let runtime = runtime();
    let good = pool(Some(GONE), None, None);
    assert!(runtime.block_on(call(&good, uri, METHODS[9])).is_ok(), "not taken back yet");
    write(&path, &tokens().replace(GONE, "another-0123456789abcdef"));
    wait_for_refusal(uri, GONE);

    for (token, why) in [
        (None, "there is no token"),
        (Some(WRONG), "not accepted here"),
        (Some(OLD), "has expired"),
        (Some(GONE), "not accepted here"),
        (Some(RIGHT), ""),
    ] {
        let pool = pool(token, None, None);
        for method in METHODS {
            let answer = runtime.block_on(call(&pool, uri, method));
            if token == Some(RIGHT) {
                let code = answer.err().map(|error| error.code());
                assert_ne!(code, Some(Code::Unauthenticated), "{method}");
                continue;
            }
            let error = answer.err().unwrap_or_else(|| panic!("{method} with {token:?}"));
            assert_eq!(error.code(), Code::Unauthenticated, "{method}: {error}");
            assert!(error.message().contains(why), "{method}: {error}");
            assert!(!error.message().contains("0123456789abcdef"), "{error}");
        }
        assert!(runtime.block_on(call(&pool, uri, HEALTH)).is_ok(), "health is open");

        let header = token.map(|token| format!("authorization: Bearer {token}\r\n"));
        let header = header.unwrap_or_default();
        let page = |path| http(TcpStream::connect(admin).unwrap(), path, &header).unwrap();
        for path in ["/metrics", "/debug/pprof/", "/debug/pprof/profile?seconds=1&format=x", "/"] {
            let (status, body) = page(path);
            match token {
                Some(RIGHT) => assert_ne!(status, 401, "{path}"),
                _ => {
                    assert_eq!(status, 401, "{path}: {body}");
                    assert!(body.contains(why), "{path}: {body}");
                }
            }
        }
        for path in ["/health", "/healthz", "/readyz"] {
            assert_eq!(page(path).0, 200, "{path}");
        }
    }
}

#[test]
fn a_token_taken_back_ends_the_streams_it_opened() {
    let (server, _folder, path) = plain();
    let uri = server.ready.url("flight").unwrap();
    let runtime = runtime();
    let (gone, right) = (pool(Some(GONE), None, None), pool(Some(RIGHT), None, None));
    let mut ended = runtime.block_on(call(&gone, uri, WATCH)).unwrap();
    let mut goes_on = runtime.block_on(call(&right, uri, WATCH)).unwrap();
    write(&path, &format!("# first\nmain {RIGHT}\n"));
    let status = runtime.block_on(async { tokio::time::timeout(PATIENCE, ended.message()).await });
    let error = sheaf_flight::Error::from(status.unwrap().unwrap_err());
    assert_eq!(error.code(), Code::Unauthenticated);
    assert!(error.message().contains("taken back"), "{error}");
    // A broken file changes nothing, and is named in the log.
    write(&path, "short\n");
    let mut server = server;
    let told = |line: &str| (line.contains("stay in use") && line.contains("line 1")).then_some(());
    server.process.wait_for_stderr_line(PATIENCE, told).unwrap();
    let more = runtime.block_on(async {
        tokio::time::timeout(std::time::Duration::from_millis(50), goes_on.message()).await
    });
    assert!(more.is_err(), "the other stream goes on: {more:?}");
}

#[test]
fn commands_and_workers_go_through_tls_with_a_token() {
    let secured = Secured::start(&["--workers", "0"]);
    let (uri, ca, tokens) = (secured.uri(), secured.path("ca"), secured.path("tokens"));
    assert!(uri.starts_with("grpc+tls://127.0.0.1:"), "{uri}");
    assert!(secured.server.ready.url("admin").unwrap().starts_with("https://"));
    let worker = ["--mode", "worker", "--workers", "1", "--coordinator", uri, "--flight-addr", uri];
    let more = ["--tls-ca", &ca, "--client-token-file", &tokens];
    let mut worker = crate::harness::serve(&worker, &more);
    worker.wait_ready(PATIENCE).unwrap();
    let csv = secured.server.csv("rows.csv", 5);
    let put = secured.run(&["put", &csv, "--register", "--json"]).json().remove(0);
    let id = put["batch_id"].as_str().unwrap();
    sheaf_testkit::wait_until(PATIENCE, "the worker to be done", || {
        let shown = secured.run(&["batches", "show", id, "--json"]).json().remove(0);
        shown["state"] == "completed"
    })
    .unwrap();
    assert_eq!(secured.run(&["get", id, "--format", "csv"]).ok().lines().count(), 6);

    // Without token, without CA, without TLS: each is told as what it is.
    let bare = |words: &[&str]| {
        let mut command = crate::harness::command();
        crate::harness::Ran(command.args(["batches", "list"]).args(words).output().unwrap())
    };
    let text = bare(&["--server", uri, "--tls-ca", &ca]).failed(8);
    assert!(text.contains("there is no token"), "{text}");
    let text = bare(&["--server", uri, "--token-file", &tokens]).failed(5);
    assert!(text.contains("--tls-ca"), "{text}");
    let plain = uri.replace("grpc+tls", "grpc");
    let ran = bare(&["--server", &plain, "--token-file", &tokens]);
    assert_ne!(ran.code(), 0);
    assert!(ran.stderr().contains("TLS only"), "{}", ran.stderr());
    let text = bare(&["--server", "grpc://192.0.2.1:1", "--token-file", &tokens]).failed(5);
    assert!(text.contains("grpc+tls://"), "{text}");
}

#[test]
fn pyarrow_calls_under_tls_with_a_token() {
    let Some(python) = sheaf_testkit::python() else { return };
    let secured = Secured::start(&["--workers", "1"]);
    let script = format!("{}/tests/it/secured.py", env!("CARGO_MANIFEST_DIR"));
    let (ca, tokens) = (secured.path("ca"), secured.path("tokens"));
    let words = [script.as_str(), secured.uri(), &ca, RIGHT, WRONG, OLD];
    let ran = std::process::Command::new(python).args(words).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{out}{err}\n{}", secured.server.process.stderr());
    assert_eq!(out.trim(), "refused 3 rows 3", "{tokens}");
}
