//! Streams that are sound, and messages that lie.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::types::{Int8Type, Int32Type};
use arrow_array::{
    ArrayRef, BinaryViewArray, BooleanArray, Decimal256Array, DictionaryArray,
    FixedSizeBinaryArray, FixedSizeListArray, Int32Array, Int64Array, ListArray, NullArray,
    RecordBatch, RecordBatchOptions, RunArray, StringArray, StringViewArray, StructArray,
    UnionArray,
};
use arrow_buffer::ScalarBuffer;
use arrow_ipc::{FieldNode, MessageHeader, MetadataVersion};
use arrow_schema::{DataType, Field, Schema, UnionFields};
use bytes::Bytes;
use flatbuffers::FlatBufferBuilder;
use sheaf_retry::{Code, Retryable as _};

use super::*;
use crate::{Error, Message};

fn batch(words: &[&str]) -> RecordBatch {
    let rows = words.len();
    let numbers = || Int32Array::from_iter_values((0..rows).map(|row| i32::try_from(row).unwrap()));
    let dictionary: DictionaryArray<Int8Type> = words.iter().copied().collect();
    let lists = (0..rows).map(|row| (row != 1).then(|| vec![Some(1_i32); row]));
    let item = || Arc::new(Field::new("item", DataType::Int32, true));
    let pairs = Int32Array::from(vec![7; rows * 2]);
    let fields = UnionFields::try_new(
        [0, 1],
        [Field::new("n", DataType::Int32, true), Field::new("s", DataType::Utf8, true)],
    )
    .unwrap();
    let tags = ScalarBuffer::from((0..rows).map(|row| i8::from(row % 2 == 1)).collect::<Vec<_>>());
    let words_array: ArrayRef = Arc::new(words.iter().copied().map(Some).collect::<StringArray>());
    let children: Vec<ArrayRef> = vec![Arc::new(numbers()), Arc::clone(&words_array)];
    let inside = StructArray::from(vec![(
        Arc::new(Field::new("d", dictionary.data_type_of(), true)),
        Arc::new(dictionary.clone()) as ArrayRef,
    )]);
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("numbers", Arc::new(numbers())),
        ("words", words_array),
        (
            "view",
            Arc::new(words.iter().map(|word| Some(word.repeat(9))).collect::<StringViewArray>()),
        ),
        ("bytes", Arc::new(BinaryViewArray::from_iter_values(words))),
        ("dictionary", Arc::new(dictionary)),
        ("inside", Arc::new(inside)),
        ("lists", Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(lists))),
        ("pairs", Arc::new(FixedSizeListArray::new(item(), 2, Arc::new(pairs), None))),
        ("runs", Arc::new(words.iter().copied().collect::<RunArray<Int32Type>>())),
        ("union", Arc::new(UnionArray::try_new(fields, tags, None, children).unwrap())),
        ("flag", Arc::new(BooleanArray::from(vec![true; rows]))),
        ("nothing", Arc::new(NullArray::new(rows))),
        (
            "fixed",
            Arc::new(FixedSizeBinaryArray::try_from_iter(words.iter().map(|_| b"abc")).unwrap()),
        ),
        ("wide", Arc::new(Decimal256Array::from_iter_values(words.iter().map(|_| 5.into())))),
    ];
    let plain = RecordBatch::try_from_iter_with_nullable(
        columns.into_iter().map(|(name, array)| (name, array, true)),
    )
    .unwrap();
    let metadata = HashMap::from([("who".to_owned(), "me".to_owned())]);
    let schema = Schema::new_with_metadata(plain.schema().fields().clone(), metadata);
    RecordBatch::try_new(Arc::new(schema), plain.columns().to_vec()).unwrap()
}

trait TypeOf {
    fn data_type_of(&self) -> DataType;
}

impl<A: arrow_array::Array> TypeOf for A {
    fn data_type_of(&self) -> DataType {
        self.data_type().clone()
    }
}

fn three() -> [RecordBatch; 3] {
    // The second adds to the dictionary of the first, the third replaces it.
    [batch(&["a", "b", "a"]), batch(&["a", "b", "c"]), batch(&["z", "a"])]
}

