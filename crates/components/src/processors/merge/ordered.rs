//! Brings inputs together in the order of a column.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, UInt32Array};
use arrow_row::{OwnedRow, RowConverter, Rows, SortField};
use arrow_schema::DataType;
use arrow_select::concat::concat_batches;
use arrow_select::take::take_record_batch;
use async_trait::async_trait;
use sheaf_dataflow::{ComponentError, Outcome, Processor, Received};

use super::union::Union;
use crate::processors::failure;

/// Bytes that wait for an input that is behind.
const MAX_WAITING_BYTES: usize = 512 << 20;

/// Rows that are handed on together.
const BATCH_ROWS: usize = 8_192;

type StreamId = (Arc<str>, u32);

/// Hands rows on in the order of a column, null first. A row goes on when every input that has
/// not ended has come as far; where the inputs are not told, at the end.
pub(super) struct Ordered {
    column: String,
    union: Union,
    keys: Option<(DataType, RowConverter)>,
    streams: BTreeMap<StreamId, Waiting>,
    /// Whether `streams` are all that there are.
    is_told: bool,
    waiting_bytes: usize,
    /// Rows that are still to go on, of the batches that are not done, and their number.
    open: VecDeque<usize>,
    done: u64,
}

#[derive(Default)]
struct Waiting {
    batches: VecDeque<Piece>,
    last: Option<OwnedRow>,
    has_ended: bool,
}

/// A batch of which rows wait.
struct Piece {
    batch: RecordBatch,
    keys: Rows,
    /// The first row that waits.
    next: usize,
    /// Its place among all batches that were given.
    ordinal: u64,
    bytes: usize,
}

impl Ordered {
    pub(super) fn new(column: &str) -> Self {
        Ordered {
            column: column.to_owned(),
            union: Union::new("merge"),
            keys: None,
            streams: BTreeMap::new(),
            is_told: false,
            waiting_bytes: 0,
            open: VecDeque::new(),
            done: 0,
        }
    }

    fn keys(&mut self, batch: &RecordBatch) -> Result<Rows, ComponentError> {
        let place = failure::column("merge", &self.column, batch.schema_ref())?;
        let column: ArrayRef = Arc::clone(batch.column(place));
        let data_type = column.data_type();
        let converter = match &self.keys {
            Some((known, converter)) if known == data_type => converter,
            Some((known, _)) => {
                return Err(failure::configuration(format!(
                    "merge: column `{}` is of type {data_type} and was of type {known} before",
                    self.column
                )));
            }
            None => {
                let converter = RowConverter::new(vec![SortField::new(data_type.clone())]);
                let converter = converter.map_err(failure::arrow("merge"))?;
                &self.keys.insert((data_type.clone(), converter)).1
            }
        };
        converter.convert_columns(&[column]).map_err(failure::arrow("merge"))
    }

    fn add(&mut self, received: &Received) -> Result<(), ComponentError> {
        let keys = self.keys(&received.batch)?;
        let id = (Arc::clone(&received.from), received.from_instance);
        let last = self.streams.get(&id).and_then(|stream| stream.last.as_ref());
        if let Some(row) = out_of_order(last, &keys) {
            return Err(failure::rows(format!(
                "merge: input `{}` is not in the order of `{}`: row {} of batch {} comes after a \
                 greater one; take `orderBy` away, or bring the input into order",
                received.from,
                self.column,
                row + 1,
                received.sequence
            )));
        }
        let bytes = received.batch.get_array_memory_size() + keys.size();
        if self.waiting_bytes + bytes > MAX_WAITING_BYTES {
            let behind = self.behind();
            return Err(failure::limit(format!(
                "merge: over {MAX_WAITING_BYTES} bytes wait for {behind}; the inputs of an \
                 ordered merge have to run side by side"
            )));
        }
        let batch = self.union.conform(&received.batch, &received.from)?;
        let rows = keys.num_rows();
        let stream = self.streams.entry(id).or_default();
        if rows > 0 {
            stream.last = Some(keys.row(rows - 1).owned());
            let ordinal = self.done + self.open.len() as u64;
            stream.batches.push_back(Piece { batch, keys, next: 0, ordinal, bytes });
            self.waiting_bytes += bytes;
        }
        self.open.push_back(rows);
        Ok(())
    }

