//! The store behind a Flight port.

use std::process::Command;
use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _};
use sheaf_flight::ipc::{Compression, compression_of};
use sheaf_flight::{CallOptions, Exposure, FlightRouter, Limits, Listener, Server, ServerHandle};
use sheaf_retry::{Code, Retryable as _, SystemClock};
use sheaf_store::{
    Budget, ClientPut, Durability, FlightClient, NAMESPACE, Options, PutOptions, ReadOptions,
    Store, StoreActions, StoreHandler,
};
use sheaf_testkit::{TempDir, wait_until_async};

use crate::support::{LONG, batch, id, messages, rows, stream_of};

struct Running {
    server: ServerHandle,
    folder: TempDir,
    store: Store,
    client: FlightClient,
}

async fn start() -> Running {
    start_with(Durability::Memory, Options::new(SystemClock::shared())).await
}

async fn start_with(durability: Durability, options: Options) -> Running {
    let folder = TempDir::new().unwrap();
    let options = match durability {
        Durability::Memory => options,
        Durability::Disk => options.with_data_dir(folder.path()),
    };
    let store = Store::open(options).await.unwrap();
    let router = FlightRouter::builder()
        .handler(NAMESPACE, Arc::new(StoreHandler::new(store.clone(), durability)))
        .actions(Arc::new(StoreActions::new(store.clone())))
        .limits(Limits::for_memory(1 << 30))
        .clock(SystemClock::shared())
        .memory(store.memory())
        .build()
        .unwrap();
    let listener = Listener::bind("127.0.0.1:0", "--flight-addr", Exposure::Loopback).unwrap();
    let server = Server::new(router).serve(listener).await.unwrap();
    let client = FlightClient::connect(&server.uri(), SystemClock::shared()).unwrap();
    Running { server, folder, store, client }
}