fn decode(messages: &[Message]) -> Result<Vec<RecordBatch>, Error> {
    let mut decoder = Decoder::new(Bounds::default());
    let mut batches = Vec::new();
    for message in messages {
        if let Decoded::Batch(batch) = decoder.push(message)? {
            batches.push(batch);
        }
    }
    Ok(batches)
}

#[test]
fn what_is_encoded_decodes_to_the_same_with_dictionaries_kept() {
    let batches = three();
    for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
        let (mut encoder, first) = Encoder::try_new(batches[0].schema(), compression).unwrap();
        let mut messages = vec![first];
        for batch in &batches {
            messages.extend(encoder.encode(batch).unwrap());
        }
        assert_eq!(decode(&messages).unwrap(), batches);
        let kinds: Vec<_> =
            messages.iter().map(|message| inspect(&message.header).unwrap().kind).collect();
        let deltas =
            kinds.iter().filter(|kind| matches!(kind, Kind::Dictionary { is_delta: true, .. }));
        assert_eq!(deltas.count(), 2, "{kinds:?}");
        let mut validator = StreamValidator::default();
        for message in &messages {
            validator.check(message).unwrap();
        }
        assert_eq!((validator.rows(), validator.has_replacement()), (8, true));
        assert_eq!(decode_schema(&messages[0].header).unwrap(), *batches[0].schema());
    }
}

#[test]
fn bodies_in_pieces_and_off_their_alignment_decode_too() {
    let batches = three();
    let mut messages = encode_batches(batches[0].schema(), &batches).unwrap();
    for message in &mut messages {
        let shifted = [&[0][..], &message.contiguous_body()].concat();
        let odd = Bytes::from(shifted).slice(1..);
        let half = odd.len() / 2;
        message.body = vec![odd.slice(..half), odd.slice(half..)];
    }
    assert_eq!(decode(&messages).unwrap(), batches);
}

#[test]
fn columns_are_chosen_by_name() {
    let batches = three();
    let messages = encode_batches(batches[0].schema(), &batches).unwrap();
    let mut decoder = Decoder::new(Bounds::default());
    decoder.push(&messages[0]).unwrap();
    let schema = decoder.project(&["union".to_owned(), "numbers".to_owned()]).unwrap();
    assert_eq!(schema.field(0).name(), "union");
    let mut got = Vec::new();
    for message in &messages[1..] {
        if let Decoded::Batch(batch) = decoder.push(message).unwrap() {
            got.push(batch);
        }
    }
    let wanted: Vec<_> = batches.iter().map(|batch| batch.project(&[9, 0]).unwrap()).collect();
    assert_eq!(got, wanted);
    let error = decoder.project(&["zzz".to_owned()]).unwrap_err();
    assert!(error.to_string().contains("\"zzz\""), "{error}");
}

#[test]
fn order_of_messages_is_checked() {
    let batches = three();
    let messages = encode_batches(batches[0].schema(), &batches).unwrap();
    let refused = |order: &[usize]| {
        let mut validator = StreamValidator::default();
        let mut results = order.iter().map(|number| validator.check(&messages[*number]));
        results.find_map(Result::err).map(|error| error.to_string())
    };
    let all: Vec<_> = (0..messages.len()).collect();
    assert_eq!(refused(&all), None);
    assert!(refused(&[1]).unwrap().contains("message 0: data before the schema"));
    assert!(refused(&[0, 0]).unwrap().contains("message 1: a second schema"));
    assert!(refused(&[0, 3]).unwrap().contains("before it is defined"));
    // The delta of the second batch, before what it adds to.
    assert!(refused(&[0, 4]).unwrap().contains("which has none yet"));
    assert!(StreamValidator::default().finish().is_err());
}

