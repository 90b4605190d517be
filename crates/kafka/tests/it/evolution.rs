//! How the columns of a stream grow.

use arrow_array::cast::AsArray;
use arrow_array::types::Float64Type;
use arrow_array::{Array, StringArray};
use arrow_schema::DataType;
use sheaf_kafka::{Format, conform};

use crate::common::{column, of, texts};

#[test]
fn new_columns_come_last_and_raise_the_version() {
    let mut decoder = of(Format::Json);
    assert_eq!(decoder.schema_version(), 0);
    let one = texts(&mut decoder, &[r#"{"b":1}"#, r#"{"a":{"x":1}}"#]);
    assert_eq!(one.schema_version, 1);
    let two = texts(&mut decoder, &[r#"{"a":{"y":"z","x":2},"c":true,"b":2}"#]);
    assert_eq!(two.schema_version, 2);
    let (one, two) = (one.batch.unwrap(), two.batch.unwrap());
    let names = |batch: &arrow_array::RecordBatch| -> Vec<String> {
        batch.schema().fields().iter().map(|field| field.name().clone()).take(3).collect()
    };
    assert_eq!(names(&one), ["b", "a", "_topic"]);
    assert_eq!(names(&two), ["b", "a", "c"]);
    assert_eq!(two.schema(), *decoder.schema());

    let one = conform(&one, decoder.schema()).unwrap();
    assert_eq!(one.schema(), two.schema());
    assert_eq!(column(&one, "c").null_count(), 2);
    let a = column(&one, "a");
    assert_eq!(a.as_struct().column_by_name("y").unwrap().null_count(), 2);

    // The same again changes nothing.
    let three = texts(&mut decoder, &[r#"{"b":1}"#]);
    assert_eq!(three.schema_version, 2);
}

#[test]
fn nulls_become_anything_and_integers_become_floats() {
    let mut decoder = of(Format::Json);
    let first = texts(&mut decoder, &[r#"{"a":null,"l":[],"n":1}"#]).batch.unwrap();
    assert_eq!(column(&first, "a").data_type(), &DataType::Null);
    let second = texts(&mut decoder, &[r#"{"a":"x","l":[{"q":1}],"n":0.5}"#]).batch.unwrap();
    assert_eq!(column(&second, "a").as_ref(), &StringArray::from(vec!["x"]));
    let first = conform(&first, decoder.schema()).unwrap();
    assert_eq!(column(&first, "n").as_primitive::<Float64Type>().values(), &[1.0]);
    assert_eq!(column(&first, "a").null_count(), 1);
    assert_eq!(column(&first, "l").as_list::<i32>().value_length(0), 0);
}

#[test]
fn a_name_of_ours_moves_aside() {
    let mut decoder = of(Format::Json);
    let batch = texts(&mut decoder, &[r#"{"_key":"mine","_offset":"too"}"#]).batch.unwrap();
    assert_eq!(column(&batch, "_key_").as_ref(), &StringArray::from(vec!["mine"]));
    assert_eq!(column(&batch, "_offset_").as_ref(), &StringArray::from(vec!["too"]));
    assert_eq!(column(&batch, "_key").as_binary::<i32>().value(0), b"0");
    let again = texts(&mut decoder, &[r#"{"_key":"again","_key_":"other"}"#]).batch.unwrap();
    assert_eq!(column(&again, "_key_").as_ref(), &StringArray::from(vec!["again"]));
    assert_eq!(column(&again, "_key__").as_ref(), &StringArray::from(vec!["other"]));
}

#[test]
fn most_of_the_first_messages_say_which_type_a_column_has() {
    let values = [r#"{"id":"x","only":1}"#, r#"{"id":1}"#, r#"{"id":2.5}"#, r#"{"id":{}}"#];
    let mut decoder = of(Format::Json);
    let decoded = texts(&mut decoder, &values);
    let rejected: Vec<_> = decoded.rejected.iter().map(|r| (r.index, &*r.error)).collect();
    let conflict = |of| format!("column id is {of} here and Float64 in the stream");
    assert_eq!(rejected, [(0, &*conflict("Utf8")), (3, &*conflict("Struct()"))]);
    let batch = decoded.batch.unwrap();
    assert_eq!(column(&batch, "id").as_primitive::<Float64Type>().values(), &[1.0, 2.5]);
    // What is rejected leaves no column behind.
    assert!(batch.column_by_name("only").is_none());
}

#[test]
fn columns_grow_in_the_middle_of_many_messages() {
    let values: Vec<String> = (0..20_000)
        .map(|i| match i {
            9_000 => "x".to_owned(),
            15_000 => r#"{"n":0.5,"late":true}"#.to_owned(),
            i => format!(r#"{{"n":{i}}}"#),
        })
        .collect();
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    let decoded = texts(&mut of(Format::Json), &values);
    assert_eq!(decoded.rejected.iter().map(|r| r.index).collect::<Vec<_>>(), [9_000]);
    let batch = decoded.batch.unwrap();
    let n = column(&batch, "n");
    let n = n.as_primitive::<Float64Type>();
    assert_eq!((n.value(8_999), n.value(9_000), n.value(14_999)), (8_999.0, 9_001.0, 0.5));
    assert_eq!(column(&batch, "late").null_count(), 19_998);
}
