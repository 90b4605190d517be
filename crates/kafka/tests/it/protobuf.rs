//! Protobuf with the header of a registry.

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, StringArray};
use arrow_schema::{DataType, TimeUnit};
use proptest::prelude::*;
use sheaf_kafka::{Decoder, DecoderOptions, Format, RegisteredKind, RegisteredSchema, ValueSchema};

use crate::common::{MANY, column, costs_one_row, decode, messages, of, offsets, own, varint};
use crate::random::together_is_one_by_one;

const SCHEMA: &str = r#"syntax = "proto3";
import "google/protobuf/duration.proto";
import "google/protobuf/struct.proto";
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";
message T {
  message Inner { string s = 1; repeated double d = 2; }
  int64 id = 1;
  string name = 2;
  Inner inner = 3;
  repeated int32 list = 4;
  google.protobuf.Timestamp at = 5;
  Kind kind = 6;
  map<string, int32> counts = 7;
  optional bool ok = 8;
  message Other { int32 x = 1; }
  T self = 9;
}
enum Kind { A = 0; B = 1; }
message Second { string t = 1; }
message Nothing {}
message All {
  google.protobuf.Timestamp a = 1; google.protobuf.Duration b = 2;
  google.protobuf.StringValue c = 3; google.protobuf.Int64Value d = 4;
  google.protobuf.DoubleValue e = 5; google.protobuf.FloatValue f = 6;
  google.protobuf.BoolValue g = 7; google.protobuf.BytesValue h = 8;
  repeated google.protobuf.Timestamp i = 9; repeated google.protobuf.StringValue j = 10;
  map<int64, T> k = 11; map<string, google.protobuf.Timestamp> l = 12;
  repeated T m = 13; oneof n { string o = 14; fixed32 p = 15; sint64 q = 16; }
  repeated Kind r = 17; repeated string s = 18; repeated bytes t = 19;
  google.protobuf.Struct u = 20; google.protobuf.Value v = 21; repeated sfixed64 w = 22;
  repeated bool x = 23; map<bool, bytes> y = 24; repeated google.protobuf.Int32Value z = 25;
}
"#;

fn registered(text: &str) -> RegisteredSchema {
    RegisteredSchema { kind: RegisteredKind::Protobuf, text: text.into(), references: Vec::new() }
}

fn decoder() -> Decoder {
    let mut decoder = of(Format::Protobuf);
    decoder.learn(9, &registered(SCHEMA));
    decoder
}

/// A message of schema 9 at this path with these parts.
fn framed(path: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    [&[0, 0, 0, 0, 9], path, &parts.concat()].concat()
}

fn field(number: u64, content: &[u8]) -> Vec<u8> {
    [varint(number << 3 | 2), varint(content.len() as u64), content.to_vec()].concat()
}

fn number(number: u64, value: i64) -> Vec<u8> {
    [varint(number << 3), varint(value as u64)].concat()
}

fn good(i: usize) -> Vec<u8> {
    let inner = [field(1, b"inner"), field(2, &(i as f64).to_le_bytes())].concat();
    let parts = [
        number(1, i as i64 - 50),
        field(2, format!("user-{i}").as_bytes()),
        field(3, &inner),
        field(4, &[1, 2, 0x80, 1]),
        field(5, &number(1, i as i64)),
        number(6, i as i64 % 2),
        field(7, &[field(1, b"k"), number(2, 7)].concat()),
        if i.is_multiple_of(2) { number(8, 1) } else { Vec::new() },
    ];
    framed(&[0], &[&parts.concat()])
}

fn poisons() -> Vec<(Vec<u8>, &'static str)> {
    let huge = varint(u64::MAX);
    vec![
        (vec![], "no header of a schema registry"),
        (vec![0, 0, 0, 0, 9], "positions of the message in its schema are cut off"),
        (framed(&[4, 0], &[]), "positions of the message in its schema are cut off"),
        (framed(&[1], &[]), "negative"),
        (framed(&[66], &[]), "33 levels deep"),
        (framed(&[2, 8], &[]), "no message at [4]"),
        (framed(&[4, 0, 4], &[]), "no message at [0, 2]"),
        (framed(&[0], &[&[8]]), "field 1 is cut off"),
        (good(1)[..20].to_vec(), "cut off"),
        (framed(&[0], &[&[18], &huge, b"x"]), "field 2 is cut off"),
        (framed(&[0], &[&[26, 3, 10], &[0x7f, b'x']]), "field 3: field 1 is cut off"),
        (framed(&[0], &[&field(3, &[&[10u8][..], &huge].concat())]), "field 3: field 1 is cut off"),
        (framed(&[0], &[&field(2, b"\xff")]), "field 2: invalid utf-8"),
        (framed(&[0], &[&field(3, &field(1, b"\xc3"))]), "field 3: field 1: incomplete utf-8"),
        (framed(&[0], &[&field(7, &field(1, b"\xff"))]), "field 7: field 1: invalid utf-8"),
        (framed(&[0], &[&field(3, &field(2, &[0; 9]))]), "9 bytes are no list of values of 8"),
        (framed(&[0], &[&field(4, &[0x80])]), "the list is cut off"),
        (framed(&[0], &[&[0, 1]]), "0 is no field number"),
        (framed(&[0], &[&[8], &[0xff; 10]]), "field 1 is cut off"),
        (framed(&[0], &[&[15]]), "unknown wire type 7"),
        (framed(&[0], &[&[0x0b; 5_000]]), "groups are nested deeper than 32"),
        (framed(&[0], &[&[0xa3, 6, 8, 1]]), "group 100 does not end"),
        (framed(&[0], &[&[0xa4, 6]]), "ends and did not begin"),
        (b"\0\0\0\0\x07".to_vec(), "schema 7: gone"),
    ]
}

