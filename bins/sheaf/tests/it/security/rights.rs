//! Tokens with limited rights, on every port of a server.

use std::net::TcpStream;

use bytes::Bytes;
use sheaf_flight::CallOptions;
use sheaf_retry::{Code, Retryable as _};

use super::calls::{HEALTH, METHODS, call, http, pool, runtime};
use super::files::{RIGHT, write};
use crate::harness::{PATIENCE, Ran, Server, command};

const READER: &str = "reader-0123456789abcdef";
const WATCHER: &str = "watcher-0123456789abcdef";
const WORKER: &str = "worker-0123456789abcdef";
const SMALL: &str = "small-0123456789abcdef";
const OTHER: &str = "other-0123456789abcdef";

/// A server that knows these, and the file that it has them from.
fn start() -> (Server, sheaf_testkit::TempDir, String) {
    let folder = sheaf_testkit::TempDir::new().unwrap();
    let path = folder.path().join("tokens").to_str().unwrap().to_owned();
    let text = format!(
        "main {RIGHT}\nreader {READER} allow=batches:r\nwatcher {WATCHER} allow=coordinator:r\n\
         worker {WORKER} allow=batches:rw,coordinator:x\nsmall {SMALL} quota=2KiB\n\
         other {OTHER} allow=topics:rwx\n"
    );
    write(&path, &text);
    (Server::start(&["--workers", "0", "--token-file", &path]), folder, path)
}

/// Whether a call is refused for want of a right.
fn is_denied<T>(answer: Result<T, sheaf_flight::Error>) -> bool {
    answer.is_err_and(|error| error.code() == Code::PermissionDenied)
}

#[test]
fn other_services_and_actions_need_rights_too() {
    let (server, _folder, _) = start();
    let (uri, runtime) = (server.ready.url("flight").unwrap(), runtime());
    let reads = ["Query", "Watch"];
    let tokens = [(RIGHT, "rx"), (READER, ""), (WATCHER, "r"), (WORKER, "x"), (OTHER, "")];
    for (token, rights) in tokens {
        let pool = pool(Some(token), None, None);
        for method in METHODS {
            let Some(name) = method.strip_prefix("sheaf.coordinator.v1.Coordinator/") else {
                continue;
            };
            let letter = if reads.contains(&name) { 'r' } else { 'x' };
            let denied = is_denied(runtime.block_on(call(&pool, uri, method)));
            assert_eq!(denied, !rights.contains(letter), "{method} with {token}");
        }
        assert!(runtime.block_on(call(&pool, uri, HEALTH)).is_ok(), "health is open");
        assert!(!is_denied(runtime.block_on(call(&pool, uri, METHODS[18]))), "so is reflection");
    }
}

#[test]
fn actions_need_the_rights_that_they_say() {
    let (server, _folder, _) = start();
    let (uri, runtime) = (server.ready.url("flight").unwrap(), runtime());
    let _inside = runtime.enter();
    let all = pool(Some(RIGHT), None, None).connection(uri).unwrap();
    let actions = runtime.block_on(all.actions(&CallOptions::default())).unwrap();
    assert!(actions.len() > 25, "{actions:?}");
    let coordinator_reads = [
        "GetBatch",
        "ListBatches",
        "Lineage",
        "Stats",
        "CoordinatorInfo",
        "Recovery",
        "WatchEvents",
    ];
    let open = ["CloseSession", "GetSessionOptions", "HealthCheck", "SetSessionOptions"];
    for (token, rights) in [
        (READER, vec!["batches:r"]),
        (WATCHER, vec!["coordinator:r"]),
        (WORKER, vec!["batches:r", "coordinator:x"]),
        (OTHER, vec![]),
    ] {
        let connection = pool(Some(token), None, None).connection(uri).unwrap();
        for (action, _) in &actions {
            let need = match action.as_str() {
                // Of the namespace of a ticket, which there is none here.
                "CancelFlightInfo" | "RenewFlightEndpoint" => continue,
                name if open.contains(&name) => "",
                "ServerInfo" => "server:r",
                "StoreStats" => "batches:r",
                "GetAvailablePartitions" | "ShuffleStats" | "WorkerLoad" => "shuffle:r",
                "CleanupQueryData" => "shuffle:x",
                "DeleteBatch" | "PinBatch" | "UnpinBatch" => "batches:x",
                name if coordinator_reads.contains(&name) => "coordinator:r",
                _ => "coordinator:x",
            };
            // Malformed for most, so that nothing happens.
            let body = Bytes::from_static(b"[]");
            let options = CallOptions::default();
            let denied = is_denied(runtime.block_on(connection.action(action, body, &options)));
            let allowed = need.is_empty() || rights.contains(&need);
            assert_eq!(denied, !allowed, "{action} with {token}");
        }
    }
}

