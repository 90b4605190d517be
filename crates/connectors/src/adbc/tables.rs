//! Rows and positions in one transaction.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Arc, Mutex};

use adbc_driver_manager::ManagedDatabase;
use arrow_array::RecordBatch;

use super::dialect::Dialect;
use super::failure::{Failure, was_in_conflict};
use super::positions::{self, Place, Position, Positions};
use super::session::Session;
use super::{conform, evolve, names};
use crate::blocking::blocking;
use crate::error::Error;

/// Rows for one table.
#[derive(Clone, Debug)]
pub struct TableRows {
    /// The table: any name but `_sheaf…`, see [`sanitise`](super::sanitise).
    pub table: String,
    /// The rows; batches may differ in their schemas.
    pub batches: Vec<RecordBatch>,
}

/// What an append did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Rows of this call.
    pub rows: u64,
    /// False where an earlier call, whose answer was lost, had written them.
    pub created: bool,
}

/// Tables of a database that take rows together with the positions up to which
/// they reach: all or nothing, across every crash.
///
/// 1. An append is one transaction: rows of all tables, changes of their
///    schemas and positions. After `Ok` it survives a crash as the database's
///    commits do; after `Err` nothing of it is there. Where an error leaves
///    open whether the commit has happened, the next append finds that out: the
///    same positions again are then answered with `created: false`, others of
///    these partitions are [`Error::Fenced`]. (Without positions it cannot tell.)
/// 2. Each position is written only while the one before is what this writer
///    believes to be stored: what [`AdbcTables::claim`] has read or its own
///    appends have written; nothing stored, where neither has been. Otherwise
///    another writer has the partition, and the append is [`Error::Fenced`],
///    until it is claimed again.
/// 3. Dropping a call's future does not stop its transaction: the next call
///    waits for its end.
///
/// Positions are in the table `_sheaf_offsets` (`group`, `topic`, `partition`,
/// `next_offset`, `version`).
///
/// # Schemas
///
/// A table is made from the schema of its first rows. New columns are added,
/// null in older rows; columns that rows lack are null. Columns whose type is
/// not known yet (`Null`) wait for one. Columns are matched by name, in DuckDB
/// and SQLite whatever the case. A column's type widens:
///
/// - integers to the smallest integer that holds both types, and with a floating
///   point number to that (whole numbers above 2^53 are then rounded);
/// - decimals, and integers with them, to one with all digits, 38 at most;
/// - times and timestamps to the finer unit, time zones to UTC;
/// - lists, structs (new fields are null in older rows) and maps by their parts.
///
/// All else is [`Error::Unsupported`], and nothing is written. SQLite has four
/// types: points in time and decimals become text. Lists, structs and maps become
/// JSON where a database has no such types (SQLite; PostgreSQL, lists of plain
/// values apart).
#[derive(Clone, Debug)]
pub struct AdbcTables {
    state: Arc<Mutex<State>>,
    place: Arc<str>,
}

impl AdbcTables {
    pub(super) fn open(
        database: ManagedDatabase,
        dialect: Dialect,
        failure: &Failure,
        group: String,
    ) -> Result<Self, Error> {
        let place = failure.place().into();
        let mut state = State {
            database,
            dialect,
            failure: failure.clone(),
            group,
            session: None,
            known: HashSet::new(),
            believed: Positions::new(),
            pending: None,
        };
        state.create()?;
        Ok(AdbcTables { state: Arc::new(Mutex::new(state)), place })
    }

    /// Writes the rows and the positions, or nothing.
    ///
    /// # Errors
    /// - [`Error::Fenced`] when another writer has a partition.
    /// - [`Error::Unsupported`] when a column has no place, [`Error::Malformed`]
    ///   when a value does not fit into its column.
    /// - [`Error::Io`] with `already_exists` when a row's key is in the table, with
    ///   `invalid_argument` for what else the table refuses.
    /// - [`Error::Invalid`] when a name cannot be used, or a partition has two
    ///   positions.
    /// - [`Error::Io`] with what the database says: `unavailable` when another
    ///   transaction is in the way, `disk_full`, `memory_full`; these pass.
    pub async fn append(
        &self,
        rows: &[TableRows],
        positions: &[Position],
    ) -> Result<Appended, Error> {
        self.append_in(Order::Rising, rows, positions).await
    }

