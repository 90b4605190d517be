//! A processor with a state, which it counts and shows.

use arrow_array::cast::AsArray as _;
use arrow_array::types::Float64Type;
use arrow_array::{BooleanArray, RecordBatch};
use arrow_cast::cast;
use arrow_schema::DataType;
use arrow_select::filter::filter_record_batch;
use async_trait::async_trait;
use serde::Deserialize;
use sheaf_dataflow::{ComponentError, Outcome, Processor, Received, Start};
use sheaf_retry::Code;

/// So many values say what is usual.
const ENOUGH: f64 = 30.0;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Config {
    column: String,
    deviations: f64,
}

/// Keeps the rows whose value is farther from the mean of all values before it than so many
/// standard deviations. What is usual is learnt anew by a process that is started again.
pub(crate) struct Outliers {
    config: Config,
    usual: Usual,
    /// Batches that are done with: their senders need not send them again.
    done: u64,
    found: u64,
}

impl Outliers {
    pub(crate) fn new(start: &Start) -> Result<Self, ComponentError> {
        Ok(Outliers { config: start.config()?, usual: Usual::default(), done: 0, found: 0 })
    }

    fn column(&self, batch: &RecordBatch) -> Result<Vec<Option<f64>>, ComponentError> {
        let name = &self.config.column;
        let invalid = |text: String| ComponentError::new(Code::InvalidArgument, text);
        let column = batch.column_by_name(name);
        let column = column.ok_or_else(|| invalid(format!("there is no column `{name}`")))?;
        let numbers = cast(column, &DataType::Float64).map_err(|error| {
            invalid(format!("the column `{name}` has no numbers")).because(error)
        })?;
        let finite = |value: Option<f64>| value.filter(|value| value.is_finite());
        Ok(numbers.as_primitive::<Float64Type>().iter().map(finite).collect())
    }
}

#[async_trait]
impl Processor for Outliers {
    async fn process(&mut self, received: &Received) -> Result<Outcome, ComponentError> {
        let values = self.column(&received.batch)?;
        // A batch that fails is given once more: nothing of it is kept until all is well.
        let mut usual = self.usual;
        let most = self.config.deviations;
        let is_far =
            values.iter().map(|value| value.is_some_and(|value| usual.learn(value) > most));
        let is_far: BooleanArray = is_far.map(Some).collect();
        let kept = filter_record_batch(&received.batch, &is_far).map_err(|error| {
            ComponentError::new(Code::Internal, "rows cannot be filtered").because(error)
        })?;
        self.usual = usual;
        self.done += 1;
        self.found += kept.num_rows() as u64;
        Ok(Outcome { batches: vec![kept], done: self.done })
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        vec![("outliers", self.found)]
    }

    async fn end(&mut self) -> Result<Outcome, ComponentError> {
        Ok(Outcome { batches: Vec::new(), done: self.done })
    }
}

/// Mean and variance of a stream of values (Welford 1962).
#[derive(Clone, Copy, Default)]
struct Usual {
    count: f64,
    mean: f64,
    /// Of the squares of differences from the mean.
    sum: f64,
}

impl Usual {
    /// Takes a value; how many standard deviations of those before it is away from their mean.
    fn learn(&mut self, value: f64) -> f64 {
        let difference = value - self.mean;
        let deviation = (self.sum / self.count).sqrt();
        let away = if self.count < ENOUGH { 0.0 } else { difference.abs() / deviation };
        self.count += 1.0;
        self.mean += difference / self.count;
        self.sum += difference * (value - self.mean);
        away
    }
}