#[test]
fn the_admin_port_needs_a_right_of_its_own() {
    let (server, _folder, path) = start();
    let admin = server.ready.addr("admin").unwrap();
    let page = |path: &str, token: &str| {
        let header = format!("authorization: Bearer {token}\r\n");
        http(TcpStream::connect(admin).unwrap(), path, &header).unwrap()
    };
    let (status, why) = page("/metrics", READER);
    assert_eq!(status, 403, "{why}");
    assert!(why.contains("\"reader\"") && why.contains("\"admin\""), "{why}");
    assert_eq!(page("/metrics", RIGHT).0, 200);
    assert_eq!(page("/healthz", READER).0, 200);
    write(&path, &format!("reader {READER} allow=admin:r\n"));
    sheaf_testkit::wait_until(PATIENCE, "the new right", || page("/metrics", READER).0 == 200)
        .unwrap();
    let mut server = server;
    let line =
        |line: &str| (line.contains("sheaf::audit") && line.contains("/metrics")).then_some(());
    server.process.wait_for_stderr_line(PATIENCE, line).unwrap();
}

#[test]
fn commands_tell_what_is_refused_and_the_log_has_it() {
    let (server, folder, _) = start();
    let csv = server.csv("rows.csv", 5);
    let large = server.csv("large.csv", 5_000);
    let run = |token: &str, words: &[&str]| {
        let file = folder.path().join("client").to_str().unwrap().to_owned();
        write(&file, token);
        let mut command = command();
        command.env("SHEAF_SERVER", server.ready.url("flight").unwrap());
        Ran(command.env("SHEAF_TOKEN_FILE", &file).args(words).output().unwrap())
    };
    run(RIGHT, &["put", &csv, "--id", "a"]).ok();
    assert_eq!(run(READER, &["get", "a", "--format", "csv"]).ok().lines().count(), 6);
    let text = run(READER, &["put", &csv, "--id", "b"]).failed(8);
    assert!(text.contains("lacks w") && text.contains("\"batches\""), "{text}");
    let text = run(WATCHER, &["get", "a"]).failed(8);
    assert!(text.contains("lacks r"), "{text}");
    let text = run(SMALL, &["put", &large, "--id", "c"]).failed(6);
    assert!(text.contains("quota of token \"small\" is full"), "{text}");
    assert!(text.contains("2048 bytes"), "{text}");
    run(SMALL, &["put", &csv, "--id", "d"]).ok();
    let mut server = server;
    for parts in [
        vec!["DoPut", "token=\"reader\"", "namespace=\"batches\"", "code=\"permission_denied\""],
        vec!["DoGet", "token=\"watcher\"", "code=\"permission_denied\""],
        vec!["DoPut", "token=\"small\"", "code=\"quota_full\"", "2048 bytes"],
    ] {
        let found = |line: &str| {
            let all = parts.iter().all(|part| line.contains(part));
            (all && line.contains("WARN sheaf::audit: ")).then_some(())
        };
        server.process.wait_for_stderr_line(PATIENCE, found).unwrap();
    }
    assert!(!server.process.stderr().contains("0123456789abcdef"), "no token is logged");
}

/// As the README says.
#[test]
fn a_worker_needs_to_read_payloads_and_to_change_work() {
    let (server, folder, path) = start();
    let worker_token = "of-a-worker-0123456789abcdef";
    let with = |allow: &str| {
        write(&path, &format!("main {RIGHT}\nw {worker_token} allow={allow}\n"));
    };
    with("batches:r,coordinator:rx");
    let file = folder.path().join("worker").to_str().unwrap().to_owned();
    write(&file, worker_token);
    let uri = server.ready.url("flight").unwrap();
    let flags = ["--mode", "worker", "--workers", "1", "--coordinator", uri, "--flight-addr", uri];
    let mut worker = crate::harness::serve(&flags, &["--client-token-file", &file]);
    worker.wait_ready(PATIENCE).unwrap();
    let csv = server.csv("rows.csv", 5);
    let main = folder.path().join("main").to_str().unwrap().to_owned();
    write(&main, RIGHT);
    let run = |words: &[&str]| {
        let mut command = command();
        command.env("SHEAF_SERVER", uri).env("SHEAF_TOKEN_FILE", &main).args(words);
        Ran(command.output().unwrap()).json().remove(0)
    };
    let put = run(&["put", &csv, "--register", "--json"]);
    let id = put["batch_id"].as_str().unwrap();
    sheaf_testkit::wait_until(PATIENCE, "the worker to be done", || {
        run(&["batches", "show", id, "--json"])["state"] == "completed"
    })
    .unwrap();
}

#[test]
fn pyarrow_with_a_read_only_token_reads_and_is_told_what_it_may_not() {
    let Some(python) = sheaf_testkit::python() else { return };
    let (server, _folder, _) = start();
    let script = format!("{}/tests/it/rights.py", env!("CARGO_MANIFEST_DIR"));
    let words = [script.as_str(), server.ready.url("flight").unwrap(), RIGHT, READER];
    let ran = std::process::Command::new(python).args(words).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{out}{err}\n{}", server.process.stderr());
    assert_eq!(out.trim(), "rows 3 listed 1 refused put, exchange, DeleteBatch, CancelBatch");
}
