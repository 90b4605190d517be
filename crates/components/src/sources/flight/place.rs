//! How far a stream was read.

use arrow_array::cast::AsArray as _;
use arrow_array::types::{Int32Type, Int64Type};
use arrow_array::{BooleanArray, RecordBatch};
use arrow_select::filter::filter_record_batch;
use serde::{Deserialize, Serialize};
use sheaf_dataflow::ComponentError;
use sheaf_retry::Code;

use crate::failure::{failed_as, refused};

/// A place in a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Place {
    /// Behind so many rows.
    Rows(u64),
    /// Of a topic: partitions, each with the offset behind its last row.
    Partitions(Vec<(i32, i64)>),
}

impl Place {
    /// The rows of a batch that are beyond this place, and the place behind them. `first`
    /// rows came before the batch.
    pub(super) fn beyond(
        &self,
        ticket: &str,
        batch: &RecordBatch,
        first: u64,
    ) -> Result<Option<(RecordBatch, Place)>, ComponentError> {
        match self {
            Place::Rows(given) => {
                let rows = batch.num_rows() as u64;
                let left_out = given.saturating_sub(first).min(rows);
                let from = usize::try_from(left_out).unwrap_or(usize::MAX);
                let rest = batch.slice(from, batch.num_rows() - from);
                let behind = Place::Rows(first + rows);
                Ok((rest.num_rows() > 0).then_some((rest, behind)))
            }
            Place::Partitions(known) => beyond(ticket, batch, known),
        }
    }

    /// The stream has ended after so many rows.
    pub(super) fn ended(&self, ticket: &str, seen: u64) -> Result<(), ComponentError> {
        match self {
            Place::Rows(given) if *given > seen => Err(ComponentError::new(
                Code::FailedPrecondition,
                format!(
                    "{ticket} has {seen} rows, and {given} were read of it before: it is another \
                     stream; remove the state of the component to read it from the beginning"
                ),
            )),
            Place::Rows(_) | Place::Partitions(_) => Ok(()),
        }
    }
}

fn beyond(
    ticket: &str,
    batch: &RecordBatch,
    known: &[(i32, i64)],
) -> Result<Option<(RecordBatch, Place)>, ComponentError> {
    let partitions =
        batch.column_by_name("_partition").and_then(|c| c.as_primitive_opt::<Int32Type>());
    let offsets = batch.column_by_name("_offset").and_then(|c| c.as_primitive_opt::<Int64Type>());
    let (Some(partitions), Some(offsets)) = (partitions, offsets) else {
        return Err(refused(format!(
            "{ticket} has no columns _partition and _offset, by which it is known where to go on; \
             let the ticket have them among its columns"
        )));
    };
    let mut behind = known.to_vec();
    let rows = partitions.values().iter().zip(offsets.values());
    let is_new: BooleanArray = rows
        .map(|(partition, offset)| {
            let next = match behind.iter_mut().find(|(of, _)| of == partition) {
                Some((_, next)) => next,
                None => {
                    behind.push((*partition, 0));
                    let Some((_, next)) = behind.last_mut() else { return Some(false) };
                    next
                }
            };
            let is_new = offset >= next;
            *next = (*next).max(offset.saturating_add(1));
            Some(is_new)
        })
        .collect();
    if is_new.true_count() == 0 {
        return Ok(None);
    }
    let rest = filter_record_batch(batch, &is_new)
        .map_err(failed_as(Code::Internal, "rows cannot be left out"))?;
    Ok(Some((rest, Place::Partitions(behind))))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{Int32Array, Int64Array};

    use super::*;

    fn batch(rows: &[(i32, i64)]) -> RecordBatch {
        let partitions = Int32Array::from_iter_values(rows.iter().map(|row| row.0));
        let offsets = Int64Array::from_iter_values(rows.iter().map(|row| row.1));
        let columns: [(_, arrow_array::ArrayRef); 2] =
            [("_partition", Arc::new(partitions)), ("_offset", Arc::new(offsets))];
        RecordBatch::try_from_iter(columns).unwrap()
    }

    #[test]
    fn rows_of_a_topic_are_given_once_in_whichever_order_partitions_come() {
        let start = Place::Partitions(Vec::new());
        let (rows, place) =
            start.beyond("t", &batch(&[(0, 5), (1, 0), (0, 6)]), 0).unwrap().unwrap();
        assert_eq!((rows.num_rows(), &place), (3, &Place::Partitions(vec![(0, 7), (1, 1)])));
        let again = batch(&[(1, 0), (1, 1), (0, 5), (0, 6), (0, 7)]);
        let (rows, place) = place.beyond("t", &again, 0).unwrap().unwrap();
        assert_eq!(rows, batch(&[(1, 1), (0, 7)]));
        assert_eq!(place.beyond("t", &again, 0).unwrap(), None);
    }

    #[test]
    fn a_topic_without_offsets_is_refused() {
        let n: arrow_array::ArrayRef = Arc::new(Int64Array::from(vec![1]));
        let batch = RecordBatch::try_from_iter([("n", n)]).unwrap();
        assert!(Place::Partitions(Vec::new()).beyond("topics/x", &batch, 0).is_err());
    }
}
