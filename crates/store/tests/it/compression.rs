//! What the store compresses is small, and still what was put.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use bytes::Bytes;
use futures::TryStreamExt as _;
use sheaf_flight::Message;
use sheaf_flight::ipc::{Compression, Encoder, compression_of};
use sheaf_retry::{Code, Retryable as _};
use sheaf_store::{
    Bodies, Budget, ContentHasher, Durability, Error, PutOptions, ReadOptions, Store,
    check_payload, payload_name,
};
use sheaf_testkit::TempDir;

use crate::support::{batch, files, get, id, options, put, rows};

const CODECS: [Compression; 2] = [Compression::Lz4, Compression::Zstd];

async fn read(store: &Store, name: &str, bodies: Bodies) -> Result<Vec<Message>, Error> {
    let stream = store.read(&id(name), &ReadOptions::default().with_bodies(bodies)).await?;
    Ok(stream.try_collect().await?)
}

fn only(codec: Compression) -> Bodies {
    Bodies::in_one_of([codec])
}

/// In which codecs the messages are, those without a body left out.
fn codecs(messages: &[Message]) -> Vec<Compression> {
    let with_body = messages.iter().filter(|message| message.body_len() > 0);
    with_body.map(|message| compression_of(&message.header).unwrap()).collect()
}

fn sums(messages: &[Message]) -> (String, u64) {
    let mut hasher = ContentHasher::default();
    messages.iter().for_each(|message| hasher.add(message));
    (hasher.checksum(), hasher.bytes())
}

/// Their messages, each with a body of one piece, as the store has it.
fn messages(batches: &[RecordBatch]) -> Vec<Message> {
    whole(crate::support::messages(batches))
}

fn whole(messages: Vec<Message>) -> Vec<Message> {
    let whole = |message: Message| Message {
        app_metadata: message.app_metadata.clone(),
        ..Message::new(message.header.clone(), message.contiguous_body())
    };
    messages.into_iter().map(whole).collect()
}

fn sent() -> Vec<Message> {
    let mut sent = messages(&[batch(1, 3_000), batch(1, 0), batch(2, 5_000)]);
    let last = sent.len() - 1;
    sent[last].app_metadata = Bytes::from_static(b"its own");
    sent.push(Message { app_metadata: Bytes::from_static(b"alone"), ..Message::default() });
    sent
}

/// Compressed by the client.
fn compressed(batches: &[RecordBatch], codec: Compression) -> Vec<Message> {
    let (mut encoder, first) = Encoder::try_new(batches[0].schema(), codec).unwrap();
    let rest = batches.iter().flat_map(|batch| encoder.encode(batch).unwrap());
    whole(std::iter::once(first).chain(rest).collect())
}

#[tokio::test]
async fn a_payload_that_the_store_compressed_is_the_payload_that_was_put() {
    let folder = TempDir::new().unwrap();
    let store = Store::open(options(folder.path())).await.unwrap();
    let (sent, batches) = (sent(), [batch(1, 3_000), batch(1, 0), batch(2, 5_000)]);
    let (checksum, bytes) = sums(&sent);
    for (name, codec, how) in [
        ("m-lz4", Compression::Lz4, PutOptions::MEMORY),
        ("m-zstd", Compression::Zstd, PutOptions::MEMORY),
        ("d-lz4", Compression::Lz4, PutOptions::DISK),
        ("d-zstd", Compression::Zstd, PutOptions::DISK),
    ] {
        let receipt = put(&store, name, &sent, how.compressed(codec)).await.unwrap();
        assert_eq!((&receipt.checksum, receipt.bytes, receipt.created), (&checksum, bytes, true));
        assert!(receipt.stored_bytes * 2 < bytes, "{name}: {receipt:?}");
        for again in [PutOptions::MEMORY, how.compressed(CODECS[0]), how.compressed(CODECS[1])] {
            let again = put(&store, name, &sent, again).await.unwrap();
            assert_eq!((again.created, again.stored_bytes), (false, receipt.stored_bytes));
            assert_eq!((&again.checksum, again.bytes), (&checksum, bytes));
        }
        let kept = get(&store, name).await.unwrap();
        assert_eq!(sums(&kept).1, receipt.stored_bytes, "what a read is sent");
        assert!(codecs(&kept).contains(&codec), "{name}");
        assert_eq!(rows(&kept).await, batches);
        for bodies in [Bodies::AsPut, only(Compression::None)] {
            assert_eq!(read(&store, name, bodies).await.unwrap(), sent, "{name}");
        }
        assert_eq!(read(&store, name, only(codec)).await.unwrap().len(), kept.len());
        let info = store.info(&id(name)).unwrap();
        assert_eq!((info.bytes, info.stored_bytes), (bytes, receipt.stored_bytes));
    }
    let other = put(&store, "m-lz4", &messages(&[batch(9, 9)]), PutOptions::MEMORY).await;
    assert_eq!(other.unwrap_err().code(), Code::AlreadyExists);
}

