//! Writes into a table.

use std::collections::{HashMap, HashSet};

use arrow_schema::SchemaRef;
use async_trait::async_trait;
use sheaf_connectors::{AdbcDatabase, AdbcTables, Position, TableRows};
use sheaf_dataflow::{ComponentError, Received, Sink, Start};
use sheaf_pipeline::spec::AdbcSink;

use crate::databases::{self, identifier};
use crate::failure::{failed, refused};
use crate::host::Host;
use crate::identity::Identity;

/// Batches of one sender that are remembered. More are not under way: a batch that is sent
/// again is one of the last that came.
const SLOTS: u64 = 256;

/// Each batch in one transaction with a number for it.
///
/// The numbers of the last batches of each sender are kept in a ring of as many places as
/// there may be batches under way: that of a batch is its sequence modulo the places. A
/// batch whose number is in its place is written already, and is left out. Whatever numbers a
/// sender gives, other rows have another number, so that no batch is left out for another.
pub(super) struct Table {
    database: AdbcDatabase,
    tables: AdbcTables,
    table: String,
    /// Whether to make the table, and columns that it lacks.
    create: bool,
    identity: Identity,
    /// What is stored of the senders that were heard.
    written: HashMap<String, HashMap<i32, i64>>,
    /// Columns of the table, where none may be made.
    columns: Option<HashSet<String>>,
    checked: Option<SchemaRef>,
    done: u64,
}

impl Table {
    pub(super) async fn open(
        config: &AdbcSink,
        start: &Start,
        host: &Host,
    ) -> Result<Self, ComponentError> {
        let identity = Identity::of(start, host.run);
        let database = databases::open(&config.database, host).await?;
        let tables = database.tables(identity.sink()).await;
        let tables = tables.map_err(failed("the database takes no rows"))?;
        let mut table = Table {
            database,
            tables,
            table: config.table.clone(),
            create: config.create,
            identity,
            written: HashMap::new(),
            columns: None,
            checked: None,
            done: 0,
        };
        if !config.create {
            table.columns = Some(table.read_columns().await?);
        }
        Ok(table)
    }

    async fn read_columns(&self) -> Result<HashSet<String>, ComponentError> {
        let query = format!("SELECT * FROM {} WHERE 1 = 0", identifier(&self.table)?);
        let read = self.database.stream(&query).await;
        let text = format!("there is no table {} and `create` is false", self.table);
        let (schema, _) = read.map_err(failed(text))?;
        Ok(schema.fields().iter().map(|field| field.name().to_lowercase()).collect())
    }

    /// That the table has the columns of the rows, where none may be made.
    fn check(&mut self, schema: &SchemaRef) -> Result<(), ComponentError> {
        let Some(columns) = &self.columns else { return Ok(()) };
        if self.checked.as_ref().is_some_and(|checked| checked == schema) {
            return Ok(());
        }
        let names = schema.fields().iter().map(|field| field.name());
        let missing: Vec<_> =
            names.filter(|name| !columns.contains(&name.to_lowercase())).cloned().collect();
        if !missing.is_empty() {
            return Err(refused(format!(
                "the table {} has no column {}, and `create` is false: add it to the table, or \
                 leave it out by a processor of kind project",
                self.table,
                missing.join(", ")
            )));
        }
        self.checked = Some(SchemaRef::clone(schema));
        Ok(())
    }

    async fn take(&mut self, received: &Received) -> Result<(), ComponentError> {
        self.check(received.batch.schema_ref())?;
        let stream = format!("{}.{}", received.from, received.from_instance);
        let slot = i32::try_from(received.sequence % SLOTS).unwrap_or(0);
        let number = self.identity.number(received)?;
        if !self.written.contains_key(&stream) {
            let places = 0..i32::try_from(SLOTS).unwrap_or(0);
            let places: Vec<_> = places.map(|place| (stream.clone(), place)).collect();
            let found = self.tables.claim(&places).await;
            let found = found.map_err(failed("what is written already cannot be read"))?;
            let found = found.into_iter().map(|found| (found.partition, found.next_offset));
            self.written.insert(stream.clone(), found.collect());
        }
        let written = self.written.entry(stream.clone()).or_default();
        if written.get(&slot) == Some(&number) {
            tracing::debug!(stream, sequence = received.sequence, "written before");
            return Ok(());
        }
        let rows = TableRows { table: self.table.clone(), batches: vec![received.batch.clone()] };
        let place = Position { topic: stream, partition: slot, next_offset: number };
        let text = format!("rows cannot be written into the table {}", self.table);
        self.tables.append(&[rows], &[place]).await.map_err(failed(text))?;
        written.insert(slot, number);
        Ok(())
    }
}

#[async_trait]
impl Sink for Table {
    async fn write(&mut self, received: &Received) -> Result<u64, ComponentError> {
        if received.batch.num_rows() > 0 || (self.create && self.done == 0) {
            self.take(received).await?;
        }
        self.done += 1;
        Ok(self.done)
    }

    async fn flush(&mut self) -> Result<u64, ComponentError> {
        Ok(self.done)
    }
}
