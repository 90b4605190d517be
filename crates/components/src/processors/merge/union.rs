//! One schema for the rows of several inputs.

use std::sync::Arc;

use arrow_array::{RecordBatch, RecordBatchOptions, new_null_array};
use arrow_schema::{Field, FieldRef, Schema, SchemaRef};
use sheaf_dataflow::ComponentError;

use crate::processors::failure;

/// All columns that have come, in the order in which they came. A column that some rows lack
/// is null in them; one that has two types is refused.
pub(super) struct Union {
    schema: Option<SchemaRef>,
}

impl Union {
    pub(super) const fn new() -> Self {
        Union { schema: None }
    }

    /// The columns that have come by now.
    pub(super) fn schema(&self) -> Option<SchemaRef> {
        self.schema.clone()
    }

    /// The batch with all columns that are known by now.
    pub(super) fn conform(
        &mut self,
        batch: &RecordBatch,
        from: &str,
    ) -> Result<RecordBatch, ComponentError> {
        let schema = match &self.schema {
            None => Arc::clone(batch.schema_ref()),
            Some(known)
                if Arc::ptr_eq(known, batch.schema_ref()) || known == batch.schema_ref() =>
            {
                return Ok(batch.clone());
            }
            Some(known) => widened(known, batch.schema_ref(), from)?,
        };
        let conformed = filled(&schema, batch)?;
        self.schema = Some(schema);
        Ok(conformed)
    }
}

fn widened(known: &SchemaRef, schema: &SchemaRef, from: &str) -> Result<SchemaRef, ComponentError> {
    let mut fields: Vec<FieldRef> = Vec::with_capacity(known.fields().len());
    for field in known.fields() {
        let own = schema.field_with_name(field.name()).ok();
        if let Some(own) = own.filter(|own| own.data_type() != field.data_type()) {
            return Err(failure::configuration(format!(
                "merge: column `{}` is of type {} from `{from}` and of type {} from others; make \
                 them the same with a `project` before",
                field.name(),
                own.data_type(),
                field.data_type(),
            )));
        }
        fields.push(nullable(field, own.is_none_or(Field::is_nullable)));
    }
    for field in schema.fields() {
        if known.index_of(field.name()).is_err() {
            fields.push(nullable(field, true));
        }
    }
    let widened = Schema::new_with_metadata(fields, known.metadata().clone());
    Ok(if widened == **known { Arc::clone(known) } else { Arc::new(widened) })
}

fn nullable(field: &FieldRef, nullable: bool) -> FieldRef {
    match nullable && !field.is_nullable() {
        true => Arc::new(field.as_ref().clone().with_nullable(true)),
        false => Arc::clone(field),
    }
}

fn filled(schema: &SchemaRef, batch: &RecordBatch) -> Result<RecordBatch, ComponentError> {
    let rows = batch.num_rows();
    let column = |field: &FieldRef| match batch.column_by_name(field.name()) {
        Some(column) => Arc::clone(column),
        None => new_null_array(field.data_type(), rows),
    };
    let columns = schema.fields().iter().map(column).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
        .map_err(failure::arrow("merge"))
}

#[cfg(test)]
mod tests {
    use arrow_array::{ArrayRef, Int64Array, StringArray};

    use super::*;

    fn batch<const N: usize>(columns: [(&str, ArrayRef); N]) -> RecordBatch {
        RecordBatch::try_from_iter(columns).unwrap()
    }

    #[test]
    fn columns_that_some_rows_lack_are_null_in_them() {
        let mut union = Union::new();
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["x", "y"]));
        let first = batch([("a", Arc::clone(&numbers)), ("b", Arc::clone(&texts))]);
        assert_eq!(union.conform(&first, "x").unwrap(), first);
        let second = batch([("c", Arc::clone(&texts)), ("a", Arc::clone(&numbers))]);
        let wide = union.conform(&second, "y").unwrap();
        let names: Vec<_> = wide.schema_ref().fields().iter().map(|field| field.name()).collect();
        assert_eq!(names, ["a", "b", "c"]);
        assert_eq!((wide.column(0), wide.column(2)), (&numbers, &texts));
        assert_eq!(wide.column(1).null_count(), 2);
        // The first input's rows have the wide schema too from now on.
        let again = union.conform(&first, "x").unwrap();
        assert_eq!(again.schema(), wide.schema());
        assert_eq!(again.column(2).null_count(), 2);
    }

    #[test]
    fn a_column_of_two_types_is_refused_with_both() {
        let mut union = Union::new();
        union.conform(&batch([("a", Arc::new(Int64Array::from(vec![1])))]), "x").unwrap();
        let other = batch([("a", Arc::new(StringArray::from(vec!["1"])))]);
        let error = union.conform(&other, "y").unwrap_err().to_string();
        assert_eq!(
            error,
            "merge: column `a` is of type Utf8 from `y` and of type Int64 from others; make them \
             the same with a `project` before"
        );
    }
}
