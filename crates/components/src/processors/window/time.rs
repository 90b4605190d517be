//! Windows of time.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use arrow_array::{RecordBatch, UInt32Array};
use arrow_select::take::take_record_batch;
use sheaf_dataflow::{ComponentError, Received};
use sheaf_pipeline::spec::TimeWindow;
use sheaf_retry::SharedClock;

use super::streams::Streams;
use super::{Fold, Span, times};
use crate::processors::failure;

/// Windows that are open at once.
const MAX_WINDOWS: usize = 100_000;
/// Windows that a row may be in.
const MAX_WINDOWS_OF_A_ROW: i64 = 10_000;

/// Windows of time, by a column or by when rows arrive.
///
/// They begin at multiples of the slide, counted from 1970. One by a column is over as soon as
/// every input has sent a row that is newer than its end by the lateness; one by arrival, as
/// soon as the clock says so. A row that comes later is counted, and left out of the windows
/// that are over.
pub(super) struct Time<S> {
    size: i64,
    slide: i64,
    lateness: i64,
    column: Option<String>,
    clock: SharedClock,
    windows: BTreeMap<i64, S>,
    streams: Streams,
    /// Every window that ends here or before is out.
    closed: i64,
    /// For each batch that is not done, the end of the last window with rows of it.
    pending: VecDeque<i64>,
    /// The same of the batch that was taken last.
    last_end: i64,
    done: u64,
    late: u64,
    without_time: u64,
    told: u64,
}

/// Which rows go into which window, by its start.
type Places = BTreeMap<i64, Vec<u32>>;

impl<S> Time<S> {
    pub(super) fn new(window: &TimeWindow, clock: SharedClock) -> Result<Self, ComponentError> {
        let micros = |name: &str, duration: std::time::Duration, least: i64| {
            let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
            if !(least..times::LIMIT).contains(&micros) {
                let text = format!("window: a {name} of {duration:?} is out of range");
                return Err(failure::configuration(text));
            }
            Ok(micros)
        };
        let size = micros("size", window.size.0, 1)?;
        let slide = window.slide.map_or(Ok(size), |slide| micros("slide", slide.0, 1))?;
        let lateness = window.lateness.map_or(Ok(0), |late| micros("lateness", late.0, 0))?;
        if slide > size {
            let text = "window: the slide is longer than the window; rows would be in none";
            return Err(failure::configuration(text));
        }
        if size / slide > MAX_WINDOWS_OF_A_ROW {
            return Err(failure::configuration(format!(
                "window: a row would be in {} windows, over the limit of {MAX_WINDOWS_OF_A_ROW}; \
                 take a longer slide",
                size / slide
            )));
        }
        Ok(Time {
            size,
            slide,
            lateness,
            column: window.column.clone(),
            clock,
            windows: BTreeMap::new(),
            streams: Streams::default(),
            closed: i64::MIN,
            pending: VecDeque::new(),
            last_end: i64::MIN,
            done: 0,
            late: 0,
            without_time: 0,
            told: 0,
        })
    }

    pub(super) fn begin(&mut self, streams: &[(Arc<str>, u32)]) {
        let now = self.clock.elapsed();
        for (from, instance) in streams {
            self.streams.heard(from, *instance, None, now);
        }
    }

    pub(super) fn stream_ended(&mut self, from: &Arc<str>, instance: u32) {
        self.streams.ended(from, instance);
    }

