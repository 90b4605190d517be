//! CSV: one record per message.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, BooleanArray, Float64Array, Int64Array, StringArray};
use arrow_schema::{DataType, Field, Schema};
use proptest::prelude::*;
use sheaf_kafka::{Decoder, DecoderOptions, Format};

use crate::common::{column, costs_one_row, decode, messages, of, texts};
use crate::random::together_is_one_by_one;

const SYNTAX: [(&[u8], &str); 9] = [
    (b"", "an empty value"),
    (b"\r\n", "an empty value"),
    (b"1,2", "2 fields, the stream has 3"),
    (b"1,2,3,4", "4 fields, the stream has 3"),
    (b"1,a,2\n2,b,3", "more follows"),
    (b"1,a,2\n\n2,b,3\n", "more follows"),
    (b"1,\"a,2", "a quotation mark is open"),
    (b"1,\"a\n,2\n", "a quotation mark is open"),
    (b"1,\xff,2", "invalid utf-8"),
];

fn good(i: usize) -> Vec<u8> {
    format!("{i},\"user, {i}\",{}.5\n", i * 3).into_bytes()
}

fn typed() -> Decoder {
    let schema = Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, true),
        Field::new("name", DataType::Utf8, true),
        Field::new("v", DataType::Float64, true),
    ]));
    let options =
        DecoderOptions { format: Format::Csv, schema: Some(schema), ..DecoderOptions::default() };
    Decoder::try_new("t", options).unwrap()
}

#[test]
fn what_is_not_one_record_costs_one_row() {
    costs_one_row(|| of(Format::Csv), good, &SYNTAX);
    costs_one_row(typed, good, &SYNTAX);
}

#[test]
fn what_does_not_fit_a_given_schema_costs_one_row() {
    let poisons: [(&[u8], &str); 4] = [
        (b"x,a,1", "'x'"),
        (b"1.5,a,1", "'1.5'"),
        (b"99999999999999999999,a,1", "'99999999999999999999'"),
        (b"1,a,b", "'b'"),
    ];
    costs_one_row(typed, good, &poisons);
}

#[test]
fn fields_are_columns() {
    let values = ["1,\"a \"\"b\"\"\",2.5", ",,", "3,\"two\nlines\",1e3\r\n"];
    let decoded = texts(&mut typed(), &values);
    assert!(decoded.rejected.is_empty(), "{:?}", decoded.rejected);
    let batch = decoded.batch.unwrap();
    assert_eq!(column(&batch, "id").as_ref(), &Int64Array::from(vec![Some(1), None, Some(3)]));
    assert_eq!(
        column(&batch, "name").as_ref(),
        &StringArray::from(vec![Some("a \"b\""), None, Some("two\nlines")])
    );
    let v = Float64Array::from(vec![Some(2.5), None, Some(1_000.0)]);
    assert_eq!(column(&batch, "v").as_ref(), &v);

    let decoded = texts(&mut of(Format::Csv), &["1,2", "1,x,true", "2,y,false"]);
    assert_eq!(decoded.rejected.len(), 1);
    let batch = decoded.batch.unwrap();
    let third = StringArray::from(vec!["true", "false"]);
    assert_eq!(column(&batch, "column_3").as_ref(), &third);
    assert_ne!(column(&batch, "column_3").data_type(), BooleanArray::from(vec![true]).data_type());
}

#[test]
fn any_number_of_messages_is_decoded() {
    let values: Vec<_> =
        (0..20_000).map(|i| Some(if i == 10_000 { b"1,2".to_vec() } else { good(i) })).collect();
    let decoded = decode(&mut typed(), &messages(values));
    assert_eq!(decoded.rejected.iter().map(|r| r.index).collect::<Vec<_>>(), [10_000]);
    let batch = decoded.batch.unwrap();
    let id = column(&batch, "id");
    let id = id.as_primitive::<Int64Type>().values();
    assert_eq!((id.len(), id[9_999], id[10_000]), (19_999, 9_999, 10_001));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn csv_together_is_csv_one_by_one(values in prop::collection::vec(any_message(), 0..40)) {
        together_is_one_by_one(typed, &values);
        let options = || DecoderOptions { format: Format::Csv, sample: 1, ..DecoderOptions::default() };
        let first = values.iter().flatten().next().is_some_and(|first| *first == good(1));
        if first {
            together_is_one_by_one(|| Decoder::try_new("t", options()).unwrap(), &values);
        }
    }
}

fn any_message() -> impl Strategy<Value = Option<Vec<u8>>> {
    prop_oneof![
        4 => any::<u8>().prop_map(|i| Some(good(i.into()))),
        4 => Just(Some(good(1))),
        2 => "[0-9,\"\n\ra.]{0,12}".prop_map(|text| Some(text.into_bytes())),
        1 => prop::collection::vec(any::<u8>(), 0..8).prop_map(Some),
        1 => prop::sample::select(&SYNTAX[..]).prop_map(|(bytes, _)| Some(bytes.to_vec())),
        1 => Just(None),
    ]
}
