//! Messages compressed and decompressed as they are.

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_ipc::MetadataVersion;
use bytes::Bytes;
use proptest::prelude::*;
use sheaf_flight::ipc::{
    Bounds, Compression, Decoded, Decoder, Encoder, Recoder, StreamValidator, compression_of,
    encode_batches, encode_stream,
};
use sheaf_flight::{Error, Message};
use sheaf_retry::{Code, Retryable as _};
use std::sync::Arc;

use crate::types::{self, Numbers};

const ALL: [Compression; 3] = [Compression::None, Compression::Lz4, Compression::Zstd];

fn encoded(batches: &[RecordBatch], compression: Compression) -> Vec<Message> {
    let (mut encoder, first) = Encoder::try_new(batches[0].schema(), compression).unwrap();
    let rest = batches.iter().flat_map(|batch| encoder.encode(batch).unwrap());
    std::iter::once(first).chain(rest).collect()
}

fn decoded(messages: &[Message]) -> Vec<RecordBatch> {
    let mut decoder = Decoder::new(Bounds::default());
    let all = messages.iter().map(|message| decoder.push(message).unwrap());
    let batches = all.filter_map(|decoded| match decoded {
        Decoded::Batch(batch) => Some(batch),
        _ => None,
    });
    batches.collect()
}

/// The same bytes, however their bodies are cut.
fn same(one: &Message, other: &Message) {
    assert_eq!(one.header, other.header);
    assert_eq!(one.app_metadata, other.app_metadata);
    assert_eq!(one.contiguous_body(), other.contiguous_body());
}

fn recoded(messages: &[Message], to: Compression) -> Vec<Message> {
    let mut recoder = Recoder::new(Bounds::default());
    messages.iter().map(|message| recoder.recode(message, to).unwrap()).collect()
}

/// Numbers that walk and short words, as compress well.
fn compressible(rows: i64) -> RecordBatch {
    let numbers = Int64Array::from_iter_values((0..rows).map(|row| row / 3 + row % 2));
    let words = (0..rows).map(|row| Some(["north", "south", "east"][(row % 3) as usize]));
    let columns: Vec<(&str, ArrayRef)> =
        vec![("numbers", Arc::new(numbers)), ("words", Arc::new(words.collect::<StringArray>()))];
    RecordBatch::try_from_iter(columns).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn every_type_goes_from_each_codec_to_each_other(seed in any::<u64>(), rows in 0..300_usize) {
        let mut numbers = Numbers(seed);
        let schema = types::schema();
        let batches = [rows, 0, 7].map(|rows| types::batch(&schema, rows, &mut numbers));
        for from in ALL {
            let sent = encoded(&batches, from);
            for to in ALL {
                let mut validator = StreamValidator::default();
                let got = recoded(&sent, to);
                for (message, before) in got.iter().zip(&sent) {
                    validator.check(message).unwrap();
                    // Where it does not pay, it is not compressed.
                    let is_in = compression_of(&message.header).unwrap();
                    prop_assert!(is_in == to || is_in == Compression::None, "{from} {to} {is_in}");
                    if from == Compression::None {
                        prop_assert!(message.body_len() <= before.body_len());
                    }
                }
                prop_assert_eq!(&decoded(&got), &batches);
            }
        }
    }

    #[test]
    fn what_was_made_smaller_is_restored_byte_for_byte(seed in any::<u64>(), rows in 0..2_000_usize) {
        let mut numbers = Numbers(seed);
        let schema = types::schema();
        let batches = [rows, 0, 40].map(|rows| types::batch(&schema, rows, &mut numbers));
        let mut recoder = Recoder::new(Bounds::default());
        for to in [Compression::Lz4, Compression::Zstd] {
            let mut sent = encoded(&batches, Compression::None);
            sent[1].app_metadata = Bytes::from_static(b"its own");
            let mut kept = Vec::new();
            for message in &sent {
                let Some(smaller) = recoder.shrink(message, to).unwrap() else {
                    kept.push(message.clone());
                    continue;
                };
                prop_assert!(smaller.len() + message.header.len() < message.len());
                prop_assert_eq!(compression_of(&smaller.header).unwrap(), to);
                same(&recoder.restore(&smaller, &message.header).unwrap(), message);
                kept.push(smaller);
            }
            prop_assert_eq!(decoded(&kept), batches.to_vec());
        }
    }
}

#[test]
fn what_compresses_well_is_made_much_smaller_by_each_codec() {
    let sent = encode_batches(compressible(0).schema(), &[compressible(20_000)]).unwrap();
    for to in [Compression::Lz4, Compression::Zstd] {
        let smaller = Recoder::default().shrink(&sent[1], to).unwrap().unwrap();
        assert!(smaller.body_len() * 2 < sent[1].body_len(), "{to}: {}", smaller.body_len());
        same(&Recoder::default().restore(&smaller, &sent[1].header).unwrap(), &sent[1]);
        // What is in a codec already is left alone.
        assert_eq!(Recoder::default().shrink(&smaller, to).unwrap(), None);
        assert_eq!(Recoder::default().recode(&smaller, to).unwrap(), smaller);
    }
    assert_eq!(Recoder::default().shrink(&sent[0], Compression::Zstd).unwrap(), None, "a schema");
}

