//! Reads one partition, over as many calls as it takes.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{Schema, SchemaRef};
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use sheaf_flight::ipc::{Bounds, Decoded, Decoder, encode_schema};
use sheaf_flight::{CallOptions, Message, MessageStream};
use sheaf_retry::{Code, RetryPolicy};
use tokio::sync::Mutex;
use twox_hash::XxHash3_64;

use super::ExchangeClient;
use crate::shuffle::chunk::crc32c_of;
use crate::shuffle::engine::{Item, ReadOptions, Reader};
use crate::shuffle::error::Error;
use crate::shuffle::key::{PartitionKey, Totals};
use crate::shuffle::wire::{Begun, Given, Last, ShuffleTicket, parse, read_hexadecimal};

/// The record batches of one partition of one worker.
///
/// A call that breaks is made again from the last whole chunk on, so that each
/// row comes once. Each chunk is checked against the checksum that its sender
/// gave it, and the number of rows against what all senders have committed.
/// After an error the reader is of no more use.
pub struct PartitionReader {
    client: ExchangeClient,
    peer: String,
    key: PartitionKey,
    schema: SchemaRef,
    state: Mutex<State>,
}

struct State {
    options: ReadOptions,
    /// The chunk that is next.
    position: u64,
    rows: u64,
    /// Chunks before it were said to be consumed.
    acknowledged: u64,
    schema: Option<Message>,
    decoder: Decoder,
    source: Option<Source>,
    is_over: bool,
}

/// Where chunks come from.
enum Source {
    Wire(MessageStream),
    Here(Box<Reader>),
}

/// What comes.
enum Got {
    Chunk { sequence: u64, message: Message },
    More(u64),
    End(Totals),
}

impl PartitionReader {
    pub(super) async fn open(
        client: ExchangeClient,
        peer: &str,
        key: &PartitionKey,
        expected: Option<&Schema>,
        mut options: ReadOptions,
    ) -> Result<Self, Error> {
        if options.consume && options.max_bytes == 0 {
            options.max_bytes = client.shared.options.page_bytes;
        }
        let state = Mutex::new(State {
            options,
            position: options.from_sequence,
            rows: 0,
            acknowledged: 0,
            schema: None,
            decoder: Decoder::new(Bounds::default()),
            source: None,
            is_over: false,
        });
        let failed = |cause| client.fetch_failed(peer, key, cause);
        let (of, by) = (&state, &client);
        let opened = client
            .with_retries(peer, || Box::pin(async { of.lock().await.open(by, peer, key).await }));
        opened.await.map_err(failed)?;
        let schema = state.lock().await.decoder.schema().map(Arc::clone);
        let no_schema = || Error::Protocol("the first message is no schema".to_owned());
        let schema = schema.ok_or_else(|| failed(no_schema()))?;
        if let Some(expected) = expected {
            check_schema(key, &schema, expected).map_err(failed)?;
        }
        let (peer, key) = (peer.to_owned(), key.clone());
        Ok(PartitionReader { client, peer, key, schema, state })
    }

    /// The schema of the partition.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// The chunk that is next: what to read from in another reader.
    pub fn position(&mut self) -> u64 {
        self.state.get_mut().position
    }

    /// The next record batch; `None` once all senders have committed and
    /// everything was read.
    ///
    /// # Errors
    /// [`Error::Fetch`].
    pub async fn next(&mut self) -> Result<Option<RecordBatch>, Error> {
        let PartitionReader { client, peer, key, state, .. } = self;
        let (client, peer, key, state) = (&*client, &**peer, &*key, &*state);
        let next = client.with_retries(peer, || {
            Box::pin(async { state.lock().await.step(client, peer, key).await })
        });
        next.await.map_err(|cause| client.fetch_failed(peer, key, cause))
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
        let (peer, key) = (&self.peer, &self.key);
        let mut shown = f.debug_struct("PartitionReader");
        shown.field("peer", peer).field("key", key).finish_non_exhaustive()
    }
}

