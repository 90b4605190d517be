//! Streams and directories made by somebody who means harm, or does not care.

use std::sync::Arc;

use arrow_array::{Int64Array, RecordBatch};
use bytes::Bytes;
use flatbuffers::FlatBufferBuilder;
use futures::StreamExt as _;
use sheaf_flight::Message;
use sheaf_flight::ipc::{Compression, Encoder};
use sheaf_retry::{Code, Retryable as _, SystemClock};
use sheaf_store::{Budget, Options, PutOptions, ReadOptions, Store};
use sheaf_testkit::TempDir;

use crate::support::{batch, files, get, id, messages, options, put};

async fn in_memory(limit: u64) -> Store {
    let options = Options::new(SystemClock::shared()).with_budget(Budget::new(limit));
    Store::open(options).await.unwrap()
}

#[tokio::test]
async fn many_tiny_messages_do_not_slip_under_the_budget() {
    let store = in_memory(1 << 20).await;
    let mut sent = messages(&[batch(1, 1)]);
    let tiny = Message { app_metadata: Bytes::from_static(b"x"), ..Message::default() };
    // Each takes some hundred bytes of the process, whatever its own length.
    sent.extend(std::iter::repeat_n(tiny, 100_000));
    let error = put(&store, "tiny", &sent, PutOptions::MEMORY).await.unwrap_err();
    assert_eq!(error.code(), Code::MemoryFull, "{error}");
    assert_eq!(store.stats().memory_bytes, 0);
}

#[tokio::test]
async fn a_small_payload_that_unfolds_beyond_the_budget_is_not_decoded() {
    let store = in_memory(4 << 20).await;
    let column = Arc::new(Int64Array::from(vec![0; 4 << 20])) as _;
    let batch = RecordBatch::try_from_iter([("n", column)]).unwrap();
    let (mut encoder, schema) = Encoder::try_new(batch.schema(), Compression::Zstd).unwrap();
    let mut sent = vec![schema];
    sent.extend(encoder.encode(&batch).unwrap());
    put(&store, "bomb", &sent, PutOptions::MEMORY).await.unwrap();
    let part = ReadOptions { limit: Some(1), ..ReadOptions::default() };
    let read = async {
        let stream = store.read(&id("bomb"), &part).await?;
        Ok::<_, sheaf_store::Error>(futures::TryStreamExt::try_collect::<Vec<_>>(stream).await?)
    };
    let error = read.await.unwrap_err();
    assert_eq!(error.code(), Code::LimitExceeded, "{error}");
    assert_eq!(get(&store, "bomb").await.unwrap(), sent);
}

#[tokio::test]
async fn reads_that_unfold_messages_are_counted_and_have_a_part_of_the_memory() {
    let store = in_memory(16 << 20).await;
    // 3 MiB once they are unfolded, less than a quarter of the memory.
    let column = Arc::new(Int64Array::from(vec![0; 3 << 17])) as _;
    let zeros = RecordBatch::try_from_iter([("n", column)]).unwrap();
    let (mut encoder, schema) = Encoder::try_new(zeros.schema(), Compression::Zstd).unwrap();
    let mut sent = vec![schema];
    sent.extend(encoder.encode(&zeros).unwrap());
    put(&store, "small", &sent, PutOptions::MEMORY).await.unwrap();
    let before = store.budget().used();
    let part = ReadOptions::default().with_columns(["n"]);
    let mut open = Vec::new();
    let refused = loop {
        let mut stream = store.read(&id("small"), &part).await.unwrap();
        stream.next().await.unwrap().unwrap();
        match stream.next().await.unwrap() {
            Ok(_) => open.push(stream),
            Err(error) => break error,
        }
    };
    assert_eq!((open.len(), refused.code()), (3, Code::MemoryFull), "{refused}");
    assert!(refused.retry_after().is_some(), "{refused}");
    assert!(store.budget().used() >= before + (9 << 20));
    put(&store, "other", &messages(&[batch(1, 1_000)]), PutOptions::MEMORY).await.unwrap();
    drop(open);
    let mut stream = store.read(&id("small"), &part).await.unwrap();
    while let Some(message) = stream.next().await {
        message.unwrap();
    }
}

