//! What any Flight client can do.

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use sheaf_exchange::shuffle::{
    ATTEMPT, AvailablePartition, CHECKSUMS, Error, SENDER, SENDERS, ShuffleStats, crc32c_of,
};
use sheaf_flight::ipc::encode_batches;
use sheaf_flight::{CallOptions, FlightConnection, Message};
use sheaf_retry::{Code, Retryable as _};

use super::world::{
    Worker, batch, client, key, numbers, options, pool, read, rows, schema, sender,
};

fn headers(index: u32, attempt: u64, senders: u32) -> CallOptions {
    CallOptions::default()
        .header(SENDER, index.to_string())
        .header(ATTEMPT, attempt.to_string())
        .header(SENDERS, senders.to_string())
}

fn alone(json: &str) -> Message {
    Message { app_metadata: Bytes::from(json.to_owned()), ..Message::default() }
}

async fn put(
    connection: &FlightConnection,
    call: &CallOptions,
    messages: Vec<Message>,
) -> Result<String, sheaf_flight::Error> {
    let path = ["shuffle", "query:1", "3", "0"];
    let answer = connection.put(&path, call, stream::iter(messages).map(Ok).boxed()).await?;
    Ok(String::from_utf8(answer.to_vec()).unwrap())
}

fn messages() -> Vec<Message> {
    encode_batches(schema(), &[batch(0, 10), batch(10, 10)]).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_without_checksums_numbers_and_commits() {
    let worker = Worker::new().await;
    let connection = pool().connection(&worker.uri).unwrap();
    let call = headers(0, 1, 1).header(CHECKSUMS, "none");
    let mut all = messages();
    let answer = put(&connection, &call, all.clone()).await.unwrap();
    assert_eq!(answer, r#"{"next_sequence":2,"committed":false}"#);
    let error = read(&client(options()), &worker.uri, 0).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable, "{error}");
    // All of it again, and the commit.
    all.push(alone(r#"{"commit":{"chunks":2,"rows":20}}"#));
    let answer = put(&connection, &call, all).await.unwrap();
    assert_eq!(answer, r#"{"next_sequence":2,"committed":true}"#);
    let got = read(&client(options()), &worker.uri, 0).await.unwrap();
    assert_eq!(numbers(&got), (0..20).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_put_that_is_not_as_agreed_says_what_is_wrong() {
    let worker = Worker::new().await;
    let connection = pool().connection(&worker.uri).unwrap();
    let good = messages();
    let with = |at: usize, metadata: String| {
        let mut all = good.clone();
        all[at].app_metadata = Bytes::from(metadata);
        all
    };
    let crc = crc32c_of(&good[1]);
    let wrong = format!(r#"{{"sequence":0,"crc32c":"{:08x}"}}"#, crc ^ 1);
    let call = headers(0, 1, 1);
    let none = headers(0, 1, 1).header(CHECKSUMS, "none");
    let ended = [good.clone(), vec![alone(r#"{"commit":{"chunks":2,"rows":21}}"#)]].concat();
    for (call, sent, code, says) in [
        (CallOptions::default(), good.clone(), Code::InvalidArgument, SENDER),
        (headers(1, 1, 1), good.clone(), Code::InvalidArgument, "sender 1 of 1"),
        (call.clone(), good.clone(), Code::MalformedData, "says nothing of itself"),
        (
            call.clone(),
            with(1, r#"{"sequence":0}"#.into()),
            Code::MalformedData,
            "without its crc32c",
        ),
        (call.clone(), with(1, "x".into()), Code::MalformedData, "\"x\""),
        (call.clone(), with(1, wrong), Code::Corrupt, "CRC32C"),
        (
            call.clone(),
            with(1, format!(r#"{{"sequence":1,"crc32c":"{crc:08x}"}}"#)),
            Code::PayloadLost,
            "chunk 0 is missing",
        ),
        (none, ended, Code::MalformedData, "rows: 21"),
        (call.clone().header(CHECKSUMS, "md5"), good.clone(), Code::InvalidArgument, "md5"),
    ] {
        let error = put(&connection, &call, sent).await.unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert!(error.message().contains(says), "{says}: {error}");
    }
    let error = read(&client(options()), &worker.uri, 0).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable, "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_there_can_be_asked_for_and_cleaned_up() {
    let worker = Worker::new().await;
    let client = client(options());
    for partition in 0..2 {
        let to = 1_000 * (i64::from(partition) * 2 + 1);
        let rows = rows(0, to, 500);
        let sent = client
            .send_data_to_worker(&worker.uri, &key(partition), sender(0, 1, 1), schema(), rows)
            .await;
        assert_eq!(sent.unwrap().totals.rows, to as u64);
    }
    let there = client.get_available_partitions(&worker.uri, "query:1", 3).await.unwrap();
    assert_eq!(there, worker.exchange.get_available_partitions("query:1", 3).unwrap());
    let shown: Vec<_> = there.partitions.iter().map(|one| (one.ready, one.rows)).collect();
    assert_eq!(shown, [(true, 1_000), (true, 3_000)]);
    assert_eq!((there.skew.ratio, there.skew.largest), (1.5, 1));

    let connection = pool().connection(&worker.uri).unwrap();
    let call = CallOptions::default();
    for (body, queries) in [("{}", 1), (r#"{"query":"query:1"}"#, 1), (r#"{"query":"r"}"#, 0)] {
        let answer = connection.action("ShuffleStats", body.into(), &call).await.unwrap();
        let stats: ShuffleStats = serde_json::from_slice(&answer[0]).unwrap();
        assert_eq!((stats.queries.len(), stats.left_out, stats.draining), (queries, 0, false));
        for stage in stats.queries.iter().flat_map(|query| &query.stages) {
            assert_eq!((stage.stage, stage.partitions, stage.ready), (3, 2, 2));
            assert_eq!((stage.rows, stage.skew), (4_000, there.skew));
        }
    }
    let error =
        connection.action("ShuffleStats", r#"{"stage":3}"#.into(), &call).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument, "{error}");
    // The last is asked of another namespace.
    for (criteria, count) in
        [("", 2), ("shuffle/", 2), ("shuffle/other", 0), (r#"{"prefix":"query:1"}"#, 0)]
    {
        let listed = connection.list(criteria.into(), &call).await.unwrap();
        assert_eq!(listed.try_collect::<Vec<_>>().await.unwrap().len(), count, "{criteria}");
    }
    let listed = connection.list(Bytes::from_static(b"shuffle/query:1"), &call).await.unwrap();
    let listed: Vec<_> = listed.try_collect().await.unwrap();
    assert_eq!(listed.iter().map(|one| one.total_records).collect::<Vec<_>>(), [1_000, 3_000]);
    let one = connection.info(&["shuffle", "query:1", "3", "1"], &call).await.unwrap();
    let app: AvailablePartition = serde_json::from_slice(&one.app_metadata).unwrap();
    assert_eq!(app, there.partitions[1]);
    let ticket = one.endpoints[0].ticket.clone();
    let got: Vec<Message> =
        connection.get(ticket, &call).await.unwrap().try_collect().await.unwrap();
    let last = String::from_utf8(got.last().unwrap().app_metadata.to_vec()).unwrap();
    assert!(last.contains(r#""rows":3000"#), "{last}");

    let uris = [worker.uri.clone()];
    assert_eq!(client.cleanup_query_data(&uris, "query:1").await.unwrap(), 2);
    assert_eq!(client.cleanup_query_data(&uris, "query:1").await.unwrap(), 0);
    assert_eq!(worker.budget.used(), 0);
    let late = client
        .send_data_to_worker(&worker.uri, &key(0), sender(0, 2, 1), schema(), rows(0, 9, 9))
        .await;
    let Err(Error::Send(failed)) = late else { panic!("{late:?}") };
    assert!(failed.cause.to_string().contains("cleaned up"), "{}", failed.cause);
    assert_eq!(worker.budget.used(), 0);
    let read = read(&client, &worker.uri, 0).await.unwrap_err();
    assert_eq!(read.code(), Code::FailedPrecondition, "{read}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_drains_refuses_senders_for_now_and_is_still_read() {
    let worker = Worker::new().await;
    let client = client(options());
    let send = |partition, attempt| {
        let (client, uri) = (client.clone(), worker.uri.clone());
        async move {
            let (key, rows) = (key(partition), rows(0, 9, 9));
            client.send_data_to_worker(&uri, &key, sender(0, attempt, 1), schema(), rows).await
        }
    };
    send(0, 1).await.unwrap();
    worker.exchange.drain();
    // What it has for other partitions may come, and nothing new.
    send(1, 1).await.unwrap();
    let Err(Error::Send(failed)) = send(2, 2).await else { panic!("it was taken") };
    assert_eq!(failed.cause.code(), Code::Draining, "{}", failed.cause);
    let got = read(&client, &worker.uri, 0).await.unwrap();
    assert_eq!(numbers(&got), (0..9).collect::<Vec<_>>());
    worker.exchange.drained().await;
}