fn with_refused() -> Decoder {
    let mut decoder = decoder();
    decoder.refuse(7, "gone");
    decoder
}

#[test]
fn a_broken_message_costs_one_row() {
    let poisons = poisons();
    let poisons: Vec<_> = poisons.iter().map(|(bytes, what)| (&bytes[..], *what)).collect();
    costs_one_row(with_refused, good, &poisons);
}

#[test]
fn many_broken_messages_cost_themselves() {
    let poison = framed(&[0], &[&field(2, b"\xff")]);
    let values = (0..MANY).map(|i| Some(if i % 2 == 0 { poison.clone() } else { good(i) }));
    let decoded = decode(&mut decoder(), &messages(values));
    assert_eq!(decoded.rejected.len(), MANY / 2);
    assert!(offsets(&decoded.batch.unwrap()).iter().all(|offset| offset % 2 == 1));
}

#[test]
fn values_arrive() {
    let decoded = decode(&mut decoder(), &messages([Some(good(7)), None, Some(good(8))]));
    assert!(decoded.rejected.is_empty(), "{:?}", decoded.rejected);
    let batch = decoded.batch.unwrap();
    assert!(own(&batch).iter().all(|column| column.is_null(1)));
    assert_eq!(column(&batch, "id").as_primitive::<Int64Type>().value(0), -43);
    assert_eq!(column(&batch, "name").as_string::<i32>().value(2), "user-8");
    let list = column(&batch, "list");
    assert_eq!(list.as_list::<i32>().value(0).as_primitive::<Int32Type>().values(), &[1, 2, 128]);
    let at = column(&batch, "at");
    let micros = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    assert_eq!(at.data_type(), &micros);
    assert_eq!(at.as_primitive::<TimestampMicrosecondType>().value(0), 7_000_000);
    let kinds = StringArray::from(vec![Some("B"), None, Some("A")]);
    assert_eq!(column(&batch, "kind").as_ref(), &kinds);
    assert_eq!(column(&batch, "counts").as_map().value_length(0), 1);
    let ok = column(&batch, "ok");
    assert!(ok.is_null(0) && ok.as_boolean().value(2));
}

#[test]
fn the_path_says_which_message_it_is() {
    // First message, second message, and one inside of the first; the entry
    // of the map, which lies before that one, does not count.
    let values = [
        framed(&[2, 0], &[&number(1, 5)]),
        framed(&[2, 2], &[&field(1, b"t")]),
        framed(&[4, 0, 2], &[&number(1, 6)]),
        framed(&[2, 4], &[]),
    ];
    let decoded = decode(&mut decoder(), &messages(values.iter().map(Some)));
    assert!(decoded.rejected.is_empty(), "{:?}", decoded.rejected);
    let batch = decoded.batch.unwrap();
    assert_eq!(column(&batch, "id").as_primitive::<Int64Type>().value(0), 5);
    assert_eq!(column(&batch, "t").as_string::<i32>().value(1), "t");
    assert_eq!(column(&batch, "x").as_primitive::<Int32Type>().value(2), 6);
    assert!(own(&batch).iter().all(|column| column.is_null(3)));
}

#[test]
fn imports_come_from_the_references() {
    let mut schema = registered(
        r#"syntax = "proto3"; import "geo/point.proto"; message T { geo.Point at = 1; }"#,
    );
    let point = r#"syntax = "proto3"; package geo; message Point { int32 x = 1; }"#;
    let mut decoder = of(Format::Protobuf);
    decoder.learn(9, &schema);
    let value = framed(&[0], &[&field(1, &number(1, 5))]);
    let missing = decode(&mut decoder, &messages([Some(&value)]));
    assert!(missing.rejected[0].error.contains("geo/point.proto"), "{:?}", missing.rejected);
    schema.references.push(("geo/point.proto".to_owned(), point.to_owned()));
    decoder.learn(9, &schema);
    let decoded = decode(&mut decoder, &messages([Some(&value)]));
    let batch = decoded.batch.unwrap();
    let x = column(&batch, "at").as_struct().column(0).clone();
    assert_eq!(x.as_primitive::<Int32Type>().value(0), 5);
}

