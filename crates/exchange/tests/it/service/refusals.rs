//! What is refused, with which code, and what it says.

use bytes::Bytes;
use futures::{TryStreamExt as _, stream};
use sheaf_exchange::service::{
    ChunkOptions, Compression, MAX_PAYLOAD_BYTES, serialize_schema, serialize_to_chunks,
};
use sheaf_exchange::shuffle::{FetchFailed, ReadOptions};
use sheaf_proto::exchange::v1 as proto;
use sheaf_proto::exchange::v1::data_transfer_request::Message as Said;
use sheaf_retry::{Code, Retryable as _};

use super::world::{Worker, batch, key, plain, read, requests, rows, schema, sender, soon};

/// The begin of the only sender of partition 0.
pub(super) fn begin(schema: proto::ArrowSchema) -> proto::TransferBegin {
    proto::TransferBegin {
        query: "query:1".to_owned(),
        stage: 3,
        partition: 0,
        sender: 0,
        attempt: 1,
        senders: 1,
        schema: Some(schema),
    }
}

fn made(compression: Compression) -> (proto::ArrowSchema, proto::DataChunk) {
    let options = ChunkOptions { compression, ..ChunkOptions::default() };
    let (first, mut chunks) = serialize_to_chunks(schema(), &[batch(0, 4_000)], options).unwrap();
    (first, chunks.remove(0))
}

/// With the checksum that its payload has.
fn sealed(mut chunk: proto::DataChunk) -> proto::DataChunk {
    chunk.crc32c = Some(crc32c::crc32c(&chunk.payload));
    chunk
}

fn flipped(payload: &Bytes) -> Bytes {
    let mut bytes = payload.to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    bytes.into()
}

