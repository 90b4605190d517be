//! A source that goes on where it was, also in another process.

use std::sync::Arc;

use arrow_array::{ArrayRef, Float64Array, RecordBatch, UInt64Array};
use async_trait::async_trait;
use bytes::Bytes;
use serde::Deserialize;
use sheaf_dataflow::{ComponentError, Made, Source, Start};
use sheaf_retry::Code;

/// One reading of so many is far from the others.
const SPIKE_EVERY: u64 = 1_000;

/// What the pipeline says under `config`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Config {
    rows: u64,
    #[serde(default = "batch_rows")]
    batch_rows: u64,
}

fn batch_rows() -> u64 {
    1_000
}

/// Readings of a sensor, numbered from 0.
pub(crate) struct Sensors {
    config: Config,
    next: u64,
}

impl Sensors {
    pub(crate) fn new(start: &Start) -> Result<Self, ComponentError> {
        let config: Config = start.config()?;
        if config.batch_rows == 0 {
            let text = "`batchRows` is 0: a batch has a row at least";
            return Err(ComponentError::new(Code::InvalidArgument, text));
        }
        // What the batch said that all readers have acknowledged last.
        let next = start.offset.as_ref().map_or(Ok(0), |offset| read(offset))?;
        Ok(Sensors { config, next })
    }
}

#[async_trait]
impl Source for Sensors {
    async fn next(&mut self) -> Result<Option<Made>, ComponentError> {
        let end = (self.next + self.config.batch_rows).min(self.config.rows);
        if self.next >= end {
            return Ok(None);
        }
        let numbers: UInt64Array = (self.next..end).collect::<Vec<_>>().into();
        let values: Float64Array = (self.next..end).map(reading).collect::<Vec<_>>().into();
        let columns = [("n", Arc::new(numbers) as ArrayRef), ("value", Arc::new(values) as _)];
        let batch = RecordBatch::try_from_iter(columns).map_err(|error| {
            ComponentError::new(Code::Internal, "readings are no batch").because(error)
        })?;
        self.next = end;
        Ok(Some(Made { batch, offset: Bytes::copy_from_slice(&end.to_le_bytes()) }))
    }
}

/// A wave, with a spike now and then.
#[allow(clippy::cast_precision_loss, reason = "as many readings do not fit on a disk")]
fn reading(n: u64) -> f64 {
    let wave = (n as f64 / 50.0).sin();
    match n % SPIKE_EVERY == SPIKE_EVERY - 1 {
        true => wave + 25.0,
        false => wave,
    }
}

fn read(offset: &[u8]) -> Result<u64, ComponentError> {
    let bytes = <[u8; 8]>::try_from(offset).map_err(|error| {
        let text = "the offset is not one of this source: 8 bytes, little-endian";
        ComponentError::new(Code::InvalidArgument, text).because(error)
    });
    bytes.map(u64::from_le_bytes)
}
