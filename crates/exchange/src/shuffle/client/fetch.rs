//! Reads one partition over Flight, or from this process.

use arrow_array::RecordBatch;
use arrow_schema::{Schema, SchemaRef};
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use futures::{FutureExt as _, StreamExt as _};
use sheaf_flight::ipc::Bounds;
use sheaf_flight::{CallOptions, Message};
use sheaf_retry::RetryPolicy;

use super::ExchangeClient;
use super::calls::Calls;
use super::reading::{Got, Opened, Reading, Source, broken_off};
use crate::shuffle::chunk::crc32c_of;
use crate::shuffle::engine::{Exchange, Item, ReadOptions};
use crate::shuffle::error::Error;
use crate::shuffle::key::PartitionKey;
use crate::shuffle::wire::{Begun, Given, Last, ShuffleTicket, parse, read_hexadecimal};

/// The record batches of one partition of one worker.
///
/// A call that breaks, or that gives nothing for longer than the options say, is
/// made again from the last whole chunk on, so that each row comes once. Each chunk
/// is checked against the checksum that its sender gave it, and the number of rows
/// against what all senders have committed. After an error the reader is of no
/// more use.
///
/// There may be any number of readers of one worker: those that nobody reads from
/// hold up no others. Of them 48 keep their call; beyond that the one that stands
/// longest gives it up, and asks again from its position when it is read from.
pub struct PartitionReader {
    reading: Reading<ExchangeClient>,
}

impl PartitionReader {
    pub(super) async fn open(
        client: ExchangeClient,
        peer: &str,
        key: &PartitionKey,
        expected: Option<&Schema>,
        options: ReadOptions,
    ) -> Result<Self, Error> {
        let bounds = Bounds::default();
        let reading = Reading::open(client, peer, key, expected, options, bounds).await?;
        Ok(PartitionReader { reading })
    }

    /// The schema of the partition.
    pub fn schema(&self) -> SchemaRef {
        self.reading.schema()
    }

    /// The chunk that is next: what to read from in another reader.
    ///
    /// Where the schema has dictionaries, that reader gets the chunks before it once
    /// more, for the dictionaries in them, and gives no rows of them. So it has to
    /// begin before they are consumed.
    pub fn position(&mut self) -> u64 {
        self.reading.position()
    }

    /// The next record batch; `None` once all senders have committed and
    /// everything was read.
    ///
    /// # Errors
    /// [`Error::Fetch`].
    pub async fn next(&mut self) -> Result<Option<RecordBatch>, Error> {
        self.reading.next().await
    }

    /// The record batches that are left, as a stream.
    pub fn into_stream(self) -> BoxStream<'static, Result<RecordBatch, Error>> {
        let batches = stream::try_unfold(self, |mut reader| async move {
            Ok(reader.next().await?.map(|batch| (batch, reader)))
        });
        batches.boxed()
    }
}

impl std::fmt::Debug for PartitionReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.reading.show("PartitionReader", f)
    }
}

impl Source for ExchangeClient {
    fn calls(&self) -> &Calls {
        &self.calls
    }

    fn ask<'a>(
        &'a self,
        peer: &'a str,
        key: &'a PartitionKey,
        _expected: Option<&'a Schema>,
        options: ReadOptions,
    ) -> BoxFuture<'a, Result<Opened, Error>> {
        match self.local(peer) {
            Some(local) => ask_here(local, key, options).boxed(),
            None => ask_there(self, peer, key, options).boxed(),
        }
    }
}

async fn ask_here(
    local: &Exchange,
    key: &PartitionKey,
    options: ReadOptions,
) -> Result<Opened, Error> {
    let reader = local.read(key.clone(), options).await?;
    let (schema, incarnation) = (reader.schema(), reader.incarnation());
    let chunks = stream::try_unfold(reader, |mut reader| async move {
        let got = match reader.next().await? {
            Item::Chunk { sequence, message, .. } => Got::Chunk { sequence, message },
            Item::More(next) => Got::More(next),
            Item::End(totals) => Got::End(totals),
        };
        Ok(Some((got, reader)))
    });
    Ok(Opened { schema, incarnation, chunks: chunks.boxed(), is_local: true })
}

async fn ask_there(
    client: &ExchangeClient,
    peer: &str,
    key: &PartitionKey,
    options: ReadOptions,
) -> Result<Opened, Error> {
    let ticket = ShuffleTicket { key: key.clone(), options };
    // It is opened again by who reads, and counted there.
    let call = CallOptions::default()
        .deadline(client.shared.options.call_deadline.saturating_add(options.wait))
        .retry(RetryPolicy::none());
    let connection = client.shared.reads.connection(peer)?;
    let mut messages = connection.get(ticket.to_string(), &call).await?;
    let schema = messages.next().await.ok_or_else(broken_off)??;
    let Begun { incarnation } = parse("the schema", &schema.app_metadata)?;
    let chunks = messages.map(|message| got(message?)).boxed();
    Ok(Opened { schema, incarnation, chunks, is_local: false })
}

fn got(message: Message) -> Result<Got, Error> {
    if message.header.is_empty() {
        return Ok(match parse("the end of a partition", &message.app_metadata)? {
            Last::More { next_sequence } => Got::More(next_sequence),
            Last::End(totals) => Got::End(totals),
        });
    }
    let Given { sequence, crc32c, .. } = parse("a chunk", &message.app_metadata)?;
    let (said, found) = (read_hexadecimal(sequence, &crc32c)?, crc32c_of(&message));
    if said != found {
        return Err(Error::Corrupt { sequence, found, said });
    }
    Ok(Got::Chunk { sequence, message })
}
