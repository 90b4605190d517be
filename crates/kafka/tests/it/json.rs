//! JSON: what is one object and nothing else becomes a row.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type};
use arrow_array::{Array, Float64Array, Int64Array, StringArray};
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use sheaf_kafka::{Decoder, DecoderOptions, Format};

use crate::common::{MANY, column, costs_one_row, decode, messages, of, offsets, texts};

fn good(i: usize) -> Vec<u8> {
    format!(
        r#"{{"id":{i},"name":"user-{}","v":{}.5,"ok":true,"tags":["a","b"],"at":{{"x":1,"y":null}}}}"#,
        i % 100,
        i * 3,
    )
    .into_bytes()
}

const SYNTAX: [(&[u8], &str); 19] = [
    (b"", "an empty value"),
    (b" \n", "an empty value"),
    (b"{", "ends early"),
    (b"{\"id\":1", "ends early"),
    (b"{\"name\":\"x", "ends early"),
    (b"{\"id\":1}{\"id\":2}", "more follows"),
    (b"{\"id\":1}\n{\"id\":2}", "more follows"),
    (b"{\"id\":1} 5", "more follows"),
    (b"{\"id\":1} x", "parsing value"),
    (b"{\"id\":1},", "parsing value"),
    (b"{\"id\": 1, oops}", "parsing object"),
    (b"{\"id\":t}", "parsing literal"),
    (b"[{\"id\":1}]", "not a JSON object"),
    (b"\"text\"", "not a JSON object"),
    (b"17", "not a JSON object"),
    (b"null", "not a JSON object"),
    (b"\xff\xfe", ""),
    (b"{\"name\":\"\xff\"}", ""),
    (b"{\"name\":\"\\ud800\"}", ""),
];

#[test]
fn what_is_not_one_object_costs_one_row() {
    costs_one_row(|| of(Format::Json), good, &SYNTAX);
}

#[test]
fn what_does_not_fit_costs_one_row() {
    let wide =
        format!("{{{}}}", (0..1_001).map(|i| format!("\"c{i}\":1")).collect::<Vec<_>>().join(","));
    let deep = format!("{{\"d\":{}1{}}}", "[".repeat(40), "]".repeat(40));
    let poisons: [(&[u8], &str); 10] = [
        (b"{\"id\":\"5\"}", "column id is Utf8 here and Int64 in the stream"),
        (b"{\"name\":5}", "column name is Int64 here and Utf8 in the stream"),
        (b"{\"ok\":1}", "column ok is Int64 here and Boolean in the stream"),
        (b"{\"id\":[1]}", "column id is List"),
        (b"{\"at\":{\"x\":true}}", "column at.x is Boolean here and Int64 in the stream"),
        (b"{\"tags\":[\"a\",1]}", "tags: column [] is Int64 here and Utf8"),
        (b"{\"v\":9007199254740993}", "no exact form in a column of Float64"),
        (b"{\"v\":1e400}", "1e400 has no exact 64-bit form"),
        (wide.as_bytes(), "over the limit of 1000"),
        (deep.as_bytes(), "nested deeper than 32 levels"),
    ];
    costs_one_row(|| of(Format::Json), good, &poisons);
}

