//! Modes `flight`, `coordinator` and `worker`: many processes as one system.

use arrow_array::RecordBatch;
use sheaf_coordinator::State;
use sheaf_flight::CallOptions;
use sheaf_flight::ipc::{Compression, compression_of};
use sheaf_retry::{Code, Jitter, Retryable as _, SystemClock};
use sheaf_store::{ClientPut, FlightClient};
use sheaf_testkit::{TempDir, wait_for_async};

use crate::harness::{PATIENCE, Server, sheaf};
use crate::parts::{Part, connection, servers, start_again};
use crate::remote::{Remote, assert_rows_once, id, seed, sized, worker};

/// Two Flight servers, one coordinator and four workers, each killed with
/// kill -9 again and again: every batch is completed, every row is there once.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small numbers")]
#[tokio::test(flavor = "multi_thread")]
async fn soak_killed_at_random_the_fleet_loses_nothing_and_doubles_nothing() {
    let batches = sized(5_000, 100_000);
    let folder = TempDir::new().unwrap();
    let (mut parts, [coordinator, first, second]) = servers(folder.path());
    let out = folder.path().join("out");
    let sink = format!("parquet:{}", out.display());
    for number in 0..4 {
        let near = [&first, &second][number % 2];
        let words = ["--mode", "worker", "--coordinator", &coordinator, "--flight-addr", near];
        let more = ["--sink", &sink, "--lease", "1s", "--workers", "2"];
        parts.push(Part::start(&[&words[..], &more].concat()));
    }
    let middle = batches / 2;
    let putting = [(first, 0..middle), (second, middle..batches)]
        .map(|(uri, numbers)| tokio::spawn(async move { Remote::at(&uri).put(numbers).await }));

    // Between two kills the work must get on by a random step: progress is
    // asserted, and the moments of death are spread over everything.
    let remote = Remote::at(&coordinator);
    let mut random = Jitter::new(seed());
    let (mut next, mut kills) = (0, vec![0_u32; parts.len()]);
    while next < batches {
        let moved = wait_for_async(PATIENCE, "the work to get on", || async {
            (remote.count(State::Completed).await >= next).then_some(())
        });
        moved.await.unwrap();
        let step = batches as f64 * 0.04 * random.next_unit();
        let (step, victim) =
            (step as u64 + 20, (random.next_unit() * parts.len() as f64) as usize % parts.len());
        next += step;
        let mut victims = vec![victim];
        // One time in three two of them are gone at once.
        let other = (random.next_unit() * 3.0 * parts.len() as f64) as usize;
        victims.extend((other < parts.len() && other != victim).then_some(other));
        let number = |part: &(usize, &mut Part)| victims.contains(&part.0);
        let dying = parts.iter_mut().enumerate().filter(number);
        let mut dying: Vec<&mut Part> = dying.map(|(_, part)| part).collect();
        dying.iter_mut().for_each(|part| part.stop());
        start_again(&mut dying);
        victims.iter().for_each(|victim| kills[*victim] += 1);
    }
    for part in putting {
        part.await.unwrap();
    }
    remote.completes(batches).await;
    assert_rows_once(&out, batches);
    let total: u32 = kills.iter().sum();
    eprintln!(
        "{total} kills (coordinator, 2 Flight servers, 4 workers: {kills:?}), {batches} batches"
    );
    assert!(total >= 20, "{kills:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_flight_server_answers_for_every_batch() {
    let folder = TempDir::new().unwrap();
    let (_parts, [coordinator, first, second]) = servers(folder.path());
    Remote::at(&first).put(0..1).await;
    let (options, path, ticket) =
        (CallOptions::default(), ["batches", "b-000000"], "batches/b-000000");
    let batch = Remote::at(&coordinator).batch(0).await;
    assert_eq!(batch.spec.locations, [first.as_str()]);
    for (server, locations) in
        [(&first, vec![]), (&second, vec![first.clone()]), (&coordinator, vec![first.clone()])]
    {
        let info = connection(server).info(&path, &options).await.unwrap();
        assert_eq!(info.endpoints[0].locations, locations, "{server}");
        assert_eq!(info.total_records, 20);
    }
    for server in [&first, &second] {
        use futures::StreamExt as _;
        let messages = connection(server).get(ticket, &options).await.unwrap();
        assert_eq!(messages.collect::<Vec<_>>().await.len(), 2, "schema and rows from {server}");
        let unknown = connection(server).get("batches/nobody", &options).await;
        assert_eq!(unknown.err().map(|error| error.code()), Some(Code::NotFound), "{server}");
        // How it is wanted goes along.
        let wanted = CallOptions::default()
            .header("sheaf-compression", "zstd")
            .header("sheaf-checksums", "crc32c");
        let messages = connection(server).get(ticket, &wanted).await.unwrap();
        let rows = messages.collect::<Vec<_>>().await.pop().unwrap().unwrap();
        assert_eq!(compression_of(&rows.header).unwrap(), Compression::Zstd, "from {server}");
        assert!(rows.app_metadata.starts_with(b"{\"crc32c\":"), "{rows:?}");
    }
    let refused = connection(&coordinator).get(ticket, &options).await;
    assert_eq!(refused.err().map(|error| error.code()), Some(Code::FailedPrecondition));
    let forwarded = CallOptions::default().header("sheaf-forwarded", "true");
    for server in [&second, &coordinator] {
        let ended = connection(server).info(&path, &forwarded).await;
        assert_eq!(ended.err().map(|error| error.code()), Some(Code::NotFound), "one hop only");
    }
    let client = FlightClient::connect(&coordinator, SystemClock::shared()).unwrap();
    assert_eq!(client.get_batch(&id(0)).await.unwrap().num_rows(), 20, "it asks where");
    let shown = sheaf(&["get", "b-000000", "--server", &coordinator, "--format", "csv"]).ok();
    assert!(shown.contains("row 19"), "{shown}");
    // What is asked of a Flight server about the work is asked of the coordinator.
    let got = connection(&second)
        .action("GetBatch", r#"{"batch_id":"b-000000"}"#.into(), &options)
        .await
        .unwrap();
    assert!(String::from_utf8_lossy(&got[0]).contains("\"state\":\"pending\""), "{got:?}");
    let (_worker, _) = worker(&coordinator, &second, &[]);
    Remote::at(&coordinator).completes(1).await;
}

/// Otherwise what is put at one server would hide the registered batch there.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_registered_takes_no_other_content_at_any_server() {
    let folder = TempDir::new().unwrap();
    let (_parts, [_, first, second]) = servers(folder.path());
    Remote::at(&first).put(0..1).await;
    let held = FlightClient::connect(&first, SystemClock::shared()).unwrap();
    let held = held.get_batch(&id(0)).await.unwrap();
    let there = FlightClient::connect(&second, SystemClock::shared()).unwrap();
    let put = async |rows: RecordBatch| {
        there.put(Some(&id(0)), rows.schema(), &[rows], ClientPut::default()).await
    };
    let refused = put(held.slice(0, 3)).await.unwrap_err();
    assert_eq!(refused.code(), Code::AlreadyExists, "{refused}");
    assert_eq!(there.get_batch(&id(0)).await.unwrap(), held, "as the first server has it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flight_server_by_itself_says_that_it_has_no_coordinator() {
    let server = Server::start(&["--mode", "flight"]);
    let flight = server.ready.url("flight").unwrap();
    assert_eq!(server.ready.url("coordinator"), None);
    let put = server.put(3, &[]);
    assert!(server.run(&["get", &put]).ok().contains("name 2"));
    let body = format!("{{\"batch_id\":\"{put}\"}}");
    let refused =
        connection(flight).action("RegisterBatch", body.into(), &CallOptions::default()).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    assert!(refused.message().contains("--coordinator grpc://"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_of_a_server_that_is_away_rest_without_a_charge() {
    let folder = TempDir::new().unwrap();
    let (mut parts, [coordinator, first, second]) = servers(folder.path());
    Remote::at(&first).put(0..5).await;
    Remote::at(&second).put(5..10).await;
    parts[1].stop();
    let (_worker, _) = worker(&coordinator, &second, &["--workers", "1"]);
    let remote = Remote::at(&coordinator);
    for number in 5..10 {
        let done = |batch: &sheaf_coordinator::Batch| batch.state == State::Completed;
        remote.wait_for_batch(number, "the work of the other server", done).await;
    }
    let resting =
        remote.wait_for_batch(0, "a batch to rest", |batch| batch.state == State::Scheduled).await;
    let error = resting.error.unwrap();
    assert_eq!((resting.attempts, error.code, error.permanent), (0, Code::Unavailable, false));
    parts[1].start_again();
    remote.completes(10).await;
    assert_eq!(remote.batch(0).await.attempts, 1, "{}", id(0));
}
