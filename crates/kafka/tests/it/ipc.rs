//! Arrow IPC streams as messages.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type};
use arrow_array::{
    Array, ArrayRef, DictionaryArray, Float64Array, Int32Array, Int64Array, RecordBatch,
    StringArray,
};
use arrow_ipc::writer::StreamWriter;
use arrow_schema::Schema;
use proptest::prelude::*;
use sheaf_kafka::{Format, Messages};

use crate::common::{column, costs_one_row, decode, messages, of, offsets};
use crate::random::together_is_one_by_one;

fn stream(batches: &[RecordBatch]) -> Vec<u8> {
    let mut writer = StreamWriter::try_new(Vec::new(), &batches[0].schema()).unwrap();
    batches.iter().for_each(|batch| writer.write(batch).unwrap());
    writer.into_inner().unwrap()
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter(columns).unwrap()
}

fn numbers(values: Vec<i64>) -> RecordBatch {
    batch(vec![("n", Arc::new(Int64Array::from(values)) as _)])
}

fn good(i: usize) -> Vec<u8> {
    let text = Arc::new(StringArray::from(vec![format!("user-{i}")])) as _;
    stream(&[batch(vec![("n", Arc::new(Int64Array::from(vec![i as i64])) as _), ("s", text)])])
}

#[test]
fn what_is_no_stream_costs_one_row() {
    let whole = good(1);
    let twice = [whole.clone(), whole.clone()].concat();
    let mut huge = whole.clone();
    huge[4..8].copy_from_slice(&i32::MAX.to_le_bytes());
    let mut negative = whole.clone();
    negative[4..8].copy_from_slice(&(-8i32).to_le_bytes());
    let conflict = stream(&[batch(vec![("s", Arc::new(Int64Array::from(vec![1])) as _)])]);
    let n = || Arc::new(Int64Array::from(vec![1])) as ArrayRef;
    let same = stream(&[batch(vec![("n", n()), ("n", n())])]);
    let dictionary: DictionaryArray<arrow_array::types::Int32Type> = ["a"].into_iter().collect();
    let dictionary = stream(&[batch(vec![("s", Arc::new(dictionary) as _)])]);
    let poisons: [(&[u8], &str); 11] = [
        (b"", "an empty value"),
        (b"{}", "not an Arrow IPC stream"),
        (&whole[..6], "cut off"),
        (&whole[..whole.len() - 9], "cut off"),
        (&whole[..100], "cut off"),
        (&twice, "bytes follow the stream"),
        (&huge, "cut off"),
        (&negative, ""),
        (&same, "two columns have the name n"),
        (&conflict, "column s is Int64 here and Utf8 in the stream"),
        (&dictionary, "column s is Dictionary"),
    ];
    costs_one_row(|| of(Format::Arrow), good, &poisons);
}

#[test]
fn a_message_has_any_number_of_rows() {
    let empty = RecordBatch::new_empty(numbers(vec![]).schema());
    let values = [
        Some(stream(&[numbers(vec![1, 2]), numbers(vec![3])])),
        None,
        Some(stream(&[empty])),
        Some(b"x".to_vec()),
        Some(stream(&[batch(vec![("n", Arc::new(Float64Array::from(vec![0.5])) as _)])])),
    ];
    let decoded = decode(&mut of(Format::Arrow), &messages(values));
    assert_eq!(decoded.rejected.iter().map(|r| r.index).collect::<Vec<_>>(), [3]);
    let batch = decoded.batch.unwrap();
    assert_eq!(offsets(&batch), [0, 0, 0, 1, 4]);
    let n = column(&batch, "n");
    assert!(n.is_null(3));
    let n = n.as_primitive::<Float64Type>();
    assert_eq!((n.value(0), n.value(2), n.value(4)), (1.0, 3.0, 0.5));
    assert_eq!(column(&batch, "_key").as_binary::<i32>().value(2), b"0");
}

#[test]
fn rows_without_columns_count() {
    let schema = Arc::new(Schema::empty());
    let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(2));
    let rows = RecordBatch::try_new_with_options(schema, vec![], &options).unwrap();
    let decoded = decode(&mut of(Format::Arrow), &messages([Some(stream(&[rows]))]));
    assert_eq!(decoded.batch.unwrap().num_rows(), 2);
}

#[test]
fn a_large_key_is_not_repeated_without_end() {
    let mut messages = Messages::default();
    let (key, value) = (vec![b'k'; 1 << 20], stream(&[numbers((0..1_000).collect())]));
    messages.push(0, None, Some(&key), Some(&value), []);
    messages.push(1, None, Some(b"k"), Some(&value), []);
    let decoded = decode(&mut of(Format::Arrow), &messages);
    assert!(decoded.rejected[0].error.contains("would be repeated 1000 times"));
    let n = column(&decoded.batch.unwrap(), "n");
    assert_eq!(n.as_primitive::<Int64Type>().value(999), 999);
}

#[test]
fn a_dictionary_is_not_written_out_without_end() {
    // 100 KB of a text, 100,000 times.
    let values = Arc::new(StringArray::from(vec!["x".repeat(100_000)]));
    let keys = Int32Array::from(vec![0; 100_000]);
    let dictionary = Arc::new(DictionaryArray::try_new(keys, values).unwrap()) as ArrayRef;
    let value = stream(&[batch(vec![("s", dictionary)])]);
    let text = arrow_schema::Field::new("s", arrow_schema::DataType::Utf8, true);
    let options = sheaf_kafka::DecoderOptions {
        format: Format::Arrow,
        schema: Some(Arc::new(Schema::new(vec![text]))),
        ..Default::default()
    };
    let mut decoder = sheaf_kafka::Decoder::try_new("t", options).unwrap();
    let decoded = decode(&mut decoder, &messages([Some(value), Some(good(1))]));
    assert!(decoded.rejected[0].error.contains("bytes written out"), "{:?}", decoded.rejected);
    assert_eq!(column(&decoded.batch.unwrap(), "s").as_string::<i32>().value(0), "user-1");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arrow_together_is_arrow_one_by_one(values in prop::collection::vec(any_message(), 0..20)) {
        together_is_one_by_one(|| of(Format::Arrow), &values);
    }
}

fn any_message() -> impl Strategy<Value = Option<Vec<u8>>> {
    let changed =
        (any::<u8>(), any::<prop::sample::Index>(), any::<u8>()).prop_map(|(i, at, by)| {
            let mut good = good(i.into());
            let at = at.index(good.len());
            good[at] = by;
            Some(good)
        });
    prop_oneof![
        3 => any::<u8>().prop_map(|i| Some(good(i.into()))),
        2 => prop::collection::vec(any::<i64>(), 0..4).prop_map(|n| Some(stream(&[numbers(n)]))),
        3 => changed,
        1 => Just(None),
    ]
}
