//! One connection, in whose transactions everything happens.

use std::sync::Arc;

use adbc_core::error::Error as AdbcError;
use adbc_core::options::{InfoCode, IngestMode, OptionConnection, OptionStatement, OptionValue};
use adbc_core::{Connection as _, Database as _, Optionable as _, Statement as _};
use adbc_driver_manager::{ManagedConnection, ManagedDatabase};
use arrow_array::cast::AsArray as _;
use arrow_array::types::Int64Type;
use arrow_array::{Array as _, ArrayRef, RecordBatch, RecordBatchIterator, StringArray};
use arrow_cast::cast;
use arrow_schema::{DataType, Field, SchemaRef};
use sheaf_retry::Code;

use super::dialect::{Dialect, identifier};
use super::evolve::Column;
use super::failure::Failure;
use crate::error::Error;

/// A connection without autocommit: its first statement begins a transaction.
pub(super) struct Session {
    connection: ManagedConnection,
    dialect: Dialect,
    failure: Failure,
}

impl Session {
    pub(super) fn open(
        database: &ManagedDatabase,
        dialect: Dialect,
        failure: &Failure,
    ) -> Result<Self, Error> {
        let mut connection = database.new_connection().map_err(failure.error("connect to"))?;
        let off = OptionValue::String("false".into());
        connection
            .set_option(OptionConnection::AutoCommit, off)
            .map_err(failure.error("begin a transaction in"))?;
        Ok(Session { connection, dialect, failure: failure.clone() })
    }

    pub(super) fn place(&self) -> &str {
        self.failure.place()
    }

    /// How many rows it changed, where the driver says so.
    pub(super) fn update(
        &mut self,
        operation: &'static str,
        sql: &str,
    ) -> Result<Option<i64>, Error> {
        self.run(sql).map_err(self.failure.error(operation))
    }

    fn run(&mut self, sql: &str) -> Result<Option<i64>, AdbcError> {
        let mut statement = self.connection.new_statement()?;
        statement.set_sql_query(sql)?;
        statement.execute_update()
    }

    /// The rows of a query, `max_rows` of them at most.
    pub(super) fn query(&mut self, sql: &str, max_rows: usize) -> Result<Vec<RecordBatch>, Error> {
        let mut run = || {
            let mut statement = self.connection.new_statement()?;
            statement.set_sql_query(sql)?;
            let mut rows = 0;
            let mut batches = Vec::new();
            for batch in statement.execute()? {
                let batch = batch?;
                rows += batch.num_rows();
                batches.push(batch);
                if rows > max_rows {
                    break;
                }
            }
            Ok((rows, batches))
        };
        let (rows, batches) = run().map_err(self.failure.error("query"))?;
        if rows > max_rows {
            return Err(Error::Invalid(format!("the query has more than {max_rows} rows")));
        }
        Ok(batches)
    }

    /// The rows of a query as they come: first their columns are told, then each batch, until
    /// no more is wanted.
    pub(super) fn each(
        &mut self,
        sql: &str,
        begin: impl FnOnce(SchemaRef),
        mut take: impl FnMut(RecordBatch) -> bool,
    ) -> Result<(), Error> {
        let run = || {
            let mut statement = self.connection.new_statement()?;
            statement.set_sql_query(sql)?;
            let rows = statement.execute()?;
            begin(rows.schema());
            for batch in rows {
                if !take(batch?) {
                    break;
                }
            }
            Ok(())
        };
        run().map_err(self.failure.error("query"))
    }

    /// A table's columns; `None` where there is no such table. One that was
    /// there before is not looked for in the catalog.
    pub(super) fn columns(
        &mut self,
        table: &str,
        known: bool,
    ) -> Result<Option<Vec<Column>>, Error> {
        const MAX_COLUMNS: usize = 100_000;

        if known
            && self.dialect.goes_on_after_errors()
            && let Ok(columns) = self.columns_of(table)
        {
            return Ok(Some(columns));
        }
        let listed = self.query(&self.dialect.columns_query(table)?, MAX_COLUMNS)?;
        if listed.iter().all(|batch| batch.num_rows() == 0) {
            return Ok(None);
        }
        let declared = self.declared(&listed)?;
        if !self.dialect.has_strict_types() {
            let kept =
                |(name, sql): (String, String)| Column { name, kept: Dialect::declared(&sql) };
            return Ok(Some(declared.into_iter().map(kept).collect()));
        }
        let mut columns = self.columns_of(table)?;
        for (column, (name, sql)) in columns.iter_mut().zip(declared) {
            if let Some(decimal) = Dialect::decimal(&sql).filter(|_| column.name == name) {
                column.kept = decimal;
            }
        }
        Ok(Some(columns))
    }

    fn columns_of(&self, table: &str) -> Result<Vec<Column>, Error> {
        let schema = self.connection.get_table_schema(None, None, table);
        let schema = schema.map_err(self.failure.error("read the schema of a table of"))?;
        let kept = |field: &Field| self.dialect.kept(field.data_type());
        let column = |field: &Arc<Field>| Column {
            name: field.name().clone(),
            kept: kept(field).unwrap_or_else(|| field.data_type().clone()),
        };
        Ok(schema.fields().iter().map(column).collect())
    }

