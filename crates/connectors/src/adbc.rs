//! Any database that speaks ADBC; its driver is loaded at run time.

mod conform;
mod dialect;
mod driver;
mod evolve;
mod failure;
mod names;
mod positions;
mod query_over;
mod session;
mod spec;
mod tables;

use std::pin::Pin;
use std::task::Poll;

use adbc_driver_manager::ManagedDatabase;
use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use futures::StreamExt as _;
use sheaf_retry::Code;
use tokio::sync::{mpsc, oneshot};

use crate::blocking::blocking;
use crate::error::Error;
use crate::source::BatchStream;

use dialect::Dialect;
use failure::Failure;
use session::Session;

/// Batches of a query that were read ahead of whoever takes them.
const READ_AHEAD: usize = 2;

pub use driver::DriverPaths;
pub use names::{TableNames, sanitise};
pub use positions::Position;
pub use spec::AdbcSpec;
pub use tables::{AdbcTables, Appended, TableRows};

/// An open database.
///
/// DuckDB, SQLite and PostgreSQL are tested; others are spoken to in standard
/// SQL, with the types of PostgreSQL. DuckDB keeps a file to one process at a
/// time.
///
/// ```no_run
/// use sheaf_connectors::{AdbcDatabase, AdbcSpec, DriverPaths, Position, TableRows};
///
/// # async fn run(batch: arrow_array::RecordBatch) -> Result<(), sheaf_connectors::Error> {
/// let spec: AdbcSpec = "duckdb:roar.duckdb".parse()?;
/// let database = AdbcDatabase::open(&spec, &DriverPaths::default()).await?;
/// let tables = database.tables("sheaf").await?;
/// let start = tables.claim(&[("orders".into(), 0)]).await?;
/// let next_offset = start.first().map_or(0, |position| position.next_offset) + 100;
///
/// let rows = TableRows { table: "orders".into(), batches: vec![batch] };
/// let position = Position { topic: "orders".into(), partition: 0, next_offset };
/// let appended = tables.append(&[rows], &[position]).await?;
/// assert!(appended.created);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct AdbcDatabase {
    database: ManagedDatabase,
    dialect: Dialect,
    failure: Failure,
}

impl AdbcDatabase {
    /// Loads the driver and opens the database.
    ///
    /// # Errors
    /// [`Error::Io`]: `not_found` when there is no such driver (the cause says
    /// what was tried and how to get DuckDB's), `directory_locked` when another
    /// process has the file of DuckDB, else what the database says.
    pub async fn open(spec: &AdbcSpec, paths: &DriverPaths) -> Result<Self, Error> {
        let (spec, paths) = (spec.clone(), paths.clone());
        let place = spec.to_string();
        blocking("open", &place, move || {
            let failure = Failure::of(&spec);
            let database = driver::open(&spec, &paths)?;
            let dialect = Dialect::of(&session::vendor(&database, &failure)?);
            Ok(AdbcDatabase { database, dialect, failure })
        })
        .await
    }

    /// Where it is, for people: without secrets.
    pub fn describe(&self) -> &str {
        self.failure.place()
    }

    /// Tables that are filled on behalf of a consumer group.
    ///
    /// # Errors
    /// [`Error::Io`] with what the database says.
    pub async fn tables(&self, group: &str) -> Result<AdbcTables, Error> {
        let (own, group) = (self.clone(), group.to_owned());
        blocking("connect to", self.describe(), move || {
            AdbcTables::open(own.database, own.dialect, &own.failure, group)
        })
        .await
    }

    /// Runs a query over a connection of its own.
    ///
    /// # Errors
    /// [`Error::Io`] with what the database says; [`Error::Invalid`] when there
    /// are more than `max_rows` rows.
    pub async fn query(&self, sql: &str, max_rows: usize) -> Result<Vec<RecordBatch>, Error> {
        let (own, sql) = (self.clone(), sql.to_owned());
        blocking("query", self.describe(), move || {
            Session::open(&own.database, own.dialect, &own.failure)?.query(&sql, max_rows)
        })
        .await
    }

    /// Runs a query over a connection of its own, and gives its columns and its rows as the
    /// driver makes them, a few batches ahead. A dropped stream ends it at the next batch.
    ///
    /// # Errors
    /// [`Error::Io`] with what the database says; the stream may end with it too.
    pub async fn stream(&self, sql: &str) -> Result<(SchemaRef, BatchStream), Error> {
        let (own, sql) = (self.clone(), sql.to_owned());
        let (begun, schema) = oneshot::channel();
        let (sender, mut batches) = mpsc::channel(READ_AHEAD);
        let work = move || {
            let mut begun = Some(begun);
            let begin = |schema| {
                // Whoever asked may be gone: then nobody takes a batch either.
                drop(begun.take().map(|begun| begun.send(Ok(schema))));
            };
            let take = |batch| sender.blocking_send(Ok(batch)).is_ok();
            let opened = Session::open(&own.database, own.dialect, &own.failure);
            let done = opened.and_then(|mut session| session.each(&sql, begin, take));
            if let Err(error) = done {
                match begun.take() {
                    Some(begun) => drop(begun.send(Err(error))),
                    None => drop(sender.blocking_send(Err(error))),
                }
            }
        };
        let thread = tokio::task::spawn_blocking(work);
        let schema = match schema.await {
            Ok(Ok(schema)) => schema,
            Ok(Err(error)) => {
                // Its connection is closed then: whoever opens the database next is not in the
                // way of that.
                thread.await.ok();
                return Err(error);
            }
            Err(_) => {
                let why = match thread.await {
                    Err(panicked) => panicked.to_string(),
                    Ok(()) => "the driver gave no answer".to_owned(),
                };
                return Err(Error::external("query", self.describe(), Code::Internal, why));
            }
        };
        let place = self.describe().to_owned();
        let mut thread = Some(thread);
        let batches = futures::stream::poll_fn(move |context| {
            let next = std::task::ready!(batches.poll_recv(context));
            let (None, Some(ended)) = (&next, &mut thread) else { return Poll::Ready(next) };
            // Rows that are missing because a driver panicked are not the end.
            let ended = std::task::ready!(Pin::new(ended).poll(context));
            thread = None;
            let lost = |why| Error::external("query", &place, Code::Internal, why);
            Poll::Ready(ended.err().map(|panicked| Err(lost(panicked))))
        });
        Ok((schema, batches.boxed()))
    }

    /// Runs a statement in a transaction of its own.
    ///
    /// # Errors
    /// [`Error::Io`] with what the database says.
    pub async fn execute(&self, sql: &str) -> Result<(), Error> {
        let (own, sql) = (self.clone(), sql.to_owned());
        blocking("execute a statement in", self.describe(), move || {
            let mut session = Session::open(&own.database, own.dialect, &own.failure)?;
            session.update("execute a statement in", &sql)?;
            session.commit()
        })
        .await
    }
}

impl std::fmt::Debug for AdbcDatabase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AdbcDatabase({})", self.describe())
    }
}
