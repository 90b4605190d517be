//! From the ready line to the end.

use crate::harness::{PATIENCE, Server};

#[test]
fn the_ready_line_says_where_everything_is() {
    let server = Server::start(&[]);
    let (flight, admin) = (server.ready.url("flight"), server.ready.url("admin"));
    assert!(flight.is_some_and(|url| url.starts_with("grpc://127.0.0.1:")), "{flight:?}");
    assert_eq!(flight, server.ready.url("coordinator"));
    assert!(admin.is_some_and(|url| url.starts_with("http://127.0.0.1:")), "{admin:?}");
    assert_eq!(server.process.stdout().lines().count(), 1);

    assert_eq!(server.admin("/readyz"), (200, "ready\n".to_owned()));
    let (status, health) = server.admin("/health");
    let health: serde_json::Value = serde_json::from_str(&health).unwrap();
    assert_eq!((status, &health["phase"]), (200, &"ready".into()));
    let names: Vec<_> =
        health["components"].as_array().unwrap().iter().map(|part| &part["name"]).collect();
    assert_eq!(names, ["coordinator", "store", "workers"]);
    server.put(5, &[]);
    let (_, metrics) = server.admin("/metrics");
    for name in ["sheaf_flight_requests_total", "sheaf_coordinator_", "sheaf_worker_", "process_"] {
        assert!(metrics.contains(name), "{name} in {metrics}");
    }
}

#[test]
fn a_signal_drains_and_nothing_is_lost() {
    for durability in ["disk", "memory"] {
        let mut server = Server::start(&["--workers", "0", "--durability", durability]);
        let id = server.put(7, &["--register"]);
        let status = server.process.terminate(PATIENCE).unwrap();
        assert_eq!(status.code(), Some(0), "{}", server.process.stderr());
        assert!(server.process.stderr().contains("drained"));
        let Server { folder, process, .. } = server;
        drop(process);
        let server = Server::start_in(folder, &["--workers", "1"]);
        // What was promised for memory is the coordination, not the payload.
        let (state, rows) = if durability == "disk" { ("completed", 0) } else { ("failed", 3) };
        let batch = server.wait_for_state(&id, state);
        if durability == "memory" {
            assert_eq!(batch["error"]["code"], "payload_lost");
        }
        let ran = server.run(&["get", &id, "--format", "csv"]);
        assert_eq!(ran.code(), rows, "{}", ran.stderr());
    }
}

#[test]
fn work_under_way_is_finished_before_the_end() {
    let folder = sheaf_testkit::TempDir::new().unwrap();
    let (begun, go) = (folder.path().join("begun"), folder.path().join("go"));
    let program = format!(
        "exec:touch {}; while [ ! -e {} ]; do sleep 0.02; done; cat",
        begun.display(),
        go.display()
    );
    let mut server = Server::start(&["--workers", "1", "--processor", &program]);
    let id = server.put(3, &["--register"]);
    sheaf_testkit::wait_until(PATIENCE, "the work to begin", || begun.exists()).unwrap();
    signal(&server, rustix::process::Signal::TERM);
    let draining = |line: &str| line.contains("draining").then_some(());
    server.process.wait_for_stderr_line(PATIENCE, draining).unwrap();
    std::fs::write(&go, "").unwrap();
    let status = server.process.wait_exit(PATIENCE).unwrap();
    assert_eq!(status.code(), Some(0), "{}", server.process.stderr());
    let Server { folder, process, .. } = server;
    drop(process);
    let server = Server::start_in(folder, &["--workers", "0"]);
    let batch = server.wait_for_state(&id, "completed");
    assert_eq!(batch["attempts"], 1);
}

#[test]
fn a_second_signal_ends_at_once() {
    let folder = sheaf_testkit::TempDir::new().unwrap();
    let begun = folder.path().join("begun");
    let program = format!("exec:touch {}; exec sleep 1000", begun.display());
    let words = ["--workers", "1", "--processor", &program];
    let mut server = Server::start(&words);
    server.put(3, &["--register"]);
    sheaf_testkit::wait_until(PATIENCE, "the work to begin", || begun.exists()).unwrap();
    signal(&server, rustix::process::Signal::TERM);
    let draining = |line: &str| line.contains("draining").then_some(());
    server.process.wait_for_stderr_line(PATIENCE, draining).unwrap();
    signal(&server, rustix::process::Signal::INT);
    let status = server.process.wait_exit(PATIENCE).unwrap();
    assert_eq!(status.code(), Some(130), "{}", server.process.stderr());
}

fn signal(server: &Server, signal: rustix::process::Signal) {
    let pid = i32::try_from(server.process.pid()).unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), signal).unwrap();
}
