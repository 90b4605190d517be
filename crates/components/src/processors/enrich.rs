//! Adds columns of a reference table to the rows that match it.
//!
//! Rows match where all columns of `on` are equal; null is equal to nothing. A row that
//! matches several of the table comes out once for each, in the order of the table. The table
//! is held in memory. With `refresh` it is read again in the background, and exchanged as a
//! whole; where that fails the old one stays, and the log says so.

mod load;
mod table;

use std::sync::Arc;
use std::time::Duration;

use arrow_array::{ArrayRef, RecordBatch, UInt32Array};
use arrow_schema::{Field, Schema, SchemaRef};
use arrow_select::take::{take, take_record_batch};
use async_trait::async_trait;
use sheaf_dataflow::{ComponentError, Outcome, Processor, Received, Start};
use sheaf_pipeline::spec::{EnrichProcessor, Unmatched};
use tokio::task::JoinHandle;

use super::each::PerSchema;
use super::failure;
use crate::host::Host;
use load::load;
use table::Table;

/// Rows that come out as one batch, at most: many of the table may match one.
const BATCH_ROWS: usize = 64 << 10;

/// Adds columns of a reference table.
pub(super) struct Enrich {
    config: Arc<EnrichProcessor>,
    host: Host,
    start: Start,
    table: Option<Table>,
    plans: PerSchema<Plan>,
    reading: Option<JoinHandle<Result<Table, ComponentError>>>,
    /// When the table was read, or the last attempt failed.
    read_at: Duration,
    counts: Counts,
    given: u64,
}

#[derive(Default)]
struct Counts {
    unmatched: u64,
    reads: u64,
    failed_reads: u64,
}

/// What is known of the rows of one schema.
struct Plan {
    on: Vec<usize>,
    schema: SchemaRef,
}

/// Rows of the input and of the table that belong together.
#[derive(Default)]
struct Pairs {
    left: Vec<u32>,
    right: Vec<Option<u32>>,
}

impl Enrich {
    pub(super) fn new(config: &EnrichProcessor, start: &Start, host: &Host) -> Self {
        Enrich {
            config: Arc::new(config.clone()),
            host: host.clone(),
            start: Start { instance: 0, replicas: 1, offset: None, ..start.clone() },
            table: None,
            plans: PerSchema::new(),
            reading: None,
            read_at: Duration::ZERO,
            counts: Counts::default(),
            given: 0,
        }
    }

    /// Reads the table the first time, or again as it is due.
    async fn renew(&mut self) -> Result<(), ComponentError> {
        let now = self.host.clock.elapsed();
        if self.table.is_none() {
            let table = load(&self.config, &self.host, &self.start).await?;
            self.exchange(table, now);
            return Ok(());
        }
        if let Some(reading) = self.reading.take_if(|reading| reading.is_finished()) {
            match reading.await {
                Ok(Ok(table)) => self.exchange(table, now),
                Ok(Err(error)) => self.stays(&error, now),
                Err(error) => self.stays(&error, now),
            }
        }
        let is_due = |refresh: Duration| now.saturating_sub(self.read_at) >= refresh;
        if self.reading.is_none() && self.config.refresh.is_some_and(|refresh| is_due(refresh.0)) {
            let (config, host) = (Arc::clone(&self.config), self.host.clone());
            let start = self.start.clone();
            let reading = tokio::spawn(async move { load(&config, &host, &start).await });
            self.reading = Some(reading);
        }
        Ok(())
    }

    fn exchange(&mut self, table: Table, now: Duration) {
        tracing::info!(rows = table.rows(), "reference table read");
        self.table = Some(table);
        self.plans = PerSchema::new();
        self.counts.reads += 1;
        self.read_at = now;
    }

    fn stays(&mut self, error: &dyn std::error::Error, now: Duration) {
        tracing::warn!(%error, "the reference table cannot be read again; the old one stays");
        self.counts.failed_reads += 1;
        self.read_at = now;
    }

