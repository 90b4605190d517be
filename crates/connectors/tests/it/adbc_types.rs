//! Which types each database takes.

use std::sync::Arc;

use arrow_array::{
    Array as _, ArrayRef, BinaryArray, BooleanArray, Decimal128Array, Float64Array, Int64Array,
    RecordBatch, StringArray, new_null_array,
};
use arrow_cast::cast;
use arrow_schema::{DataType, Field, IntervalUnit, TimeUnit};
use sheaf_connectors::Error;

use crate::adbc::{at, databases, is_postgres, number, rows};

/// Two values and a null of each type.
fn samples() -> Vec<ArrayRef> {
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None, Some(2)]));
    let text: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None, Some("b")]));
    let bytes: ArrayRef = Arc::new(BinaryArray::from(vec![Some(b"a" as &[u8]), None, Some(b"b")]));
    let days: ArrayRef = Arc::new(Int64Array::from(vec![Some(0), None, Some(86_400_000)]));
    let of = |array: &ArrayRef, types: &[DataType]| -> Vec<ArrayRef> {
        types.iter().map(|data_type| cast(array, data_type).unwrap()).collect()
    };
    let units = [TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond];
    let mut all = vec![
        Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])) as ArrayRef,
        Arc::new(Float64Array::from(vec![Some(0.5), None, Some(-1.0)])),
        Arc::new(Decimal128Array::from(vec![Some(1), None, Some(2)])),
        cast(&days, &DataType::Date64).unwrap(),
        cast(&cast(&numbers, &DataType::Int32).unwrap(), &DataType::Date32).unwrap(),
    ];
    all.extend(of(
        &numbers,
        &[
            DataType::Int8,
            DataType::Int16,
            DataType::Int32,
            DataType::Int64,
            DataType::UInt8,
            DataType::UInt16,
            DataType::UInt32,
            DataType::UInt64,
            DataType::Float16,
            DataType::Float32,
            DataType::Decimal128(12, 3),
            DataType::Decimal64(10, 2),
            DataType::Time64(TimeUnit::Microsecond),
            DataType::Duration(TimeUnit::Millisecond),
            DataType::List(Arc::new(Field::new_list_field(DataType::Int64, true))),
        ],
    ));
    let durations = cast(&numbers, &DataType::Duration(TimeUnit::Second)).unwrap();
    all.push(cast(&durations, &DataType::Interval(IntervalUnit::MonthDayNano)).unwrap());
    all.extend(of(
        &text,
        &[
            DataType::Utf8,
            DataType::LargeUtf8,
            DataType::Utf8View,
            DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8)),
        ],
    ));
    let fixed = DataType::FixedSizeBinary(1);
    all.extend(of(&bytes, &[DataType::Binary, DataType::LargeBinary, DataType::BinaryView, fixed]));
    let zones = [None, Some("UTC".into()), Some("+02:00".into())];
    let timestamps: Vec<DataType> = zones
        .iter()
        .flat_map(|zone| units.map(|unit| DataType::Timestamp(unit, zone.clone())))
        .collect();
    all.extend(of(&numbers, &timestamps));
    all
}

#[tokio::test]
async fn every_type_is_taken_as_often_as_it_comes_or_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    for database in databases(dir.path()).await {
        let tables = database.tables("g").await.unwrap();
        let mut refused = Vec::new();
        for (place, array) in samples().into_iter().enumerate() {
            let data_type = array.data_type().clone();
            let table = format!("t{place}");
            let append = async |array: ArrayRef, next| {
                let batch = RecordBatch::try_from_iter_with_nullable([("c", array, true)]);
                let rows = rows(&table, [batch.unwrap()]);
                tables.append(&[rows], &[at(&table, 0, next)]).await
            };
            match append(Arc::clone(&array), 1).await {
                Err(Error::Unsupported { .. }) => refused.push(data_type),
                Err(error) => panic!("{data_type} in {}: {error:?}", database.describe()),
                Ok(_) => {
                    // What the table says of itself is what was asked for.
                    append(Arc::clone(&array), 2).await.unwrap();
                    append(new_null_array(&data_type, 5), 3).await.unwrap();
                    let both = number(&database, &format!("SELECT count(c) FROM {table}")).await;
                    let values = 2 * (array.len() - array.null_count());
                    assert_eq!(usize::try_from(both), Ok(values), "{data_type} in {database:?}");
                }
            }
        }
        let duration = DataType::Duration(TimeUnit::Millisecond);
        let interval = DataType::Interval(IntervalUnit::MonthDayNano);
        let expected = match database.describe() {
            _ if is_postgres(&database) => vec![DataType::UInt64, duration, interval],
            sqlite if sqlite.contains("sqlite") => vec![duration, interval],
            _ => Vec::new(),
        };
        assert_eq!(refused, expected, "{}", database.describe());
    }
}
