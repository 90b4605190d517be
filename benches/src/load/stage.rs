//! The ends of a pipeline, made with the SDK: what its streams bring is measured, and no
//! file or database.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::cast::AsArray as _;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, Int64Array, RecordBatch};
use async_trait::async_trait;
use bytes::Bytes;
use clap::Args;
use serde_json::json;
use sheaf_dataflow::{
    AnyComponent, Assignment, ComponentError, Made, Received, Sink, Source, Start,
};
use sheaf_retry::{Code, SharedClock, SystemClock};

use super::now_ns;
use crate::error::{Error, Result};

/// The column `value` counts up to this.
pub(crate) const CYCLE: i64 = 10;
const COLUMNS: [&str; 2] = ["at", "value"];

/// Makes batches.
#[derive(Debug, Args)]
pub(crate) struct StageSource {
    /// How many.
    batches: u64,
    /// Rows of each.
    rows: i64,
    /// Between one and the next. A batch of one row then has the time.
    pace_us: u64,
}

/// Counts what comes.
#[derive(Debug, Args)]
pub(crate) struct StageSink {
    /// Where what was counted is written.
    result: PathBuf,
    /// Each batch is one row with the time when it was made.
    #[arg(long)]
    paced: bool,
}

pub(super) async fn source(load: &StageSource) -> Result<()> {
    let StageSource { batches, rows, pace_us } = *load;
    let columns = (0..rows).map(|row| (row, row % CYCLE)).unzip();
    let same = batch(columns).map_err(failed)?;
    host(move |start| {
        // An earlier process of this place may have made some.
        let made = start.offset.as_deref().and_then(|offset| offset.try_into().ok());
        let made = made.map_or(0, u64::from_le_bytes);
        let pace = (pace_us > 0).then(|| Duration::from_micros(pace_us));
        let clock = SystemClock::shared();
        let is_timed = pace.is_some() && rows == 1;
        AnyComponent::Source(Box::new(Batches { same, made, all: batches, pace, is_timed, clock }))
    })
    .await
}

pub(super) async fn sink(load: &StageSink) -> Result<()> {
    let (path, is_paced) = (load.result.clone(), load.paced);
    host(move |_| {
        let counted = Counted { path, is_paced, given: 0, rows: 0, total: 0, first: 0, last: 0 };
        AnyComponent::Sink(Box::new(Tally { counted, waits: Vec::new() }))
    })
    .await
}

async fn host(make: impl FnOnce(Start) -> AnyComponent) -> Result<()> {
    let assignment = Assignment::from_environment().map_err(failed)?;
    let run = sheaf_dataflow::run(assignment, async |start| Ok(make(start)));
    Box::pin(run).await.map_err(failed)
}

fn failed(error: impl std::error::Error) -> Error {
    Error::Message(error.to_string())
}

fn batch((at, value): (Vec<i64>, Vec<i64>)) -> std::result::Result<RecordBatch, ComponentError> {
    let columns = [at, value].map(|values| Arc::new(Int64Array::from(values)) as ArrayRef);
    RecordBatch::try_from_iter(COLUMNS.into_iter().zip(columns)).map_err(|error| {
        ComponentError::new(Code::Internal, "no batch can be made of these columns").because(error)
    })
}

struct Batches {
    same: RecordBatch,
    made: u64,
    all: u64,
    pace: Option<Duration>,
    is_timed: bool,
    clock: SharedClock,
}

#[async_trait]
impl Source for Batches {
    async fn next(&mut self) -> std::result::Result<Option<Made>, ComponentError> {
        if self.made == self.all {
            return Ok(None);
        }
        if let Some(pace) = self.pace {
            self.clock.sleep(pace).await;
        }
        let batch = match self.is_timed {
            true => batch((vec![now_ns().cast_signed()], vec![0]))?,
            false => self.same.clone(),
        };
        self.made += 1;
        Ok(Some(Made { batch, offset: Bytes::copy_from_slice(&self.made.to_le_bytes()) }))
    }
}

struct Counted {
    path: PathBuf,
    is_paced: bool,
    given: u64,
    rows: u64,
    total: i64,
    first: u64,
    last: u64,
}

struct Tally {
    counted: Counted,
    /// Nanoseconds from the making of each row to here.
    waits: Vec<u64>,
}

#[async_trait]
impl Sink for Tally {
    async fn write(&mut self, received: &Received) -> std::result::Result<u64, ComponentError> {
        let counted = &mut self.counted;
        counted.last = now_ns();
        if counted.given == 0 {
            counted.first = counted.last;
        }
        let [at, value] = [0, 1].map(|index| received.batch.column(index));
        let values = value.as_primitive::<Int64Type>().values();
        counted.rows += values.len() as u64;
        counted.total += values.iter().sum::<i64>();
        if counted.is_paced {
            let made = at.as_primitive::<Int64Type>().value(0).cast_unsigned();
            self.waits.push(counted.last.saturating_sub(made));
        }
        counted.given += 1;
        Ok(counted.given)
    }

    /// Written whenever nothing comes, and at the end.
    async fn flush(&mut self) -> std::result::Result<u64, ComponentError> {
        let Counted { path, given, rows, total, first, last, .. } = &self.counted;
        let (given, waits) = (*given, &self.waits);
        let counted = json!({ "rows": rows, "total": total, "first_ns": first, "last_ns": last, "waits": waits });
        std::fs::write(path, counted.to_string()).map_err(|error| {
            let text = format!("{} cannot be written", path.display());
            ComponentError::new(Code::Io, text).because(error)
        })?;
        Ok(given)
    }
}
