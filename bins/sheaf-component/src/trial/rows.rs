//! Rows of a file as batches, and back.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::ArrowError;
use serde_json::Value;
use sheaf_pipeline::spec::{Component, Row};

use super::schema;

/// The rows that a component is taken to send, in one batch; no rows are no batch.
pub(super) fn batches(definition: &Component, rows: &[Row]) -> Result<Vec<RecordBatch>, String> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let schema = Arc::new(schema::of(definition, rows)?);
    let failed = |error: ArrowError| format!("the rows of {}: {error}", definition.id);
    let builder = arrow_json::ReaderBuilder::new(schema).with_batch_size(rows.len());
    let mut decoder = builder.build_decoder().map_err(failed)?;
    decoder.serialize(rows).map_err(failed)?;
    let batch = decoder.flush().map_err(failed)?;
    Ok(batch.into_iter().collect())
}

/// The rows of batches, with a value or `null` for each column.
pub(super) fn rows(batches: &[RecordBatch]) -> Result<Vec<Row>, String> {
    let failed = |error: ArrowError| format!("the rows cannot be compared: {error}");
    let mut text = Vec::new();
    for batch in batches {
        let builder = arrow_json::WriterBuilder::new().with_explicit_nulls(true);
        let mut writer = builder.build::<_, arrow_json::writer::LineDelimited>(&mut text);
        writer.write(batch).map_err(failed)?;
        writer.finish().map_err(failed)?;
    }
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let row = |line| serde_json::from_slice(line).map_err(|error| error.to_string());
    lines.map(row).collect()
}

/// Whether two values are the same: numbers by what they stand for, with 9 digits where one of
/// them is no whole number.
pub(super) fn same(left: &Value, right: &Value) -> bool {
    let (Value::Number(one), Value::Number(other)) = (left, right) else { return left == right };
    if let (Some(one), Some(other)) = (one.as_i64(), other.as_i64()) {
        return one == other;
    }
    if let (Some(one), Some(other)) = (one.as_u64(), other.as_u64()) {
        return one == other;
    }
    let (Some(one), Some(other)) = (one.as_f64(), other.as_f64()) else { return left == right };
    (one - other).abs() <= 1e-9 * one.abs().max(other.abs())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn definition(columns: Value) -> Component {
        serde_json::from_value(json!({"id": "a", "kind": "file", "config": {"columns": columns}}))
            .unwrap()
    }

    fn of(rows: Value) -> Vec<Row> {
        serde_json::from_value(rows).unwrap()
    }

    #[test]
    fn rows_read_back_with_all_their_columns() {
        let given = of(json!([
            {"n": 1, "x": 2, "t": "a", "b": null, "none": null},
            {"n": null, "x": 2.5, "t": null, "b": true, "none": null},
        ]));
        let made = batches(&definition(json!([])), &given).unwrap();
        assert_eq!(made.len(), 1);
        let back = rows(&made).unwrap();
        let alike = |(one, other): (&Row, &Row)| {
            one.len() == other.len() && one.iter().all(|(name, value)| same(value, &other[name]))
        };
        assert!(given.iter().zip(&back).all(alike), "{back:?}");
        assert_eq!(batches(&definition(json!([])), &[]).unwrap().len(), 0);
    }

    #[test]
    fn declared_columns_are_of_their_types() {
        let columns = json!([{"name": "at", "type": "timestamp"}, {"name": "n", "type": "int8"}]);
        let given = of(json!([{"at": "2026-01-02T03:04:05Z", "n": 7}]));
        let made = batches(&definition(columns.clone()), &given).unwrap();
        assert!(made[0].schema().field(0).data_type().is_temporal());
        assert_eq!(rows(&made).unwrap(), given);
        let error = batches(&definition(columns.clone()), &of(json!([{"m": 1}]))).unwrap_err();
        assert!(error.contains("no column m"), "{error}");
        let error = batches(&definition(columns), &of(json!([{"n": 1_000}]))).unwrap_err();
        assert!(error.contains("the rows of a"), "{error}");
    }

    #[test]
    fn values_of_two_types_are_named_with_their_place() {
        let given = of(json!([{"n": 1}, {"n": null}, {"n": "x"}]));
        let error = batches(&definition(json!([])), &given).unwrap_err();
        assert!(error.starts_with("a, row 3, column n: \"x\" is of type Utf8"), "{error}");
    }

    #[test]
    fn numbers_are_compared_by_what_they_stand_for() {
        assert!(same(&json!(1), &json!(1.0)) && same(&json!(0.3), &json!(0.1 + 0.2)));
        assert!(!same(&json!(1), &json!(2)) && !same(&json!(u64::MAX), &json!(u64::MAX - 1)));
        assert!(!same(&json!(1), &json!("1")) && same(&Value::Null, &Value::Null));
        assert!(!same(&json!(0.0), &json!(1e-12)));
    }
}
