//! Processors that make of each batch at most one, at once.

use arrow_array::RecordBatch;
use arrow_schema::{Schema, SchemaRef};
use async_trait::async_trait;
use sheaf_dataflow::{ComponentError, Outcome, Processor, Received};
use std::sync::Arc;

/// Schemas that a processor remembers: one for each of its inputs, mostly.
const MAX_SCHEMAS: usize = 64;

/// What is done with each batch.
pub(super) trait MapBatch: Send {
    /// What comes of it; nothing where no row is left.
    fn map(&mut self, batch: &RecordBatch) -> Result<Option<RecordBatch>, ComponentError>;
}

/// Hands each batch on as soon as it comes: every batch is done at once.
pub(super) struct EachBatch<M> {
    map: M,
    given: u64,
}

impl<M> EachBatch<M> {
    pub(super) fn new(map: M) -> Self {
        EachBatch { map, given: 0 }
    }
}

#[async_trait]
impl<M: MapBatch> Processor for EachBatch<M> {
    async fn process(&mut self, received: &Received) -> Result<Outcome, ComponentError> {
        // Rows that are not there have no errors either, such as a constant's.
        let made = match received.batch.num_rows() {
            0 => None,
            _ => self.map.map(&received.batch)?,
        };
        self.given += 1;
        let batches = made.into_iter().filter(|batch| batch.num_rows() > 0).collect();
        Ok(Outcome { batches, done: self.given })
    }

    async fn end(&mut self) -> Result<Outcome, ComponentError> {
        Ok(Outcome { batches: Vec::new(), done: self.given })
    }
}

/// What was worked out for the schemas that have come.
pub(super) struct PerSchema<T>(Vec<(SchemaRef, T)>);

impl<T> PerSchema<T> {
    pub(super) const fn new() -> Self {
        PerSchema(Vec::new())
    }

    /// What belongs to this schema; `make` is asked where it is a new one.
    pub(super) fn get(
        &mut self,
        schema: &SchemaRef,
        make: impl FnOnce(&Schema) -> Result<T, ComponentError>,
    ) -> Result<&mut T, ComponentError> {
        let same = |(known, _): &(SchemaRef, T)| Arc::ptr_eq(known, schema) || known == schema;
        let place = match self.0.iter().position(same) {
            Some(place) => place,
            None => {
                let made = make(schema)?;
                if self.0.len() == MAX_SCHEMAS {
                    self.0.remove(0);
                }
                self.0.push((Arc::clone(schema), made));
                self.0.len() - 1
            }
        };
        Ok(&mut self.0[place].1)
    }
}