#[tokio::test]
async fn memory_and_files_count_what_is_kept() {
    let folder = TempDir::new().unwrap();
    let budget = Budget::new(64 << 20);
    let store = Store::open(options(folder.path()).with_budget(Arc::clone(&budget))).await.unwrap();
    let sent = sent();
    let (_, bytes) = sums(&sent);
    let how = PutOptions::MEMORY.compressed(Compression::Zstd);
    let receipt = put(&store, "x", &sent, how).await.unwrap();
    // Its headers twice, and what each message takes besides.
    let around = sent.iter().map(|message| 256 + message.header.len() as u64 + 32).sum::<u64>();
    let range = receipt.stored_bytes..=receipt.stored_bytes + around;
    assert!(range.contains(&budget.used()), "{} of {range:?}", budget.used());
    assert!(budget.used() * 2 < bytes, "{} of {bytes}", budget.used());
    put(&store, "x", &sent, PutOptions::DISK).await.unwrap();
    let length = files(folder.path(), "arrow")[0].metadata().unwrap().len();
    assert!(length * 2 < bytes, "{length} of {bytes}");
    assert_eq!(store.stats().disk_bytes, length);
    store.delete(&id("x")).await.unwrap();
    assert_eq!(budget.used(), 0);
}

/// Half of it is written while the other half is still to come.
#[tokio::test]
async fn a_put_that_outgrows_memory_while_it_is_compressed_comes_back() {
    let folder = TempDir::new().unwrap();
    let budget = Budget::new(400_000);
    let store = Store::open(options(folder.path()).with_budget(Arc::clone(&budget))).await.unwrap();
    let batches: Vec<_> = (0..60).map(|seed| batch(seed, 2_000)).collect();
    let sent = messages(&batches);
    for (name, how) in [("m", PutOptions::MEMORY), ("d", PutOptions::DISK)] {
        let receipt = put(&store, name, &sent, how.compressed(Compression::Lz4)).await.unwrap();
        assert!(receipt.stored_bytes > 400_000, "{receipt:?}");
        assert_eq!(read(&store, name, Bodies::AsPut).await.unwrap(), sent);
        assert!(budget.used() <= 400_000);
    }
}

