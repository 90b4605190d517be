//! Backups of servers at work: whole or refused, and worked off elsewhere.

mod broken;
mod held;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use futures::StreamExt as _;
use serde_json::Value;
use sheaf_coordinator::State;
use sheaf_coordinator::embedded::inspect;
use sheaf_flight::{CallOptions, ChannelPool, ClientConfig, FlightConnection};
use sheaf_proto::BatchId;
use sheaf_retry::SystemClock;
use sheaf_store::FlightClient;
use sheaf_testkit::{Process, TempDir, free_port, wait_for_async};

use crate::harness::{PATIENCE, Server, serve, sheaf};
use crate::remote::{ROWS, Remote, batch, id, patience_for_all, rows_out, sized};

/// Batches in a queue from which nobody takes before the restore.
const LATER: u64 = 20;

pub(super) fn connection(uri: &str) -> FlightConnection {
    let pool = ChannelPool::new(ClientConfig::default(), SystemClock::shared());
    pool.connection(uri).unwrap()
}

/// An answer of an action.
pub(super) async fn ask(uri: &str, action: &str, body: &str) -> Value {
    let body = body.to_owned().into();
    let answer = connection(uri).action(action, body, &CallOptions::default()).await.unwrap();
    serde_json::from_slice(&answer[0]).unwrap()
}

/// A batch's state in the coordinator's file of a backup or of a stopped server.
fn states(folder: &Path) -> BTreeMap<BatchId, State> {
    let mut states = BTreeMap::new();
    let file = folder.join("coordinator.redb");
    inspect(&file, |batch| states.extend([(batch.id, batch.state)])).unwrap();
    states
}

/// The last fencing token in the data of a server that was killed.
fn last_fence(data: &Path) -> u64 {
    let file = data.join("coordinator.redb");
    // Repairs what the kill left.
    drop(redb::Database::create(&file).unwrap());
    inspect(&file, |_| ()).unwrap().last_fence.0
}

fn number(id: &BatchId) -> u64 {
    id.as_str().strip_prefix("b-").unwrap().parse().unwrap()
}

/// Puts and workers go on all the time; then the server is killed, and what
/// was backed up is restored and worked off on another one.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_made_under_load_is_worked_off_elsewhere() {
    let batches = sized(400, 9_000);
    let home = TempDir::new().unwrap();
    let first = format!("parquet:{}", home.path().join("first").display());
    let mut server = Server::start(&["--workers", "2", "--lease", "1s", "--sink", &first]);
    let uri = server.ready.url("flight").unwrap().to_owned();
    let remote = Remote::at(&uri);
    for number in batches..batches + LATER {
        remote.put_in("later", number).await;
    }
    let loose = server.put(7, &["--id", "loose"]);
    ask(&uri, "PinBatch", "{\"batch_id\":\"loose\"}").await;
    let put_by = uri.clone();
    let putting = tokio::spawn(async move { Remote::at(&put_by).put(0..batches).await });
    wait_for_async(PATIENCE, "the work to get on", || async {
        (remote.count(State::Completed).await >= batches / 4).then_some(())
    })
    .await
    .unwrap();
    let backup = home.path().join("backup");
    let words = ["backup", backup.to_str().unwrap(), "--json"];
    let made = tokio::task::block_in_place(|| server.run(&words).json().remove(0));
    putting.await.unwrap();
    server.process.kill9().unwrap();

    let snapshot = states(&backup);
    assert_eq!(made["batches"], snapshot.len() as u64, "{made}");
    assert_eq!(made["missing"]["count"], 0, "{made}");
    let live: Vec<u64> = snapshot
        .iter()
        .filter(|(_, state)| !state.is_terminal())
        .map(|(id, _)| number(id))
        .collect();
    assert!(live.len() as u64 >= LATER && snapshot.len() > live.len(), "{made}");

    let elsewhere = TempDir::new().unwrap();
    let data = elsewhere.path().join("data");
    sheaf(&["restore", backup.to_str().unwrap(), "--data-dir", data.to_str().unwrap()]).ok();
    assert_eq!(states(&data), snapshot);
    let out = home.path().join("second");
    let sink = format!("parquet:{}", out.display());
    let words = ["--workers", "4", "--queue", "default,later", "--lease", "1s", "--sink", &sink];
    let mut second = Server::start_in(elsewhere, &words);
    let uri = second.ready.url("flight").unwrap().to_owned();
    let remote = Remote::at(&uri);
    wait_for_async(patience_for_all(), "all of the backup to be completed", || async {
        let done = remote.list(State::Completed).await;
        let done: BTreeSet<_> = done.into_iter().map(|batch| batch.spec.id).collect();
        snapshot.keys().all(|id| done.contains(id)).then_some(())
    })
    .await
    .unwrap();
    // What was completed before is not worked on again.
    let mut wanted: Vec<i64> = Vec::new();
    for number in live {
        wanted.extend((number * ROWS..(number + 1) * ROWS).map(|row| i64::try_from(row).unwrap()));
    }
    wanted.sort_unstable();
    // Put and registered while the payloads were copied: done here as well.
    let mut rows = rows_out(&out);
    rows.retain(|row| snapshot.contains_key(&id(u64::try_from(*row).unwrap() / ROWS)));
    assert_eq!(rows, wanted, "rows lost or doubled");

    let client = FlightClient::connect(&uri, SystemClock::shared()).unwrap();
    for id in snapshot.keys() {
        assert_eq!(client.get_batch(id).await.unwrap(), batch(number(id)), "{id}");
    }
    let (server_now, options) = (connection(&uri), CallOptions::default());
    let listed = server_now.list("{\"pinned\":true}".into(), &options).await.unwrap();
    let pinned: Vec<_> = listed.collect().await;
    assert_eq!(pinned.len(), 1);
    assert_eq!(pinned[0].as_ref().unwrap().path[1], loose);
    second.process.kill9().unwrap();
    let original = last_fence(&server.folder.path().join("data"));
    let restored = last_fence(&second.folder.path().join("data"));
    assert!(restored > original, "tokens {restored} of the copy, {original} of the original");
}

