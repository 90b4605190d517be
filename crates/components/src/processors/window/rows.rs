//! Windows of so many rows each.

use std::collections::VecDeque;

use arrow_array::RecordBatch;
use sheaf_dataflow::ComponentError;

use super::Fold;

/// Windows of so many rows each, as they come.
pub(super) struct Rows<S> {
    size: u64,
    state: Option<S>,
    /// Rows in the window.
    count: u64,
    /// Rows of all batches that were given.
    total: u64,
    /// Rows of all windows that are out.
    closed: u64,
    /// Where the batches end that are not done.
    ends: VecDeque<u64>,
    done: u64,
}

impl<S> Rows<S> {
    pub(super) const fn new(size: u64) -> Self {
        Rows { size, state: None, count: 0, total: 0, closed: 0, ends: VecDeque::new(), done: 0 }
    }

    /// Takes rows from `next` on, and finishes windows as they are full.
    pub(super) async fn take<F: Fold<State = S>>(
        &mut self,
        fold: &mut F,
        batch: &RecordBatch,
        next: &mut usize,
        ready: &mut Vec<RecordBatch>,
    ) -> Result<(), ComponentError> {
        loop {
            if self.count == self.size {
                self.close(fold, ready).await?;
            }
            let left = batch.num_rows() - *next;
            if left == 0 {
                return Ok(());
            }
            let room = usize::try_from(self.size - self.count).unwrap_or(usize::MAX);
            let rows = batch.slice(*next, left.min(room));
            fold.add(self.state.get_or_insert_with(|| fold.empty()), &rows)?;
            self.count += rows.num_rows() as u64;
            *next += rows.num_rows();
        }
    }

    async fn close<F: Fold<State = S>>(
        &mut self,
        fold: &mut F,
        ready: &mut Vec<RecordBatch>,
    ) -> Result<(), ComponentError> {
        if let Some(state) = &self.state {
            ready.extend(fold.finish(state, None).await?);
        }
        self.state = None;
        self.closed += self.count;
        self.count = 0;
        Ok(())
    }

    /// A batch of so many rows was taken whole.
    pub(super) fn given(&mut self, rows: usize) {
        self.total += rows as u64;
        self.ends.push_back(self.total);
    }

    pub(super) fn done(&mut self) -> u64 {
        while self.ends.front().is_some_and(|end| *end <= self.closed) {
            self.ends.pop_front();
            self.done += 1;
        }
        self.done
    }

    /// The last window may have fewer rows.
    pub(super) async fn end<F: Fold<State = S>>(
        &mut self,
        fold: &mut F,
        ready: &mut Vec<RecordBatch>,
    ) -> Result<(), ComponentError> {
        if self.count == 0 { Ok(()) } else { self.close(fold, ready).await }
    }
}