    /// Names and types, as the catalog has them.
    fn declared(&self, listed: &[RecordBatch]) -> Result<Vec<(String, String)>, Error> {
        let mut columns = Vec::new();
        for batch in listed {
            let (names, types) = (self.texts(batch, 0)?, self.texts(batch, 1)?);
            let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
            columns.extend(names.iter().map(text).zip(types.iter().map(text)));
        }
        Ok(columns)
    }

    /// A column of a result as text.
    pub(super) fn texts(&self, batch: &RecordBatch, place: usize) -> Result<StringArray, Error> {
        Ok(self.column(batch, place, &DataType::Utf8)?.as_string::<i32>().clone())
    }

    /// A column of a result as this type, whatever the driver made of it.
    pub(super) fn column(
        &self,
        batch: &RecordBatch,
        place: usize,
        data_type: &DataType,
    ) -> Result<ArrayRef, Error> {
        let cast = batch.columns().get(place).map(|column| cast(column, data_type));
        let failed =
            |why: String| Error::external("read an answer of", self.place(), Code::Internal, why);
        match cast {
            Some(Ok(array)) if array.null_count() == 0 => Ok(array),
            Some(Ok(_)) => Err(failed(format!("column {place} has nulls"))),
            Some(Err(error)) => Err(failed(error.to_string())),
            None => Err(failed(format!("column {place} is not there"))),
        }
    }

    /// Adds rows that have exactly the columns of the table.
    pub(super) fn ingest(
        &mut self,
        table: &str,
        schema: SchemaRef,
        batches: Vec<RecordBatch>,
    ) -> Result<(), Error> {
        match self.dialect {
            Dialect::DuckDb => self.ingest_twice(table, schema, batches),
            _ => self.ingest_into(table, false, schema, batches),
        }
    }

    /// DuckDB's driver says nothing of an error in its last rows: those against a
    /// constraint are left out in silence. So they go into a table that has none, are
    /// counted there, and are copied by a statement.
    fn ingest_twice(
        &mut self,
        table: &str,
        schema: SchemaRef,
        batches: Vec<RecordBatch>,
    ) -> Result<(), Error> {
        const PASSING: &str = "_sheaf_rows";

        let (own, table) = (identifier(PASSING)?, identifier(table)?);
        let columns = schema.fields().iter().map(|field| identifier(field.name()));
        let columns = columns.collect::<Result<Vec<_>, _>>()?.join(", ");
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        let sql = format!("CREATE TEMP TABLE {own} AS SELECT {columns} FROM {table} LIMIT 0");
        self.update("make room for rows in", &sql)?;
        self.ingest_into(PASSING, true, schema, batches)?;
        let counted = self.query(&format!("SELECT count(*) FROM temp.{own}"), 1)?;
        let counted = counted.first().map(|batch| self.column(batch, 0, &DataType::Int64));
        let counted = counted.transpose()?.map(|n| n.as_primitive::<Int64Type>().value(0));
        if counted.and_then(|counted| usize::try_from(counted).ok()) != Some(rows) {
            let why = format!("{counted:?} of {rows} rows were taken");
            return Err(Error::external("append to", self.place(), Code::Unavailable, why));
        }
        let copy = format!("INSERT INTO {table} ({columns}) SELECT {columns} FROM temp.{own}");
        self.run(&copy).map_err(self.failure.rows_error("append to"))?;
        self.update("give back the room for rows in", &format!("DROP TABLE temp.{own}")).map(drop)
    }

    fn ingest_into(
        &mut self,
        table: &str,
        is_temporary: bool,
        schema: SchemaRef,
        batches: Vec<RecordBatch>,
    ) -> Result<(), Error> {
        let run = || {
            let mut statement = self.connection.new_statement()?;
            let table = OptionValue::String(table.into());
            statement.set_option(OptionStatement::TargetTable, table)?;
            statement.set_option(OptionStatement::IngestMode, IngestMode::Append.into())?;
            if is_temporary {
                let yes = OptionValue::String("true".into());
                statement.set_option(OptionStatement::Temporary, yes)?;
            }
            let rows = RecordBatchIterator::new(batches.into_iter().map(Ok), schema);
            statement.bind_stream(Box::new(rows))?;
            statement.execute_update()
        };
        run().map(drop).map_err(self.failure.rows_error("append to"))
    }

    pub(super) fn commit(&mut self) -> Result<(), Error> {
        self.connection.commit().map_err(self.failure.error("commit to"))
    }

    /// Whether the connection is of further use.
    pub(super) fn roll_back(&mut self) -> bool {
        self.connection.rollback().is_ok()
    }
}

/// Whose database it is; a driver that does not say is near the standard.
pub(super) fn vendor(database: &ManagedDatabase, failure: &Failure) -> Result<String, Error> {
    let connection = database.new_connection().map_err(failure.error("connect to"))?;
    let asked = Some([InfoCode::VendorName].into_iter().collect());
    let Ok(answer) = connection.get_info(asked) else { return Ok(String::new()) };
    // A union of the types that values may have.
    let name = answer.filter_map(Result::ok).find_map(|batch| {
        let values = batch.column_by_name("info_value")?.as_union_opt()?;
        let value = (!values.is_empty()).then(|| values.value(0))?;
        Some(value.as_string_opt::<i32>()?.value(0).to_owned())
    });
    Ok(name.unwrap_or_default())
}