#[test]
fn every_flipped_byte_and_cut_is_an_error_or_another_stream_and_never_a_panic() {
    let batches = three();
    let messages = encode_batches(batches[0].schema(), &batches).unwrap();
    let mut refused = 0;
    for number in 0..messages.len() {
        let header = &messages[number].header;
        for position in 0..header.len() {
            for mask in [0x01, 0x80, 0xff] {
                let mut changed = header.to_vec();
                changed[position] ^= mask;
                let mut lying = messages.clone();
                lying[number].header = Bytes::from(changed);
                refused += usize::from(decode(&lying).is_err());
            }
        }
        let mut cut = messages.clone();
        cut[number].header = header.slice(..header.len() / 2);
        assert!(decode(&cut).is_err());
        if let Some(body) = messages[number].body.first() {
            let mut cut = messages.clone();
            cut[number].body = vec![body.slice(..body.len() - 1)];
            assert_eq!(decode(&cut).unwrap_err().code(), Code::MalformedData);
        }
    }
    assert!(refused > 100, "{refused}");
}

/// A record batch message with nodes and buffers as they are given.
fn forged(rows: i64, nodes: &[(i64, i64)], buffers: &[(i64, i64)], body: usize) -> Message {
    let mut builder = FlatBufferBuilder::new();
    let nodes: Vec<_> = nodes.iter().map(|(len, nulls)| FieldNode::new(*len, *nulls)).collect();
    let buffers: Vec<_> =
        buffers.iter().map(|(at, len)| arrow_ipc::Buffer::new(*at, *len)).collect();
    let (nodes, buffers) = (builder.create_vector(&nodes), builder.create_vector(&buffers));
    let mut batch = arrow_ipc::RecordBatchBuilder::new(&mut builder);
    batch.add_length(rows);
    batch.add_nodes(nodes);
    batch.add_buffers(buffers);
    let batch = batch.finish().as_union_value();
    let mut message = arrow_ipc::MessageBuilder::new(&mut builder);
    message.add_version(MetadataVersion::V5);
    message.add_header_type(MessageHeader::RecordBatch);
    message.add_header(batch);
    message.add_bodyLength(i64::try_from(body).unwrap());
    let root = message.finish();
    builder.finish(root, None);
    Message::new(Bytes::copy_from_slice(builder.finished_data()), Bytes::from(vec![0; body]))
}

#[test]
fn nodes_and_buffers_must_be_those_of_the_schema() {
    let schema = Schema::new(vec![Field::new("n", DataType::Int64, true)]);
    let check = |message: Message| {
        let mut validator = StreamValidator::default();
        validator.check(&encode_schema(&schema)).unwrap();
        validator.check(&message).map_err(|error| error.to_string())
    };
    assert_eq!(check(forged(2, &[(2, 0)], &[(0, 0), (0, 16)], 16)).unwrap().rows, 2);
    for (message, why) in [
        (forged(-1, &[(-1, 0)], &[(0, 0), (0, 0)], 0), "-1 rows"),
        (forged(3, &[(2, 0)], &[(0, 0), (0, 16)], 16), "has 2 rows, not 3"),
        (forged(2, &[(2, 3)], &[(0, 0), (0, 16)], 16), "3 of them null"),
        (forged(2, &[(2, 0)], &[(0, 0), (8, 16)], 16), "outside the body of 16"),
        (forged(2, &[(2, 0)], &[(0, 0), (-8, 16)], 16), "outside the body of 16"),
        (forged(2, &[(2, 0)], &[(0, 0), (i64::MAX, i64::MAX)], 16), "outside the body"),
        (forged(2, &[(2, 0)], &[(0, 0), (0, 8)], 16), "holds 8 bytes and needs 16"),
        (forged(2, &[(2, 1)], &[(0, 0), (0, 16)], 16), "holds 0 bytes and needs 1"),
        (forged(2, &[(2, 0)], &[(0, 0)], 16), "buffers end before"),
        (forged(2, &[], &[(0, 0), (0, 16)], 16), "nodes end before"),
        (forged(2, &[(2, 0), (2, 0)], &[(0, 0), (0, 16)], 16), "2 nodes, the schema asks for 1"),
        (forged(2, &[(2, 0)], &[(0, 0), (0, 16), (0, 0)], 16), "3 buffers, the schema asks for 2"),
        (forged(i64::MAX, &[(i64::MAX, 0)], &[(0, 0), (0, 16)], 16), "values of 64 bits"),
    ] {
        let error = check(message).unwrap_err();
        assert!(error.contains(why), "{error}, not {why}");
    }
}

