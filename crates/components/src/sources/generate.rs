//! Makes rows up.

mod values;

use std::sync::Arc;
use std::time::Duration;

use arrow_array::RecordBatch;
use arrow_schema::{Schema, SchemaRef};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use sheaf_dataflow::{ComponentError, Made, Source, Start};
use sheaf_pipeline::spec::GenerateSource;
use sheaf_retry::{Code, SharedClock};

use crate::failure::failed_as;
use crate::host::Host;
use crate::offset;
use values::Values;

const KIND: &str = "generate";
/// Batches that an instance makes in a second, where its rows are limited to so many that
/// whole batches would be seldom.
const BATCHES_PER_SECOND: u64 = 10;
/// How far behind its time a batch may be without the next ones being late too: what was
/// not taken in time is not made up for.
const MAX_BEHIND: Duration = Duration::from_millis(100);

/// The rows of one instance: every so many-th chunk of all rows. Row N has the same values
/// whoever makes it, and whenever, the time of `now` apart.
pub(super) struct Generate {
    schema: SchemaRef,
    values: Vec<Values>,
    seed: u64,
    /// Rows in all.
    rows: u64,
    chunk: u64,
    replicas: u64,
    /// The first row of the next batch, unless that is beyond this instance's chunk.
    next: u64,
    pace: Option<Pace>,
    clock: SharedClock,
}

/// Where to go on.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Offset {
    row: u64,
    chunk: u64,
    replicas: u64,
}

/// No more rows in a time than are allowed.
struct Pace {
    rows_per_second: f64,
    /// When the next batch is due.
    due: Option<Duration>,
}

impl Generate {
    pub(super) fn open(
        config: &GenerateSource,
        start: &Start,
        host: &Host,
    ) -> Result<Self, ComponentError> {
        let values = config.columns.iter().map(Values::of).collect::<Result<Vec<_>, _>>()?;
        let schema = Arc::new(Schema::new(values.iter().map(Values::field).collect::<Vec<_>>()));
        let replicas = u64::from(start.replicas.max(1));
        let mut chunk = u64::from(config.batch_rows.max(1));
        if let Some(limit) = config.rows_per_second {
            let seldom = limit / (BATCHES_PER_SECOND * replicas);
            chunk = chunk.min(seldom.max(1));
        }
        let next = match offset::read::<Offset>(KIND, start.offset.as_ref())? {
            Some(offset) => offset.checked(chunk, replicas)?,
            None => u64::from(start.instance).saturating_mul(chunk),
        };
        #[allow(clippy::cast_precision_loss, reason = "a rate")]
        let pace = config
            .rows_per_second
            .map(|rows| Pace { rows_per_second: rows as f64 / replicas as f64, due: None });
        Ok(Generate {
            schema,
            values,
            seed: config.seed,
            rows: config.rows.unwrap_or(u64::MAX),
            chunk,
            replicas,
            next,
            pace,
            clock: Arc::clone(&host.clock),
        })
    }

    /// The rows of the next batch, and where the one after it begins.
    fn span(&self) -> Option<(u64, u64, u64)> {
        let first = self.next;
        if first >= self.rows {
            return None;
        }
        // The rest of the chunk in which it is.
        let end = (first / self.chunk + 1).saturating_mul(self.chunk).min(self.rows);
        // Where there are no more rows for now, the rest of the chunk stays its own.
        let is_whole = end.is_multiple_of(self.chunk);
        let others = if is_whole { self.chunk.saturating_mul(self.replicas - 1) } else { 0 };
        Some((first, end, end.saturating_add(others)))
    }
}

impl Offset {
    /// With several instances, a row is made by the one whose chunk it is in.
    fn checked(&self, chunk: u64, replicas: u64) -> Result<u64, ComponentError> {
        if self.replicas != replicas || (replicas > 1 && self.chunk != chunk) {
            let text = format!(
                "this source was at row {} with {} instances and batches of {} rows, and now has \
                 {replicas} and {chunk}: rows would be left out or made twice; put the numbers \
                 back, or remove the state of the component to begin anew",
                self.row, self.replicas, self.chunk
            );
            return Err(ComponentError::new(Code::FailedPrecondition, text));
        }
        Ok(self.row)
    }
}

impl Pace {
    /// How long to wait until the next batch is due.
    fn wait(&mut self, now: Duration) -> Duration {
        let due = *self.due.get_or_insert(now);
        if now > due + MAX_BEHIND {
            self.due = Some(now);
        }
        due.saturating_sub(now)
    }

    fn made(&mut self, rows: u64) {
        #[allow(clippy::cast_precision_loss, reason = "a rate")]
        let time = Duration::from_secs_f64(rows as f64 / self.rows_per_second);
        self.due = self.due.map(|due| due + time);
    }
}

#[async_trait]
impl Source for Generate {
    async fn next(&mut self) -> Result<Option<Made>, ComponentError> {
        let Some((first, end, next)) = self.span() else { return Ok(None) };
        if let Some(pace) = &mut self.pace {
            let wait = pace.wait(self.clock.elapsed());
            if !wait.is_zero() {
                self.clock.sleep(wait).await;
            }
        }
        let now = self.clock.now();
        let columns = self.values.iter_mut().enumerate();
        let columns = columns
            .map(|(place, values)| values.rows(self.seed, place as u64, first..end, now))
            .collect();
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns)
            .map_err(failed_as(Code::Internal, "rows could not be put together"))?;
        let at = Offset { row: next, chunk: self.chunk, replicas: self.replicas };
        let offset = offset::write(KIND, &at)?;
        self.next = next;
        if let Some(pace) = &mut self.pace {
            pace.made(end - first);
        }
        Ok(Some(Made { batch, offset }))
    }
}
