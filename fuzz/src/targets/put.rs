//! DoPut: what is accepted is read back byte for byte, and can be decoded or
//! is refused; what is refused leaves nothing behind.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_flight::FlightData;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use prost::Message as _;
use sheaf_flight::ipc::{Bounds, Compression, Decoded, Decoder, encode_batches};
use sheaf_flight::{FlightRouter, Message, fuzzing};
use sheaf_proto::BatchId;
use sheaf_retry::SystemClock;
use sheaf_store::{
    Bodies, Budget, Durability, NAMESPACE, Options, PutOptions, PutReceipt, ReadOptions, Store,
    StoreHandler,
};
use tokio::runtime::Runtime;

use super::samples;
use super::support::{Input, push_chunk, refused, runtime, wait};

/// What streams are made of, besides flatbuffers.
pub(crate) const WORDS: &[&str] = &["\u{0}\u{0}\u{0}\u{0}", "ARROW:extension:name", "batches", "x"];

/// Most messages of one input.
const MAX_MESSAGES: usize = 64;
/// Memory that a message may unfold to: a bomb must not be mistaken for a leak.
const MAX_DECODED: u64 = 8 << 20;
/// The rest of a message's part is protobuf.
const RAW: u8 = 1;
/// The message has metadata.
const METADATA: u8 = 2;

struct Home {
    runtime: Runtime,
    store: Store,
    router: FlightRouter,
    id: BatchId,
}

thread_local! {
    static HOME: Home = home();
}

fn bounds() -> Bounds {
    Bounds { max_decoded_bytes: MAX_DECODED, ..Bounds::default() }
}

fn home() -> Home {
    let runtime = runtime();
    let mut options = Options::new(SystemClock::shared()).with_budget(Budget::new(64 << 20));
    options.bounds = bounds();
    let store = runtime.block_on(Store::open(options)).expect("a store");
    let handler = Arc::new(StoreHandler::new(store.clone(), Durability::Memory));
    let router = FlightRouter::builder().handler(NAMESPACE, handler).build().expect("a router");
    Home { runtime, store, router, id: "x".parse().expect("an id") }
}

/// Streams of every type, and protobuf messages in between.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = samples::streams().iter().map(|stream| written(stream)).collect();
    let mut raw = Vec::new();
    for (number, message) in samples::streams()[0].iter().enumerate() {
        let descriptor = arrow_flight::FlightDescriptor::new_path(vec!["batches".to_owned()]);
        let data = FlightData {
            flight_descriptor: (number == 0).then_some(descriptor),
            data_header: message.header.clone(),
            app_metadata: Bytes::from_static(b"m"),
            data_body: message.contiguous_body(),
        };
        raw.push(RAW);
        push_chunk(&mut raw, &data.encode_to_vec());
    }
    seeds.push(raw);
    seeds
}

fn written(messages: &[Message]) -> Vec<u8> {
    let mut out = Vec::new();
    for message in messages {
        out.push(0);
        push_chunk(&mut out, &message.header);
        push_chunk(&mut out, &message.contiguous_body());
    }
    out
}

fn read(data: &[u8]) -> Vec<FlightData> {
    let mut input = Input::new(data);
    let mut messages = Vec::new();
    while !input.is_empty() && messages.len() < MAX_MESSAGES {
        let kind = input.byte();
        if kind & RAW != 0 {
            // gRPC ends the stream here; what came before it is still there.
            let Ok(message) = FlightData::decode(input.chunk()) else { break };
            messages.push(message);
            continue;
        }
        messages.push(FlightData {
            data_header: Bytes::copy_from_slice(input.chunk()),
            data_body: Bytes::copy_from_slice(input.chunk()),
            app_metadata: match kind & METADATA {
                0 => Bytes::new(),
                _ => Bytes::copy_from_slice(input.chunk()),
            },
            flight_descriptor: None,
        });
    }
    if let Some(first) = messages.first_mut() {
        let path = vec![NAMESPACE.to_owned(), "x".to_owned()];
        first.flight_descriptor = Some(arrow_flight::FlightDescriptor::new_path(path));
    }
    messages
}

/// Puts a stream, reads it in every way, deletes it.
pub(crate) fn run(data: &[u8]) -> bool {
    HOME.with(|home| put(home, read(data)))
}

