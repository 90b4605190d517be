//! Putting and getting payloads: in memory and on disk, in the process and
//! over loopback, small and large, one at a time and 64 at once.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use sheaf_flight::ipc::encode_batches;
use sheaf_flight::{Exposure, FlightRouter, Limits, Listener, Message, MessageStream, Server};
use sheaf_proto::BatchId;
use sheaf_retry::SystemClock;
use sheaf_store::{
    Budget, ClientPut, Durability, Filter, FlightClient, MAX_PAGE, NAMESPACE, Options, PutOptions,
    ReadOptions, Store, StoreHandler,
};
use tokio::runtime::Runtime;

const SMALL_ROWS: usize = 1_000;
/// About 32 MiB.
const LARGE_ROWS: usize = 1_000_000;

fn batch(rows: usize) -> RecordBatch {
    let numbers = (0..rows).map(|row| i64::try_from(row).ok());
    let texts = (0..rows).map(|row| Some(format!("row number {row:>9}")));
    let columns: [(&str, ArrayRef); 2] = [
        ("number", Arc::new(numbers.collect::<Int64Array>())),
        ("text", Arc::new(texts.collect::<StringArray>())),
    ];
    RecordBatch::try_from_iter(columns).expect("two columns of one length")
}

fn messages(rows: usize) -> Vec<Message> {
    let batch = batch(rows);
    encode_batches(batch.schema(), &[batch]).expect("plain types")
}

fn stream_of(messages: &[Message]) -> MessageStream {
    stream::iter(messages.iter().cloned().map(Ok).collect::<Vec<_>>()).boxed()
}

fn id(text: &str) -> BatchId {
    text.parse().expect("a plain name")
}

async fn open(folder: &std::path::Path) -> Store {
    let options =
        Options::new(SystemClock::shared()).with_data_dir(folder).with_budget(Budget::new(1 << 30));
    Store::open(options).await.expect("a fresh folder")
}

async fn put(store: &Store, messages: &[Message], options: PutOptions) -> BatchId {
    let put = store.put(None, stream_of(messages), options).await;
    put.expect("room for it").batch_id
}

/// Puts and deletes, so that the store does not fill up.
async fn put_and_delete(store: &Store, messages: &[Message], options: PutOptions) {
    let id = put(store, messages, options).await;
    store.delete(&id).await.expect("just put");
}

async fn drain(stream: MessageStream) -> usize {
    let read = stream.try_fold(0, |sum, message| async move { Ok(sum + message.len()) });
    read.await.expect("stored bytes")
}

fn in_process(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let folder = tempfile::tempdir().expect("a folder");
    let store = runtime.block_on(open(folder.path()));
    for (size, rows) in [("1k_rows", SMALL_ROWS), ("1m_rows", LARGE_ROWS)] {
        let sent = messages(rows);
        let bytes: usize = sent.iter().map(Message::len).sum();
        let mut group = criterion.benchmark_group(format!("store/{size}"));
        group.throughput(Throughput::Bytes(bytes as u64)).sample_size(20);
        for (name, options) in [("memory", PutOptions::MEMORY), ("disk", PutOptions::DISK)] {
            group.bench_function(format!("put_delete_{name}"), |bencher| {
                bencher.to_async(&runtime).iter(|| put_and_delete(&store, &sent, options));
            });
        }
        let id = runtime.block_on(put(&store, &sent, PutOptions::MEMORY));
        group.bench_function("get_memory", |bencher| {
            bencher.to_async(&runtime).iter(|| async {
                drain(store.read(&id, &ReadOptions::default()).await.expect("there")).await
            });
        });
        group.bench_function("get_two_columns_sliced", |bencher| {
            let columns = Some(vec!["text".to_owned()]);
            let options =
                ReadOptions { columns, offset: 10, limit: Some(100), ..ReadOptions::default() };
            bencher
                .to_async(&runtime)
                .iter(|| async { drain(store.read(&id, &options).await.expect("there")).await });
        });
        group.finish();
    }
}