/// A megabyte of zeros and more that is a few hundred bytes, which says what it is told to say.
fn bomb(compression: Compression, unfolds_to: usize, says: u64) -> proto::DataChunk {
    let zeros = vec![0; unfolds_to];
    let payload = match compression {
        Compression::None => zeros,
        Compression::Lz4 => {
            use std::io::Write as _;
            let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
            encoder.write_all(&zeros).unwrap();
            encoder.finish().unwrap()
        }
        Compression::Snappy => snap::raw::Encoder::new().compress_vec(&zeros).unwrap(),
        Compression::Zstd => zstd::bulk::compress(&zeros, 1).unwrap(),
    };
    let compression = compression.to_proto().into();
    let payload = payload.into();
    sealed(proto::DataChunk {
        payload,
        compression,
        uncompressed_bytes: says,
        ..Default::default()
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chunk_that_is_not_what_it_says_is_refused() {
    let worker = Worker::new().await;
    let limit = MAX_PAYLOAD_BYTES as u64;
    let mut wrong = Vec::new();
    for compression in Compression::ALL {
        let (_, good) = made(compression);
        let with = |change: fn(&mut proto::DataChunk)| {
            let mut chunk = good.clone();
            change(&mut chunk);
            chunk
        };
        let hurt = proto::DataChunk { payload: flipped(&good.payload), ..good.clone() };
        wrong.push((hurt, Code::Corrupt, "CRC32C"));
        wrong.push((with(|one| one.crc32c = None), Code::MalformedData, "without its crc32c"));
        wrong.push((with(|one| one.rows += 1), Code::MalformedData, "rows"));
        wrong.push((with(|one| one.sequence = 1), Code::PayloadLost, "chunk 0 is missing"));
        wrong.push((with(|one| one.sender = 5), Code::MalformedData, "sender 5"));
        wrong.push((with(|one| one.compression = 9), Code::InvalidArgument, "compression 9"));
        wrong.push((with(|one| one.uncompressed_bytes -= 1), Code::MalformedData, "bytes"));
        wrong.push((with(|one| one.uncompressed_bytes = u64::MAX), over(compression), "bytes"));
        let cut = good.payload.slice(..good.payload.len() - 9);
        let cut = sealed(proto::DataChunk { payload: cut, ..good.clone() });
        wrong.push((cut, Code::MalformedData, ""));
        if compression != Compression::None {
            wrong.push((bomb(compression, 30 << 20, limit + 1), Code::LimitExceeded, "limit"));
            wrong.push((bomb(compression, 40 << 20, limit), Code::MalformedData, "bytes"));
            wrong.push((bomb(compression, 40 << 20, 1_000), Code::MalformedData, ""));
            wrong.push((bomb(compression, 1_000, 30 << 20), Code::MalformedData, ""));
            wrong.push((bomb(compression, 1_000, 1_000), Code::MalformedData, "0xFFFFFFFF"));
        }
    }
    let (first, _) = made(Compression::None);
    let as_chunk =
        sealed(proto::DataChunk { payload: first.ipc_schema.clone(), ..Default::default() });
    wrong.push((as_chunk, Code::MalformedData, "schema"));
    wrong.push((sealed(proto::DataChunk::default()), Code::MalformedData, "0xFFFFFFFF"));
    for (chunk, code, says) in wrong {
        let said = vec![Said::Begin(begin(first.clone())), Said::Chunk(chunk.clone())];
        let error = worker.say(said).await.unwrap_err();
        let shown = proto::DataChunk { payload: Bytes::new(), ..chunk };
        assert_eq!(error.code(), code, "{error}: {shown:?}");
        assert!(error.message().contains(says), "{says}: {error}: {shown:?}");
    }
    // Nothing of all that is there, and what is good is taken.
    let (_, good) = made(Compression::Zstd);
    let commit = proto::TransferCommit { chunks: 1, rows: 4_000 };
    let said = vec![Said::Begin(begin(first)), Said::Chunk(good), Said::Commit(commit)];
    let answers = worker.say(said).await.unwrap();
    let told: Vec<_> = answers.iter().map(|one| (one.next_sequence, one.committed)).collect();
    assert_eq!(told, [(0, false), (1, false), (1, true)]);
    assert!(answers.iter().all(|one| one.credit_bytes == 8 << 20), "{answers:?}");
    assert_eq!(read(&plain(), &worker.uri, 0).await.unwrap(), (0..4_000).collect::<Vec<_>>());
}

fn over(compression: Compression) -> Code {
    if compression == Compression::None { Code::MalformedData } else { Code::LimitExceeded }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_not_as_agreed_says_what_is_wrong() {
    let worker = Worker::new().await;
    let (first, chunk) = made(Compression::None);
    let commit = |rows| Said::Commit(proto::TransferCommit { chunks: 1, rows });
    let good = || begin(first.clone());
    let wide = serialize_schema(&arrow_schema::Schema::empty()).unwrap();
    let mislabelled =
        proto::ArrowSchema { fingerprint: "0123456789abcdef".to_owned(), ..first.clone() };
    let cut = first.ipc_schema.slice(..first.ipc_schema.len() - 8);
    let broken = proto::ArrowSchema { ipc_schema: cut, ..Default::default() };
    for (said, code, says) in [
        (vec![Said::Chunk(chunk.clone())], Code::MalformedData, "no begin"),
        (vec![commit(0)], Code::MalformedData, "no begin"),
        (
            vec![Said::Begin(proto::TransferBegin { schema: None, ..good() })],
            Code::MalformedData,
            "without a schema",
        ),
        (
            vec![Said::Begin(proto::TransferBegin { query: "a/b".into(), ..good() })],
            Code::InvalidArgument,
            "letters",
        ),
        (
            vec![Said::Begin(proto::TransferBegin { sender: 1, ..good() })],
            Code::InvalidArgument,
            "sender 1 of 1",
        ),
        (vec![Said::Begin(begin(mislabelled))], Code::MalformedData, "0123456789abcdef"),
        (vec![Said::Begin(begin(broken))], Code::MalformedData, ""),
        (
            vec![Said::Begin(begin(proto::ArrowSchema::default()))],
            Code::MalformedData,
            "0xFFFFFFFF",
        ),
        (
            vec![Said::Begin(begin(proto::ArrowSchema {
                ipc_schema: chunk.payload.clone(),
                ..Default::default()
            }))],
            Code::MalformedData,
            "record batch",
        ),
        (
            vec![Said::Begin(good()), Said::Chunk(chunk.clone()), commit(9)],
            Code::MalformedData,
            "rows: 9",
        ),
        (vec![Said::Begin(good()), Said::Begin(begin(wide))], Code::FailedPrecondition, "schema"),
    ] {
        let error = worker.say(said).await.unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert!(error.message().contains(says), "{says}: {error}");
    }
    let nothing = stream::iter([proto::DataTransferRequest::default()]);
    let error = worker
        .raw()
        .await
        .stream_data(nothing)
        .await
        .unwrap()
        .into_inner()
        .message()
        .await
        .unwrap_err();
    assert!(error.message().contains("neither begin nor chunk"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn results_are_of_one_attempt_and_what_has_not_committed_is_not_complete() {
    let worker = Worker::new().await;
    let (first, chunk) = made(Compression::None);
    let good = || begin(first.clone());
    for (said, says) in
        [(vec![], "empty"), (vec![Said::Begin(good()), Said::Begin(good())], "second begin")]
    {
        let sent = worker.raw().await.send_results(stream::iter(requests(said))).await;
        let error = sheaf_flight::Error::from(sent.unwrap_err());
        assert_eq!(error.code(), Code::MalformedData, "{error}");
        assert!(error.message().contains(says), "{says}: {error}");
    }
    // A stream that ends before its commit has not committed.
    let answers = worker.say(vec![Said::Begin(good()), Said::Chunk(chunk.clone())]).await.unwrap();
    assert!(!answers[1].committed);
    let unready = read(&plain(), &worker.uri, 0).await.unwrap_err();
    assert_eq!(unready.code(), Code::Unavailable, "{unready}");
    let commit = Said::Commit(proto::TransferCommit { chunks: 1, rows: 4_000 });
    let said = vec![Said::Begin(good()), commit, Said::Chunk(chunk)];
    let after = worker.say(said).await.unwrap_err();
    assert!(after.message().contains("after the commit"), "{after}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_of_more_than_32_mib_is_refused_by_both_sides() {
    let worker = Worker::new().await;
    let (first, _) = made(Compression::None);
    let payload = Bytes::from(vec![7; 32 << 20]);
    let chunk = sealed(proto::DataChunk { payload, ..Default::default() });
    let said = vec![Said::Begin(begin(first.clone())), Said::Chunk(chunk)];
    let error = soon("the refusal", worker.say(said)).await.unwrap_err();
    assert_eq!(error.code(), Code::LimitExceeded, "{error}");
    assert!(error.message().contains("33554432"), "{error}");
    // A row that fits no payload is not even sent.
    let text = arrow_array::StringArray::from(vec!["x".repeat(MAX_PAYLOAD_BYTES)]);
    let column = std::sync::Arc::new(text) as _;
    let large = arrow_array::RecordBatch::try_from_iter([("text", column)]).unwrap();
    let rows = stream::iter([Ok(large.clone())]);
    let (plain, key) = (plain(), key(7));
    let sent = plain.stream_data(&worker.uri, &key, sender(0, 1, 1), large.schema(), rows);
    assert_eq!(sent.await.unwrap_err().code(), Code::LimitExceeded);
    let there = worker.exchange.get_available_partitions("query:1", 3).unwrap();
    assert!(there.partitions.iter().all(|one| one.partition != 7 || one.chunks == 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_asks_for_what_cannot_be_is_told_before_the_first_row() {
    let (worker, client) = (Worker::new().await, plain());
    client
        .stream_data(&worker.uri, &key(0), sender(0, 1, 1), schema(), rows(0, 100, 100))
        .await
        .unwrap();
    let other = arrow_schema::Schema::new(vec![arrow_schema::Field::new(
        "key",
        arrow_schema::DataType::Utf8,
        true,
    )]);
    let wanted = ReadOptions::default();
    let error = client.request_data(&worker.uri, &key(0), Some(&other), wanted).await.unwrap_err();
    let failed = FetchFailed::of(&error).unwrap();
    assert_eq!(failed.cause.code(), Code::FailedPrecondition);
    assert!(failed.cause.to_string().contains("3 columns, 1 are expected"), "{}", failed.cause);
    let wanted = |change: fn(&mut proto::RequestDataRequest)| {
        let mut request = proto::RequestDataRequest {
            query: "query:1".to_owned(),
            stage: 3,
            ..Default::default()
        };
        change(&mut request);
        request
    };
    for (request, code, says) in [
        (wanted(|one| one.query = String::new()), Code::InvalidArgument, "query"),
        (wanted(|one| one.partition = 1), Code::NotFound, "query:1/3/1"),
        (wanted(|one| one.wait_ms = 600_001), Code::InvalidArgument, "600000"),
        (wanted(|one| one.compression = 7), Code::InvalidArgument, "compression 7"),
        (wanted(|one| one.incarnation = 1), Code::PayloadLost, "anew"),
        (wanted(|one| one.from_sequence = 9), Code::InvalidArgument, "chunk 9"),
        (wanted(|one| one.expected_schema = Some(Default::default())), Code::MalformedData, ""),
    ] {
        let answer = worker.raw().await.request_data(request).await;
        let error = match answer {
            Ok(answer) => answer.into_inner().try_collect::<Vec<_>>().await.unwrap_err(),
            Err(error) => error,
        };
        let error = sheaf_flight::Error::from(error);
        assert_eq!(error.code(), code, "{error}");
        assert!(error.message().contains(says), "{says}: {error}");
    }
}