    /// The inputs that others wait for.
    fn behind(&self) -> String {
        let empty = |stream: &Waiting| !stream.has_ended && stream.batches.is_empty();
        let names = self.streams.iter().filter(|(_, stream)| empty(stream));
        let names: Vec<_> =
            names.map(|((from, instance), _)| format!("`{from}.{instance}`")).collect();
        if names.is_empty() { "the end of the inputs".to_owned() } else { names.join(", ") }
    }

    /// How far every input has come: rows up to there can go on.
    fn reach(&self) -> Option<Reach> {
        let mut reach: Option<OwnedRow> = None;
        for stream in self.streams.values().filter(|stream| !stream.has_ended) {
            let last = stream.last.as_ref()?;
            if reach.as_ref().is_none_or(|reach| last < reach) {
                reach = Some(last.clone());
            }
        }
        Some(reach.map_or(Reach::All, Reach::To))
    }

    fn outcome(&mut self, reach: &Reach) -> Result<Outcome, ComponentError> {
        let (mut pieces, mut keys) = (Vec::new(), Vec::new());
        for stream in self.streams.values_mut() {
            while let Some(piece) = stream.batches.front_mut() {
                let rows = piece.keys.num_rows();
                let from = piece.next;
                let to = reach.end(&piece.keys, from);
                if to == from {
                    break;
                }
                pieces.push(piece.batch.slice(from, to - from));
                keys.extend((from..to).map(|row| piece.keys.row(row).owned()));
                let open = usize::try_from(piece.ordinal - self.done).ok();
                if let Some(open) = open.and_then(|place| self.open.get_mut(place)) {
                    *open -= to - from;
                }
                piece.next = to;
                if to < rows {
                    break;
                }
                self.waiting_bytes -= piece.bytes;
                stream.batches.pop_front();
            }
        }
        while self.open.front() == Some(&0) {
            self.open.pop_front();
            self.done += 1;
        }
        let batches = self.sorted(pieces, &keys)?;
        Ok(Outcome { batches, done: self.done })
    }

    fn sorted(
        &mut self,
        pieces: Vec<RecordBatch>,
        keys: &[OwnedRow],
    ) -> Result<Vec<RecordBatch>, ComponentError> {
        let Some(schema) = self.union.schema() else { return Ok(Vec::new()) };
        if pieces.is_empty() {
            return Ok(Vec::new());
        }
        let wide = pieces.iter().map(|piece| self.union.conform(piece, "before"));
        let wide = wide.collect::<Result<Vec<_>, _>>()?;
        let all = concat_batches(&schema, &wide).map_err(failure::arrow("merge"))?;
        let mut order = Vec::with_capacity(keys.len());
        for row in 0..keys.len() {
            order
                .push(u32::try_from(row).map_err(|_| failure::limit("merge: too many rows wait"))?);
        }
        // Stable: rows that are equal stay in the order of their inputs.
        order.sort_by(|&left, &right| keys[left as usize].cmp(&keys[right as usize]));
        let all = match order.is_sorted() {
            true => all,
            false => take_record_batch(&all, &UInt32Array::from(order))
                .map_err(failure::arrow("merge"))?,
        };
        let starts = (0..all.num_rows()).step_by(BATCH_ROWS);
        Ok(starts.map(|start| all.slice(start, BATCH_ROWS.min(all.num_rows() - start))).collect())
    }

    fn due(&mut self) -> Result<Outcome, ComponentError> {
        match self.reach().filter(|_| self.is_told) {
            Some(reach) => self.outcome(&reach),
            None => Ok(Outcome { batches: Vec::new(), done: self.done }),
        }
    }
}

enum Reach {
    All,
    To(OwnedRow),
}

impl Reach {
    /// The end of the rows that can go on, from `next`.
    fn end(&self, keys: &Rows, next: usize) -> usize {
        let Reach::To(reach) = self else { return keys.num_rows() };
        let (mut from, mut to) = (next, keys.num_rows());
        while from < to {
            let middle = from.midpoint(to);
            match keys.row(middle) <= reach.row() {
                true => from = middle + 1,
                false => to = middle,
            }
        }
        from
    }
}

/// The first row that is less than the one before it.
fn out_of_order(last: Option<&OwnedRow>, keys: &Rows) -> Option<usize> {
    let mut before = last.map(OwnedRow::row);
    for (place, row) in keys.iter().enumerate() {
        if before.is_some_and(|before| row < before) {
            return Some(place);
        }
        before = Some(row);
    }
    None
}

