//! A coordinator or a payload that is gone, in a system of several processes.

use std::path::Path;

use futures::StreamExt as _;
use sheaf_coordinator::{BatchSpec, Coordinator as _, State};
use sheaf_flight::{CallOptions, Error};
use sheaf_retry::{Code, Retryable as _};
use sheaf_testkit::{TempDir, free_port, wait_for_async};

use crate::harness::PATIENCE;
use crate::parts::{Part, connection, data, servers, servers_with, uri};
use crate::remote::{Remote, assert_rows_once, id, worker};

/// Waits until a server has no such payload. It is listed, for reading it would
/// be a use.
async fn gone(server: &str, name: &str) {
    let asked = wait_for_async(PATIENCE, "a payload to expire", || async {
        let criteria = format!("{{\"prefix\":\"{name}\"}}");
        let listed = connection(server).list(criteria.into(), &CallOptions::default()).await;
        (listed.unwrap().count().await == 0).then_some(())
    });
    asked.await.unwrap();
}

/// Waits until the log of a server says so.
async fn said(part: &Part, text: &str) {
    let log = wait_for_async(PATIENCE, text, || async {
        part.process.stderr().contains(text).then_some(())
    });
    if let Err(error) = log.await {
        panic!("{error}\n{}", part.process.stderr());
    }
}

/// Waits until so many batches are there to be worked on, which a Flight server
/// registers again.
async fn pending(remote: &Remote, batches: u64, flight: &Part) {
    let restored = wait_for_async(PATIENCE, "batches to be registered again", || async {
        (remote.count(State::Pending).await == batches).then_some(())
    });
    if let Err(error) = restored.await {
        panic!("{error}: {}\n{}", remote.count(State::Pending).await, flight.process.stderr());
    }
}

async fn act(server: &str, action: &'static str, body: &str) -> Result<(), Error> {
    let body = body.to_owned().into();
    connection(server).action(action, body, &CallOptions::default()).await.map(drop)
}

async fn has(server: &str, number: u64) -> bool {
    // Without a look elsewhere.
    let here = CallOptions::default().header("sheaf-forwarded", "true");
    connection(server).get(&format!("batches/{}", id(number)), &here).await.is_ok()
}

