//! `sheaf doctor` on certificates and tokens.

use std::os::unix::fs::PermissionsExt as _;

use super::files::{Authority, OLD, RIGHT, Secured, WRONG, write};
use crate::doctor::Finding;

/// The settings of a client of a secured server, and what the doctor says of them.
fn worker(secured: &Secured, token: &str, ca: &str) -> Finding {
    let file = secured.path("client-token");
    write(&file, token);
    let uri = secured.uri();
    let flags = ["--mode", "worker", "--coordinator", uri, "--flight-addr", uri];
    Finding::of(&[&flags[..], &["--tls-ca", ca, "--client-token-file", &file]].concat())
}

#[test]
fn right_wrong_and_expired_tokens_are_told_apart() {
    let secured = Secured::start(&["--workers", "0"]);
    let ca = secured.path("ca");
    let found = worker(&secured, RIGHT, &ca);
    assert_eq!(found.code, 0, "{:#}", found.report);
    for name in ["coordinator.tls", "coordinator.access", "client_token", "tls.ca"] {
        assert_eq!(found.check(name)["verdict"], "ok", "{:#}", found.report);
    }
    let text = found.report.to_string();
    assert!(!text.contains("0123456789abcdef"), "no token is shown: {text}");

    let found = worker(&secured, WRONG, &ca);
    assert_eq!(found.code, 8, "{:#}", found.report);
    let check = found.problem("coordinator.access", "unauthenticated", "--client-token-file");
    assert!(check["found"].as_str().unwrap().contains("not accepted"), "{check}");
    assert_eq!(
        found.check("coordinator.health")["verdict"],
        "ok",
        "its health is told all the same"
    );

    let found = worker(&secured, &format!("old {OLD} expires=2020-01-01T00:00:00Z\n"), &ca);
    assert_eq!(found.code, 8, "{:#}", found.report);
    found.problem("client_token", "unauthenticated", "write a token");

    let stranger = secured.path("stranger");
    write(&stranger, &Authority::new().pem);
    let found = worker(&secured, RIGHT, &stranger);
    assert_eq!(found.code, 8, "{:#}", found.report);
    found.problem("coordinator.tls", "unauthenticated", "--tls-ca");
}

#[test]
fn an_expired_certificate_and_files_for_everybody_are_told_before_the_start() {
    let folder = sheaf_testkit::TempDir::new().unwrap();
    let (certificate, key) = Authority::new().write(folder.path(), "old", true);
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (data, tokens) = (path("data"), path("tokens"));
    write(&tokens, &format!("main {RIGHT}\nold {OLD} expires=2020-01-01T00:00:00Z\n"));
    let flags = ["--data-dir", &data, "--flight-addr", "127.0.0.1:0", "--token-file", &tokens];
    let flags = [&flags[..], &["--tls-cert", &certificate, "--tls-key", &key]].concat();
    let found = Finding::of(&flags);
    assert_eq!(found.code, 8, "{:#}", found.report);
    let check = found.problem("tls.certificate", "unauthenticated", "exchange it");
    assert!(check["found"].as_str().unwrap().contains("expired at 2020-01-01"), "{check}");
    assert!(check["figures"]["days_left"].as_i64().unwrap() < -2_000, "{check}");
    let tokens_found = found.check("tokens");
    assert_eq!(
        (&tokens_found["verdict"], &tokens_found["figures"]["expired"]),
        (&"warning".into(), &1.into())
    );

    for file in [&key, &tokens] {
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o644)).unwrap();
    }
    let found = Finding::of(&flags);
    for (name, file) in [("tls.key", &key), ("tokens", &tokens)] {
        let check = found.problem(name, "failed_precondition", "run the command");
        let text = check["found"].as_str().unwrap();
        assert!(text.contains(&format!("run `chmod 600 {file}`")), "{check}");
    }

    // A key of another certificate.
    let (_, other) = Authority::new().write(folder.path(), "other", false);
    let flags = ["--data-dir", &data, "--flight-addr", "127.0.0.1:0", "--tls-key", &other];
    let found = Finding::of(&[&flags[..], &["--tls-cert", &certificate]].concat());
    let check = found.problem("tls.key", "invalid_argument", "private key");
    assert!(check["found"].as_str().unwrap().contains("does not belong to"), "{check}");
}

#[test]
fn a_secured_server_is_asked_with_its_own_files() {
    let secured = Secured::start(&["--workers", "0"]);
    let at = |service: &str| secured.server.ready.addr(service).unwrap().to_string();
    let (flight, admin, data) = (at("flight"), at("admin"), secured.server.path("data"));
    let (certificate, key) = (secured.path("server.pem"), secured.path("server.key"));
    let (ca, tokens) = (secured.path("ca"), secured.path("tokens"));
    let flags = ["--data-dir", &data, "--flight-addr", &flight, "--admin-addr", &admin];
    let more = ["--tls-cert", &certificate, "--tls-key", &key, "--token-file", &tokens];
    let own = [&flags[..], &more, &["--tls-ca", &ca]].concat();
    let found = Finding::of(&own);
    assert_eq!(found.code, 0, "{:#}", found.report);
    for name in ["server.tls", "server.access", "port.flight", "port.admin", "tls.certificate"] {
        assert_eq!(found.check(name)["verdict"], "ok", "{:#}", found.report);
    }
    // Without the CA it cannot be asked; that is no problem of the server.
    let found = Finding::of(&[&flags[..], &more].concat());
    assert_eq!(found.code, 0, "{:#}", found.report);
    let check = found.check("port.flight");
    assert_eq!(check["verdict"], "skipped", "{check}");
    assert!(check["found"].as_str().unwrap().contains("--tls-ca"), "{check}");

    let probe = |flags: &[&str]| {
        let mut command = crate::harness::command();
        crate::harness::Ran(command.args(["doctor", "--probe"]).args(flags).output().unwrap())
    };
    assert_eq!(probe(&own).ok(), "");
}
