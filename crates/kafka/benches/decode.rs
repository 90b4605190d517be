//! Messages of about 200 bytes to record batches of 8,192 rows, by format, and
//! what messages cost that cannot be decoded.
//!
//! The rate is that of the bytes of the values; a batch has the columns of the
//! messages and ours.
#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sheaf_kafka::{
    Decoded, Decoder, DecoderOptions, Format, Messages, RegisteredKind, RegisteredSchema,
};

const ROWS: usize = 8_192;
const AVRO: &str = r#"{"type":"record","name":"T","fields":[{"name":"id","type":"long"},{"name":"name","type":"string"},{"name":"v","type":"double"},{"name":"ok","type":"boolean"},{"name":"ts","type":{"type":"long","logicalType":"timestamp-micros"}},{"name":"s","type":"string"}]}"#;
const PROTOBUF: &str = "syntax=\"proto3\"; message T { int64 id=1; string name=2; double v=3; bool ok=4; int64 ts=5; string s=6; }";

fn varint(mut rest: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while rest >= 0x80 {
        bytes.push(rest.to_le_bytes()[0] | 0x80);
        rest >>= 7;
    }
    bytes.push(rest.to_le_bytes()[0]);
    bytes
}

fn text(value: &str, zigzag: u64) -> Vec<u8> {
    [varint(value.len() as u64 * zigzag), value.as_bytes().to_vec()].concat()
}

fn value(format: Format, i: usize) -> Vec<u8> {
    let (name, v, s) = (format!("user-{}", i % 1_000), i as f64 * 0.5, "x".repeat(100));
    let ts = 1_795_219_200_000_000;
    match format {
        Format::Avro => [
            vec![0, 0, 0, 0, 7],
            varint(i as u64 * 2),
            text(&name, 2),
            v.to_le_bytes().to_vec(),
            vec![1],
            varint(ts * 2),
            text(&s, 2),
        ]
        .concat(),
        Format::Protobuf => [
            vec![0, 0, 0, 0, 7, 0, 8],
            varint(i as u64),
            vec![18],
            text(&name, 1),
            vec![25],
            v.to_le_bytes().to_vec(),
            vec![32, 1, 40],
            varint(ts),
            vec![50],
            text(&s, 1),
        ]
        .concat(),
        Format::Csv => format!("{i},{name},{v:.6},true,2026-11-21T00:00:00Z,{s}").into_bytes(),
        _ => format!(
            r#"{{"id":{i},"name":"{name}","v":{v:.6},"ok":true,"ts":"2026-11-21T00:00:00Z","s":"{s}"}}"#
        )
        .into_bytes(),
    }
}

fn messages(format: Format, poison: Option<(usize, &[u8])>) -> (Messages, u64) {
    let mut messages = Messages::default();
    let mut bytes = 0;
    for i in 0..ROWS {
        let good = value(format, i);
        let value = match poison {
            Some((step, poison)) if i % step == step / 2 => poison,
            _ => &good,
        };
        bytes += value.len() as u64;
        let key = (i % 100).to_string();
        messages.push(i as i64, Some(1_795_219_200_000), Some(key.as_bytes()), Some(value), []);
    }
    (messages, bytes)
}

fn decoder(format: Format) -> Decoder {
    let options = DecoderOptions { format, ..DecoderOptions::default() };
    let mut decoder = Decoder::try_new("topic", options).unwrap();
    let schema = match format {
        Format::Avro => Some((RegisteredKind::Avro, AVRO)),
        Format::Protobuf => Some((RegisteredKind::Protobuf, PROTOBUF)),
        _ => None,
    };
    if let Some((kind, text)) = schema {
        let schema = RegisteredSchema { kind, text: text.to_owned(), references: Vec::new() };
        decoder.learn(7, &schema);
    }
    decoder
}

fn rows(decoder: &mut Decoder, messages: &Messages) -> usize {
    match decoder.decode(0, messages).unwrap() {
        Decoded::Batch(decoded) => {
            decoded.batch.map_or(0, |batch| batch.num_rows()) + decoded.rejected.len()
        }
        Decoded::Unknown(ids) => panic!("{ids:?}"),
    }
}

fn formats(c: &mut Criterion) {
    let mut group = c.benchmark_group("kafka/decode");
    for format in [Format::Json, Format::Avro, Format::Protobuf, Format::Csv, Format::String] {
        let (messages, bytes) = messages(format, None);
        let mut decoder = decoder(format);
        assert_eq!(rows(&mut decoder, &messages), ROWS);
        group.throughput(Throughput::Bytes(bytes));
        group.bench_function(format.as_str(), |b| b.iter(|| rows(&mut decoder, &messages)));
    }
    group.finish();
}

fn poison(c: &mut Criterion) {
    let mut group = c.benchmark_group("kafka/poison");
    let conflict = (Format::Json, &br#"{"id":"x"}"#[..]);
    let cut = (Format::Json, &br#"{"id":"#[..]);
    let not_text = (Format::Avro, &b"\0\0\0\0\x07\x02\x02\xff\0\0\0\0\0\0\0\0\x01\0\0"[..]);
    let short = (Format::Protobuf, &b"\0\0\0\0\x07\0\x12\xff"[..]);
    for (name, (format, poison)) in
        [("json_type", conflict), ("json_cut", cut), ("avro_utf8", not_text), ("protobuf", short)]
    {
        for (share, step) in [("1_in_8192", ROWS), ("1_in_100", 100), ("1_in_2", 2)] {
            let (messages, bytes) = messages(format, Some((step, poison)));
            let mut decoder = decoder(format);
            assert_eq!(rows(&mut decoder, &messages), ROWS);
            group.throughput(Throughput::Bytes(bytes));
            group.bench_function(format!("{name}/{share}"), |b| {
                b.iter(|| rows(&mut decoder, &messages));
            });
        }
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).measurement_time(std::time::Duration::from_secs(2)).warm_up_time(std::time::Duration::from_millis(500));
    targets = formats, poison
}
criterion_main!(benches);