#[tokio::test]
async fn a_restart_and_a_spill_find_what_was_put() {
    let folder = TempDir::new().unwrap();
    let store = Store::open(options(folder.path())).await.unwrap();
    let sent = sent();
    let how = PutOptions::DISK.compressed(Compression::Zstd);
    let first = put(&store, "x", &sent, how).await.unwrap();
    let kept = get(&store, "x").await.unwrap();
    store.close().await;
    drop(store);

    let name = payload_name(&id("x"));
    let path = folder.path().join(&name);
    let checked = check_payload(&path, &name).unwrap();
    assert_eq!((checked.checksum, checked.bytes), (first.checksum.clone(), first.bytes));

    // Room for little: what is put next to it is spilled.
    let small = options(folder.path()).with_budget(Budget::new(600_000));
    let store = Store::open(small).await.unwrap();
    let info = store.info(&id("x")).unwrap();
    assert_eq!((info.bytes, info.stored_bytes), (first.bytes, first.stored_bytes));
    assert_eq!(get(&store, "x").await.unwrap(), kept);
    assert_eq!(read(&store, "x", Bodies::AsPut).await.unwrap(), sent);
    assert!(!put(&store, "x", &sent, PutOptions::DISK).await.unwrap().created);

    for number in 0..16 {
        let how = PutOptions::MEMORY.compressed(Compression::Zstd);
        put(&store, &format!("s{number}"), &sent, how).await.unwrap();
    }
    assert!(store.stats().spilled > 0, "{:?}", store.stats());
    for number in 0..16 {
        let name = format!("s{number}");
        assert_eq!(read(&store, &name, Bodies::AsPut).await.unwrap(), sent);
        assert_eq!(rows(&get(&store, &name).await.unwrap()).await, rows(&sent).await);
    }
}

#[tokio::test]
async fn a_file_of_what_was_compressed_is_an_arrow_file_of_its_rows() {
    let folder = TempDir::new().unwrap();
    let store = Store::open(options(folder.path())).await.unwrap();
    let batches = [batch(1, 3_000), batch(1, 500)];
    let how = PutOptions::DISK.compressed(Compression::Lz4);
    put(&store, "x", &messages(&batches), how).await.unwrap();
    let file = std::fs::File::open(&files(folder.path(), "arrow")[0]).unwrap();
    let reader = arrow_ipc::reader::FileReader::try_new(file, None).unwrap();
    let read: Vec<_> = reader.collect::<Result<_, _>>().unwrap();
    assert_eq!(read, batches);
}

#[tokio::test]
async fn damage_to_a_compressed_message_is_found_and_named() {
    let folder = TempDir::new().unwrap();
    let store = Store::open(options(folder.path())).await.unwrap();
    let sent = sent();
    put(&store, "x", &sent, PutOptions::DISK.compressed(Compression::Zstd)).await.unwrap();
    let last = get(&store, "x").await.unwrap().into_iter().rfind(|m| m.body_len() > 0).unwrap();
    store.close().await;
    drop(store);
    let name = payload_name(&id("x"));
    let path = folder.path().join(&name);
    let mut bytes = std::fs::read(&path).unwrap();
    let body = last.contiguous_body();
    let at = bytes.windows(body.len()).position(|part| part == &body[..]).unwrap();
    bytes[at + body.len() / 2] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let error = check_payload(&path, &name).unwrap_err();
    assert_eq!(error.code(), Code::Corrupt);
    assert!(error.to_string().contains("does not match its checksum"), "{error}");
    let store = Store::open(options(folder.path())).await.unwrap();
    let error = read(&store, "x", Bodies::AsPut).await.unwrap_err();
    assert_eq!(error.code(), Code::Corrupt, "{error}");
}

#[tokio::test]
async fn what_comes_compressed_is_kept_as_it_came_and_read_in_any_codec() {
    let folder = TempDir::new().unwrap();
    let store = Store::open(options(folder.path())).await.unwrap();
    let batches = [batch(1, 3_000), batch(2, 40)];
    for came in CODECS {
        let sent = compressed(&batches, came);
        let name = came.as_str();
        let how = PutOptions::DISK.compressed(Compression::Zstd);
        let receipt = put(&store, name, &sent, how).await.unwrap();
        assert_eq!((receipt.bytes, receipt.stored_bytes), (sums(&sent).1, sums(&sent).1));
        for bodies in [Bodies::Stored, Bodies::AsPut, only(came)] {
            assert_eq!(read(&store, name, bodies).await.unwrap(), sent);
        }
        for wanted in [Compression::None, Compression::Lz4, Compression::Zstd] {
            let got = read(&store, name, only(wanted)).await.unwrap();
            let is_in = codecs(&got);
            assert!(is_in.contains(&wanted), "{came} {wanted}: {is_in:?}");
            let is_wanted = |codec: &Compression| [wanted, Compression::None].contains(codec);
            assert!(is_in.iter().all(is_wanted), "{is_in:?}");
            assert_eq!(rows(&got).await, batches);
        }
    }
}

