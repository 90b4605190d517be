//! Avro with the header of a registry.

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use arrow_array::{Array, StringArray};
use arrow_schema::DataType;
use proptest::prelude::*;
use sheaf_kafka::{
    Decoded, Decoder, DecoderOptions, Format, RegisteredKind, RegisteredSchema, ValueSchema,
};

use crate::common::{MANY, column, costs_one_row, decode, messages, of, offsets, own, varint};
use crate::random::together_is_one_by_one;

const SCHEMA: &str = r#"{"type":"record","name":"T","fields":[
    {"name":"id","type":"long"},
    {"name":"name","type":"string"},
    {"name":"v","type":["null","double"]},
    {"name":"tags","type":{"type":"array","items":"int"}},
    {"name":"kind","type":{"type":"enum","name":"K","symbols":["A","B"]}}]}"#;

pub(crate) fn registered(text: &str) -> RegisteredSchema {
    RegisteredSchema { kind: RegisteredKind::Avro, text: text.to_owned(), references: Vec::new() }
}

fn record(fields: &str) -> RegisteredSchema {
    registered(&format!(r#"{{"type":"record","name":"T","fields":[{fields}]}}"#))
}

fn decoder() -> Decoder {
    let mut decoder = of(Format::Avro);
    decoder.learn(7, &registered(SCHEMA));
    decoder.refuse(8, "deleted");
    decoder
}

/// A message of schema `id` with these parts.
fn framed(id: u32, parts: &[&[u8]]) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.extend(id.to_be_bytes());
    bytes.extend(parts.concat());
    bytes
}

fn long(value: i64) -> Vec<u8> {
    varint(((value << 1) ^ (value >> 63)).cast_unsigned())
}

fn text(value: &str) -> Vec<u8> {
    [long(value.len() as i64), value.as_bytes().to_vec()].concat()
}

fn good(i: usize) -> Vec<u8> {
    let v = if i.is_multiple_of(3) {
        vec![0]
    } else {
        [vec![2], (i as f64).to_le_bytes().to_vec()].concat()
    };
    let tags: &[u8] = if i.is_multiple_of(2) { &[4, 2, 4, 0] } else { &[0] };
    framed(7, &[&long(i as i64 * 77), &text(&format!("user-{i}")), &v, tags, &long(i as i64 % 2)])
}

fn poisons() -> Vec<(Vec<u8>, &'static str)> {
    let id = long(5);
    let start = [id.clone(), text("x"), vec![0]].concat();
    let huge = long(i64::MAX);
    vec![
        (vec![], "no header of a schema registry"),
        (vec![0, 0, 0, 7], "no header of a schema registry"),
        (b"{\"id\":1}".to_vec(), "no header of a schema registry"),
        (framed(8, &[&id]), "schema 8: deleted"),
        (framed(7, &[]), ""),
        (good(1)[..9].to_vec(), ""),
        (good(1)[..good(1).len() - 1].to_vec(), ""),
        (framed(7, &[&id, &long(-4), &[1; 9]]), ""),
        (framed(7, &[&id, &huge, &[1; 9]]), ""),
        (framed(7, &[&id, &[2, 0xff], &[0, 0, 0]]), "UTF-8"),
        (framed(7, &[&id, &text("x"), &long(9), &[0, 0]]), ""),
        (framed(7, &[&start, &huge, &[2, 4, 0], &[0]]), ""),
        (framed(7, &[&start, &long(i64::MIN), &long(8), &[2, 0], &[0]]), ""),
        (framed(7, &[&start, &long(i64::from(i32::MAX)), &[2, 0, 0]]), ""),
        (framed(7, &[&start, &[0], &long(2)]), ""),
        (framed(7, &[&start, &[0], &long(-1)]), ""),
        (framed(7, &[&[0xff; 11]]), ""),
        ([good(2), good(4)[5..].to_vec()].concat(), "bytes are left after the record"),
        ([good(2), good(4)].concat(), "bytes are left after the record"),
        ([good(2), vec![0]].concat(), "1 bytes are left after the record"),
    ]
}

#[test]
fn a_broken_record_costs_one_row() {
    let poisons = poisons();
    let poisons: Vec<_> = poisons.iter().map(|(bytes, what)| (&bytes[..], *what)).collect();
    costs_one_row(decoder, good, &poisons);
}

#[test]
fn all_broken_records_cost_themselves() {
    let cut = good(1)[..9].to_vec();
    let not_text = framed(7, &[&long(5), &[2, 0xff], &[0, 0, 0]]);
    for poison in [cut, not_text] {
        let values = (0..MANY).map(|i| Some(if i % 2 == 0 { poison.clone() } else { good(i) }));
        let decoded = decode(&mut decoder(), &messages(values));
        assert_eq!(decoded.rejected.len(), MANY / 2);
        let batch = decoded.batch.unwrap();
        assert!(offsets(&batch).iter().all(|offset| offset % 2 == 1));
        assert_eq!(batch.num_rows(), MANY / 2);
    }
}

#[test]
fn values_arrive() {
    let decoded = decode(&mut decoder(), &messages([Some(good(0)), None, Some(good(1))]));
    let batch = decoded.batch.unwrap();
    assert_eq!(column(&batch, "id").as_primitive::<Int64Type>().values(), &[0, 0, 77]);
    assert!(own(&batch).iter().all(|column| column.is_null(1)));
    assert_eq!(
        column(&batch, "name").as_ref(),
        &StringArray::from(vec![Some("user-0"), None, Some("user-1")])
    );
    let tags = column(&batch, "tags");
    assert_eq!(tags.as_list::<i32>().value(0).as_primitive::<Int32Type>().values(), &[1, 2]);
    assert_eq!(tags.as_list::<i32>().value_length(2), 0);
    let kind = column(&batch, "kind");
    let kind = kind.as_dictionary::<Int32Type>().downcast_dict::<StringArray>().unwrap();
    assert_eq!(kind.into_iter().collect::<Vec<_>>(), [Some("A"), None, Some("B")]);
}

#[test]
fn an_unknown_schema_is_asked_for() {
    let mut decoder = of(Format::Auto);
    let (good, other) = (good(1), framed(9, &[&[2]]));
    let messages = messages([Some(&other), Some(&good), Some(&other)]);
    let Decoded::Unknown(ids) = decoder.decode(0, &messages).unwrap() else { panic!() };
    assert_eq!(ids, [7, 9]);
    decoder.learn(7, &registered(SCHEMA));
    let Decoded::Unknown(ids) = decoder.decode(0, &messages).unwrap() else { panic!() };
    assert_eq!(ids, [9]);
    decoder.learn(9, &record(r#"{"name":"id","type":"long"}"#));
    let decoded = decode(&mut decoder, &messages);
    assert_eq!(decoder.format(), Some(Format::Avro));
    assert!(decoded.rejected.is_empty());
    let batch = decoded.batch.unwrap();
    assert_eq!(column(&batch, "id").as_primitive::<Int64Type>().values(), &[1, 77, 1]);
    assert_eq!(column(&batch, "name").null_count(), 2);
}

#[test]
fn schemas_of_one_stream_are_brought_together() {
    let mut decoder = of(Format::Avro);
    decoder.learn(1, &record(r#"{"name":"n","type":"int"},{"name":"a","type":"string"}"#));
    decoder.learn(2, &record(r#"{"name":"b","type":"string"},{"name":"n","type":"long"}"#));
    decoder.learn(3, &record(r#"{"name":"n","type":"string"}"#));
    let message = |i: i64| match i % 3 {
        0 => framed(1, &[&long(i), &text("a")]),
        1 => framed(2, &[&text("b"), &long(i)]),
        _ => framed(3, &[&text("conflict")]),
    };
    let decoded = decode(&mut decoder, &messages((0..MANY as i64).map(|i| Some(message(i)))));
    let batch = decoded.batch.unwrap();
    let expected: Vec<i64> = (0..MANY as i64).filter(|i| i % 3 != 2).collect();
    assert_eq!(column(&batch, "n").as_primitive::<Int64Type>().values(), &expected);
    assert_eq!(offsets(&batch), expected);
    assert_eq!(column(&batch, "a").null_count(), expected.len() / 2);
    assert_eq!(decoded.rejected.len(), MANY - expected.len());
    assert_eq!(
        decoded.rejected[0].error,
        "schema 3: column n is Utf8 here and Int64 in the stream"
    );
    assert_eq!((decoded.schema_version, decoder.schema_version()), (1, 1));
}

#[test]
fn a_schema_that_does_not_compile_rejects_its_messages() {
    for (text, problem) in [
        ("{", "not an Avro schema"),
        (r#""string""#, ""),
        (r#"["null","string"]"#, ""),
        (
            r#"{"type":"record","name":"T","fields":[{"name":"x","type":"Y"}]}"#,
            "type Y is not known",
        ),
        (
            r#"{"type":"record","name":"T","fields":[{"name":"x","type":["null","T"]}]}"#,
            "type T refers to itself",
        ),
        (
            r#"{"type":"record","name":"T","fields":[{"name":"x","type":{"type":"array","items":"null"}}]}"#,
            "items that take no bytes",
        ),
    ] {
        let mut decoder = decoder();
        decoder.learn(9, &registered(text));
        let decoded = decode(&mut decoder, &messages([Some(good(0)), Some(framed(9, &[b"x"]))]));
        assert_eq!(decoded.batch.unwrap().num_rows(), 1);
        assert_eq!(decoded.rejected[0].index, 1);
        let error = &decoded.rejected[0].error;
        assert!(error.starts_with("schema 9: ") && error.contains(problem), "{error}");
    }
}

#[test]
fn references_are_part_of_a_schema() {
    let reference = r#"{"type":"record","name":"Point","namespace":"geo","fields":[{"name":"x","type":"int"}]}"#;
    let mut schema = registered(
        r#"{"type":"record","name":"T","namespace":"my","fields":[
            {"name":"a","type":"geo.Point"},{"name":"b","type":["null","geo.Point"]}]}"#,
    );
    schema.references.push(("geo.Point".to_owned(), reference.to_owned()));
    let mut decoder = of(Format::Avro);
    decoder.learn(1, &schema);
    let decoded = decode(&mut decoder, &messages([Some(framed(1, &[&[2, 2, 4]]))]));
    assert!(decoded.rejected.is_empty(), "{:?}", decoded.rejected);
    let batch = decoded.batch.unwrap();
    let b = column(&batch, "b");
    assert_eq!(b.as_struct().column(0).as_primitive::<Int32Type>().values(), &[2]);

    // Without namespace, in a schema that has one.
    schema.text = schema.text.replace("geo.Point", "Point");
    schema.references[0].1 = reference.replace(r#""namespace":"geo","#, "");
    decoder.learn(2, &schema);
    let decoded = decode(&mut decoder, &messages([Some(framed(2, &[&[2, 2, 4]]))]));
    assert!(decoded.rejected.is_empty(), "{:?}", decoded.rejected);
}

#[test]
fn logical_types_and_unions_have_a_place_for_tombstones() {
    let fields = r#"{"name":"at","type":{"type":"long","logicalType":"timestamp-micros"}},
        {"name":"u","type":["null","string","long"]},
        {"name":"m","type":{"type":"map","values":"long"}},
        {"name":"f","type":{"type":"fixed","name":"F","size":2}},
        {"name":"r","type":{"type":"record","name":"I","fields":[{"name":"y","type":"long"}]}}"#;
    let mut decoder = of(Format::Avro);
    decoder.learn(1, &record(fields));
    let rest: [&[u8]; 3] = [&[2, 2, b'k', 8, 0], b"ab", &[10]];
    let one = |u: &[u8]| Some(framed(1, &[&long(5), u, rest[0], rest[1], rest[2]]));
    let values = [None, one(&[4, 6]), None, one(&[0]), one(&[2, 2, b's'])];
    let decoded = decode(&mut decoder, &messages(values));
    assert!(decoded.rejected.is_empty(), "{:?}", decoded.rejected);
    let batch = decoded.batch.unwrap();
    assert_eq!(batch.num_rows(), 5);
    assert!(matches!(column(&batch, "at").data_type(), DataType::Timestamp(..)));
    assert!(column(&batch, "m").is_null(0) && column(&batch, "r").is_null(2));
    assert_eq!(column(&batch, "f").as_fixed_size_binary().value(1), b"ab");

    // A union is a struct with a field for each of its branches.
    let u = column(&batch, "u");
    let nulls: Vec<bool> = (0..5).map(|row| u.is_null(row)).collect();
    assert_eq!(nulls, [true, false, true, true, false]);
    let u = u.as_struct();
    assert_eq!(u.column_names(), ["string", "long"]);
    assert_eq!(u.column(0).as_string::<i32>().value(4), "s");
    assert_eq!(u.column(1).as_primitive::<Int64Type>().value(1), 3);
    assert!(u.column(0).is_null(1) && u.column(1).is_null(4));
}

#[test]
fn noise_names_schemas_within_bounds() {
    let mut decoder = decoder();
    let noise = (0..6_000u32).map(|i| Some(framed(1_000 + i, &[b"x"])));
    let messages = messages(std::iter::once(Some(good(1))).chain(noise));
    let mut asked = 0;
    let decoded = loop {
        match decoder.decode(0, &messages).unwrap() {
            Decoded::Batch(decoded) => break decoded,
            Decoded::Unknown(ids) => ids.into_iter().for_each(|id| {
                asked += 1;
                decoder.refuse(id, "not there");
            }),
        }
    };
    assert_eq!((asked, decoded.rejected.len()), (4_094, 6_000));
    assert_eq!(decoded.rejected[0].error, "schema 1000: not there");
    assert!(decoded.rejected[5_999].error.ends_with("names more than 4096 schemas"));
    assert_eq!(decoded.batch.unwrap().num_rows(), 1);
    // There is room again, and what was good is known still.
    let Decoded::Unknown(ids) = decoder.decode(0, &messages).unwrap() else { panic!() };
    assert_eq!(ids.len(), 4_095);
}

/// Every kind of type that Avro has.
const ALL_TYPES: &str = r#"{"type":"record","name":"T","fields":[
    {"name":"dec","type":{"type":"bytes","logicalType":"decimal","precision":10,"scale":2}},
    {"name":"fixed","type":{"type":"fixed","name":"D","size":6,"logicalType":"decimal","precision":12,"scale":3}},
    {"name":"uuid","type":{"type":"string","logicalType":"uuid"}},
    {"name":"span","type":{"type":"fixed","name":"S","size":12,"logicalType":"duration"}},
    {"name":"date","type":{"type":"int","logicalType":"date"}},
    {"name":"time","type":{"type":"long","logicalType":"time-micros"}},
    {"name":"f","type":"float"},
    {"name":"u","type":["string","long",{"type":"array","items":"bytes"}]},
    {"name":"m","type":{"type":"map","values":["null","double"]}},
    {"name":"r","type":["null",{"type":"record","name":"R","fields":[{"name":"a","type":{"type":"array","items":"float"}}]}]}]}"#;

fn any_type() -> impl Strategy<Value = Vec<u8>> {
    let uuid = prop_oneof![
        Just(text("6ba7b810-9dad-11d1-80b4-00c04fd430c8")),
        "[0-9a-f-]{0,36}".prop_map(|s| text(&s)),
    ];
    let bytes = |max| {
        prop::collection::vec(any::<u8>(), 0..max)
            .prop_map(|b| [long(b.len().cast_signed() as i64), b].concat())
    };
    let raw = |n| prop::collection::vec(any::<u8>(), n);
    let u = prop_oneof![
        bytes(3).prop_map(|b| [vec![0], b].concat()),
        any::<i64>().prop_map(|n| [vec![2], long(n)].concat()),
        bytes(3).prop_map(|b| [vec![4, 2], b, vec![0]].concat()),
    ];
    let numbers = (any::<i32>(), any::<i64>())
        .prop_map(|(date, time)| [long(date.into()), long(time)].concat());
    let rest = prop_oneof![Just(vec![0, 0]), raw(6..12)];
    (bytes(6), raw(6..7), uuid, raw(12..13), numbers, raw(4..5), u, rest)
        .prop_map(|(a, b, c, d, e, f, g, h)| framed(4, &[&a, &b, &c, &d, &e, &f, &g, &h]))
}

fn any_message() -> impl Strategy<Value = Option<Vec<u8>>> {
    let poison = prop::sample::select(poisons()).prop_map(|(bytes, _)| Some(bytes));
    let cut = (any::<u16>(), any::<prop::sample::Index>()).prop_map(|(i, at)| {
        let good = good(i.into());
        Some(good[..at.index(good.len())].to_vec())
    });
    let changed =
        (any::<u16>(), any::<prop::sample::Index>(), any::<u8>()).prop_map(|(i, at, by)| {
            let mut good = good(i.into());
            let at = 5 + at.index(good.len() - 5);
            good[at] = by;
            Some(good)
        });
    let other = prop_oneof![
        any::<i64>().prop_map(|n| framed(1, &[&long(n)])),
        "[a-z]{0,3}".prop_map(|s| framed(2, &[&text(&s), &long(3)])),
        "[a-z]{0,3}".prop_map(|s| framed(3, &[&text(&s)])),
    ];
    prop_oneof![
        8 => any::<u16>().prop_map(|i| Some(good(i.into()))),
        4 => other.prop_map(Some),
        4 => any_type().prop_map(Some),
        1 => poison,
        1 => cut,
        1 => changed,
        1 => Just(None),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn avro_together_is_avro_one_by_one(values in prop::collection::vec(any_message(), 0..60)) {
        together_is_one_by_one(
            || {
                let mut decoder = decoder();
                decoder.learn(1, &record(r#"{"name":"n","type":"long"}"#));
                decoder.learn(2, &record(r#"{"name":"b","type":"string"},{"name":"n","type":"int"}"#));
                decoder.learn(3, &record(r#"{"name":"v","type":"string"}"#));
                decoder.learn(4, &registered(ALL_TYPES));
                decoder
            },
            &values,
        );
    }
}

fn unframed() -> Decoder {
    let values = Some(ValueSchema { schema: registered(SCHEMA), message: None });
    let options = DecoderOptions { values, ..DecoderOptions::default() };
    Decoder::try_new("topic", options).unwrap()
}

/// The bytes of a message without its header.
fn bare(framed: &[u8]) -> Vec<u8> {
    framed[5..].to_vec()
}

#[test]
fn values_without_a_header_are_of_the_given_schema() {
    let framed = decode(&mut decoder(), &messages((0..500).map(good).map(Some)));
    let mut decoder = unframed();
    assert_eq!(decoder.format(), Some(Format::Avro));
    let values = (0..500).map(good).map(|value| Some(bare(&value)));
    let decoded = decode(&mut decoder, &messages(values));
    assert!(decoded.rejected.is_empty());
    assert_eq!(own(&decoded.batch.unwrap()), own(&framed.batch.unwrap()));
    let whole = bare(&good(1));
    let long = [&whole[..], b"x"].concat();
    let poisons = [(&whole[..7], ""), (&whole[..whole.len() - 1], ""), (&long, "are left after")];
    costs_one_row(unframed, |i| bare(&good(i)), &poisons);
}

#[test]
fn a_given_schema_that_is_none_is_named() {
    let of = |schema, message, format| {
        let values = Some(ValueSchema { schema, message });
        let options = DecoderOptions { values, format, ..DecoderOptions::default() };
        Decoder::try_new("topic", options).unwrap_err().to_string()
    };
    assert!(of(registered(SCHEMA), None, Format::Json).contains("json"));
    assert!(of(registered("{}"), None, Format::Auto).len() > 10);
    assert!(of(registered(SCHEMA), Some("M".to_owned()), Format::Auto).contains("no message M"));
    let json = RegisteredSchema { kind: RegisteredKind::Json, ..registered("{}") };
    assert!(of(json, None, Format::Auto).contains("JSON Schema"));
}