fn put(home: &Home, sent: Vec<FlightData>) -> bool {
    let put = wait(&home.runtime, fuzzing::put(&home.router, sent.clone()));
    let accepted = put.is_ok();
    match put {
        Ok(receipt) => {
            let receipt: PutReceipt = serde_json::from_slice(&receipt).expect("a receipt");
            assert!(receipt.created);
            read_back(home, &sent, &receipt);
            wait(&home.runtime, home.store.delete(&home.id)).expect("it is there");
        }
        Err(error) => {
            refused(&error);
        }
    }
    let stats = home.store.stats();
    assert_eq!((stats.payloads, stats.memory_bytes), (0, 0), "something is left behind");
    accepted
}

fn read_back(home: &Home, sent: &[FlightData], receipt: &PutReceipt) {
    let whole = get(home, "batches/x").expect("what was accepted can be read");
    let skipped = usize::from(sent.first().is_some_and(is_bare));
    assert_eq!(whole.len(), sent.len() - skipped);
    for (got, put) in whole.iter().zip(&sent[skipped..]) {
        assert_eq!(got.header, put.data_header);
        assert_eq!(got.app_metadata, put.app_metadata);
        assert_eq!(got.contiguous_body(), put.data_body);
    }
    decode(&whole, receipt.rows);
    recoded(home, &whole, receipt);
    for part in ["offset=1&limit=2", "columns=c", "columns=n&offset=1", "from_message=1"] {
        if let Some(messages) = get(home, &format!("batches/x?{part}")) {
            assert!(!messages.is_empty(), "no schema");
        }
    }
}

/// In every codec or refused; and what the store compressed itself is what it was.
fn recoded(home: &Home, whole: &[Message], receipt: &PutReceipt) {
    let read = |id: &BatchId, bodies| {
        let options = ReadOptions::default().with_bodies(bodies);
        wait(&home.runtime, async {
            let stream = home.store.read(id, &options).await?;
            Ok::<Vec<Message>, sheaf_store::Error>(stream.try_collect().await?)
        })
    };
    for codec in [Compression::None, Compression::Lz4, Compression::Zstd] {
        match read(&home.id, Bodies::in_one_of([codec])) {
            Ok(messages) => assert_eq!(messages.len(), whole.len()),
            Err(error) => {
                refused(&error);
            }
        }
    }
    let id: BatchId = "y".parse().expect("an id");
    for codec in [Compression::Lz4, Compression::Zstd] {
        let stream = stream::iter(whole.to_vec()).map(Ok).boxed();
        let options = PutOptions::MEMORY.compressed(codec);
        let put = wait(&home.runtime, home.store.put(Some(id.clone()), stream, options));
        let again = put.expect("it was accepted before");
        assert_eq!((again.bytes, &again.checksum), (receipt.bytes, &receipt.checksum));
        assert!(again.stored_bytes <= again.bytes);
        let restored = read(&id, Bodies::AsPut).expect("what was put");
        for (got, put) in restored.iter().zip(whole) {
            assert_eq!((&got.header, &got.app_metadata), (&put.header, &put.app_metadata));
            assert_eq!(got.contiguous_body(), put.contiguous_body());
        }
        assert_eq!(restored.len(), whole.len());
        wait(&home.runtime, home.store.delete(&id)).expect("it is there");
    }
}

/// The descriptor may come alone.
fn is_bare(data: &FlightData) -> bool {
    data.data_header.is_empty() && data.data_body.is_empty() && data.app_metadata.is_empty()
}

fn get(home: &Home, ticket: &str) -> Option<Vec<Message>> {
    let got = wait(&home.runtime, fuzzing::get(&home.router, ticket.as_bytes()));
    got.map_err(|error| refused(&error)).ok()
}

/// Batches or a refusal; batches can be sent on.
fn decode(messages: &[Message], rows: u64) {
    let mut decoder = Decoder::new(bounds());
    let mut batches: Vec<RecordBatch> = Vec::new();
    for message in messages {
        match decoder.push(message) {
            Ok(Decoded::Batch(batch)) => batches.push(batch),
            Ok(_) => {}
            Err(error) => {
                refused(&error);
                return;
            }
        }
    }
    let decoded: u64 = batches.iter().map(|batch| batch.num_rows() as u64).sum();
    assert_eq!(decoded, rows, "rows of the receipt");
    let Some(first) = batches.first() else { return };
    if let Err(error) = encode_batches(first.schema(), &batches) {
        refused(&error);
    }
}