/// Puts a payload that nobody registers.
async fn put_unregistered(server: &str, name: &str) {
    use arrow_array::{Int64Array, RecordBatch};
    let column = std::sync::Arc::new(Int64Array::from(vec![1])) as _;
    let rows = RecordBatch::try_from_iter([("n", column)]).unwrap();
    let messages = sheaf_flight::ipc::encode_batches(rows.schema(), &[rows]).unwrap();
    let messages = Box::pin(futures::stream::iter(messages.into_iter().map(Ok)));
    let put = connection(server).put(&["batches", name], &CallOptions::default(), messages).await;
    put.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_that_comes_back_empty_is_told_everything_again() {
    let folder = TempDir::new().unwrap();
    let (mut parts, [coordinator, first, second]) = servers(folder.path());
    let remote = Remote::at(&coordinator);
    Remote::at(&first).put(0..20).await;
    Remote::at(&second).put(20..40).await;
    // As it was registered: not everything is of the default queue.
    Remote::at(&first).put_in("other", 40).await;
    parts[0].stop();
    std::fs::remove_dir_all(data(folder.path(), "coordinator")).unwrap();
    parts[0].start_again();
    pending(&remote, 41, &parts[1]).await;
    assert_eq!(remote.batch(40).await.spec.queue, "other");
    assert_eq!(remote.batch(20).await.spec.locations, [second.as_str()]);
    said(&parts[1], "registered again").await;
    let sink = format!("parquet:{}", folder.path().join("out").display());
    let (_worker, _) = worker(&coordinator, &first, &["--sink", &sink]);
    let (_other, _) = worker(&coordinator, &first, &["--sink", &sink, "--queue", "other"]);
    remote.completes(41).await;
    assert_rows_once(&folder.path().join("out"), 41);
}

/// All files of a directory, as `cp -r` copies them.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_that_was_put_back_to_an_earlier_state_is_told_what_came_after() {
    let folder = TempDir::new().unwrap();
    let (mut parts, [coordinator, first, _]) = servers_with(folder.path(), &["--ttl", "2s"]);
    let remote = Remote::at(&coordinator);
    Remote::at(&first).put(0..3).await;
    let (state, before) = (folder.path().join("coordinator"), folder.path().join("before"));
    parts[0].stop();
    copy(&state, &before);
    parts[0].start_again();
    Remote::at(&first).put(3..6).await;
    parts[0].stop();
    std::fs::remove_dir_all(&state).unwrap();
    copy(&before, &state);
    parts[0].start_again();
    // As many as were lost, so that their numbers are taken again.
    Remote::at(&first).put(6..9).await;
    pending(&remote, 9, &parts[1]).await;
    let (_worker, _) = worker(&coordinator, &first, &[]);
    remote.completes(9).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn work_whose_dependencies_are_met_is_registered_again_without_them() {
    let folder = TempDir::new().unwrap();
    let (mut parts, [coordinator, first, _]) = servers(folder.path());
    let remote = Remote::at(&coordinator);
    Remote::at(&first).put(0..1).await;
    Remote::at(&first).put_after(1, 0).await;
    assert_eq!(remote.batch(1).await.state, State::Waiting);
    let (mut work, _) = worker(&coordinator, &first, &[]);
    let done = |batch: &sheaf_coordinator::Batch| batch.state == State::Completed;
    remote.wait_for_batch(0, "the first to complete", done).await;
    let free = |batch: &sheaf_coordinator::Batch| batch.state != State::Waiting;
    remote.wait_for_batch(1, "the second to be free", free).await;
    work.kill9().unwrap();
    parts[0].stop();
    std::fs::remove_dir_all(data(folder.path(), "coordinator")).unwrap();
    parts[0].start_again();
    let known = wait_for_async(PATIENCE, "it to be registered again", || async {
        (remote.count(State::Pending).await > 0).then_some(())
    });
    known.await.unwrap();
    assert!(remote.batch(1).await.spec.depends_on.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn registered_payloads_outlive_a_server_without_its_coordinator() {
    let folder = TempDir::new().unwrap();
    let (mut parts, [coordinator, first, _]) = servers_with(folder.path(), &["--ttl", "500ms"]);
    Remote::at(&first).put(0..5).await;
    let with = parts[1].words.clone();
    parts[1].stop();
    let at = with.iter().position(|word| word == "--coordinator").unwrap();
    parts[1].words.drain(at..at + 2);
    parts[1].start_again();
    said(&parts[1], "was started without one").await;
    // What was put later and by nobody registered is gone, so these had time to go.
    put_unregistered(&first, "canary").await;
    gone(&first, "canary").await;
    for number in 0..5 {
        assert!(has(&first, number).await, "batch {number}");
    }
    let delete = format!("{{\"batch_id\":\"{}\"}}", id(0));
    let refused = act(&first, "DeleteBatch", &delete).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    parts[1].stop();
    parts[1].words = with;
    parts[1].start_again();
    let (_worker, _) = worker(&coordinator, &first, &[]);
    Remote::at(&coordinator).completes(5).await;
    // The work is over, and so is the time of the payloads.
    gone(&first, id(0).as_str()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_lives_as_long_as_its_batch_wherever_that_is() {
    let folder = TempDir::new().unwrap();
    let (parts, [coordinator, first, second]) = servers_with(folder.path(), &["--ttl", "500ms"]);
    let remote = Remote::at(&coordinator);
    Remote::at(&first).put(0..1).await;
    Remote::at(&second).put_in("idle", 1).await;
    let (_worker, _) = worker(&coordinator, &second, &[]);
    remote.completes(1).await;
    gone(&first, id(0).as_str()).await;
    put_unregistered(&second, "canary").await;
    gone(&second, "canary").await;
    assert!(has(&second, 1).await, "its batch is pending");
    drop(parts);
}

/// Removes the file of a batch from a data directory.
fn lose(data: &Path, number: u64) {
    let name = format!("{}.arrow", id(number));
    let shards = std::fs::read_dir(data.join("batches")).unwrap();
    let found = shards.map(|shard| shard.unwrap().path().join(&name)).find(|path| path.exists());
    std::fs::remove_file(found.expect("the file is there")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_that_is_gone_from_every_server_fails_its_batch() {
    let folder = TempDir::new().unwrap();
    let (mut parts, [coordinator, first, second]) = servers(folder.path());
    let remote = Remote::at(&coordinator);
    // One batch at both servers, one at the first only.
    Remote::at(&first).put(0..2).await;
    Remote::at(&second).put(0..1).await;
    assert_eq!(remote.batch(0).await.spec.locations, [second.clone(), first.clone()]);
    parts[1].stop();
    let directory = folder.path().join("flight-0");
    lose(&directory, 0);
    lose(&directory, 1);
    parts[1].start_again();
    let (_worker, _) = worker(&coordinator, &first, &[]);
    let over = |batch: &sheaf_coordinator::Batch| batch.state.is_terminal();
    let lost = remote.wait_for_batch(1, "the lost one to fail", over).await;
    let error = lost.error.expect("a reason");
    assert_eq!((lost.state, error.code), (State::Failed, Code::PayloadLost), "{error:?}");
    let kept = remote.wait_for_batch(0, "the other to complete", over).await;
    assert_eq!(kept.state, State::Completed, "{:?}", kept.error);
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_name_each_other_as_coordinator_end_the_question() {
    let folder = TempDir::new().unwrap();
    let addresses = [(); 2].map(|()| free_port().unwrap().release());
    let [first, second] = addresses.map(uri);
    let words = |number: usize, other: &str| {
        let data = data(folder.path(), &format!("data-{number}"));
        let address = addresses[number].to_string();
        ["--mode", "flight", "--coordinator", other, "--data-dir", &data, "--flight-addr", &address]
            .map(str::to_owned)
    };
    let _parts = [(0, &second), (1, &first)].map(|(number, other)| {
        let words = words(number, other);
        Part::start(&words.each_ref().map(String::as_str))
    });
    let refused = act(&first, "Stats", "{}").await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    let advice = format!("--coordinator {first}");
    assert!(refused.message().contains(&advice), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bare_coordinator_wants_to_know_where_a_payload_is() {
    let folder = TempDir::new().unwrap();
    let (parts, [coordinator, ..]) = servers(folder.path());
    let spec = BatchSpec { rows: 1, bytes: 1, ..BatchSpec::new(id(0)) };
    let refused = Remote::at(&coordinator).coordinator.register(vec![spec]).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    assert!(format!("{refused:?}").contains("location: required"), "{refused:?}");
    let body = r#"{"batch_id":"b","locations":[],"rows":1,"bytes":1}"#;
    let refused = act(&coordinator, "RegisterBatch", body).await.unwrap_err();
    assert!(refused.message().contains("location"), "{refused}");
    drop(parts);
}
