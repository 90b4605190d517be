//! T15: SIGTERM under load: what is in hand is settled or given back in time.

use sheaf_coordinator::State;
use sheaf_testkit::{Valkey, wait_for_async};

use crate::backend::{Backend, DURABLE};
use crate::harness::{PATIENCE, Server};
use crate::remote::{Remote, assert_rows_once, sized};

const BATCHES: u64 = 60;

async fn completed(remote: &Remote, at_least: u64) {
    wait_for_async(PATIENCE, "the load to be under way", || async {
        (remote.count(State::Completed).await >= at_least).then_some(())
    })
    .await
    .unwrap();
}

/// After the end of every worker: nothing is held, and nothing was charged
/// but what was done.
async fn assert_nothing_was_wasted(remote: &Remote) {
    assert_eq!(remote.count(State::Processing).await, 0, "a lease was left behind");
    for (state, attempts) in [(State::Completed, 1), (State::Pending, 0)] {
        for batch in remote.list(state).await {
            assert_eq!((batch.attempts, batch.lost_leases), (attempts, 0), "{batch:?}");
        }
    }
}

/// What is in hand is settled or given back, and another goes on at once.
async fn shutdown_of_workers(backend: Backend) {
    for round in 0..sized(1, 30) {
        let Some(backed) = backend.start(&[]) else { return };
        let (remote, sink) = (backed.remote(), backed.sink());
        remote.put(0..BATCHES).await;
        let words = ["--workers", "4", "--sink", &sink, "--processor", "exec:sleep 0.1; cat"];
        let mut first = backed.worker(&words);
        completed(&remote, 5 + round % 20).await;
        let status = first.terminate(PATIENCE).unwrap();
        assert_eq!(status.code(), Some(0), "{}", first.stderr());
        assert_nothing_was_wasted(&remote).await;
        assert!(remote.count(State::Pending).await > 0, "it was under load");
        // Another has all of it at once: no lease has to run out first.
        let mut second = backed.worker(&words);
        remote.completes(BATCHES).await;
        assert_nothing_was_wasted(&remote).await;
        assert_eq!(second.terminate(PATIENCE).unwrap().code(), Some(0), "{}", second.stderr());
        assert_rows_once(&backed.out(), BATCHES);
    }
}

/// Worker processes that are asked to end while they work.
#[tokio::test(flavor = "multi_thread")]
async fn soak_shutdown_of_workers_under_load_wastes_nothing() {
    shutdown_of_workers(Backend::Embedded).await;
}

/// Workers that are asked to end; the server is on a Valkey.
#[tokio::test(flavor = "multi_thread")]
async fn soak_valkey_shutdown_of_workers_wastes_nothing() {
    shutdown_of_workers(Backend::Valkey).await;
}

/// Workers of a Valkey itself that are asked to end.
#[tokio::test(flavor = "multi_thread")]
async fn soak_direct_shutdown_of_workers_wastes_nothing() {
    shutdown_of_workers(Backend::Direct).await;
}

async fn outlasted_grace(backend: Backend) {
    let Some(backed) = backend.start(&[]) else { return };
    let (remote, sink) = (backed.remote(), backed.sink());
    let begun = backed.server.path("begun");
    let program = format!("exec:touch {begun}; while [ -e {begun} ]; do sleep 0.05; done");
    remote.put(0..10).await;
    let words = ["--grace", "300ms", "--workers", "2", "--sink", &sink, "--processor", &program];
    let mut stuck = backed.worker(&words);
    sheaf_testkit::wait_until(PATIENCE, "the work to begin", || {
        std::path::Path::new(&begun).exists()
    })
    .unwrap();
    assert_eq!(stuck.terminate(PATIENCE).unwrap().code(), Some(0), "{}", stuck.stderr());
    assert_eq!(remote.count(State::Pending).await, 10);
    assert_nothing_was_wasted(&remote).await;
    let _other = backed.worker(&["--sink", &sink]);
    remote.completes(10).await;
    assert_nothing_was_wasted(&remote).await;
    assert_rows_once(&backed.out(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn work_that_outlasts_the_grace_period_is_given_back_uncharged() {
    for backend in [Backend::Embedded, Backend::Valkey, Backend::Direct] {
        outlasted_grace(backend).await;
    }
}

async fn server_with_workers_inside(more: &[&str]) {
    let folder = sheaf_testkit::TempDir::new().unwrap();
    let out = folder.path().join("out");
    let sink = format!("parquet:{}", out.display());
    let words = ["--workers", "4", "--sink", &sink, "--processor", "exec:sleep 0.1; cat"];
    let words = [&words, more].concat();
    let mut server = Server::start_in(folder, &words);
    let remote = Remote::at(server.ready.url("flight").unwrap());
    remote.put(0..BATCHES).await;
    completed(&remote, 5).await;
    let status = server.process.terminate(PATIENCE).unwrap();
    assert_eq!(status.code(), Some(0), "{}", server.process.stderr());
    let Server { folder, process, .. } = server;
    drop(process);
    let idle = Server::start_in(folder, &[&["--workers", "0"], more].concat());
    let remote = Remote::at(idle.ready.url("flight").unwrap());
    assert!(remote.count(State::Pending).await > 0, "it was under load");
    assert_nothing_was_wasted(&remote).await;
    let Server { folder, process, .. } = idle;
    drop(process);
    let server = Server::start_in(folder, &words);
    let remote = Remote::at(server.ready.url("flight").unwrap());
    remote.completes(BATCHES).await;
    assert_nothing_was_wasted(&remote).await;
    assert_rows_once(&out, BATCHES);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_workers_inside_ends_under_load_and_goes_on_where_it_was() {
    server_with_workers_inside(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_on_valkey_ends_under_load_and_goes_on_where_it_was() {
    let Some(valkey) = Valkey::start(&DURABLE).unwrap() else { return };
    server_with_workers_inside(&["--valkey-addr", &valkey.addr().to_string()]).await;
}
