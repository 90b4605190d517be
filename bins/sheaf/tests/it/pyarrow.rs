//! An unmodified pyarrow is a full client.

use sheaf_testkit::TempDir;

use crate::harness::{Ran, Server, command, sheaf};

/// Runs a script beside this file against the server; its standard output, or
/// `None` where there is no Python with pyarrow.
pub(crate) fn script(server: &Server, name: &str, words: &[&str]) -> Option<String> {
    script_at(server, "flight", name, words)
}

/// The same, at another of the addresses in the ready line.
fn script_at(server: &Server, key: &str, name: &str, words: &[&str]) -> Option<String> {
    let python = sheaf_testkit::python()?;
    let path = format!("{}/tests/it/{name}", env!("CARGO_MANIFEST_DIR"));
    let output = std::process::Command::new(python)
        .args([path.as_str(), server.ready.url(key).unwrap()])
        .args(words)
        .output()
        .unwrap();
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let log = server.process.stderr();
    assert!(output.status.success(), "{name}: {out}\n{err}\nserver: {log}");
    assert!(!log.contains("panicked"), "{log}");
    Some(out.into_owned())
}

/// Every Arrow type is put, fetched as it was, registered and completed by `verify`.
#[test]
fn every_type_goes_through_and_is_verified() {
    let server = Server::start(&["--processor", "verify"]);
    let Some(out) = script(&server, "every_type.py", &[]) else { return };
    let types: u32 = out.trim().strip_prefix("types ").unwrap().parse().unwrap();
    assert!(types >= 100, "{types}");
    let stats = server.run(&["batches", "stats", "--json"]).json().remove(0);
    assert_eq!(stats["counts"]["failed"], 0, "{stats}");
    assert!(stats["counts"]["completed"].as_u64() > Some(u64::from(types)), "{stats}");
}

/// The same where the server keeps all of it compressed: what `verify` compares is
/// what was put, and what a client reads by itself is what is kept.
#[test]
fn every_type_is_kept_compressed_and_verified() {
    let server = Server::start(&["--processor", "verify", "--compression", "zstd"]);
    let Some(out) = script(&server, "every_type.py", &[]) else { return };
    assert!(out.starts_with("types "), "{out}");
    let stats = server.run(&["batches", "stats", "--json"]).json().remove(0);
    assert_eq!(stats["counts"]["failed"], 0, "{stats}");
}

/// Compressed by the client, by the server, or for one reader; also after a restart.
#[test]
fn payloads_are_put_and_read_in_every_codec() {
    let mut server = Server::start(&["--processor", "verify"]);
    let Some(out) = script(&server, "compression.py", &[]) else { return };
    assert_eq!(out.trim(), "done");
    let stats = server.run(&["batches", "stats", "--json"]).json().remove(0);
    assert_eq!((&stats["counts"]["failed"], &stats["counts"]["completed"]), (&0.into(), &5.into()));
    server.process.kill9().unwrap();
    let server = Server::start_in(server.folder, &["--compression", "lz4"]);
    for name in ["kept-lz4", "kept-zstd", "came-zstd"] {
        let rows = server.run(&["get", name, "--format", "csv"]).ok();
        assert_eq!(rows.lines().count(), 20_001, "{name}");
    }
}

/// The same without TCP; a server that is killed leaves its socket, and the next
/// one takes its place.
#[test]
fn every_type_goes_over_a_socket_in_the_file_system() {
    let sockets = TempDir::new().unwrap();
    let path = sockets.path().join("flight.sock");
    let words = ["--processor", "verify", "--flight-uds", path.to_str().unwrap()];
    let mut server = Server::start(&words);
    let uri = format!("grpc+unix://{}", path.display());
    assert_eq!(server.ready.url("uds"), Some(uri.as_str()));
    if let Some(out) = script_at(&server, "uds", "every_type.py", &[]) {
        assert!(out.starts_with("types "), "{out}");
    }
    let ask = || command().args(["batches", "stats", "--server", &uri]).output().unwrap();
    Ran(ask()).ok();

    server.process.kill9().unwrap();
    assert!(path.exists());
    let text = Ran(ask()).failed(7);
    assert!(text.contains(&uri), "{text}");
    let server = Server::start_in(server.folder, &words);
    Ran(ask()).ok();
    let data = sockets.path().join("data");
    let serve = ["serve", "--flight-addr", "127.0.0.1:0", "--data-dir", data.to_str().unwrap()];
    let second = sheaf(&[&serve[..], &words[2..]].concat());
    let text = second.failed(5);
    assert!(text.contains("--flight-uds") && text.contains("is in use"), "{text}");
    drop(server);
}
