//! Every command against a server, as it is meant to be used.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Stdio;

use crate::harness::{Server, command, sheaf};

#[test]
fn a_file_is_put_registered_processed_and_fetched() {
    let server = Server::start(&["--poll-interval", "60s"]);
    let file = server.csv("people.csv", 2_500);
    let ran = server.run(&["put", &file, "--register", "--rows-per-batch", "1000", "--json"]);
    let puts = ran.json();
    assert_eq!(puts.len(), 3);
    let rows: u64 = puts.iter().map(|put| put["rows"].as_u64().unwrap()).sum();
    assert_eq!(rows, 2_500);
    for put in &puts {
        assert_eq!((&put["created"], &put["registered"]), (&true.into(), &true.into()));
        let batch = server.wait_for_state(put["batch_id"].as_str().unwrap(), "completed");
        assert_eq!((&batch["attempts"], &batch["rows"]), (&1.into(), &put["rows"]));
    }
    let id = puts[2]["batch_id"].as_str().unwrap();
    let csv = server.run(&["get", id, "--format", "csv", "--limit", "2"]).ok();
    assert_eq!(csv, "n,name\n2000,name 2000\n2001,name 2001\n");
}

#[test]
fn the_same_put_again_changes_nothing() {
    let server = Server::start(&["--workers", "0"]);
    let file = server.csv("a.csv", 10);
    let put = |words: &[&str]| server.run(&[&["put", &file, "--id", "orders:1"], words].concat());
    assert_eq!(put(&["--json"]).json()[0]["created"], true);
    assert_eq!(put(&["--json"]).json()[0]["created"], false);
    let table = put(&["--register", "--priority", "-3"]).ok();
    assert!(table.contains("orders:1") && table.contains("was there, registered"), "{table}");
    let batch = server.run(&["batches", "show", "orders:1", "--json"]).json().remove(0);
    assert_eq!((&batch["state"], &batch["priority"]), (&"pending".into(), &(-3).into()));

    let other = server.csv("b.csv", 11);
    let text = server.run(&["put", &other, "--id", "orders:1"]).failed(4);
    assert!(text.contains("orders:1"), "{text}");
}

#[test]
fn rows_come_in_every_format() {
    let server = Server::start(&["--workers", "0"]);
    let id = server.put(3, &[]);
    let get = |words: &[&str]| server.run(&[&["get", id.as_str()], words].concat());
    assert_eq!(get(&[]).ok(), "n  name\n0  name 0\n1  name 1\n2  name 2\n");
    assert_eq!(get(&["--json"]).json()[1]["name"], "name 1");
    assert_eq!(get(&["--format", "csv"]).ok().lines().count(), 4);
    for ending in ["parquet", "arrow"] {
        let path = server.path(&format!("rows.{ending}"));
        assert_eq!(get(&["--output", &path]).ok(), "");
        // Read back by the reader of `put`: the same content is the same batch.
        let again = server.run(&["put", &path, "--json"]).json();
        assert_eq!(again[0]["rows"], 3, "{ending}");
    }
    let text = get(&["--output", &server.path("rows.xyz")]).failed(2);
    assert!(text.contains("--format"), "{text}");
    let text = get(&["--output", &server.path("none/rows.csv")]).failed(3);
    assert!(text.contains("cannot be written"), "{text}");
}

#[test]
fn batches_are_listed_counted_cancelled_and_requeued() {
    let server = Server::start(&["--workers", "0"]);
    let ids: Vec<String> = (1..=3).map(|n| server.put(n, &["--register"])).collect();
    let list = |words: &[&str]| server.run(&[&["batches", "list"], words].concat());
    let page = list(&["--json", "--limit", "2"]).json().remove(0);
    assert_eq!(page["batches"].as_array().unwrap().len(), 2);
    let cursor = page["next_cursor"].as_str().unwrap();
    let rest = list(&["--json", "--cursor", cursor]).json().remove(0);
    assert_eq!(rest["batches"][0]["batch_id"], ids[2].as_str());
    assert!(list(&[]).ok().contains(&ids[0]));

    let cancelled = server.run(&["batches", "cancel", &ids[0], &ids[1], "--json"]).json();
    assert_eq!(cancelled[0]["count"], 2);
    let states = list(&["--state", "cancelled,failed", "--json"]).json().remove(0);
    assert_eq!(states["batches"].as_array().unwrap().len(), 2);
    let stats = server.run(&["batches", "stats", "--json"]).json().remove(0);
    assert_eq!(
        (&stats["counts"]["cancelled"], &stats["counts"]["pending"]),
        (&2.into(), &1.into())
    );
    assert!(server.run(&["batches", "stats"]).ok().contains("cancelled"));

    assert!(server.run(&["batches", "requeue", &ids[0]]).ok().contains("requeued"));
    server.wait_for_state(&ids[0], "pending");
    let none = server.run(&["batches", "requeue", "--failed", "default"]).ok();
    assert_eq!(none, "0 requeued\n");
    let shown = server.run(&["batches", "show", &ids[1]]).ok();
    assert!(shown.contains("cancelled") && shown.contains("registered"), "{shown}");
}

