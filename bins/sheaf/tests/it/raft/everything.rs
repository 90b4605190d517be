//! Servers that are everything at once, and replicate their coordinator.

use std::collections::BTreeSet;

use sheaf_testkit::TempDir;

use super::cluster::{free_addresses, turn};
use crate::harness::{PATIENCE, Ran, command};
use crate::operations::{assert_there, live, metrics, read};
use crate::parts::{Part, data, uri};

/// A command against a server.
fn run(server: &str, words: &[&str]) -> Ran {
    let mut command = command();
    command.args(words).env("SHEAF_SERVER", server);
    Ran(command.output().unwrap())
}

/// Payloads are on one server each, and whoever works on a batch finds it there: by the name
/// that its peers have of it, as in a container it is bound to no address of its own.
#[test]
fn raft_three_servers_of_mode_all_find_each_others_payloads() {
    let (_turn, folder) = (turn(), TempDir::new().unwrap());
    let addresses = free_addresses(3);
    let peers = (1..).zip(&addresses);
    let peers = peers.map(|(id, at)| format!("{id}=localhost:{}", at.port())).collect::<Vec<_>>();
    let (peers, sink) = (peers.join(","), format!("parquet:{}", data(folder.path(), "out")));
    let start = |(index, at): (usize, &std::net::SocketAddr)| {
        let (id, at) = ((index + 1).to_string(), format!("0.0.0.0:{}", at.port()));
        let home = data(folder.path(), &format!("node-{id}"));
        let words = ["--coordinator", "raft", "--node-id", &id, "--peers", &peers];
        let more = ["--data-dir", &home, "--flight-addr", &at, "--sink", &sink, "--workers", "1"];
        Part::start(&[&["--mode", "all", "--insecure"], &words[..], &more[..]].concat())
    };
    let parts: Vec<Part> = addresses.iter().enumerate().map(start).collect();
    let mut ids = Vec::new();
    for (number, at) in addresses.iter().enumerate() {
        for part in 0..4 {
            let (id, file) = (format!("b-{number}-{part}"), data(folder.path(), "rows.csv"));
            std::fs::write(&file, "n,name\n1,one\n2,two\n").unwrap();
            run(&uri(*at), &["put", &file, "--id", &id, "--register"]).ok();
            ids.push(id);
        }
    }
    for (number, id) in ids.iter().enumerate() {
        let at = uri(addresses[number % 3]);
        let what = format!("batch {id} to be completed");
        let done = sheaf_testkit::wait_until(PATIENCE, &what, || {
            let batch = run(&at, &["batches", "show", id, "--json"]).json().remove(0);
            assert_ne!(batch["state"], "failed", "{batch}");
            batch["state"] == "completed"
        });
        done.unwrap_or_else(|error| panic!("{error}: {}", parts[0].process.stderr()));
        let rows = run(&uri(addresses[(number + 1) % 3]), &["get", id, "--format", "csv"]).ok();
        assert!(rows.contains("2,two"), "{rows}");
    }
    // Of members only the leader knows.
    let shown: BTreeSet<String> =
        parts.iter().flat_map(|part| live(part.at.as_ref().unwrap())).collect();
    let wanted = metrics(&read("alerts.yaml"));
    assert!(wanted.iter().any(|name| name.starts_with("sheaf_raft_")));
    assert_there(&wanted, &shown, "sheaf_raft_", "a cluster of three");
}