#[async_trait]
impl Processor for Ordered {
    async fn begin(&mut self, streams: &[StreamId]) -> Result<(), ComponentError> {
        for stream in streams {
            self.streams.entry(stream.clone()).or_default();
        }
        self.is_told = !streams.is_empty();
        Ok(())
    }

    async fn stream_ended(
        &mut self,
        from: &Arc<str>,
        from_instance: u32,
    ) -> Result<Option<Outcome>, ComponentError> {
        self.streams.entry((Arc::clone(from), from_instance)).or_default().has_ended = true;
        self.due().map(Some)
    }

    async fn process(&mut self, received: &Received) -> Result<Outcome, ComponentError> {
        self.add(received)?;
        self.due()
    }

    async fn end(&mut self) -> Result<Outcome, ComponentError> {
        self.outcome(&Reach::All)
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::Int64Array;
    use arrow_array::cast::AsArray as _;
    use arrow_array::types::Int64Type;

    use super::*;

    fn received(from: &str, sequence: u64, values: &[Option<i64>]) -> Received {
        let column: ArrayRef = Arc::new(Int64Array::from(values.to_vec()));
        let batch = RecordBatch::try_from_iter_with_nullable([("t", column, true)]).unwrap();
        Received { batch, from: from.into(), from_instance: 0, epoch: 1, sequence, lease: None }
    }

    fn some(values: &[i64]) -> Vec<Option<i64>> {
        values.iter().copied().map(Some).collect()
    }

    fn values(outcome: &Outcome) -> Vec<Option<i64>> {
        let column = |batch: &RecordBatch| batch.column(0).as_primitive::<Int64Type>().clone();
        outcome.batches.iter().flat_map(|batch| column(batch).iter().collect::<Vec<_>>()).collect()
    }

    #[tokio::test]
    async fn rows_go_on_as_soon_as_every_input_has_come_as_far() {
        let mut merge = Ordered::new("t");
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        merge.begin(&[(Arc::clone(&a), 0), (Arc::clone(&b), 0)]).await.unwrap();
        let outcome = merge.process(&received("a", 1, &[None, Some(1), Some(4)])).await.unwrap();
        assert_eq!((values(&outcome), outcome.done), (vec![], 0));
        let outcome = merge.process(&received("b", 1, &some(&[2, 3]))).await.unwrap();
        // `b` is done, but `a`, which was given before it, is not.
        assert_eq!(values(&outcome), [None, Some(1), Some(2), Some(3)]);
        assert_eq!(outcome.done, 0);
        let outcome = merge.process(&received("b", 2, &some(&[4, 9]))).await.unwrap();
        assert_eq!((values(&outcome), outcome.done), (some(&[4, 4]), 2));
        let outcome = merge.stream_ended(&a, 0).await.unwrap().unwrap();
        assert_eq!((values(&outcome), outcome.done), (some(&[9]), 3));
        let outcome = merge.process(&received("b", 3, &[])).await.unwrap();
        assert_eq!((values(&outcome), outcome.done), (vec![], 4));
        assert_eq!(merge.end().await.unwrap().done, 4);
    }

    #[tokio::test]
    async fn inputs_that_nobody_named_are_in_order_at_the_end() {
        let mut merge = Ordered::new("t");
        for (from, sequence, batch) in [("a", 1, [5, 6]), ("b", 1, [1, 7]), ("a", 2, [6, 8])] {
            let outcome = merge.process(&received(from, sequence, &some(&batch))).await.unwrap();
            assert_eq!((values(&outcome), outcome.done), (vec![], 0));
        }
        let outcome = merge.end().await.unwrap();
        assert_eq!((values(&outcome), outcome.done), (some(&[1, 5, 6, 6, 7, 8]), 3));
    }

    #[tokio::test]
    async fn an_input_that_is_not_in_order_is_refused_with_its_row() {
        let mut merge = Ordered::new("t");
        merge.process(&received("a", 1, &some(&[5]))).await.unwrap();
        let error = merge.process(&received("a", 2, &some(&[5, 6, 3]))).await.unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with("merge: input `a` is not in the order of `t`: row 3 of batch 2"),
            "{text}"
        );
        let error = merge.process(&received("a", 2, &some(&[4]))).await.unwrap_err();
        assert!(error.to_string().contains("row 1 of batch 2"), "{error}");
        let text = Ordered::new("x").process(&received("a", 1, &[])).await.unwrap_err().to_string();
        assert_eq!(text, "merge: the rows have no column `x`; they have `t`");
    }
}
