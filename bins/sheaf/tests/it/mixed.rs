//! Workers in Python and in Rust share a run, a folder and a queue.

use sheaf_coordinator::State;
use sheaf_testkit::{Process, wait_for_async, workspace_root};

use crate::backend::Backend;
use crate::harness::{PATIENCE, get};
use crate::remote::{assert_rows_once, sized};

/// pyarrow asks the server, those in Rust ask whom the backend says.
async fn mixed_workers(backend: Backend) {
    let batches = sized(150, 5_000);
    let Some(python) = sheaf_testkit::python() else { return };
    let Some(backed) = backend.start(&[]) else { return };
    let (remote, sink, out) = (backed.remote(), backed.sink(), backed.out());
    remote.put(0..batches).await;
    // Those in Rust hold their first batches until Python has settled some.
    let go = backed.server.path("go");
    let program = format!("exec:while [ ! -e {go} ]; do sleep 0.02; done; cat");
    let words = ["--lease", "2s", "--workers", "1", "--sink", &sink, "--processor", &program];
    let (mut doomed, mut rust) = (backed.worker(&words), backed.worker(&words));
    let ready = rust.wait_ready(PATIENCE).unwrap();
    let script = workspace_root().join("examples/pyarrow_worker.py");
    let mut python = Process::command(python)
        .arg(script)
        .arg(backed.flight())
        .arg(&out)
        .arg("--until-idle")
        .spawn()
        .unwrap();
    let completed = |at_least: u64, what: &'static str| {
        let remote = &remote;
        wait_for_async(PATIENCE, what, move || async move {
            (remote.count(State::Completed).await >= at_least).then_some(())
        })
    };
    if let Err(error) = completed(3, "Python to settle some").await {
        panic!("{error}\n{}", python.stderr());
    }
    doomed.kill9().unwrap();
    std::fs::write(&go, "").unwrap();
    remote.completes(batches).await;
    let status = python.wait_exit(PATIENCE).unwrap();
    assert!(status.success(), "{}", python.stderr());
    let settled: u64 = python
        .stdout()
        .lines()
        .find_map(|line| line.strip_prefix("settled ")?.parse().ok())
        .unwrap();
    let (_, metrics) = get(&ready, "/metrics");
    let line = metrics
        .lines()
        .find(|line| line.starts_with("sheaf_worker_") && line.contains("result=\"Completed\""));
    let by_rust: u64 = line.unwrap().rsplit(' ').next().unwrap().parse().unwrap();
    assert!(settled >= 3 && by_rust > 0, "Python {settled}, Rust {by_rust}");
    assert_eq!(settled + by_rust, batches, "each batch was completed by one of them");
    assert_eq!(rust.terminate(PATIENCE).unwrap().code(), Some(0), "{}", rust.stderr());
    assert_rows_once(&out, batches);
}

/// pyarrow as a worker beside two of Sheaf's own, one of which is killed.
#[tokio::test(flavor = "multi_thread")]
async fn soak_mixed_workers_do_each_row_once() {
    mixed_workers(Backend::Embedded).await;
}

/// pyarrow as a worker of a server on a Valkey, beside two that ask it themselves.
#[tokio::test(flavor = "multi_thread")]
async fn soak_direct_mixed_workers_do_each_row_once() {
    mixed_workers(Backend::Direct).await;
}