    /// As [`AdbcTables::append`], for numbers that are no offsets: one may be less than the
    /// one before it. What rows have been written already, the caller has to know.
    ///
    /// # Errors
    /// As [`AdbcTables::append`].
    pub async fn append_marked(
        &self,
        rows: &[TableRows],
        marks: &[Position],
    ) -> Result<Appended, Error> {
        self.append_in(Order::Any, rows, marks).await
    }

    async fn append_in(
        &self,
        order: Order,
        rows: &[TableRows],
        positions: &[Position],
    ) -> Result<Appended, Error> {
        let (rows, next) = (rows.to_vec(), positions::by_place(positions)?);
        self.run("append to", move |state| state.append(order, &rows, &next)).await
    }

    /// Reads the positions of these partitions, from which this writer goes on;
    /// those without one start anew. To be called when partitions are assigned,
    /// and after [`Error::Fenced`].
    ///
    /// # Errors
    /// [`Error::Io`] with what the database says; `format_newer` when a newer
    /// Sheaf has written them.
    pub async fn claim(&self, partitions: &[(String, i32)]) -> Result<Vec<Position>, Error> {
        let places: BTreeSet<Place> = partitions.iter().cloned().collect();
        self.run("read the positions in", move |state| state.claim(&places)).await
    }

    /// All positions of the group as they are stored. What this writer believes
    /// stays as it is.
    ///
    /// # Errors
    /// As [`AdbcTables::claim`].
    pub async fn positions(&self) -> Result<Vec<Position>, Error> {
        let read = |state: &mut State| Ok(positions::listed(&state.stored()?, None));
        self.run("read the positions in", read).await
    }

    async fn run<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&mut State) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let shared = Arc::clone(&self.state);
        let work = move || {
            let mut state = shared.lock().unwrap_or_else(|poisoned| {
                shared.clear_poison();
                let mut state = poisoned.into_inner();
                // Whatever the call that panicked has begun ends with its connection.
                state.session = None;
                state.known.clear();
                state
            });
            let done = work(&mut state);
            // Whatever was not committed must not be left open.
            state.end_transaction();
            done
        };
        blocking(operation, &self.place, work).await
    }
}

/// How the next number of a partition compares to the one that is stored.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    /// It is an offset: with rows it is greater.
    Rising,
    /// It may be any.
    Any,
}

struct State {
    database: ManagedDatabase,
    dialect: Dialect,
    failure: Failure,
    group: String,
    session: Option<Session>,
    /// Tables that are there.
    known: HashSet<String>,
    believed: Positions,
    /// What was to be stored by a commit of which nobody knows whether it was.
    pending: Option<Positions>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("group", &self.group).finish_non_exhaustive()
    }
}

impl State {
    fn session(&mut self) -> Result<&mut Session, Error> {
        match &mut self.session {
            Some(session) => Ok(session),
            empty => {
                let opened = Session::open(&self.database, self.dialect, &self.failure)?;
                Ok(empty.insert(opened))
            }
        }
    }

    /// A connection that cannot go back is not used again.
    fn end_transaction(&mut self) {
        if !self.session.as_mut().is_some_and(Session::roll_back) {
            self.session = None;
        }
    }

    fn create(&mut self) -> Result<(), Error> {
        let session = self.session()?;
        positions::create(session)?;
        session.commit()
    }

    fn stored(&mut self) -> Result<Positions, Error> {
        let group = self.group.clone();
        positions::read(self.session()?, &group)
    }

    fn claim(&mut self, places: &BTreeSet<Place>) -> Result<Vec<Position>, Error> {
        let stored = self.stored()?;
        // Of these, what a lost commit has done is in what was read. Of others the same
        // append may come again, which is to find it done.
        let mut pending = self.pending.take().unwrap_or_default();
        pending.retain(|place, _| !places.contains(place));
        self.pending = Some(pending).filter(|pending| !pending.is_empty());
        for place in places {
            match stored.get(place) {
                Some(&offset) => self.believed.insert(place.clone(), offset),
                None => self.believed.remove(place),
            };
        }
        Ok(positions::listed(&stored, Some(places)))
    }

