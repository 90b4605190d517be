//! Reads a database.

mod cursor;

use std::sync::Arc;
use std::time::Duration;

use arrow_array::RecordBatch;
use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};
use sheaf_connectors::{AdbcDatabase, Error};
use sheaf_dataflow::{ComponentError, Made, Source, Start};
use sheaf_pipeline::spec::AdbcSource;
use sheaf_retry::{Code, SharedClock};

use crate::databases;
use crate::failure::{failed, failed_as};
use crate::host::Host;
use crate::offset;
use cursor::Cursor;

const KIND: &str = "adbc";

/// The rows of a query, once or again and again.
pub(super) struct Query {
    database: AdbcDatabase,
    query: String,
    every: Option<Duration>,
    cursor: Option<Cursor>,
    clock: SharedClock,
    at: Offset,
    /// When the next run is due; the first one is at once.
    due: Duration,
    run: Option<Run>,
}

/// A run that is under way. One batch is held, so that the last one is known to be that.
struct Run {
    batches: BoxStream<'static, Result<RecordBatch, Error>>,
    held: Option<RecordBatch>,
    /// Rows that are left out, since they were given already.
    skip: u64,
}

/// Where to go on.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Offset {
    query: String,
    /// The cursor of the last row, as SQL writes it.
    after: Option<String>,
    /// Rows that were given of this run; with a cursor, those of them that have this cursor.
    rows: u64,
    /// Whether the run is over.
    complete: bool,
}

impl Query {
    pub(super) async fn open(
        config: &AdbcSource,
        start: &Start,
        host: &Host,
    ) -> Result<Self, ComponentError> {
        let found = offset::read::<Offset>(KIND, start.offset.as_ref())?;
        if let Some(found) = &found
            && found.query != config.query
        {
            let text = "the offset that is kept of this source is of another query; put the query \
                        back, or remove the state of the component to read from the beginning";
            return Err(ComponentError::new(Code::FailedPrecondition, text));
        }
        let database = databases::open(&config.database, host).await?;
        let new = Offset { query: config.query.clone(), ..Offset::default() };
        Ok(Query {
            database,
            query: config.query.trim().trim_end_matches(';').to_owned(),
            every: config.every.map(|every| every.0),
            cursor: config.cursor.as_deref().map(Cursor::try_new).transpose()?,
            due: host.clock.elapsed(),
            clock: Arc::clone(&host.clock),
            at: found.unwrap_or(new),
            run: None,
        })
    }

    async fn begin(&mut self) -> Result<Run, ComponentError> {
        let broken = || failed("the query cannot be run");
        let (sql, skip) = match &self.cursor {
            None => (self.query.clone(), if self.at.complete { 0 } else { self.at.rows }),
            Some(cursor) => {
                let columns = self.database.stream(&cursor.no_rows(&self.query)).await;
                let (schema, _) = columns.map_err(broken())?;
                let is_new = self.at.complete;
                let sql = cursor.rows(&self.query, &schema, self.at.after.as_deref(), is_new)?;
                (sql, if is_new { 0 } else { self.at.rows })
            }
        };
        let (_, batches) = self.database.stream(&sql).await.map_err(broken())?;
        Ok(Run { batches, held: None, skip })
    }

    /// The next batch of the run, and whether it is the last one.
    async fn read(run: &mut Run) -> Result<Option<(RecordBatch, bool)>, ComponentError> {
        loop {
            match run.batches.next().await.transpose().map_err(failed("the query broke off"))? {
                None => return Ok(run.held.take().map(|held| (held, true))),
                Some(batch) => {
                    let rows = batch.num_rows() as u64;
                    let left_out = run.skip.min(rows);
                    run.skip -= left_out;
                    if left_out == rows {
                        continue;
                    }
                    let from = usize::try_from(left_out).unwrap_or(usize::MAX);
                    let batch = batch.slice(from, batch.num_rows() - from);
                    if let Some(held) = run.held.replace(batch) {
                        return Ok(Some((held, false)));
                    }
                }
            }
        }
    }

    fn made(&mut self, batch: RecordBatch, is_last: bool) -> Result<Made, ComponentError> {
        let mut at = self.at.clone();
        if at.complete {
            at.rows = 0;
        }
        at.complete = is_last;
        match &self.cursor {
            None => at.rows += batch.num_rows() as u64,
            Some(cursor) => {
                let (after, ties) = cursor.last(&batch)?;
                let is_same = at.after.as_ref() == Some(&after) && ties == batch.num_rows() as u64;
                at.rows = if is_same { at.rows + ties } else { ties };
                at.after = Some(after);
            }
        }
        let offset = offset::write(KIND, &at)?;
        self.at = at;
        Ok(Made { batch, offset })
    }
}

#[async_trait]
impl Source for Query {
    async fn next(&mut self) -> Result<Option<Made>, ComponentError> {
        loop {
            let Some(run) = &mut self.run else {
                if self.every.is_none() && self.at.complete {
                    return Ok(None);
                }
                let wait = self.due.saturating_sub(self.clock.elapsed());
                if !wait.is_zero() {
                    self.clock.sleep(wait).await;
                }
                let begun = self.clock.elapsed();
                self.run = Some(self.begin().await?);
                self.due = begun + self.every.unwrap_or_default();
                continue;
            };
            let read = Query::read(run).await;
            match read {
                Ok(Some((batch, is_last))) => {
                    if is_last {
                        self.run = None;
                    }
                    return self.made(batch, is_last).map(Some);
                }
                Ok(None) => {
                    let missing = run.skip;
                    self.run = None;
                    if missing > 0 && self.cursor.is_none() {
                        return Err(ComponentError::new(
                            Code::FailedPrecondition,
                            format!(
                                "the query has {missing} rows less than were read of it before; \
                                 remove the state of the component to read from the beginning"
                            ),
                        ));
                    }
                    self.at.complete = true;
                }
                Err(error) => {
                    self.run = None;
                    return Err(error);
                }
            }
        }
    }
}

/// For the offset, which has to be a text.
fn unprintable(column: &str) -> impl FnOnce(arrow_schema::ArrowError) -> ComponentError {
    failed_as(Code::InvalidArgument, format!("the cursor {column} has a value with no text"))
}