#[test]
fn limits_name_the_number_and_the_limit() {
    let check = |schema: &Schema| {
        let mut validator = StreamValidator::default();
        validator.check(&encode_schema(schema)).map(drop)
    };
    let columns = |count: usize| {
        Schema::new(
            (0..count).map(|n| Field::new(n.to_string(), DataType::Int8, true)).collect::<Vec<_>>(),
        )
    };
    check(&columns(4_096)).unwrap();
    let error = check(&columns(10_000)).unwrap_err();
    assert_eq!(error.code(), Code::LimitExceeded);
    assert!(error.to_string().contains("10000 columns, the limit is 4096"), "{error}");
    let nested = |depth: usize| {
        let mut data_type = DataType::Int8;
        for _ in 1..depth {
            data_type = DataType::List(Arc::new(Field::new("item", data_type, true)));
        }
        Schema::new(vec![Field::new("n", data_type, true)])
    };
    check(&nested(64)).unwrap();
    for depth in [65, 80, 300] {
        let error = check(&nested(depth)).unwrap_err();
        assert_eq!(error.code(), Code::LimitExceeded, "{depth}: {error}");
        assert!(error.to_string().contains("64"), "{error}");
    }
    let long = "x".repeat(17 << 20);
    let large = Schema::new(vec![Field::new(long, DataType::Int8, true)]);
    let error = check(&large).unwrap_err();
    assert!(error.to_string().contains("the limit is 16777216"), "{error}");
}

#[test]
fn a_buffer_cannot_promise_to_unfold_without_end() {
    let batch =
        RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from(vec![0; 1_000])) as ArrayRef)])
            .unwrap();
    let (mut encoder, first) = Encoder::try_new(batch.schema(), Compression::Zstd).unwrap();
    let mut message = encoder.encode(&batch).unwrap().remove(0);
    let mut body = message.contiguous_body().to_vec();
    let at = body.windows(8).position(|bytes| bytes == 8_000_i64.to_le_bytes()).unwrap();
    body[at..at + 8].copy_from_slice(&i64::MAX.to_le_bytes());
    message.body = vec![Bytes::from(body)];
    let error = decode(&[first, message]).unwrap_err();
    assert_eq!(error.code(), Code::LimitExceeded, "{error}");
}

#[test]
fn a_batch_without_columns_has_its_rows() {
    let options = RecordBatchOptions::new().with_row_count(Some(5));
    let batch =
        RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options).unwrap();
    let messages = encode_batches(batch.schema(), std::slice::from_ref(&batch)).unwrap();
    assert_eq!(decode(&messages).unwrap(), [batch]);
}

#[test]
fn rows_of_a_stream_and_dictionaries_that_are_kept_are_bounded() {
    let batches = three();
    let messages = encode_batches(batches[0].schema(), &batches).unwrap();
    let run = |bounds: Bounds| {
        let mut decoder = Decoder::new(bounds);
        messages.iter().try_for_each(|message| decoder.push(message).map(drop))
    };
    run(Bounds { max_rows: 8, ..Bounds::default() }).unwrap();
    let error = run(Bounds { max_rows: 7, ..Bounds::default() }).unwrap_err();
    assert_eq!(error.code(), Code::LimitExceeded, "{error}");
    assert!(error.to_string().contains("8 rows with it, the limit is 7"), "{error}");

    let bodies: Vec<u64> = messages
        .iter()
        .filter(|message| matches!(inspect(&message.header).unwrap().kind, Kind::Dictionary { .. }))
        .map(|message| message.body_len() as u64)
        .collect();
    let total: u64 = bodies.iter().sum();
    run(Bounds { max_decoded_bytes: total, ..Bounds::default() }).unwrap();
    // Each would do by itself.
    let one = *bodies.iter().max().unwrap();
    let error = run(Bounds { max_decoded_bytes: one, ..Bounds::default() }).unwrap_err();
    assert_eq!(error.code(), Code::LimitExceeded, "{error}");
    assert!(error.to_string().contains("the dictionaries have"), "{error}");
}