/// One that would differ after it was restored must not be made smaller.
#[test]
fn bytes_between_buffers_that_are_no_zeros_keep_a_message_as_it_is() {
    let sent = encode_batches(compressible(0).schema(), &[compressible(5_001)]).unwrap();
    let mut recoder = Recoder::default();
    let body = sent[1].contiguous_body();
    assert!(recoder.shrink(&sent[1], Compression::Zstd).unwrap().is_some());
    let last = body.len() - 1;
    assert_eq!(body[last], 0, "padding");
    let mut odd = body.to_vec();
    odd[last] = 1;
    let odd = Message::new(sent[1].header.clone(), Bytes::from(odd));
    assert_eq!(recoder.shrink(&odd, Compression::Zstd).unwrap(), None);
    let smaller = recoder.recode(&odd, Compression::Zstd).unwrap();
    assert_eq!(compression_of(&smaller.header).unwrap(), Compression::Zstd, "its values are kept");
}

/// The header of a compressed message with another body length in each buffer.
fn lying(message: &Message, prefix: i64) -> Message {
    let mut body = message.contiguous_body().to_vec();
    let at = body.windows(8).position(|bytes| bytes == 160_000_i64.to_le_bytes()).unwrap();
    body[at..at + 8].copy_from_slice(&prefix.to_le_bytes());
    Message::new(message.header.clone(), Bytes::from(body))
}

#[test]
fn buffers_that_lie_about_their_length_are_refused() {
    for codec in [Compression::Lz4, Compression::Zstd] {
        let sent = encoded(&[compressible(20_000)], codec);
        let refused = |prefix: i64, bounds: Bounds| -> Error {
            let lying = lying(&sent[1], prefix);
            Recoder::new(bounds).recode(&lying, Compression::None).unwrap_err()
        };
        for prefix in [159_999, 160_001, 8, i64::MIN, -2] {
            let error = refused(prefix, Bounds::default());
            assert_eq!(error.code(), Code::MalformedData, "{codec} {prefix}: {error}");
        }
        for bomb in [i64::MAX, 5 << 30] {
            let error = refused(bomb, Bounds::default());
            assert_eq!(error.code(), Code::LimitExceeded, "{codec} {bomb}: {error}");
            assert!(error.message().contains("the limit is 4294967296"), "{error}");
        }
        let small = Bounds { max_decoded_bytes: 200_000, ..Bounds::default() };
        let error = Recoder::new(small).recode(&sent[1], Compression::None).unwrap_err();
        assert_eq!(error.code(), Code::LimitExceeded, "{error}");
    }
}

/// Many buffers at one place would cost any amount of work.
#[test]
fn buffers_upon_each_other_are_neither_compressed_nor_decompressed() {
    let forged = |compression| {
        let mut builder = flatbuffers::FlatBufferBuilder::new();
        let buffers = builder.create_vector(&[arrow_ipc::Buffer::new(0, 64_000); 1_000]);
        let compression = (compression != Compression::None).then(|| {
            let args = arrow_ipc::BodyCompressionArgs::default();
            arrow_ipc::BodyCompression::create(&mut builder, &args)
        });
        let args = arrow_ipc::RecordBatchArgs {
            buffers: Some(buffers),
            compression,
            ..arrow_ipc::RecordBatchArgs::default()
        };
        let batch = arrow_ipc::RecordBatch::create(&mut builder, &args);
        let args = arrow_ipc::MessageArgs {
            version: MetadataVersion::V5,
            header_type: arrow_ipc::MessageHeader::RecordBatch,
            header: Some(batch.as_union_value()),
            bodyLength: 64_000,
            custom_metadata: None,
        };
        let root = arrow_ipc::Message::create(&mut builder, &args);
        builder.finish(root, None);
        let header = Bytes::copy_from_slice(builder.finished_data());
        Message::new(header, Bytes::from(vec![0; 64_000]))
    };
    let mut recoder = Recoder::default();
    let plain = forged(Compression::None);
    assert_eq!(recoder.shrink(&plain, Compression::Zstd).unwrap(), None);
    for (message, to) in [(plain, Compression::Zstd), (forged(Compression::Lz4), Compression::None)]
    {
        let error = recoder.recode(&message, to).unwrap_err();
        assert_eq!(error.code(), Code::MalformedData, "{error}");
        assert!(error.message().contains("upon each other"), "{error}");
    }
}

#[test]
fn no_flipped_byte_of_header_or_body_is_a_panic() {
    for codec in [Compression::Lz4, Compression::Zstd] {
        let sent = encoded(&[compressible(40)], codec);
        let (header, body) = (&sent[1].header, sent[1].contiguous_body());
        let mut recoder = Recoder::new(Bounds { max_decoded_bytes: 1 << 20, ..Bounds::default() });
        let mut refused = 0;
        for at in 0..header.len() + body.len() {
            for mask in [0x01, 0x80, 0xff] {
                let (mut header, mut body) = (header.to_vec(), body.to_vec());
                match at.checked_sub(header.len()) {
                    None => header[at] ^= mask,
                    Some(at) => body[at] ^= mask,
                }
                let changed = Message::new(Bytes::from(header), Bytes::from(body));
                refused += usize::from(recoder.recode(&changed, Compression::None).is_err());
                refused += usize::from(recoder.restore(&changed, &sent[1].header).is_err());
            }
        }
        assert!(refused > 100, "{codec}: {refused}");
    }
}

#[tokio::test]
async fn a_stream_is_compressed_while_it_is_read() {
    use futures::{StreamExt as _, TryStreamExt as _};
    let batches = [compressible(10_000), compressible(0), compressible(17)];
    let stream = futures::stream::iter(batches.clone().map(Ok)).boxed();
    let stream = encode_stream(batches[0].schema(), stream, Compression::Lz4).unwrap();
    let messages: Vec<_> = stream.try_collect().await.unwrap();
    assert_eq!(compression_of(&messages[1].header).unwrap(), Compression::Lz4);
    assert_eq!(decoded(&messages), batches);
}