    fn append(
        &mut self,
        order: Order,
        rows: &[TableRows],
        next: &Positions,
    ) -> Result<Appended, Error> {
        let count = rows.iter().flat_map(|rows| &rows.batches).map(|batch| batch.num_rows() as u64);
        let count: u64 = count.sum();
        if let Some(pending) = self.pending.clone() {
            let done = self.is_stored(&pending)?;
            self.pending = None;
            // Of what it had, some partitions may be somebody else's by now.
            let is_part = next.iter().all(|(place, next)| pending.get(place) == Some(next));
            if done && is_part && !next.is_empty() {
                self.believe(&pending);
                return Ok(Appended { rows: count, created: false });
            }
            // Otherwise what is believed is still what was before.
        }
        let written = match self.write(order, rows, next) {
            Ok(()) => Ok(()),
            Err(error) => {
                self.known.clear();
                self.end_transaction();
                self.after(next, error)
            }
        };
        written.map(|()| {
            self.believe(next);
            Appended { rows: count, created: true }
        })
    }

    /// After a failure: whether it was one, and whose.
    fn after(&mut self, next: &Positions, error: Error) -> Result<(), Error> {
        if self.pending.is_some() {
            match self.is_stored(next) {
                Ok(true) => return Ok(()),
                Ok(false) => self.pending = None,
                // The next append asks again.
                Err(_) => return Err(error),
            }
        }
        if was_in_conflict(&error)
            && let Ok(stored) = self.stored()
        {
            // Perhaps of another writer.
            positions::check(&self.group, next.keys(), &self.believed, &stored)?;
        }
        Err(error)
    }

    fn believe(&mut self, next: &Positions) {
        self.believed.extend(next.clone());
    }

    /// Whether all of these are stored, and not because they were before.
    fn is_stored(&mut self, next: &Positions) -> Result<bool, Error> {
        let stored = self.stored()?;
        self.end_transaction();
        let there = next.iter().all(|(place, offset)| stored.get(place) == Some(offset));
        let news = next.iter().any(|(place, offset)| self.believed.get(place) != Some(offset));
        Ok(there && news)
    }

    fn write(&mut self, order: Order, rows: &[TableRows], next: &Positions) -> Result<(), Error> {
        let stored = self.stored()?;
        positions::check(&self.group, next.keys(), &self.believed, &stored)?;
        if order == Order::Rising && !rows.is_empty() {
            positions::goes_on(&self.group, &self.believed, next)?;
        }
        let (group, believed) = (self.group.clone(), self.believed.clone());
        // First: a second writer is stopped before it has written rows.
        positions::write(self.session()?, &group, &believed, next)?;
        let mut tables: BTreeMap<&str, Vec<&RecordBatch>> = BTreeMap::new();
        for TableRows { table, batches } in rows {
            let filled = batches.iter().filter(|batch| batch.num_rows() > 0);
            tables.entry(table).or_default().extend(filled);
        }
        for (table, batches) in tables {
            self.fill(table, &batches)?;
        }
        self.session()?.commit().inspect_err(|error| {
            if !was_in_conflict(error) {
                self.pending = Some(next.clone());
            }
        })
    }

    fn fill(&mut self, table: &str, batches: &[&RecordBatch]) -> Result<(), Error> {
        if table.is_empty() || names::is_reserved(table) {
            return Err(Error::Invalid(format!("{table:?} is no name for a table of rows")));
        }
        if batches.is_empty() {
            return Ok(());
        }
        let (dialect, known) = (self.dialect, self.known.contains(table));
        let session = self.session()?;
        let schemas = batches.iter().map(|batch| batch.schema_ref().as_ref());
        let wanted = evolve::wanted(dialect, schemas)?;
        let existing = session.columns(table, known)?;
        let plan = evolve::plan(dialect, table, existing, &wanted)?;
        for statement in &plan.statements {
            session.update("change the schema of", statement)?;
        }
        let conform = |batch: &&RecordBatch| conform::conform(dialect, table, batch, &plan.columns);
        let rows = batches.iter().map(conform).collect::<Result<Vec<_>, _>>()?;
        session.ingest(table, conform::schema(&plan.columns), rows)?;
        self.known.insert(table.to_owned());
        Ok(())
    }
}

#[cfg(test)]
#[path = "tables_tests.rs"]
mod tests;
