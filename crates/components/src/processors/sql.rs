//! Runs a query over the rows of a batch or of a window.

use arrow_array::RecordBatch;
use async_trait::async_trait;
use sheaf_connectors::{AdbcDatabase, AdbcSpec, DriverPaths};
use sheaf_dataflow::ComponentError;
use sheaf_pipeline::spec::SqlProcessor;
use sheaf_retry::Retryable as _;

use super::merge::Union;
use super::window::{Fold, Memory, Share, Span};

/// Bytes of a result, at most.
const MAX_RESULT_BYTES: u64 = 1 << 30;
/// A database that is there for its connections alone, in DuckDB and SQLite.
const IN_MEMORY: &str = ":memory:";

/// Runs a query over the rows of a batch or of a window, in a database in memory.
///
/// The rows are a temporary table that is gone after the query: a query sees the rows of its
/// window and nothing else.
pub(super) struct Query {
    query: String,
    table: String,
    spec: AdbcSpec,
    drivers: DriverPaths,
    /// Opened for the first rows.
    database: Option<AdbcDatabase>,
    memory: Memory,
}

/// The rows of a window.
pub(super) struct State {
    batches: Vec<RecordBatch>,
    bytes: usize,
    union: Union,
    share: Share,
}

impl Query {
    pub(super) fn new(config: &SqlProcessor, drivers: &DriverPaths) -> Self {
        let mut drivers = drivers.clone();
        let spec = match config.driver.as_str() {
            "duckdb" => AdbcSpec::duckdb(IN_MEMORY),
            path if is_duckdb(path) => {
                drivers.flag = Some(path.into());
                AdbcSpec::duckdb(IN_MEMORY)
            }
            driver => AdbcSpec::driver(driver, IN_MEMORY),
        };
        Query {
            query: config.query.clone(),
            table: config.table.clone(),
            spec,
            drivers,
            database: None,
            memory: Memory::default(),
        }
    }

    async fn database(&mut self) -> Result<AdbcDatabase, ComponentError> {
        if let Some(database) = &self.database {
            return Ok(database.clone());
        }
        let opened = AdbcDatabase::open(&self.spec, &self.drivers).await.map_err(|error| {
            let text = "sql: the database for the query cannot be opened";
            ComponentError::new(error.code(), text).because(error)
        })?;
        Ok(self.database.insert(opened).clone())
    }
}

/// DuckDB's library has an entry point of its own.
fn is_duckdb(path: &str) -> bool {
    let name = std::path::Path::new(path).file_name();
    name.is_some_and(|name| name.to_string_lossy().contains("duckdb"))
}

#[async_trait]
impl Fold for Query {
    type State = State;

    fn check(&mut self, _: &RecordBatch) -> Result<(), ComponentError> {
        Ok(())
    }

    fn empty(&self) -> State {
        State {
            batches: Vec::new(),
            bytes: 0,
            union: Union::new("sql"),
            share: self.memory.share(),
        }
    }

    fn add(&mut self, state: &mut State, batch: &RecordBatch) -> Result<(), ComponentError> {
        let batch = state.union.conform(batch, "the batch before")?;
        state.bytes += bytes(&batch);
        state.batches.push(batch);
        state.share.set(state.bytes)
    }

    async fn finish(
        &mut self,
        state: &State,
        _: Option<Span>,
    ) -> Result<Vec<RecordBatch>, ComponentError> {
        // What came first may lack columns that came later.
        let mut union = state.union.clone();
        let rows = state.batches.iter().map(|batch| union.conform(batch, "the batch before"));
        let rows = rows.collect::<Result<Vec<_>, _>>()?;
        let database = self.database().await?;
        let made = database.query_over(&self.table, rows, &self.query, MAX_RESULT_BYTES).await;
        made.map_err(|error| {
            let text = "sql: the query failed; it runs over the rows as table ";
            ComponentError::new(error.code(), format!("{text}`{}`", self.table)).because(error)
        })
    }
}

/// The bytes of these rows alone: a batch may be a part of a larger one.
fn bytes(batch: &RecordBatch) -> usize {
    let all = batch.get_array_memory_size();
    let own = batch
        .columns()
        .iter()
        .map(|column| column.to_data().get_slice_memory_size().unwrap_or(all));
    own.sum()
}