#[tokio::test]
async fn a_reader_is_sent_what_is_kept_where_it_reads_that_and_its_first_choice_otherwise() {
    let folder = TempDir::new().unwrap();
    let store = Store::open(options(folder.path())).await.unwrap();
    let batches = [batch(1, 3_000)];
    for (name, how) in [
        ("plain", PutOptions::MEMORY),
        ("lz4", PutOptions::MEMORY.compressed(Compression::Lz4)),
        ("zstd", PutOptions::MEMORY.compressed(Compression::Zstd)),
    ] {
        put(&store, name, &messages(&batches), how).await.unwrap();
    }
    for (wanted, of_plain, of_lz4, of_zstd) in [
        ("none", "none", "none", "none"),
        ("lz4", "lz4", "lz4", "lz4"),
        ("zstd, lz4", "zstd", "lz4", "zstd"),
        ("lz4, zstd", "lz4", "lz4", "zstd"),
        ("zstd, none", "none", "zstd", "zstd"),
        ("none, zstd", "none", "none", "zstd"),
    ] {
        for (name, expected) in [("plain", of_plain), ("lz4", of_lz4), ("zstd", of_zstd)] {
            let got = read(&store, name, wanted.parse().unwrap()).await.unwrap();
            // The record batch comes last.
            let is_in = codecs(&got).pop().unwrap();
            assert_eq!(is_in.as_str(), expected, "{name} read with {wanted:?}");
            assert_eq!(rows(&got).await, batches);
        }
    }
}

#[tokio::test]
async fn parts_of_what_is_compressed_are_cut_and_sent_in_the_codec_asked_for() {
    let folder = TempDir::new().unwrap();
    let store = Store::open(options(folder.path())).await.unwrap();
    let batches = [batch(1, 3_000), batch(2, 2_000)];
    let how = PutOptions::DISK.compressed(Compression::Zstd);
    put(&store, "x", &messages(&batches), how).await.unwrap();
    let part = ReadOptions::default().with_columns(["text", "number"]).with_rows(2_500, 1_000);
    let wanted = [batches[0].slice(2_500, 500), batches[1].slice(0, 500)]
        .map(|rows| rows.project(&[1, 0]).unwrap());
    for (bodies, codec) in [
        (Bodies::Stored, Compression::None),
        (only(Compression::None), Compression::None),
        (only(Compression::Lz4), Compression::Lz4),
        (only(Compression::Zstd), Compression::Zstd),
    ] {
        let part = part.clone().with_bodies(bodies);
        let got: Vec<_> = store.read(&id("x"), &part).await.unwrap().try_collect().await.unwrap();
        assert_eq!(codecs(&got), [codec; 2]);
        assert_eq!(rows(&got).await, wanted);
    }
    let refused = store.read(&id("x"), &part.with_bodies(Bodies::AsPut)).await.err().unwrap();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.to_string().contains("as-put cannot be combined"), "{refused}");

    // Messages keep their numbers, so that a reader goes on where it was.
    let later = ReadOptions { from_message: 2, ..ReadOptions::as_put() };
    let later: Vec<_> = store.read(&id("x"), &later).await.unwrap().try_collect().await.unwrap();
    let sent = messages(&batches);
    assert_eq!(later.last(), sent.last());
}

