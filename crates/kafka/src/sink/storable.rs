//! Rows in types that Parquet has, and that its readers know.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{DataType, Field, FieldRef, Fields, IntervalUnit, Schema};

use crate::error::Error;
use crate::schema::conform;

/// The rows with other columns where Parquet has no place for them:
///
/// - a column of which no value is known yet, and a struct without fields, is left
///   out: later files have it, of the type that it turns out to have;
/// - a union is a struct with a field for each branch;
/// - an interval of months, days and nanoseconds is text.
pub(super) fn batch(rows: &RecordBatch) -> Result<RecordBatch, Error> {
    let schema = rows.schema_ref();
    let fields = fields(schema.fields());
    if fields == *schema.fields() {
        return Ok(rows.clone());
    }
    let schema = Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()));
    Ok(conform(rows, &schema)?)
}

fn fields(of: &Fields) -> Fields {
    of.iter().filter_map(field).collect()
}

fn field(of: &FieldRef) -> Option<FieldRef> {
    let data_type = storable(of.data_type())?;
    if data_type == *of.data_type() {
        return Some(Arc::clone(of));
    }
    Some(Arc::new(of.as_ref().clone().with_data_type(data_type)))
}

/// The type that takes the place of one; none where it has no values.
fn storable(of: &DataType) -> Option<DataType> {
    Some(match of {
        DataType::Null => return None,
        DataType::Struct(children) => {
            let children = fields(children);
            if children.is_empty() {
                return None;
            }
            DataType::Struct(children)
        }
        DataType::Union(branches, _) => {
            let branch = |(_, branch): (i8, &FieldRef)| {
                let data_type = storable(branch.data_type())?;
                Some(Field::new(branch.name(), data_type, true))
            };
            let branches: Fields = branches.iter().filter_map(branch).collect();
            if branches.is_empty() {
                return None;
            }
            DataType::Struct(branches)
        }
        DataType::List(item) => DataType::List(field(item)?),
        DataType::LargeList(item) => DataType::LargeList(field(item)?),
        DataType::FixedSizeList(item, size) => DataType::FixedSizeList(field(item)?, *size),
        DataType::Map(entries, is_sorted) => {
            let DataType::Struct(pair) = entries.data_type() else { return Some(of.clone()) };
            let kept = fields(pair);
            if kept.len() < pair.len() {
                return None;
            }
            let entries = entries.as_ref().clone().with_data_type(DataType::Struct(kept));
            DataType::Map(Arc::new(entries), *is_sorted)
        }
        DataType::Interval(IntervalUnit::MonthDayNano) => DataType::Utf8,
        other => other.clone(),
    })
}

#[cfg(test)]
mod tests {
    use arrow_array::builder::{ListBuilder, StructBuilder, UnionBuilder};
    use arrow_array::cast::AsArray as _;
    use arrow_array::types::{Float64Type, Int32Type, IntervalMonthDayNanoType};
    use arrow_array::{
        Array, ArrayRef, Int32Array, IntervalMonthDayNanoArray, NullArray, StructArray,
    };

    use super::*;

    #[test]
    fn what_parquet_cannot_hold_is_held_otherwise() {
        let mut union = UnionBuilder::new_dense();
        union.append::<Int32Type>("a", 1).unwrap();
        union.append::<Float64Type>("b", 0.5).unwrap();
        let empty: ArrayRef = Arc::new(StructArray::new_empty_fields(2, None));
        let inner = StructBuilder::from_fields(Fields::empty(), 0);
        let mut lists = ListBuilder::new(inner);
        lists.append(true);
        lists.append_null();
        let nested = StructArray::from(vec![
            (Arc::new(Field::new("none", DataType::Null, true)), Arc::new(NullArray::new(2)) as _),
            (
                Arc::new(Field::new("n", DataType::Int32, true)),
                Arc::new(Int32Array::from(vec![7, 8])) as ArrayRef,
            ),
        ]);
        let interval = IntervalMonthDayNanoType::make_value(1, 2, 3_000_000_000);
        let columns: [(&str, ArrayRef); 6] = [
            ("union", Arc::new(union.build().unwrap())),
            ("empty", empty),
            ("lists", Arc::new(lists.finish())),
            ("null", Arc::new(NullArray::new(2))),
            ("nested", Arc::new(nested)),
            ("interval", Arc::new(IntervalMonthDayNanoArray::from(vec![interval; 2]))),
        ];
        let rows = RecordBatch::try_from_iter_with_nullable(
            columns.into_iter().map(|(name, column)| (name, column, true)),
        );
        let stored = batch(&rows.unwrap()).unwrap();
        let schema = stored.schema();
        let names: Vec<_> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        assert_eq!(names, ["union", "nested", "interval"]);
        let union = stored.column(0).as_struct();
        assert_eq!(union.column(0).as_primitive::<Int32Type>().value(0), 1);
        assert!(union.column(0).is_null(1) && union.column(1).is_null(0));
        assert_eq!(stored.column(1).as_struct().num_columns(), 1);
        assert_eq!(stored.column(2).as_string::<i32>().value(0), "1 mons 2 days 3.000000000 secs");
    }
}