#[test]
fn a_schema_that_cannot_be_used_rejects_its_messages() {
    let doubled: String =
        (1..30).map(|i| format!("message M{i} {{ M{0} l = 1; M{0} r = 2; }}\n", i - 1)).collect();
    let doubled = format!(
        "syntax = \"proto3\"; message R {{ M29 m = 1; }} message M0 {{ int32 x = 1; }}\n{doubled}"
    );
    for (text, problem) in [
        ("message {", ""),
        ("syntax = \"proto3\";", "no message at [0]"),
        ("syntax = \"proto3\"; message T { U u = 1; }", "U"),
        ("syntax = \"proto3\"; message T { int32 x = 536870911; }", "over 100000"),
        (&doubled, "more than 10000 fields"),
    ] {
        let mut decoder = of(Format::Protobuf);
        decoder.learn(9, &registered(text));
        let decoded = decode(&mut decoder, &messages([Some(framed(&[0], &[]))]));
        assert!(decoded.batch.is_none());
        let error = &decoded.rejected[0].error;
        assert!(error.starts_with("schema 9: ") && error.contains(problem), "{error}");
    }
}

fn any_message() -> impl Strategy<Value = Option<Vec<u8>>> {
    let changed =
        (any::<u16>(), any::<prop::sample::Index>(), any::<u8>()).prop_map(|(i, at, by)| {
            let mut good = good(i.into());
            let at = at.index(good.len());
            good[at] = by;
            // No other schema.
            good[..5].copy_from_slice(&[0, 0, 0, 0, 9]);
            Some(good)
        });
    let noise =
        prop::collection::vec(any::<u8>(), 0..40).prop_map(|bytes| Some(framed(&[0], &[&bytes])));
    let any_field = (1u64..27, 0u8..6, prop::collection::vec(any::<u8>(), 0..6)).prop_map(
        |(number, wire, bytes)| match wire {
            0 => [varint(number << 3), varint(bytes.iter().map(|b| u64::from(*b)).product())]
                .concat(),
            1 => [varint(number << 3 | 1), vec![7; 8]].concat(),
            2 => [varint(number << 3 | 5), vec![7; 4]].concat(),
            3 => field(number, &[]),
            4 => field(number, &field(1, &bytes)),
            _ => field(number, &[field(1, b"k"), field(2, &self::number(1, 7))].concat()),
        },
    );
    let all = prop::collection::vec(any_field, 0..8)
        .prop_map(|fields| Some(framed(&[2, 6], &[&fields.concat()])));
    prop_oneof![
        6 => all,
        6 => any::<u16>().prop_map(|i| Some(good(i.into()))),
        1 => "[a-z]{0,3}".prop_map(|s| Some(framed(&[2, 2], &[&field(1, s.as_bytes())]))),
        1 => prop::sample::select(poisons()).prop_map(|(bytes, _)| Some(bytes)),
        3 => changed,
        3 => noise,
        1 => Just(None),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn protobuf_together_is_protobuf_one_by_one(values in prop::collection::vec(any_message(), 0..40)) {
        together_is_one_by_one(with_refused, &values);
    }
}

fn unframed(message: Option<&str>) -> Result<Decoder, sheaf_kafka::DecodeError> {
    let message = message.map(str::to_owned);
    let values = Some(ValueSchema { schema: registered(SCHEMA), message });
    Decoder::try_new("topic", DecoderOptions { values, ..DecoderOptions::default() })
}

#[test]
fn values_without_a_header_are_the_named_message() {
    let framed = decode(&mut decoder(), &messages((0..500).map(good).map(Some)));
    // Without the header and the path of the message.
    let values = (0..500).map(|i| Some(good(i)[6..].to_vec()));
    let decoded = decode(&mut unframed(None).unwrap(), &messages(values));
    assert!(decoded.rejected.is_empty(), "{:?}", decoded.rejected.first());
    assert_eq!(own(&decoded.batch.unwrap()), own(&framed.batch.unwrap()));
    let mut other = unframed(Some("T.Other")).unwrap();
    let decoded = decode(&mut other, &messages([Some(number(1, 7))]));
    let batch = decoded.batch.unwrap();
    assert_eq!(column(&batch, "x").as_primitive::<Int32Type>().value(0), 7);
    let error = unframed(Some("Order")).unwrap_err().to_string();
    assert!(error.contains("Order") && error.contains("T.Inner"), "{error}");
    let cut = good(1)[6..20].to_vec();
    let good = |i: usize| good(i)[6..].to_vec();
    costs_one_row(|| unframed(None).unwrap(), good, &[(&cut, ""), (&[0xff; 3], "")]);
}
