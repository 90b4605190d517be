//! Text, bytes, and which format a stream has.

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, TimestampMillisecondType};
use arrow_array::{Array, BinaryArray, StringArray};
use arrow_schema::{DataType, TimeUnit};
use sheaf_kafka::{Format, Messages};

use crate::common::{column, costs_one_row, decode, messages, of, texts};

#[test]
fn what_is_not_text_costs_one_row() {
    let good = |i: usize| format!("text {i}").into_bytes();
    let poisons: [(&[u8], &str); 3] = [
        (b"\xff", "invalid utf-8"),
        (b"abc\xc3", "incomplete utf-8"),
        (b"\xed\xa0\x80", "invalid utf-8"),
    ];
    costs_one_row(|| of(Format::String), good, &poisons);
}

#[test]
fn bytes_are_never_wrong() {
    let values = [Some(&b"\xff"[..]), None, Some(b"")];
    let decoded = decode(&mut of(Format::Bytes), &messages(values));
    assert!(decoded.rejected.is_empty());
    let batch = decoded.batch.unwrap();
    assert_eq!(column(&batch, "value").as_ref(), &BinaryArray::from(values.to_vec()));
}

#[test]
fn where_a_message_lay_stands_beside_it() {
    let mut messages = Messages::default();
    messages.push(7, Some(5), None, Some(b"x"), [("a", Some(&b"1"[..])), ("a", None)]);
    messages.push(9, None, Some(b"k"), None, []);
    let batch = decode(&mut of(Format::String), &messages).batch.unwrap();

    let names: Vec<_> = batch.schema().fields().iter().map(|f| f.name().clone()).collect();
    let expected = ["value", "_topic", "_partition", "_offset", "_timestamp", "_key", "_headers"];
    assert_eq!(names, expected);
    assert_eq!(column(&batch, "_topic").as_ref(), &StringArray::from(vec!["topic", "topic"]));
    assert_eq!(column(&batch, "_partition").as_primitive::<Int32Type>().values(), &[3, 3]);
    let times = column(&batch, "_timestamp");
    assert_eq!(times.data_type(), &DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())));
    assert_eq!(times.as_primitive::<TimestampMillisecondType>().value(0), 5);
    assert!(times.is_null(1) && column(&batch, "_key").is_null(0));
    let headers = column(&batch, "_headers");
    let headers = headers.as_list::<i32>();
    assert!(headers.is_null(1));
    let first = headers.value(0);
    let first = first.as_struct();
    assert_eq!(first.column(0).as_ref(), &StringArray::from(vec!["a", "a"]));
    assert_eq!(first.column(1).as_ref(), &BinaryArray::from(vec![Some(&b"1"[..]), None]));
}

#[test]
fn the_first_messages_say_what_a_stream_is() {
    for (values, format) in [
        (&[r#"{"a":1}"#, "x", r#"{"a":2}"#][..], Format::Json),
        (&["x", r#"{"a":1}"#, r#"{"a":2}"#], Format::Json),
        (&["x", r#"{"a":1}"#], Format::String),
        (&["[1]"], Format::String),
        (&[""], Format::String),
    ] {
        let mut decoder = of(Format::Auto);
        let nothing = decode(&mut decoder, &messages([None::<&str>, None]));
        assert_eq!(nothing.batch.unwrap().num_rows(), 2);
        assert_eq!((decoder.format(), nothing.schema_version), (None, 0));
        texts(&mut decoder, values);
        assert_eq!(decoder.format(), Some(format), "{values:?}");
    }
    let mut decoder = of(Format::Auto);
    decode(&mut decoder, &messages([Some(b"\xff")]));
    assert_eq!(decoder.format(), Some(Format::Bytes));
}

#[test]
fn nothing_is_nothing() {
    let decoded = decode(&mut of(Format::Json), &Messages::default());
    assert!(decoded.batch.is_none() && decoded.rejected.is_empty());
    let decoded = texts(&mut of(Format::Json), &["x", "y"]);
    assert!(decoded.batch.is_none());
    assert_eq!(decoded.rejected.len(), 2);
}