#[test]
fn batches_that_ended_are_purged_as_asked() {
    let server = Server::start(&["--workers", "0"]);
    let ids: Vec<String> = (1..=3).map(|n| server.put(n, &["--register"])).collect();
    let purge = |words: &[&str]| server.run(&[&["batches", "purge"], words].concat());
    assert_eq!(purge(&[]).code(), 2);
    server.run(&["batches", "cancel", &ids[0], &ids[1]]).ok();
    assert_eq!(purge(&["--state", "completed"]).ok(), "0 purged\n");
    assert_eq!(purge(&["--queue", "bulk"]).ok(), "0 purged\n");
    assert_eq!(purge(&["--older-than", "1h"]).ok(), "0 purged\n");
    let purged = purge(&["--queue", "default", "--state", "cancelled", "--json"]).json();
    assert_eq!(purged[0]["count"], 2);
    assert_eq!(purge(&["--all"]).ok(), "0 purged\n");
    let left = server.run(&["batches", "list", "--json"]).json().remove(0);
    let left = left["batches"].as_array().unwrap();
    assert_eq!((left.len(), &left[0]["batch_id"]), (1, &ids[2].as_str().into()));
}

#[test]
fn with_json_standard_error_is_one_error_or_nothing() {
    let server = Server::start(&["--workers", "0"]);
    let file = server.csv("a.csv", 5_000);
    let ran = server.run(&["put", &file, "--json"]);
    assert_eq!((ran.code(), ran.stderr().as_str()), (0, ""));
    assert!(server.run(&["put", &file]).stderr().contains("5,000"), "progress without --json");
    let other = server.csv("b.csv", 5_001);
    server.run(&["put", &file, "--id", "taken", "--json"]).ok();
    let ran = server.run(&["put", &other, "--id", "taken", "--json"]);
    assert_eq!(ran.code(), 4);
    let error: serde_json::Value = serde_json::from_str(&ran.stderr()).unwrap();
    assert_eq!(error["error"]["code"], "already_exists");
}

#[test]
fn changes_are_seen_as_they_happen() {
    let server = Server::start(&["--workers", "1"]);
    let mut watch = command()
        .args(["batches", "watch", "--limit", "3", "--json"])
        .env("SHEAF_SERVER", server.ready.url("flight").unwrap())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut notes = BufReader::new(watch.stderr.take().unwrap());
    let mut note = String::new();
    notes.read_line(&mut note).unwrap();
    assert!(note.starts_with("watching"), "{note}");
    let id = server.put(5, &["--register"]);
    let mut lines = String::new();
    watch.stdout.take().unwrap().read_to_string(&mut lines).unwrap();
    assert!(watch.wait().unwrap().success());
    let states: Vec<String> = lines
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|change| {
            assert_eq!(change["batch_id"], id.as_str());
            change["to"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(states, ["pending", "processing", "completed"]);
}

#[test]
fn a_paused_queue_gives_no_work_and_a_draining_one_takes_none() {
    let server = Server::start(&[]);
    assert_eq!(server.run(&["queue", "pause", "default"]).ok(), "queue default is paused\n");
    let id = server.put(5, &["--register"]);
    assert!(server.run(&["batches", "stats"]).ok().contains("paused"));
    server.wait_for_state(&id, "pending");
    server.run(&["queue", "resume", "default"]).ok();
    server.wait_for_state(&id, "completed");
    server.run(&["queue", "drain", "default", "--json"]).ok();
    let file = server.csv("late.csv", 6);
    let text = server.run(&["put", &file, "--register"]).failed(5);
    assert!(text.contains("draining"), "{text}");
}

#[test]
fn a_reader_that_goes_away_ends_a_command_quietly() {
    let server = Server::start(&["--workers", "0"]);
    let id = server.put(200_000, &[]);
    let mut get = command()
        .args(["get", &id, "--format", "csv"])
        .env("SHEAF_SERVER", server.ready.url("flight").unwrap())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(get.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "n,name\n");
    let output = get.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn help_and_version_say_what_there_is() {
    assert_eq!(sheaf(&["--version"]).ok(), format!("sheaf {}\n", env!("CARGO_PKG_VERSION")));
    let help = sheaf(&["--help"]).ok();
    for word in ["serve", "put", "get", "batches", "queue", "Exit codes:", "not_found"] {
        assert!(help.contains(word), "{word} in {help}");
    }
    let serve = sheaf(&["serve", "--help"]).ok();
    for word in ["--lease", "[default: 30s]", "--config", "SHEAF_NAME", "ready flight="] {
        assert!(serve.contains(word), "{word} in {serve}");
    }
    assert!(!serve.contains("die-with-parent"), "{serve}");
    for words in [&["put", "--help"][..], &["get", "--help"], &["batches", "--help"]] {
        assert!(sheaf(words).ok().contains("Examples:"), "{words:?}");
    }
}

#[test]
fn the_server_is_waited_for_a_moment_and_then_named() {
    let port = sheaf_testkit::free_port().unwrap().release();
    let server = format!("grpc://{port}");
    let text = sheaf(&["batches", "list", "--server", &server]).failed(7);
    let begin = format!("error: cannot reach the server at {server}: connection refused\n");
    assert!(text.starts_with(&begin) && text.contains("sheaf serve"), "{text}");
    let ran = sheaf(&["batches", "list", "--server", &server, "--json"]);
    let error: serde_json::Value = serde_json::from_str(&ran.stderr()).unwrap();
    assert_eq!(error["error"]["code"], "unavailable");
}