#[tokio::test(flavor = "multi_thread")]
async fn puts_that_are_larger_than_memory_make_room_for_each_other() {
    let options = Options::new(SystemClock::shared()).with_budget(Budget::new(8 << 20));
    let running = start_with(Durability::Disk, options).await;
    let Running { client, store, .. } = &running;
    // 12 batches of about 1 MiB each, four times at once.
    let batches: Vec<_> = (0..12).map(|seed| batch(seed, 16_000)).collect();
    let put = |name: &'static str| {
        let batches = &batches;
        async move {
            let options = ClientPut::default();
            client.put(Some(&id(name)), batches[0].schema(), batches, options).await.unwrap()
        }
    };
    let receipts = futures::future::join_all(["a", "b", "c", "d"].map(put)).await;
    assert!(receipts.iter().all(|receipt| receipt.bytes > 8 << 20), "{receipts:?}");
    let whole = arrow_select::concat::concat_batches(&batches[0].schema(), &batches).unwrap();
    for name in ["a", "d"] {
        assert_eq!(client.get_batch(&id(name)).await.unwrap(), whole);
    }
    assert!(store.budget().used() <= 8 << 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_puts_gets_lists_and_deletes() {
    let running = start().await;
    let Running { client, store, .. } = &running;
    let batches = [batch(1, 10), batch(2, 20)];
    let schema = batches[0].schema();
    let receipt =
        client.put(Some(&id("x")), schema.clone(), &batches, ClientPut::default()).await.unwrap();
    assert_eq!((receipt.rows, receipt.created), (30, true));
    let again =
        client.put(Some(&id("x")), schema.clone(), &batches, ClientPut::default()).await.unwrap();
    assert!(!again.created);
    let whole = arrow_select::concat::concat_batches(&schema, &batches).unwrap();
    assert_eq!(client.get_batch(&id("x")).await.unwrap(), whole);
    let info = client.info(&id("x")).await.unwrap();
    assert_eq!((info.total_records, info.ordered), (30, true));
    assert_eq!(info.total_bytes, i64::try_from(receipt.bytes).unwrap());
    assert!(info.endpoints[0].expires_at_micros.is_some());
    assert_eq!(info.endpoints[0].ticket, "batches/x");

    let made = client.store_batch(batches[0].clone()).await.unwrap();
    let listed: Vec<_> = client.list("x").await.unwrap().try_collect().await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(client.list("").await.unwrap().count().await, 2);
    client.delete(&made).await.unwrap();
    assert_eq!(client.get_batch(&made).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(store.stats().payloads, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_reads_the_same_part_as_the_store_gives() {
    let running = start().await;
    let Running { client, store, .. } = &running;
    let batches = [batch(1, 10), batch(2, 20)];
    let schema = batches[0].schema();
    let memory = PutOptions::MEMORY;
    let put = store.put_batches(Some(id("x")), schema.clone(), &batches, memory).await.unwrap();
    let again =
        client.put(Some(&id("x")), schema.clone(), &batches, ClientPut::default()).await.unwrap();
    assert_eq!((put.created, again.created), (true, false), "the same bytes either way");

    let whole = ReadOptions::default();
    let (read, rows) = store.read_batches(&id("x"), &whole).await.unwrap();
    assert_eq!(read, schema);
    assert_eq!(rows.try_collect::<Vec<_>>().await.unwrap(), batches);

    let part = ReadOptions::default().with_columns(["text", "number"]).with_rows(8, 4);
    let (_, here) = store.read_batches(&id("x"), &part).await.unwrap();
    let (_, there) = client.read_batches(&id("x"), &part).await.unwrap();
    let here: Vec<_> = here.try_collect().await.unwrap();
    assert_eq!(there.try_collect::<Vec<_>>().await.unwrap(), here);
    let columns = batches.each_ref().map(|batch| batch.project(&[1, 0]).unwrap());
    assert_eq!(here, [columns[0].slice(8, 2), columns[1].slice(0, 2)]);

    let none = ReadOptions::default().with_columns(["nowhere"]);
    let here = store.read_batches(&id("x"), &none).await.err().unwrap();
    let there = client.read_batches(&id("x"), &none).await.err().unwrap();
    assert_eq!((here.code(), there.code()), (Code::InvalidArgument, Code::InvalidArgument));
    let other = batch(3, 1).project(&[0]).unwrap();
    let refused = store.put_batches(None, schema, &[other], memory).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    let disk = ClientPut::default().with_durability(Durability::Disk);
    let refused = client.put(None, read, &batches, disk).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "there is no directory: {refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_requests_say_what_is_wrong() {
    let running = start().await;
    let Running { client, .. } = &running;
    let connection = client.connection();
    let none = CallOptions::default();
    let ticket = async |ticket: &str| connection.get(ticket, &none).await.err().unwrap();
    assert_eq!(ticket("batches/missing").await.code(), Code::NotFound);
    assert!(ticket("batches/a?rows=1").await.to_string().contains("none of columns"));
    let put = async |path: &[&str], header: (&str, &str)| {
        let sent = stream_of(&messages(&[batch(1, 1)]));
        let options = CallOptions::default().header(header.0, header.1);
        connection.put(path, &options, sent).await.err().unwrap()
    };
    let error = put(&["batches"], ("sheaf-durability", "paper")).await;
    assert!(error.to_string().contains("\"paper\""), "{error}");
    let error = put(&["batches"], ("sheaf-durability", "disk")).await;
    assert_eq!(error.code(), Code::FailedPrecondition);
    let error = put(&["batches"], ("sheaf-register", "true")).await;
    assert!(error.to_string().contains("no coordinator"), "{error}");
    let error = put(&["batches", "a b"], ("x", "y")).await;
    assert_eq!(error.code(), Code::InvalidArgument);
    let listed = connection.list("{\"pre\": 1}".into(), &none).await;
    let error = match listed {
        Err(error) => error,
        Ok(stream) => stream.try_collect::<Vec<_>>().await.unwrap_err(),
    };
    assert!(error.to_string().contains("criteria"), "{error}");
    let error = connection.action("DeleteBatch", "{}".into(), &none).await.unwrap_err();
    assert!(error.message().contains("DeleteBatch: missing field `batch_id`"), "{error}");
    for (action, body) in [("StoreStats", "[]"), ("StoreStats", "3"), ("PinBatch", "[\"a\"]")] {
        let error = connection.action(action, body.into(), &none).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{action} {body}: {error}");
        assert!(error.message().contains(&format!(" {action}: ")), "{action} {body}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn actions_pin_and_count() {
    let running = start().await;
    let Running { client, .. } = &running;
    let name = client.store_batch(batch(1, 10)).await.unwrap();
    let body = format!("{{\"batch_id\":\"{name}\"}}");
    let none = CallOptions::default();
    let call = async |action: &str, body: String| {
        let answer = client.connection().action(action, body.into(), &none).await.unwrap();
        serde_json::from_slice::<serde_json::Value>(&answer[0]).unwrap()
    };
    assert_eq!(call("PinBatch", body.clone()).await["pinned"], true);
    let stats = call("StoreStats", String::new()).await;
    assert_eq!((stats["payloads"].clone(), stats["pinned"].clone()), (1.into(), 1.into()));
    let refused = client.delete(&name).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert_eq!(call("UnpinBatch", body.clone()).await["pinned"], false);
    assert_eq!(call("DeleteBatch", body).await["deleted"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn echo_sends_back_what_is_a_stream() {
    let running = start().await;
    let Running { client, store, .. } = &running;
    let sent = messages(&[batch(1, 10), batch(2, 3)]);
    let none = CallOptions::default();
    let echo = client.connection().exchange(&["batches", "echo"], &none, stream_of(&sent));
    let back: Vec<_> = echo.await.unwrap().try_collect().await.unwrap();
    assert_eq!(back, sent);
    assert_eq!(store.stats().payloads, 0);
    let other = client.connection().exchange(&["batches"], &none, stream_of(&sent));
    let error = match other.await {
        Err(error) => error,
        Ok(stream) => stream.try_collect::<Vec<_>>().await.unwrap_err(),
    };
    assert_eq!(error.code(), Code::Unimplemented);
}

/// Issue: an unmodified pyarrow must get back every type that it can make.
#[tokio::test(flavor = "multi_thread")]
async fn pyarrow_gets_back_every_type_it_can_make() {
    let Some(python) = sheaf_testkit::python() else { return };
    let running = start_with(Durability::Disk, Options::new(SystemClock::shared())).await;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/every_type.py");
    let (uri, folder) = (running.server.uri(), running.folder.path().to_path_buf());
    let run = tokio::task::spawn_blocking(move || {
        Command::new(python).arg(script).arg(uri).arg(folder).output().unwrap()
    });
    let output = run.await.unwrap();
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    let types: u32 = out.trim().strip_prefix("types ").unwrap().parse().unwrap();
    assert!(types >= 60, "{types}");
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_carry_their_checksum_where_the_client_asks_for_it() {
    let running = start().await;
    let mut sent = messages(&[batch(1, 10), batch(2, 20)]);
    sent.last_mut().unwrap().app_metadata = "own".into();
    running.store.put(Some(id("x")), stream_of(&sent), PutOptions::MEMORY).await.unwrap();
    let connection = running.client.connection();
    let get = async |how: &str| {
        let options = CallOptions::default().header("sheaf-checksums", how);
        connection.get("batches/x", &options).await?.try_collect::<Vec<_>>().await
    };
    let got = get("crc32c").await.unwrap();
    assert_eq!(got.len(), sent.len());
    let (last, rest) = got.split_last().unwrap();
    assert_eq!(last, sent.last().unwrap());
    for (got, sent) in rest.iter().zip(&sent) {
        assert_eq!((&got.header, got.contiguous_body()), (&sent.header, sent.contiguous_body()));
        let crc = crc32c::crc32c_append(crc32c::crc32c(&got.header), &got.contiguous_body());
        let metadata: serde_json::Value = serde_json::from_slice(&got.app_metadata).unwrap();
        assert_eq!(metadata, serde_json::json!({ "crc32c": format!("{crc:08x}") }));
    }
    assert_eq!(get("none").await.unwrap(), sent);
    let error = get("md5").await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument, "{error}");
    assert!(error.to_string().contains("\"md5\""), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn compression_is_asked_for_in_both_directions() {
    let running = start_with(Durability::Disk, Options::new(SystemClock::shared())).await;
    let Running { client, .. } = &running;
    let batches = [batch(1, 3_000), batch(2, 20)];
    let schema = batches[0].schema();
    let put = async |name: &str, how: ClientPut| {
        client.put(Some(&id(name)), schema.clone(), &batches, how).await.unwrap()
    };
    let plain = put("plain", ClientPut::default()).await;
    let came = put("came", ClientPut::default().with_compression(Compression::Lz4)).await;
    let kept = put("kept", ClientPut::default().with_stored_compression(Compression::Zstd)).await;
    assert_eq!(plain.stored_bytes, plain.bytes);
    assert!(came.bytes * 2 < plain.bytes && came.stored_bytes == came.bytes, "{came:?}");
    assert_eq!((&kept.checksum, kept.bytes), (&plain.checksum, plain.bytes));
    assert!(kept.stored_bytes * 2 < kept.bytes, "{kept:?}");
    let info = client.info(&id("kept")).await.unwrap();
    assert_eq!(info.total_bytes, i64::try_from(kept.stored_bytes).unwrap());

    let read = async |name: &str, wanted: &str| -> Vec<_> {
        let options = ReadOptions::default().with_bodies(wanted.parse().unwrap());
        client.read(&id(name), &options).await.unwrap().try_collect().await.unwrap()
    };
    let sent = read("plain", "none").await;
    assert_eq!(
        sent,
        client.get_messages(&id("plain")).await.unwrap().try_collect::<Vec<_>>().await.unwrap()
    );
    assert_eq!((read("kept", "as-put").await, read("kept", "none").await), (sent.clone(), sent));
    for name in ["plain", "came", "kept"] {
        for (wanted, codec) in [("lz4", Compression::Lz4), ("zstd", Compression::Zstd)] {
            let got = read(name, wanted).await;
            let codecs: Vec<_> =
                got.iter().map(|one| compression_of(&one.header).unwrap()).collect();
            assert!(codecs.contains(&codec), "{name} {wanted}: {codecs:?}");
            assert_eq!(rows(&got).await, batches);
        }
    }
    // The checksum is of the bytes as sent.
    let options = CallOptions::default()
        .header("sheaf-checksums", "crc32c")
        .header("sheaf-compression", "lz4");
    let got: Vec<_> = client
        .connection()
        .get("batches/kept", &options)
        .await
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    for message in got {
        let crc =
            crc32c::crc32c_append(crc32c::crc32c(&message.header), &message.contiguous_body());
        assert_eq!(message.app_metadata, format!("{{\"crc32c\":\"{crc:08x}\"}}"));
    }
    for (wrong, says) in
        [("gzip", "is no codec"), ("as-put,lz4", "is no codec"), ("", "write as-put")]
    {
        let options = CallOptions::default().header("sheaf-compression", wrong);
        let error = client.connection().get("batches/kept", &options).await.err().unwrap();
        assert_eq!(error.code(), Code::InvalidArgument, "{wrong}: {error}");
        assert!(error.message().contains("header sheaf-compression: "), "{error}");
        assert!(error.message().contains(says), "{error}");
    }
}

/// What it received is counted until it goes, and must not keep it for that.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_dropped_is_gone_with_what_it_received() {
    let running = start_with(Durability::Disk, Options::new(SystemClock::shared())).await;
    let rows = batch(1, 100_000);
    running.client.store_batch(rows).await.unwrap();
    let Running { server, folder, store, client } = running;
    drop(client);
    server.drain(LONG).await;
    drop(store);
    // The lock of the directory goes with the last of it.
    let again = || async {
        let options = Options::new(SystemClock::shared()).with_data_dir(folder.path());
        Store::open(options).await.is_ok()
    };
    wait_until_async(LONG, "the directory to be free", again).await.unwrap();
}