impl State {
    /// Asks for the partition from the next chunk on.
    async fn open(
        &mut self,
        client: &ExchangeClient,
        peer: &str,
        key: &PartitionKey,
    ) -> Result<(), Error> {
        let options = ReadOptions { from_sequence: self.position, ..self.options };
        let (schema, source) = if let Some(local) = client.local(peer) {
            let reader = local.read(key.clone(), options).await?;
            (reader.schema(), Source::Here(Box::new(reader)))
        } else {
            let ticket = ShuffleTicket { key: key.clone(), options };
            // It is opened again from here, and counted here.
            let call = CallOptions::default()
                .deadline(client.shared.options.call_deadline + options.wait)
                .retry(RetryPolicy::none());
            let connection = client.shared.reads.connection(peer)?;
            let mut messages = connection.get(ticket.to_string(), &call).await?;
            let schema = messages.next().await.ok_or_else(broken_off)??;
            (schema, Source::Wire(messages))
        };
        match &self.schema {
            None => {
                let Begun { incarnation } = parse("the schema", &schema.app_metadata)?;
                // Its positions mean nothing in another one.
                self.options.incarnation = incarnation;
                self.decoder.push(&schema)?;
                self.schema = Some(schema);
            }
            // What was read so far would not fit what comes.
            Some(first) if first.header != schema.header => {
                let print =
                    |message: &Message| format!("{:016x}", XxHash3_64::oneshot(&message.header));
                let (known, said) = (print(first), print(&schema));
                let problem = "and after the call was made again";
                return Err(Error::Schema { key: key.clone(), known, problem, said });
            }
            Some(_) => {}
        }
        if options.consume {
            self.acknowledged = self.position;
        }
        self.source = Some(source);
        Ok(())
    }

    /// The next record batch. An error leaves the position at the last whole chunk.
    async fn step(
        &mut self,
        client: &ExchangeClient,
        peer: &str,
        key: &PartitionKey,
    ) -> Result<Option<RecordBatch>, Error> {
        while !self.is_over {
            if self.source.is_none() {
                self.open(client, peer, key).await?;
            }
            // Taken out: where this is dropped or fails, the call is made again.
            let Some(mut source) = self.source.take() else { continue };
            match source.next().await? {
                Got::Chunk { sequence, message } => {
                    if sequence != self.position {
                        let expected = self.position;
                        let text = format!("chunk {sequence} came where {expected} is next");
                        return Err(Error::Protocol(text));
                    }
                    let decoded = self.decoder.push(&message)?;
                    self.position += 1;
                    self.source = Some(source);
                    if let Decoded::Batch(batch) = decoded {
                        self.rows += batch.num_rows() as u64;
                        return Ok(Some(batch));
                    }
                }
                Got::More(next) if next == self.position => {}
                Got::More(next) => {
                    let text = format!("chunk {next} is said to be next, not {}", self.position);
                    return Err(Error::Protocol(text));
                }
                Got::End(totals) => self.end(key, totals)?,
            }
        }
        Ok(None)
    }

    fn end(&mut self, key: &PartitionKey, said: Totals) -> Result<(), Error> {
        let is_whole = self.options.from_sequence == 0;
        let found = Totals { chunks: self.position, rows: self.rows };
        if said.chunks != found.chunks || (is_whole && said.rows != found.rows) {
            return Err(Error::Incomplete { key: key.clone(), said, found });
        }
        // The last page is consumed with one more call.
        self.is_over = !self.options.consume || self.acknowledged == self.position;
        Ok(())
    }
}

impl Source {
    async fn next(&mut self) -> Result<Got, Error> {
        let messages = match self {
            Source::Here(reader) => {
                return Ok(match reader.next().await? {
                    Item::Chunk { sequence, message, .. } => Got::Chunk { sequence, message },
                    Item::More(next) => Got::More(next),
                    Item::End(totals) => Got::End(totals),
                });
            }
            Source::Wire(messages) => messages,
        };
        let message = messages.next().await.ok_or_else(broken_off)??;
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
}

pub(super) fn broken_off() -> Error {
    let text = "the stream of a partition ended without its end";
    Error::Flight(sheaf_flight::Error::new(Code::Unavailable, text))
}

fn check_schema(key: &PartitionKey, found: &Schema, expected: &Schema) -> Result<(), Error> {
    let print = |schema| format!("{:016x}", XxHash3_64::oneshot(&encode_schema(schema).header));
    let (known, said) = (print(found), print(expected));
    if known == said {
        return Ok(());
    }
    Err(Error::Schema { key: key.clone(), known, problem: "expected was", said })
}
