//! Chooses and computes columns.

use std::collections::HashSet;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_schema::{Field, Schema, SchemaRef};
use sheaf_dataflow::ComponentError;
use sheaf_pipeline::spec::{ProjectProcessor, ProjectedColumn};

use super::each::{MapBatch, PerSchema};
use super::expression::Bound;
use super::failure;

/// Chooses and computes columns.
pub(super) struct Project {
    columns: Vec<ProjectedColumn>,
    bound: PerSchema<Plan>,
}

/// The same for the rows of one schema.
struct Plan {
    schema: SchemaRef,
    columns: Vec<Column>,
}

enum Column {
    Kept(usize),
    Computed(Bound),
}

impl Project {
    pub(super) fn new(config: &ProjectProcessor) -> Result<Self, ComponentError> {
        let mut names = HashSet::new();
        for column in &config.columns {
            let name = match column {
                ProjectedColumn::Kept(name) => name,
                ProjectedColumn::Computed(column) => &column.name,
            };
            if !names.insert(name) {
                let text = format!("project: two columns are called `{name}`; rename one");
                return Err(failure::configuration(text));
            }
        }
        Ok(Project { columns: config.columns.clone(), bound: PerSchema::new() })
    }
}

impl Plan {
    fn new(columns: &[ProjectedColumn], schema: &Schema) -> Result<Self, ComponentError> {
        let (mut fields, mut plan) = (Vec::new(), Vec::new());
        for column in columns {
            match column {
                ProjectedColumn::Kept(name) => {
                    let index = failure::column("project", name, schema)?;
                    fields.push(Arc::clone(&schema.fields()[index]));
                    plan.push(Column::Kept(index));
                }
                ProjectedColumn::Computed(column) => {
                    let what = format!("column `{}`", column.name);
                    let bound = Bound::new(&what, &column.value, schema)?;
                    let field = Field::new(&column.name, bound.data_type().clone(), true);
                    fields.push(Arc::new(field));
                    plan.push(Column::Computed(bound));
                }
            }
        }
        let schema = Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()));
        Ok(Plan { schema, columns: plan })
    }

    fn column(column: &Column, batch: &RecordBatch) -> Result<ArrayRef, ComponentError> {
        match column {
            Column::Kept(index) => Ok(Arc::clone(batch.column(*index))),
            Column::Computed(bound) => bound.values(batch),
        }
    }
}

impl MapBatch for Project {
    fn map(&mut self, batch: &RecordBatch) -> Result<Option<RecordBatch>, ComponentError> {
        let columns = &self.columns;
        let plan = self.bound.get(batch.schema_ref(), |schema| Plan::new(columns, schema))?;
        let made = plan.columns.iter().map(|column| Plan::column(column, batch));
        let made = made.collect::<Result<Vec<_>, _>>()?;
        let rows = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(Arc::clone(&plan.schema), made, &rows)
            .map(Some)
            .map_err(failure::arrow("project"))
    }
}