/// What 64 callers get of group commit: the time is that of all 64.
fn together(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let folder = tempfile::tempdir().expect("a folder");
    let store = runtime.block_on(open(folder.path()));
    let sent = messages(SMALL_ROWS);
    let mut group = criterion.benchmark_group("store/64_at_once");
    group.throughput(Throughput::Elements(64)).sample_size(10);
    for (name, options) in [("memory", PutOptions::MEMORY), ("disk", PutOptions::DISK)] {
        group.bench_function(format!("put_{name}"), |bencher| {
            bencher
                .to_async(&runtime)
                .iter(|| futures::future::join_all((0..64).map(|_| put(&store, &sent, options))));
        });
    }
    group.finish();
}

/// Files that a store finds when it starts, mapped at the first read.
fn mapped(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let folder = tempfile::tempdir().expect("a folder");
    let sent = messages(LARGE_ROWS);
    let bytes: usize = sent.iter().map(Message::len).sum();
    let (store, id) = runtime.block_on(async {
        let store = open(folder.path()).await;
        let id = put(&store, &sent, PutOptions::DISK).await;
        store.close().await;
        drop(store);
        (open(folder.path()).await, id)
    });
    let mut group = criterion.benchmark_group("store/1m_rows");
    group.throughput(Throughput::Bytes(bytes as u64));
    group.bench_function("get_mapped", |bencher| {
        bencher.to_async(&runtime).iter(|| async {
            drain(store.read(&id, &ReadOptions::default()).await.expect("there")).await
        });
    });
    group.finish();
}

fn list(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let sent = messages(1);
    let store = runtime.block_on(async {
        let store = Store::open(Options::new(SystemClock::shared())).await.expect("no disk");
        for _ in 0..MAX_PAGE {
            put(&store, &sent, PutOptions::MEMORY).await;
        }
        store
    });
    criterion.bench_function("store/list_10000", |bencher| {
        bencher.to_async(&runtime).iter(|| async {
            let page = store.list(&Filter::default(), None, MAX_PAGE).await.expect("a page");
            assert_eq!(page.payloads.len(), MAX_PAGE);
        });
    });
}

fn loopback(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let folder = tempfile::tempdir().expect("a folder");
    let (_server, store, client) = runtime.block_on(async {
        let store = open(folder.path()).await;
        let handler = StoreHandler::new(store.clone(), Durability::Memory);
        let router = FlightRouter::builder()
            .handler(NAMESPACE, Arc::new(handler))
            .limits(Limits::for_memory(1 << 30))
            .clock(SystemClock::shared())
            .build()
            .expect("one namespace");
        let listener = Listener::bind("127.0.0.1:0", "--flight-addr", Exposure::Loopback);
        let server = Server::new(router).serve(listener.expect("a free port")).await;
        let server = server.expect("serving");
        let client = FlightClient::connect(&server.uri(), SystemClock::shared());
        (server, store, client.expect("its address"))
    });
    for (size, rows) in [("1_row", 1), ("1k_rows", SMALL_ROWS), ("1m_rows", LARGE_ROWS)] {
        let sent = messages(rows);
        let bytes: usize = sent.iter().map(Message::len).sum();
        let mut group = criterion.benchmark_group(format!("store/loopback/{size}"));
        group.throughput(Throughput::Bytes(bytes as u64)).sample_size(20);
        for (name, durability) in [("memory", Durability::Memory), ("disk", Durability::Disk)] {
            let options = ClientPut::default().with_durability(durability);
            group.bench_function(format!("put_delete_{name}"), |bencher| {
                bencher.to_async(&runtime).iter(|| async {
                    let put = client.put_messages(None, stream_of(&sent), options).await;
                    store.delete(&put.expect("room for it").batch_id).await.expect("just put");
                });
            });
        }
        let name = id(size);
        let put = store.put(Some(name.clone()), stream_of(&sent), PutOptions::MEMORY);
        runtime.block_on(put).expect("room for it");
        group.bench_function("get", |bencher| {
            bencher
                .to_async(&runtime)
                .iter(|| async { drain(client.get_messages(&name).await.expect("there")).await });
        });
        group.finish();
    }
}

criterion_group!(benches, in_process, together, mapped, list, loopback);
criterion_main!(benches);