    fn join(&mut self, batch: &RecordBatch) -> Result<Vec<RecordBatch>, ComponentError> {
        let Some(table) = &self.table else { return Ok(Vec::new()) };
        let config = &self.config;
        let plan = self.plans.get(batch.schema_ref(), |schema| Plan::new(config, table, schema))?;
        let keys: Vec<ArrayRef> =
            plan.on.iter().map(|place| Arc::clone(batch.column(*place))).collect();
        let lookup = table.lookup(&keys)?;
        let mut made = Vec::new();
        let mut pairs = Pairs::default();
        for row in 0..u32::try_from(batch.num_rows()).unwrap_or(u32::MAX) {
            for found in lookup.matches(row) {
                pairs.push(row, Some(found));
                if pairs.left.len() == BATCH_ROWS {
                    made.push(pairs.take(plan, table, batch)?);
                }
            }
            if !lookup.is_matched(row) {
                self.counts.unmatched += 1;
                if config.unmatched == Unmatched::Keep {
                    pairs.push(row, None);
                }
            }
            if pairs.left.len() >= BATCH_ROWS {
                made.push(pairs.take(plan, table, batch)?);
            }
        }
        if !pairs.left.is_empty() {
            made.push(pairs.take(plan, table, batch)?);
        }
        Ok(made)
    }
}

impl Plan {
    fn new(
        config: &EnrichProcessor,
        table: &Table,
        schema: &Schema,
    ) -> Result<Self, ComponentError> {
        let mut on = Vec::new();
        for name in &config.on {
            let place = failure::column("enrich", name, schema)?;
            table.fits(name, schema.field(place).data_type())?;
            on.push(place);
        }
        let mut fields: Vec<_> = schema.fields().iter().cloned().collect();
        for field in table.added().fields() {
            if schema.index_of(field.name()).is_ok() {
                return Err(failure::configuration(format!(
                    "enrich: the rows have a column `{}` already; leave it out of `columns`, or \
                     rename one of the two",
                    field.name()
                )));
            }
            let nullable = field.is_nullable() || config.unmatched == Unmatched::Keep;
            fields.push(Arc::new(Field::clone(field).with_nullable(nullable)));
        }
        let schema = Schema::new_with_metadata(fields, schema.metadata().clone());
        Ok(Plan { on, schema: Arc::new(schema) })
    }
}

impl Pairs {
    fn push(&mut self, left: u32, right: Option<u32>) {
        self.left.push(left);
        self.right.push(right);
    }

    /// The rows that belong together, side by side.
    fn take(
        &mut self,
        plan: &Plan,
        table: &Table,
        batch: &RecordBatch,
    ) -> Result<RecordBatch, ComponentError> {
        let wrong = failure::arrow("enrich");
        let pairs = std::mem::take(self);
        let is_whole = pairs.left.len() == batch.num_rows()
            && (0u32..).zip(&pairs.left).all(|(row, left)| row == *left);
        let own = match is_whole {
            true => batch.clone(),
            false => take_record_batch(batch, &UInt32Array::from(pairs.left)).map_err(&wrong)?,
        };
        let places = UInt32Array::from(pairs.right);
        let mut columns = own.columns().to_vec();
        for column in table.columns() {
            columns.push(take(column, &places, None).map_err(&wrong)?);
        }
        RecordBatch::try_new(Arc::clone(&plan.schema), columns).map_err(&wrong)
    }
}

#[async_trait]
impl Processor for Enrich {
    async fn process(&mut self, received: &Received) -> Result<Outcome, ComponentError> {
        self.renew().await?;
        let batches = match received.batch.num_rows() {
            0 => Vec::new(),
            _ => self.join(&received.batch)?,
        };
        self.given += 1;
        Ok(Outcome { batches, done: self.given })
    }

    async fn tick(&mut self) -> Result<Option<Outcome>, ComponentError> {
        self.renew().await?;
        Ok(None)
    }

    async fn end(&mut self) -> Result<Outcome, ComponentError> {
        Ok(Outcome { batches: Vec::new(), done: self.given })
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let Counts { unmatched, reads, failed_reads } = self.counts;
        vec![
            ("unmatched_rows", unmatched),
            ("reference_reads", reads),
            ("failed_reference_reads", failed_reads),
        ]
    }
}

impl Drop for Enrich {
    fn drop(&mut self) {
        if let Some(reading) = &self.reading {
            reading.abort();
        }
    }
}