/// A schema of one union with so many members, without numbers for them.
fn wide_union(members: usize) -> Message {
    let mut buffer = FlatBufferBuilder::new();
    let name = buffer.create_string("m");
    let fields: Vec<_> = (0..members)
        .map(|_| {
            let null = arrow_ipc::NullBuilder::new(&mut buffer).finish();
            let children =
                buffer.create_vector::<flatbuffers::WIPOffset<arrow_ipc::Field<'_>>>(&[]);
            let mut field = arrow_ipc::FieldBuilder::new(&mut buffer);
            field.add_name(name);
            field.add_type_type(arrow_ipc::Type::Null);
            field.add_type_(null.as_union_value());
            field.add_children(children);
            field.finish()
        })
        .collect();
    let children = buffer.create_vector(&fields);
    let union = arrow_ipc::UnionBuilder::new(&mut buffer).finish();
    let mut field = arrow_ipc::FieldBuilder::new(&mut buffer);
    field.add_name(name);
    field.add_type_type(arrow_ipc::Type::Union);
    field.add_type_(union.as_union_value());
    field.add_children(children);
    let field = field.finish();
    let fields = buffer.create_vector(&[field]);
    let mut schema = arrow_ipc::SchemaBuilder::new(&mut buffer);
    schema.add_fields(fields);
    let schema = schema.finish();
    let mut message = arrow_ipc::MessageBuilder::new(&mut buffer);
    message.add_version(arrow_ipc::MetadataVersion::V5);
    message.add_header_type(arrow_ipc::MessageHeader::Schema);
    message.add_header(schema.as_union_value());
    let message = message.finish();
    buffer.finish(message, None);
    Message::new(Bytes::copy_from_slice(buffer.finished_data()), Bytes::new())
}

#[tokio::test]
async fn a_schema_that_arrow_rs_panics_at_is_stored_or_refused() {
    let store = in_memory(4 << 20).await;
    for members in [3, 200] {
        let sent = [wide_union(members)];
        match put(&store, &members.to_string(), &sent, PutOptions::MEMORY).await {
            Ok(_) => assert_eq!(get(&store, &members.to_string()).await.unwrap(), sent),
            Err(error) => assert_eq!(error.code(), Code::MalformedData, "{error}"),
        }
    }
}

#[tokio::test]
async fn a_column_asked_for_twice_is_a_mistake_of_the_request() {
    let store = in_memory(4 << 20).await;
    put(&store, "x", &messages(&[batch(1, 5)]), PutOptions::MEMORY).await.unwrap();
    let columns = Some(vec!["number".to_owned(), "number".to_owned()]);
    let twice = ReadOptions { columns, ..ReadOptions::default() };
    let read = async {
        let stream = store.read(&id("x"), &twice).await?;
        Ok::<_, sheaf_store::Error>(futures::TryStreamExt::try_collect::<Vec<_>>(stream).await?)
    };
    if let Err(error) = read.await {
        assert_eq!(error.code(), Code::InvalidArgument, "{error}");
    }
}

#[tokio::test]
async fn streams_that_are_still_coming_keep_to_the_limit_of_the_disk() {
    use futures::StreamExt as _;

    let folder = TempDir::new().unwrap();
    let mut options = options(folder.path()).with_budget(Budget::new(50_000));
    options.disk_limit_bytes = Some(200_000);
    let store = Store::open(options).await.unwrap();
    // Endless: it has to be refused while it comes.
    let sent = messages(&[batch(1, 50)]);
    let one = sent.last().unwrap().len();
    let first = futures::stream::iter(sent.clone().into_iter().map(Ok));
    let more = futures::stream::iter(std::iter::repeat_n(sent.last().unwrap().clone(), 2_000));
    let endless = first.chain(more.map(Ok)).boxed();
    let error = store.put(None, endless, PutOptions::DISK).await.unwrap_err();
    assert_eq!(error.code(), Code::DiskFull, "{error}");
    assert!(one * 2_000 > 400_000);
    assert_eq!(store.stats().disk_bytes, 0);
    put(&store, "x", &sent, PutOptions::DISK).await.unwrap();
}

#[tokio::test]
async fn a_foreign_directory_among_the_payloads_is_set_aside() {
    let folder = TempDir::new().unwrap();
    let store = Store::open(options(folder.path())).await.unwrap();
    put(&store, "x", &messages(&[batch(1, 5)]), PutOptions::DISK).await.unwrap();
    store.close().await;
    drop(store);
    let shard = files(folder.path(), "arrow")[0].parent().unwrap().to_owned();
    std::fs::create_dir(shard.join("y.arrow")).unwrap();
    let store = Store::open(options(folder.path())).await.unwrap();
    assert_eq!((store.stats().payloads, store.stats().quarantined), (1, 1));
}
