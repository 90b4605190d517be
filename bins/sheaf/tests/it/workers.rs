//! Mode `worker` against a server, and what workers do.

use crate::harness::{PATIENCE, Server, get, serve};

/// A worker process of this server.
fn worker(server: &Server, words: &[&str]) -> sheaf_testkit::Process {
    let url = server.ready.url("flight").unwrap();
    let first = ["--mode", "worker", "--coordinator", url, "--flight-addr", url];
    let mut process = serve(&[], &[&first, words].concat());
    let ready = process.wait_ready(PATIENCE).unwrap();
    assert_eq!((ready.url("flight"), ready.addr("admin").is_some()), (None, true));
    assert_eq!(get(&ready, "/healthz").0, 200);
    process
}

#[test]
fn a_worker_elsewhere_does_the_work_and_commits_it() {
    let server = Server::start(&["--workers", "0"]);
    let out = server.path("out");
    let mut process = worker(&server, &["--sink", &format!("parquet:{out}"), "--workers", "2"]);
    let id = server.put(100, &["--register"]);
    server.wait_for_state(&id, "completed");
    let part = format!("{out}/part-{id}.parquet");
    let again = server.run(&["put", &part, "--json"]).json();
    assert_eq!(again[0]["rows"], 100);
    let status = process.terminate(PATIENCE).unwrap();
    assert_eq!(status.code(), Some(0), "{}", process.stderr());
}

#[test]
fn a_worker_that_dies_is_replaced_when_its_lease_ends() {
    let server = Server::start(&["--workers", "0"]);
    let begun = server.path("begun");
    let program = format!("exec:touch {begun}; exec sleep 1000");
    let mut stuck = worker(&server, &["--lease", "500ms", "--processor", &program]);
    let id = server.put(4, &["--register"]);
    sheaf_testkit::wait_until(PATIENCE, "the work to begin", || {
        std::path::Path::new(&begun).exists()
    })
    .unwrap();
    stuck.kill9().unwrap();
    let _other = worker(&server, &[]);
    let batch = server.wait_for_state(&id, "completed");
    assert_eq!(batch["attempts"], 2);
}

#[test]
fn a_program_decides_how_a_batch_ends() {
    let program = "exec:echo bad rows >&2; exit 65";
    let server = Server::start(&["--processor", program]);
    let id = server.put(4, &["--register"]);
    let batch = server.wait_for_state(&id, "failed");
    assert_eq!((&batch["attempts"], &batch["error"]["permanent"]), (&1.into(), &true.into()));
    assert!(batch["error"]["message"].as_str().unwrap().contains("bad rows"), "{batch}");
    let line = format!("id={id}");
    sheaf_testkit::wait_until(PATIENCE, "the failure in the log", || {
        server.process.stderr().lines().any(|text| text.contains("WARN") && text.contains(&line))
    })
    .unwrap();
    let log = server.process.stderr();
    let line = log.lines().find(|text| text.contains("a batch failed")).unwrap();
    for part in ["default", "processor_failed", "attempts=1", "bad rows"] {
        assert!(line.contains(part), "{line}");
    }
    let requeued = server.run(&["batches", "requeue", "--failed", "default"]).ok();
    assert_eq!(requeued, "1 requeued\n");
}
