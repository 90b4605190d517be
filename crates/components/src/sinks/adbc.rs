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
/// The same for durable edges: there is one ring for each edge, and a batch that comes again
/// comes before any that was not there yet. The runtime gives a sink fewer than these before
/// it has completed what was written.
const LEASED_SLOTS: i32 = 1_024;

/// Each batch in one transaction with a number for it.
///
/// The numbers of the last batches of each sender are kept in a ring of as many places as
/// there may be batches under way: that of a batch is its sequence modulo the places. A
/// batch whose number is in its place is written already, and is left out. Whatever numbers a
/// sender gives, other rows have another number, so that no batch is left out for another.
///
/// Over a durable edge the number comes of the identifier of the batch. It goes to the next
/// place of a ring, and which that is, is kept in the same transaction.
pub(super) struct Table {
    database: AdbcDatabase,
    tables: AdbcTables,
    table: String,
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
        let identity = Identity::of(start);
        let database = databases::open(&config.database, host).await?;
        let tables = database.tables(identity.sink()).await;
        let tables = tables.map_err(failed("the database takes no rows"))?;
        let mut table = Table {
            database,
            tables,
            table: config.table.clone(),
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
        if received.lease.is_some() {
            return self.take_leased(received).await;
        }
        let stream = format!("{}.{}", received.from, received.from_instance);
        let slot = i32::try_from(received.sequence % SLOTS).unwrap_or(0);
        let number = self.identity.number(received)?;
        let written = self.written(&stream, i32::try_from(SLOTS).unwrap_or(0)).await?;
        if written.get(&slot) == Some(&number) {
            tracing::debug!(stream, sequence = received.sequence, "written before");
            return Ok(());
        }
        self.append(received, stream, &[(slot, number)]).await
    }

    /// Over a durable edge.
    async fn take_leased(&mut self, received: &Received) -> Result<(), ComponentError> {
        let stream = format!("{} durable", received.from);
        let number = self.identity.number(received)?;
        // The last place has how many were written.
        let written = self.written(&stream, LEASED_SLOTS + 1).await?;
        let count = written.get(&LEASED_SLOTS).copied().unwrap_or(0);
        if written.iter().any(|(slot, other)| *slot != LEASED_SLOTS && *other == number) {
            tracing::debug!(stream, lease = ?received.lease, "written before");
            return Ok(());
        }
        let slot = i32::try_from(count % i64::from(LEASED_SLOTS)).unwrap_or(0);
        let places = [(slot, number), (LEASED_SLOTS, count.saturating_add(1))];
        self.append(received, stream, &places).await
    }

    /// What is stored in the places of a ring, read once.
    async fn written(
        &mut self,
        stream: &str,
        places: i32,
    ) -> Result<&HashMap<i32, i64>, ComponentError> {
        if !self.written.contains_key(stream) {
            let places: Vec<_> = (0..places).map(|place| (stream.to_owned(), place)).collect();
            let found = self.tables.claim(&places).await;
            let found = found.map_err(failed("what is written already cannot be read"))?;
            let found = found.into_iter().map(|found| (found.partition, found.next_offset));
            self.written.insert(stream.to_owned(), found.collect());
        }
        Ok(self.written.entry(stream.to_owned()).or_default())
    }

    /// Writes the rows and these places of a ring in one transaction.
    async fn append(
        &mut self,
        received: &Received,
        stream: String,
        places: &[(i32, i64)],
    ) -> Result<(), ComponentError> {
        let rows = TableRows { table: self.table.clone(), batches: vec![received.batch.clone()] };
        let positions: Vec<Position> = places
            .iter()
            .map(|&(partition, next_offset)| Position {
                topic: stream.clone(),
                partition,
                next_offset,
            })
            .collect();
        let text = format!("rows cannot be written into the table {}", self.table);
        self.tables.append_marked(&[rows], &positions).await.map_err(failed(text))?;
        self.written.entry(stream).or_default().extend(places.iter().copied());
        Ok(())
    }
}

#[async_trait]
impl Sink for Table {
    async fn write(&mut self, received: &Received) -> Result<u64, ComponentError> {
        if received.batch.num_rows() > 0 {
            self.take(received).await?;
        }
        self.done += 1;
        Ok(self.done)
    }

    async fn flush(&mut self) -> Result<u64, ComponentError> {
        Ok(self.done)
    }
}
