//! Rows as a table wants them.

use arrow_array::types::{Int8Type, Int32Type, Int64Type};
use arrow_array::{
    BinaryArray, DictionaryArray, FixedSizeListArray, Int8Array, Int64Array, NullArray,
    StringArray, Time64NanosecondArray, UInt64Array,
};
use arrow_buffer::OffsetBuffer;
use arrow_schema::TimeUnit;

use super::*;

fn one(column: impl Array + 'static, kept: DataType) -> Result<ArrayRef, Error> {
    let batch = RecordBatch::try_from_iter([("c", Arc::new(column) as ArrayRef)]).unwrap();
    let columns = [Column { name: "C".into(), kept }];
    conform(Dialect::DuckDb, "t", &batch, &columns).map(|batch| Arc::clone(batch.column(0)))
}

#[test]
fn columns_come_in_the_tables_order_and_types() {
    let words: DictionaryArray<Int8Type> = vec![Some("a"), None].into_iter().collect();
    let batch = RecordBatch::try_from_iter([
        ("left out", Arc::new(NullArray::new(2)) as ArrayRef),
        ("w", Arc::new(words) as ArrayRef),
        ("n", Arc::new(Int8Array::from(vec![1, 2])) as ArrayRef),
    ]);
    let column = |name: &str, kept| Column { name: name.into(), kept };
    let columns = [
        column("N", DataType::Int64),
        column("missing", DataType::Utf8),
        column("w", DataType::Utf8),
    ];
    let conformed = conform(Dialect::DuckDb, "t", &batch.unwrap(), &columns).unwrap();
    let expected = RecordBatch::try_new(
        schema(&columns),
        vec![
            Arc::new(Int64Array::from(vec![1, 2])),
            Arc::new(StringArray::new_null(2)),
            Arc::new(StringArray::from(vec![Some("a"), None])),
        ],
    );
    assert_eq!(conformed, expected.unwrap());
}

#[test]
fn nested_values_are_taken_apart_and_put_together() {
    let item = |kept| Arc::new(Field::new_list_field(kept, true));
    let fixed = FixedSizeListArray::from_iter_primitive::<Int32Type, _, _>(
        [Some(vec![Some(1), None]), None],
        2,
    );
    let kept = one(fixed, DataType::List(item(DataType::Int64))).unwrap();
    let expected =
        ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1), None]), None]);
    assert_eq!(kept.as_list::<i32>(), &expected);

    // A slice, and a struct that is null where its fields are not.
    let field = Arc::new(Field::new("a", DataType::Int8, false));
    let values: ArrayRef = Arc::new(Int8Array::from(vec![1, 2, 3]));
    let nulls = vec![true, true, false].into();
    let own = StructArray::try_new(vec![field].into(), vec![values], Some(nulls)).unwrap();
    let fields = ["a", "b"].map(|name| Field::new(name, DataType::Int64, true));
    let kept = one(own.slice(1, 2), DataType::Struct(fields.to_vec().into())).unwrap();
    let kept = kept.as_struct();
    assert_eq!((kept.is_null(0), kept.is_null(1)), (false, true));
    assert_eq!(kept.column(0).as_primitive::<Int64Type>().value(0), 2);
    assert_eq!(kept.column(1).null_count(), 2);
}

#[test]
fn nested_values_are_json_where_they_are_text() {
    let names: ArrayRef = Arc::new(StringArray::from(vec!["a \"b\"", "c"]));
    let bytes: ArrayRef = Arc::new(BinaryArray::from(vec![Some(b"\x01\xff" as &[u8]), None]));
    let fields = [("key", DataType::Utf8), ("value", DataType::Binary)];
    let fields = fields.map(|(name, data_type)| Field::new(name, data_type, true));
    let pairs = StructArray::try_new(fields.to_vec().into(), vec![names, bytes], None).unwrap();
    let item = Arc::new(Field::new_list_field(pairs.data_type().clone(), true));
    let offsets = OffsetBuffer::from_lengths([2, 0, 0]);
    let nulls = Some(vec![true, false, true].into());
    let list = ListArray::try_new(item, offsets, Arc::new(pairs), nulls).unwrap();
    let kept = one(list, DataType::Utf8).unwrap();
    let json = r#"[{"key":"a \"b\"","value":"01ff"},{"key":"c","value":null}]"#;
    assert_eq!(kept.as_string::<i32>(), &StringArray::from(vec![Some(json), None, Some("[]")]));
}

#[test]
fn what_would_be_lost_is_an_error() {
    let micros = DataType::Time64(TimeUnit::Microsecond);
    assert!(one(Time64NanosecondArray::from(vec![2_000]), micros.clone()).is_ok());
    let error = one(Time64NanosecondArray::from(vec![2_001]), micros).unwrap_err();
    assert_eq!(error.to_string(), "t.C is not valid DuckDB");
    assert!(one(UInt64Array::from(vec![u64::MAX]), DataType::Int64).is_err());
    assert!(one(StringArray::from(vec!["x"]), DataType::Int64).is_err());
    assert!(
        one(
            Int8Array::from(vec![1]),
            DataType::List(Arc::new(Field::new_list_field(DataType::Int8, true)))
        )
        .is_err()
    );
}
