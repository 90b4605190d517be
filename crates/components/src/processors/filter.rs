//! Keeps the rows for which a condition is true.

use arrow_array::RecordBatch;
use arrow_select::filter::FilterBuilder;
use sheaf_dataflow::ComponentError;
use sheaf_pipeline::spec::Expression;

use super::each::{MapBatch, PerSchema};
use super::expression::{Bound, Mask};
use super::failure;

/// Keeps the rows for which its condition is true: not those for which it is false, nor
/// those for which it is null.
pub(super) struct Filter {
    condition: Expression,
    bound: PerSchema<Bound>,
}

impl Filter {
    pub(super) fn new(condition: &Expression) -> Self {
        Filter { condition: condition.clone(), bound: PerSchema::new() }
    }
}

impl MapBatch for Filter {
    fn map(&mut self, batch: &RecordBatch) -> Result<Option<RecordBatch>, ComponentError> {
        let condition = &self.condition;
        let bound = self
            .bound
            .get(batch.schema_ref(), |schema| Bound::condition("where", condition, schema))?;
        let mask = match bound.mask(batch)? {
            Mask::All => return Ok(Some(batch.clone())),
            Mask::None => return Ok(None),
            Mask::Some(mask) => mask,
        };
        // Null counts as false here; what is all true is handed on as it is.
        match mask.true_count() {
            0 => Ok(None),
            count if count == batch.num_rows() => Ok(Some(batch.clone())),
            _ => {
                let builder = FilterBuilder::new(&mask);
                // Worth its pass over the mask only where several columns use it.
                let builder = if batch.num_columns() > 1 { builder.optimize() } else { builder };
                let kept = builder.build().filter_record_batch(batch);
                kept.map(Some).map_err(failure::arrow("filter"))
            }
        }
    }
}
