//! Batches as shared memory, read by pyarrow; either side is killed.

use std::time::Duration;

use sheaf_testkit::{Process, TempDir, wait_until};

use crate::harness::Server;
use crate::pyarrow::script;

const PATIENCE: Duration = Duration::from_secs(20);

fn client(server: &Server) -> Process {
    let python = sheaf_testkit::python().unwrap();
    Process::command(python)
        .arg(format!("{}/tests/it/shared.py", env!("CARGO_MANIFEST_DIR")))
        .arg(server.ready.url("flight").unwrap())
        .args(["hold", "held"])
        .spawn()
        .unwrap()
}

fn leases(server: &Server) -> String {
    let (_, text) = server.admin("/metrics");
    let lines = text.lines().filter_map(|line| line.strip_prefix("sheaf_store_shared_leases "));
    lines.collect()
}

/// What is mapped is what was put, without a copy, and outlives its batch. A
/// client that is killed leaves no lease, and a server that is killed no memory
/// and no file; what its clients have mapped stays good.
#[test]
fn pyarrow_maps_batches_and_either_side_may_be_killed() {
    let sockets = TempDir::new().unwrap();
    let socket = sockets.path().join("s");
    let words = ["--flight-uds", socket.to_str().unwrap(), "--workers", "0"];
    let mut server = Server::start(&words);
    let metrics = format!("{}/metrics", server.ready.url("admin").unwrap());
    let Some(out) = script(&server, "shared.py", &[&metrics]) else { return };
    assert_eq!(out, "same\n");
    wait_until(PATIENCE, "no lease", || leases(&server) == "0").unwrap();

    let mut killed = client(&server);
    killed.wait_for_line(PATIENCE, |line| (line == "held").then_some(())).unwrap();
    assert_eq!(leases(&server), "1");
    killed.kill9().unwrap();
    wait_until(PATIENCE, "the lease of the killed client to end", || leases(&server) == "0")
        .unwrap();

    let mut outliving = client(&server);
    outliving.wait_for_line(PATIENCE, |line| (line == "held").then_some(())).unwrap();
    server.process.kill9().unwrap();
    outliving.wait_for_line(PATIENCE, |line| (line == "good").then_some(())).unwrap();

    // The sockets that were left behind are replaced, and removed at the end.
    let mut server = Server::start_in(server.folder, &words);
    assert!(sockets.path().join("s.shm").exists());
    server.process.terminate(PATIENCE).unwrap();
    assert_eq!(std::fs::read_dir(sockets.path()).unwrap().count(), 0);
}