#[test]
fn a_given_schema_is_kept_and_poison_costs_one_row() {
    let micros = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let schema = Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int32, true),
        Field::new("at", micros, true),
        Field::new("absent", DataType::Utf8, true),
    ]));
    let decoder = || {
        let schema = Some(Arc::clone(&schema));
        Decoder::try_new("t", DecoderOptions { schema, ..DecoderOptions::default() }).unwrap()
    };
    let good =
        |i: usize| format!(r#"{{"id":{i},"at":"2026-11-21T00:00:00Z","more":1}}"#).into_bytes();
    let poisons: [(&[u8], &str); 4] = [
        (b"{\"id\":1.5}", "1.5 does not fit into Int32"),
        (b"{\"id\":3000000000}", "3000000000"),
        (b"{\"at\":\"yesterday\"}", "yesterday"),
        (b"{\"id\":{}}", "id"),
    ];
    costs_one_row(decoder, good, &poisons);
    costs_one_row(decoder, good, &SYNTAX);

    let mut decoder = decoder();
    let version = decoder.schema_version();
    let batch = texts(&mut decoder, &[r#"{"id":"7","more":{}}"#, r#"{"id":1e3}"#]).batch.unwrap();
    let names: Vec<_> = batch.schema().fields().iter().map(|f| f.name().clone()).take(4).collect();
    assert_eq!(names, ["id", "at", "absent", "_topic"]);
    assert_eq!(column(&batch, "absent").null_count(), 2);
    assert_eq!(decoder.schema_version(), version);
}

#[test]
fn a_fraction_is_never_cut_off() {
    let mut decoder = of(Format::Json);
    texts(&mut decoder, &[r#"{"n":1}"#]);
    let decoded = texts(&mut decoder, &[r#"{"n":2}"#, r#"{"n":1.5}"#, r#"{"n":3}"#]);
    assert!(decoded.rejected.is_empty());
    let batch = decoded.batch.unwrap();
    assert_eq!(column(&batch, "n").as_primitive::<Float64Type>().values(), &[2.0, 1.5, 3.0]);
}

#[test]
fn numbers_stay_what_they_are() {
    let (max, min) = (i64::MAX, i64::MIN);
    let decoded = texts(
        &mut of(Format::Json),
        &[&format!(r#"{{"n":{max},"f":0.1}}"#), &format!(r#"{{"n":{min},"f":9007199254740992}}"#)],
    );
    let batch = decoded.batch.unwrap();
    assert_eq!(column(&batch, "n").as_primitive::<Int64Type>().values(), &[max, min]);
    assert_eq!(
        column(&batch, "f").as_ref(),
        &Float64Array::from(vec![0.1, 9_007_199_254_740_992.0])
    );
}

#[test]
fn tombstones_are_rows_of_nulls_with_their_key() {
    let values = [None, Some(r#"{"a":1}"#), None, Some(r#"{"a":2}"#), Some("x"), None];
    let decoded = decode(&mut of(Format::Json), &messages(values));
    let batch = decoded.batch.unwrap();
    assert_eq!(offsets(&batch), [0, 1, 2, 3, 5]);
    let expected = Int64Array::from(vec![None, Some(1), None, Some(2), None]);
    assert_eq!(column(&batch, "a").as_ref(), &expected);
    let keys = column(&batch, "_key");
    assert_eq!(keys.as_binary::<i32>().value(4), b"5");
    assert_eq!(keys.null_count(), 0);
}

#[test]
fn the_header_of_a_registry_is_not_part_of_the_json() {
    let values = [&b"\0\0\0\0\x07{\"a\":1}"[..], b"{\"a\":2}", b"\0\0\0\0\x07"];
    let decoded = decode(&mut of(Format::Json), &messages(values.map(Some)));
    assert_eq!(decoded.rejected.iter().map(|r| r.index).collect::<Vec<_>>(), [2]);
    let batch = decoded.batch.unwrap();
    assert_eq!(column(&batch, "a").as_ref(), &Int64Array::from(vec![1, 2]));
}

#[test]
fn many_poisons_cost_themselves() {
    let values: Vec<_> = (0..MANY)
        .map(|i| if i % 3 == 0 { b"{\"id\":\"poison\"}".to_vec() } else { good(i) })
        .collect();
    let mut decoder = of(Format::Json);
    decode(&mut decoder, &messages([Some(good(0))]));
    let decoded = decode(&mut decoder, &messages(values.iter().map(Some)));
    assert_eq!(decoded.rejected.len(), MANY.div_ceil(3));
    assert!(decoded.rejected.is_sorted_by_key(|rejected| rejected.index));
    let batch = decoded.batch.unwrap();
    let ids: Vec<i64> = (0..MANY as i64).filter(|i| i % 3 != 0).collect();
    assert_eq!(column(&batch, "id").as_primitive::<Int64Type>().values(), &ids);
    assert_eq!(offsets(&batch), ids);
}

#[test]
fn of_a_name_that_comes_twice_the_last_value_counts() {
    let mut decoder = of(Format::Json);
    for _ in 0..2 {
        let decoded = texts(&mut decoder, &[r#"{"a":1,"a":"x"}"#, r#"{"a":"y"}"#]);
        let a = column(&decoded.batch.unwrap(), "a");
        assert_eq!(a.as_ref(), &StringArray::from(vec!["x", "y"]));
    }
}