#[tokio::test]
async fn what_does_not_pay_is_kept_as_it_came() {
    let folder = TempDir::new().unwrap();
    let store = Store::open(options(folder.path())).await.unwrap();
    let mut state = 1_u64;
    let noise = Int64Array::from_iter_values((0..5_000).map(|_| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        i64::from_le_bytes(
            (state ^ (state >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9).to_le_bytes(),
        )
    }));
    let words = StringArray::from_iter_values((0..5_000).map(|_| "the same"));
    let noise: Vec<(&str, ArrayRef)> = vec![("noise", Arc::new(noise))];
    let both: Vec<(&str, ArrayRef)> = vec![noise[0].clone(), ("words", Arc::new(words))];
    let how = PutOptions::DISK.compressed(Compression::Zstd);
    let alone = messages(&[RecordBatch::try_from_iter(noise).unwrap()]);
    let receipt = put(&store, "alone", &alone, how).await.unwrap();
    assert_eq!(receipt.bytes, receipt.stored_bytes);
    assert_eq!(get(&store, "alone").await.unwrap(), alone);
    let small = messages(&[batch(1, 1)]);
    let receipt = put(&store, "small", &small, how).await.unwrap();
    assert_eq!(receipt.bytes, receipt.stored_bytes);
    // One column pays, the other is in there as it was.
    let both = messages(&[RecordBatch::try_from_iter(both).unwrap()]);
    let receipt = put(&store, "both", &both, how).await.unwrap();
    assert!((40_000..60_000).contains(&receipt.stored_bytes), "{receipt:?}");
    assert_eq!(read(&store, "both", Bodies::AsPut).await.unwrap(), both);
}

#[tokio::test]
async fn the_store_compresses_by_itself_where_it_is_told_to() {
    let folder = TempDir::new().unwrap();
    let mut settings = options(folder.path());
    settings.compression = Compression::Lz4;
    let store = Store::open(settings).await.unwrap();
    let sent = messages(&[batch(1, 3_000)]);
    let receipt = put(&store, "default", &sent, PutOptions::DISK).await.unwrap();
    assert!(receipt.stored_bytes * 2 < receipt.bytes);
    let plain = PutOptions::DISK.compressed(Compression::None);
    let receipt = put(&store, "plain", &sent, plain).await.unwrap();
    assert_eq!(receipt.stored_bytes, receipt.bytes);
    assert_eq!(store.info(&id("plain")).unwrap().durability, Durability::Disk);
}

/// A payload of a kilobyte that unfolds to more than fits into memory.
#[tokio::test]
async fn a_bomb_is_stored_and_sent_but_not_unfolded() {
    let folder = TempDir::new().unwrap();
    let store =
        Store::open(options(folder.path()).with_budget(Budget::new(4 << 20))).await.unwrap();
    let column = Arc::new(Int64Array::from(vec![0; 1 << 18])) as ArrayRef;
    let bomb =
        compressed(&[RecordBatch::try_from_iter([("n", column)]).unwrap()], Compression::Lz4);
    put(&store, "bomb", &bomb, PutOptions::MEMORY).await.unwrap();
    assert_eq!(get(&store, "bomb").await.unwrap(), bomb);
    for wanted in [Compression::None, Compression::Zstd] {
        let error = read(&store, "bomb", only(wanted)).await.unwrap_err();
        assert_eq!(error.code(), Code::LimitExceeded, "{error}");
        assert!(error.to_string().contains("the limit is 1048576"), "{error}");
    }
}

/// Less memory than the message has: what is kept is sent, and so is what was put.
#[tokio::test]
async fn a_restart_with_little_memory_still_gives_what_was_put() {
    let folder = TempDir::new().unwrap();
    let store = Store::open(options(folder.path())).await.unwrap();
    let sent = messages(&[batch(1, 20_000)]);
    put(&store, "x", &sent, PutOptions::DISK.compressed(Compression::Lz4)).await.unwrap();
    store.close().await;
    drop(store);
    let little = options(folder.path()).with_budget(Budget::new(300_000));
    let store = Store::open(little).await.unwrap();
    assert!(sent.last().unwrap().len() > 600_000);
    assert_eq!(read(&store, "x", Bodies::AsPut).await.unwrap(), sent);
}
