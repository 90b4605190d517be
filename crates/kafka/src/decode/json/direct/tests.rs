//! Against arrow-json, on messages that are plain and on those that are not.

use arrow_schema::{DataType, Field};
use proptest::prelude::*;

use super::super::{Json, Strict};
use super::*;

fn fields() -> Fields {
    let inner = Fields::from(vec![
        Field::new("x", DataType::Int64, true),
        Field::new("text", DataType::Utf8, true),
    ]);
    Fields::from(vec![
        Field::new("id", DataType::Int64, true),
        Field::new("name", DataType::Utf8, true),
        Field::new("amount", DataType::Float64, true),
        Field::new("ok", DataType::Boolean, true),
        Field::new("in", DataType::Struct(inner), true),
    ])
}

/// What is read here, and what arrow-json makes of the same.
fn both(texts: &[Vec<u8>]) -> (Option<RecordBatch>, Option<RecordBatch>) {
    let values: Vec<_> =
        (0..).zip(texts).map(|(index, bytes)| Value { index, bytes: bytes.as_slice() }).collect();
    let fields = fields();
    let ours = Direct::new(&fields).read(&values);
    let theirs = Json::default().attempt(&values, &fields, Strict::Inferred).ok();
    (ours, theirs)
}

fn same(texts: &[&str]) {
    let texts: Vec<Vec<u8>> = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    let (ours, theirs) = both(&texts);
    assert!(ours.is_some(), "{texts:?} is ours");
    assert_eq!(ours, theirs);
}

fn not_ours(text: &[u8]) {
    let good = br#"{"id":1}"#.to_vec();
    let (ours, _) = both(&[good.clone(), text.to_vec(), good]);
    assert!(ours.is_none(), "{}", String::from_utf8_lossy(text));
}

#[test]
fn plain_objects_are_read_as_arrow_json_reads_them() {
    same(&[
        r#"{"id":1,"name":"a","amount":1.5,"ok":true,"in":{"x":7,"text":"deep"}}"#,
        r#"{"id":-9223372036854775808,"name":"","amount":-0.0,"ok":false}"#,
        r#"{"ok":null,"amount":1e300,"name":null,"id":null,"in":null}"#,
        "{}",
        " { \"in\" : {\t\"text\":\"x\"\n} , \"id\" : 0 }\r\n",
        r#"{"in":{},"amount":3,"name":"schön \"quoted\" \\ \/ \b\f\n\r\t \u00e9\u20ac"}"#,
        r#"{"amount":0.1234567890123456789,"id":123456789012345678}"#,
    ]);
    same(&[]);
}

#[test]
fn what_is_not_surely_the_same_is_left_to_arrow_json() {
    for text in [
        r#"{"id":1.0}"#,
        r#"{"id":"1"}"#,
        r#"{"id":01}"#,
        r#"{"id":-0}"#,
        r#"{"id":9223372036854775808}"#,
        r#"{"amount":1e400}"#,
        r#"{"amount":9007199254740993}"#,
        r#"{"amount":.5}"#,
        r#"{"name":1}"#,
        r#"{"name":"\ud83d\ude00"}"#,
        r#"{"name":"\x"}"#,
        r#"{"name":"open}"#,
        r#"{"ok":trust}"#,
        r#"{"ok":nullx}"#,
        r#"{"in":[]}"#,
        r#"{"in":{"y":1}}"#,
        r#"{"new":1}"#,
        r#"{"id":1,"id":2}"#,
        r#"{"id":1,}"#,
        r#"{"id":1"#,
        r#"{"id" 1}"#,
        r#"{"id":1} {}"#,
        r#"{"id":1}x"#,
        r#"[{"id":1}]"#,
        "",
    ] {
        not_ours(text.as_bytes());
    }
    not_ours(b"{\"name\":\"\xff\"}");
    // Together they are UTF-8, and neither is.
    let halves = [b"{\"name\":\"\xc3\"}".to_vec(), b"{\"name\":\"\xa9\"}".to_vec()];
    assert!(both(&halves).0.is_none());
}

#[test]
fn names_that_may_be_written_in_several_ways_and_other_types_are_not_ours() {
    for field in [
        Field::new("a\":1,\"b", DataType::Int64, true),
        Field::new("a\\b", DataType::Int64, true),
        Field::new("a", DataType::new_list(DataType::Int64, true), true),
        Field::new("a", DataType::Null, true),
    ] {
        assert!(Columns::new(&Fields::from(vec![field])).is_none());
    }
}

#[test]
fn batches_like_one_that_was_not_ours_are_not_all_tried() {
    let mut direct = Direct::new(&fields());
    let bad = [Value { index: 0, bytes: b"{\"new\":1}" }];
    let good = [Value { index: 0, bytes: b"{\"id\":1}" }];
    assert!(direct.read(&bad).is_none());
    assert!(direct.read(&good).is_none(), "one is skipped");
    assert!(direct.read(&good).is_some());
    assert!(direct.read(&bad).is_none());
    assert!(direct.read(&good).is_none() && direct.read(&good).is_some());
}

/// A value of a column, mostly of its type.
fn value(of: usize) -> BoxedStrategy<String> {
    let text = prop_oneof![
        "[a-z \\u{e9}\\u{20ac}]{0,40}".prop_map(|text| format!("\"{text}\"")),
        "(\\\\[\"\\\\/bfnrtux]|[a-z0-9\"]){0,6}".prop_map(|text| format!("\"{text}\"")),
        "\\\\u[0-9a-fA-D]{4}".prop_map(|text| format!("\"{text}\"")),
    ];
    let integer = prop_oneof![any::<i64>().prop_map(|n| n.to_string()), "-?[0-9]{1,20}"];
    let float = prop_oneof![
        any::<f64>().prop_map(|n| n.to_string()),
        "-?[0-9]{1,8}[.][0-9]{1,9}",
        "-?[0-9]{1,17}([.][0-9]{0,3})?([eE][-+]?[0-9]{1,3})?",
    ];
    let inner = (0_i64..9, "[a-z]{0,3}")
        .prop_map(|(x, text)| format!("{{\"x\":{x}, \"text\": \"{text}\"}}"));
    let own = match of {
        0 => integer.boxed(),
        1 => text.boxed(),
        2 => float.boxed(),
        3 => "true|false".boxed(),
        _ => inner.boxed(),
    };
    prop_oneof![8 => own, 1 => Just("null".to_owned()), 1 => "[0-9a-z\"{}\\[\\],:]{0,5}"].boxed()
}

fn object() -> impl Strategy<Value = String> {
    let member = (0_usize..5).prop_flat_map(|of| {
        let name = ["id", "name", "amount", "ok", "in"][of];
        (value(of), "[ \n]{0,2}")
            .prop_map(move |(value, space)| format!("\"{name}\":{space}{value}{space}"))
    });
    (prop::collection::vec(member, 0..4), " ?")
        .prop_map(|(members, space)| format!("{space}{{{}}}", members.join(",")))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_read_arrow_json_reads_so_too(
        texts in prop::collection::vec(object(), 1..4),
    ) {
        let texts: Vec<Vec<u8>> = texts.into_iter().map(String::into_bytes).collect();
        let (ours, theirs) = both(&texts);
        if let Some(ours) = ours {
            prop_assert_eq!(Some(ours), theirs);
        }
    }
}