    pub(super) fn counters(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("late_rows", self.late),
            ("rows_without_time", self.without_time),
            ("open_windows", self.windows.len() as u64),
        ]
    }

    fn now(&self) -> i64 {
        i64::try_from(self.clock.now().as_micros()).unwrap_or(times::LIMIT).min(times::LIMIT)
    }

    fn times(&self, batch: &RecordBatch) -> Result<Vec<Option<i64>>, ComponentError> {
        match &self.column {
            Some(column) => times::of(batch, column),
            None => Ok(vec![Some(self.now()); batch.num_rows()]),
        }
    }

    /// Looks at rows before they are taken.
    pub(super) fn check(&self, batch: &RecordBatch) -> Result<(), ComponentError> {
        let (places, _) = self.places(&self.times(batch)?);
        let new = places.keys().filter(|start| !self.windows.contains_key(start)).count();
        if self.windows.len() + new > MAX_WINDOWS {
            return Err(failure::limit(format!(
                "window: over {MAX_WINDOWS} windows would be open; the times of the rows are too \
                 far apart: look for wrong ones, or take longer windows"
            )));
        }
        Ok(())
    }

    /// The windows of the rows, and how many rows have missed one.
    fn places(&self, rows: &[Option<i64>]) -> (Places, u64) {
        let mut places = Places::new();
        let mut late = 0;
        // Rows of one window mostly come in a row.
        let mut run: (i64, Vec<u32>) = (i64::MIN, Vec::new());
        for (row, time) in (0u32..).zip(rows) {
            let Some(time) = time else { continue };
            let last = time.div_euclid(self.slide) * self.slide;
            let mut start = last;
            let mut is_late = false;
            while start > time - self.size {
                if start + self.size <= self.closed {
                    is_late = true;
                    break;
                }
                if run.0 != start {
                    flush(&mut places, &mut run);
                    run.0 = start;
                }
                run.1.push(row);
                start -= self.slide;
            }
            late += u64::from(is_late);
        }
        flush(&mut places, &mut run);
        (places, late)
    }

    /// Takes the rows of a batch.
    pub(super) fn take<F: Fold<State = S>>(
        &mut self,
        fold: &mut F,
        received: &Received,
    ) -> Result<(), ComponentError> {
        let batch = &received.batch;
        let times = self.times(batch)?;
        let (places, late) = self.places(&times);
        self.last_end = places.last_key_value().map_or(i64::MIN, |(start, _)| start + self.size);
        for (start, rows) in places {
            let state = self.windows.entry(start).or_insert_with(|| fold.empty());
            fold.add(state, &picked(batch, rows)?)?;
        }
        let known = times.iter().flatten().count();
        self.without_time += (times.len() - known) as u64;
        self.count_late(late, &received.from);
        let newest = times.iter().flatten().max().copied();
        let now = self.clock.elapsed();
        self.streams.heard(&received.from, received.from_instance, newest, now);
        Ok(())
    }

    fn count_late(&mut self, late: u64, from: &str) {
        self.late += late;
        // Once, and then each time that there are twice as many.
        if self.late > 0 && self.late >= self.told.saturating_mul(2).max(1) {
            self.told = self.late;
            tracing::warn!(rows = self.late, from, "rows came after their window was over");
        }
    }

    /// The batch was taken whole.
    pub(super) fn given(&mut self) {
        self.pending.push_back(self.last_end);
        self.last_end = i64::MIN;
    }

    fn over(&self) -> i64 {
        if self.column.is_none() {
            return self.now();
        }
        let reached = self.streams.reached(self.clock.elapsed());
        reached.map_or(i64::MIN, |reached| reached.saturating_sub(self.lateness))
    }

    /// Finishes the windows that are over; says whether there were any.
    pub(super) async fn close<F: Fold<State = S>>(
        &mut self,
        fold: &mut F,
        ready: &mut Vec<RecordBatch>,
    ) -> Result<bool, ComponentError> {
        let over = self.over();
        self.close_until(over, fold, ready).await
    }

    async fn close_until<F: Fold<State = S>>(
        &mut self,
        over: i64,
        fold: &mut F,
        ready: &mut Vec<RecordBatch>,
    ) -> Result<bool, ComponentError> {
        let mut closed = false;
        while let Some((&start, state)) = self.windows.first_key_value() {
            let span = Span { start, end: start + self.size };
            if span.end > over {
                break;
            }
            ready.extend(fold.finish(state, Some(span)).await?);
            self.windows.pop_first();
            self.closed = self.closed.max(span.end);
            closed = true;
        }
        self.closed = self.closed.max(over);
        Ok(closed)
    }

    pub(super) fn done(&mut self) -> u64 {
        while self.pending.front().is_some_and(|end| *end <= self.closed) {
            self.pending.pop_front();
            self.done += 1;
        }
        self.done
    }

    /// Finishes all windows.
    pub(super) async fn end<F: Fold<State = S>>(
        &mut self,
        fold: &mut F,
        ready: &mut Vec<RecordBatch>,
    ) -> Result<(), ComponentError> {
        self.close_until(i64::MAX, fold, ready).await.map(drop)
    }
}

fn flush(places: &mut Places, run: &mut (i64, Vec<u32>)) {
    if !run.1.is_empty() {
        places.entry(run.0).or_default().append(&mut run.1);
    }
}

/// These rows, in ascending order.
fn picked(batch: &RecordBatch, rows: Vec<u32>) -> Result<RecordBatch, ComponentError> {
    match (rows.first(), rows.last()) {
        (Some(first), Some(last)) if (last - first) as usize + 1 == rows.len() => {
            Ok(batch.slice(*first as usize, rows.len()))
        }
        _ => take_record_batch(batch, &UInt32Array::from(rows)).map_err(failure::arrow("window")),
    }
}