fn start(words: &[&str]) -> Process {
    let mut process = serve(&[], words);
    if let Err(error) = process.wait_ready(PATIENCE) {
        panic!("{error}\n{}", process.stderr());
    }
    process
}

/// Each part of a fleet by itself, the coordinator first.
#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_and_its_flight_server_are_backed_up_one_after_the_other() {
    let home = TempDir::new().unwrap();
    let path = |name: &str| home.path().join(name).to_str().unwrap().to_owned();
    let (coordinator, flight) = (free_port().unwrap().release(), free_port().unwrap().release());
    let (at, near) = (format!("grpc://{coordinator}"), format!("grpc://{flight}"));
    let parts = |generation: &str| {
        let (address, data) = (coordinator.to_string(), path(&format!("c{generation}")));
        let first = ["--mode", "coordinator", "--flight-addr", &address, "--data-dir", &data];
        let first = start(&first);
        let (address, data) = (flight.to_string(), path(&format!("f{generation}")));
        let words = ["--mode", "flight", "--coordinator", &at, "--flight-addr", &address];
        let second = start(&[&words[..], &["--data-dir", &data]].concat());
        [first, second]
    };
    let old = parts("1");
    Remote::at(&near).put(0..10).await;
    let (state, payloads) = (path("state"), path("payloads"));
    let note = sheaf(&["backup", &state, "--server", &at]);
    assert!(note.stderr().contains("state only"), "{}", note.stderr());
    assert!(note.ok().contains("10 batches, 10 of them not over"));
    // Put in between: in the payloads, not in the state; registered again later.
    Remote::at(&near).put(10..12).await;
    let note = sheaf(&["backup", &payloads, "--server", &near]);
    assert!(note.stderr().contains("payloads only"), "{}", note.stderr());
    assert!(note.ok().contains("12 payloads"));
    for mut process in old {
        process.kill9().unwrap();
    }
    sheaf(&["restore", &state, "--data-dir", &path("c2")]).ok();
    let restored = sheaf(&["restore", &payloads, "--data-dir", &path("f2")]);
    assert!(restored.stderr().contains(&near), "where they are registered: {}", restored.stderr());
    restored.ok();
    let _new = parts("2");
    let (_worker, _) = crate::remote::worker(&at, &near, &[]);
    Remote::at(&at).completes(12).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn payloads_in_memory_are_backed_up_as_they_are() {
    let server = Server::start(&["--durability", "memory", "--workers", "0"]);
    let uri = server.ready.url("flight").unwrap();
    Remote::at(uri).put(0..5).await;
    ask(uri, "PinBatch", "{\"batch_id\":\"b-000003\"}").await;
    let backup = server.path("backup");
    server.run(&["backup", &backup]).ok();
    let home = TempDir::new().unwrap();
    let data = home.path().join("data");
    sheaf(&["restore", &backup, "--data-dir", data.to_str().unwrap()]).ok();
    let server = Server::start_in(home, &["--workers", "1"]);
    let uri = server.ready.url("flight").unwrap();
    Remote::at(uri).completes(5).await;
    let stats = ask(uri, "StoreStats", "{}").await;
    assert_eq!((&stats["payloads"], &stats["pinned"]), (&5.into(), &1.into()), "{stats}");
}
