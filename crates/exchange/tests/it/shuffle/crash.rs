//! A worker that is killed while it has chunks on disk.

use std::path::Path;

use sheaf_exchange::shuffle::{Exchange, FetchFailed, ReceiverOptions, ShuffleHandler};
use sheaf_flight::{Budget, Exposure, FlightRouter, Listener, Server, ServerHandle};
use sheaf_retry::SystemClock;
use sheaf_testkit::{Process, TempDir};

use super::spill::spill_files;
use super::world::{LONG, client, key, numbers, options, read, rows, schema, sender, soon};

/// Names the directory to the test below when it is run as a process.
const FOLDER: &str = "SHEAF_EXCHANGE_CRASH_FOLDER";
const ROWS: i64 = 100_000;

async fn worker(directory: &Path) -> (Exchange, ServerHandle) {
    let options = ReceiverOptions::new(Budget::new(1 << 20), SystemClock::shared());
    let exchange = Exchange::open(options.with_spill(directory, 1 << 30)).await.unwrap();
    let router = ShuffleHandler::new(exchange.clone()).serve(FlightRouter::builder());
    let listener = Listener::bind("127.0.0.1:0", "--flight-addr", Exposure::Loopback).unwrap();
    let handle = Server::new(router.build().unwrap()).serve(listener).await.unwrap();
    (exchange, handle)
}

/// Not a test by itself: the process that is killed.
#[allow(clippy::disallowed_methods, clippy::print_stdout, reason = "it is a program of its own")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spilling_process() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let (_exchange, handle) = worker(folder.as_ref()).await;
    println!("\nserves {}", handle.uri());
    std::future::pending().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_worker_left_on_disk_goes_and_its_rows_are_sent_again() {
    let folder = TempDir::new().unwrap();
    let mut process = Process::command(std::env::current_exe().unwrap())
        .args(["--exact", "shuffle::crash::spilling_process", "--nocapture"])
        .env(FOLDER, folder.path())
        .spawn()
        .unwrap();
    let uri = process
        .wait_for_line(LONG, |line| line.strip_prefix("serves ").map(str::to_owned))
        .unwrap();
    let client = client(options());
    let zero = key(0);
    let rows = || rows(0, ROWS, 1_000);
    let send = client.send_data_to_worker(&uri, &zero, sender(0, 1, 1), schema(), rows());
    soon("the send", send).await.unwrap();
    // While it lives nobody else has its directory.
    let left = spill_files(folder.path());
    assert!(!left.is_empty());
    let others = ReceiverOptions::new(Budget::new(1 << 20), SystemClock::shared());
    let refused = Exchange::open(others.with_spill(folder.path(), 1 << 30)).await;
    assert!(refused.is_err());
    process.kill9().unwrap();
    let error = soon("the read", read(&client, &uri, 0)).await.unwrap_err();
    assert_eq!(FetchFailed::of(&error).unwrap().partition, zero, "{error}");

    let (exchange, handle) = worker(folder.path()).await;
    assert!(spill_files(folder.path()).is_empty());
    assert_eq!(exchange.spilled_bytes(), 0);
    let uri = handle.uri();
    let send = client.send_data_to_worker(&uri, &zero, sender(0, 2, 1), schema(), rows());
    soon("the send", send).await.unwrap();
    let got = soon("the read", read(&client, &uri, 0)).await.unwrap();
    assert_eq!(numbers(&got), (0..ROWS).collect::<Vec<_>>());
}
