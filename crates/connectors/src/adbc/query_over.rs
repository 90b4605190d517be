//! Queries over rows that are there for them alone.

use adbc_core::options::{IngestMode, OptionStatement, OptionValue};
use adbc_core::{Connection as _, Optionable as _, Statement as _};
use arrow_array::cast::AsArray as _;
use arrow_array::types::Int64Type;
use arrow_array::{Array as _, RecordBatch, RecordBatchIterator};
use arrow_schema::{DataType, SchemaRef};
use sheaf_retry::Code;

use super::AdbcDatabase;
use super::dialect::identifier;
use super::session::Session;
use crate::blocking::blocking;
use crate::error::Error;

impl AdbcDatabase {
    /// Runs a query over rows, which are the temporary table `table` of its connection and
    /// are gone afterwards. All batches have one schema; without any there is no result.
    ///
    /// # Errors
    /// [`Error::Io`] with what the database says; [`Error::Limit`] when the result has more
    /// than `max_bytes`.
    pub async fn query_over(
        &self,
        table: &str,
        rows: Vec<RecordBatch>,
        sql: &str,
        max_bytes: u64,
    ) -> Result<Vec<RecordBatch>, Error> {
        let Some(schema) = rows.first().map(RecordBatch::schema) else { return Ok(Vec::new()) };
        let (own, table, sql) = (self.clone(), table.to_owned(), sql.to_owned());
        blocking("query rows in", self.describe(), move || {
            let mut session = Session::open(&own.database, own.dialect, &own.failure)?;
            session.lend(&table, schema, rows)?;
            session.query_bytes(&sql, max_bytes)
        })
        .await
    }
}

impl Session {
    /// Makes a temporary table of these rows; counts them, since DuckDB's driver says nothing
    /// of rows that it leaves out.
    fn lend(
        &mut self,
        table: &str,
        schema: SchemaRef,
        batches: Vec<RecordBatch>,
    ) -> Result<(), Error> {
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        let run = || {
            let mut statement = self.connection.new_statement()?;
            let name = OptionValue::String(table.into());
            statement.set_option(OptionStatement::TargetTable, name)?;
            statement.set_option(OptionStatement::IngestMode, IngestMode::Create.into())?;
            let yes = OptionValue::String("true".into());
            statement.set_option(OptionStatement::Temporary, yes)?;
            let stream = RecordBatchIterator::new(batches.into_iter().map(Ok), schema);
            statement.bind_stream(Box::new(stream))?;
            statement.execute_update()
        };
        run().map_err(self.failure.rows_error("lend rows to"))?;
        let counted = self.query(&format!("SELECT count(*) FROM {}", identifier(table)?), 1)?;
        let counted = counted.first().map(|batch| self.column(batch, 0, &DataType::Int64));
        let counted = counted.transpose()?.filter(|counted| !counted.is_empty());
        let counted = counted.map(|counted| counted.as_primitive::<Int64Type>().value(0));
        if counted.and_then(|counted| usize::try_from(counted).ok()) != Some(rows) {
            let why = format!("{counted:?} of {rows} rows were taken");
            return Err(Error::external("lend rows to", self.place(), Code::MalformedData, why));
        }
        Ok(())
    }

    /// The rows of a query, of at most so many bytes.
    fn query_bytes(&mut self, sql: &str, max_bytes: u64) -> Result<Vec<RecordBatch>, Error> {
        let mut bytes = 0;
        let mut run = || {
            let mut statement = self.connection.new_statement()?;
            statement.set_sql_query(sql)?;
            let mut batches = Vec::new();
            for batch in statement.execute()? {
                let batch = batch?;
                bytes += batch.get_array_memory_size() as u64;
                batches.push(batch);
                if bytes > max_bytes {
                    break;
                }
            }
            Ok(batches)
        };
        let batches = run().map_err(self.failure.error("query"))?;
        if bytes > max_bytes {
            return Err(Error::Limit {
                what: "the result of the query".to_owned(),
                actual: bytes,
                limit: max_bytes,
                advice: "let it give fewer rows, or take smaller windows",
            });
        }
        Ok(batches)
    }
}
