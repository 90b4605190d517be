//! Reads one partition, over as many calls as it takes.

use std::fmt;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{Schema, SchemaRef};
use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use sheaf_flight::ipc::{Decoded, Decoder};
use sheaf_proto::exchange::v1 as proto;
use sheaf_proto::exchange::v1::request_data_response::Message as Given;
use sheaf_retry::Code;
use tokio::sync::Mutex;
use tonic::Streaming;

use super::DataExchangeClient;
use crate::service::chunk::{bounds, unpack_aside};
use crate::service::schema::{from_proto, serialize_schema};
use crate::shuffle::{Error, FetchFailed, PartitionKey, ReadOptions};

/// The record batches of one partition of one worker.
///
/// A call that breaks is made again from the last whole chunk on, so that each row
/// comes once. Each payload is checked against its checksum, and the rows against
/// what all senders have committed. After an error the reader is of no more use.
pub struct DataReader {
    client: DataExchangeClient,
    peer: String,
    key: PartitionKey,
    schema: SchemaRef,
    state: Mutex<State>,
}

struct State {
    request: proto::RequestDataRequest,
    /// The chunk that is next.
    position: u64,
    rows: u64,
    /// Chunks before it were said to be consumed.
    acknowledged: u64,
    schema: Option<proto::ArrowSchema>,
    decoder: Decoder,
    answers: Option<Streaming<proto::RequestDataResponse>>,
    is_over: bool,
}

impl DataReader {
    pub(super) async fn open(
        client: DataExchangeClient,
        peer: &str,
        key: &PartitionKey,
        expected: Option<&Schema>,
        options: ReadOptions,
    ) -> Result<Self, Error> {
        let failed = |cause| fetch_failed(peer, key, cause);
        let request = request(&client, key, expected, options).map_err(failed)?;
        let state = Mutex::new(State {
            position: request.from_sequence,
            request,
            rows: 0,
            acknowledged: 0,
            schema: None,
            decoder: Decoder::new(bounds()),
            answers: None,
            is_over: false,
        });
        let (of, by) = (&state, &client);
        let call = || -> BoxFuture<'_, _> {
            Box::pin(async move { of.lock().await.open(by, peer).await })
        };
        client.with_retries(call).await.map_err(failed)?;
        let schema = state.lock().await.decoder.schema().map(Arc::clone);
        let schema = schema.ok_or_else(|| failed(out_of_order("the end")))?;
        let (peer, key) = (peer.to_owned(), key.clone());
        Ok(DataReader { client, peer, key, schema, state })
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
        let DataReader { client, peer, key, state, .. } = &*self;
        let call = || -> BoxFuture<'_, _> {
            Box::pin(async move { state.lock().await.step(client, peer, key).await })
        };
        client.with_retries(call).await.map_err(|cause| fetch_failed(peer, key, cause))
    }

    /// The record batches that are left, as a stream.
    pub fn into_stream(self) -> BoxStream<'static, Result<RecordBatch, Error>> {
        let batches = stream::try_unfold(self, |mut reader| async move {
            Ok(reader.next().await?.map(|batch| (batch, reader)))
        });
        batches.boxed()
    }
}

impl fmt::Debug for DataReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (peer, key) = (&self.peer, &self.key);
        let mut shown = f.debug_struct("DataReader");
        shown.field("peer", peer).field("key", key).finish_non_exhaustive()
    }
}

fn request(
    client: &DataExchangeClient,
    key: &PartitionKey,
    expected: Option<&Schema>,
    options: ReadOptions,
) -> Result<proto::RequestDataRequest, Error> {
    let set = &client.shared.options;
    let ReadOptions { from_sequence, pipelined, consume, max_bytes, incarnation, wait } = options;
    let max_bytes = if consume && max_bytes == 0 { set.page_bytes } else { max_bytes };
    Ok(proto::RequestDataRequest {
        query: key.query().to_owned(),
        stage: key.stage(),
        partition: key.partition(),
        from_sequence,
        pipelined,
        consume,
        max_bytes,
        incarnation,
        wait_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
        compression: set.compression.to_proto().into(),
        expected_schema: expected.map(serialize_schema).transpose()?,
    })
}

impl State {
    /// Asks for the partition from the next chunk on.
    async fn open(&mut self, client: &DataExchangeClient, peer: &str) -> Result<(), Error> {
        let request =
            proto::RequestDataRequest { from_sequence: self.position, ..self.request.clone() };
        let mut stub = client.client(peer)?;
        let limit = self.limit(client);
        let answers = client.within_time(limit, stub.request_data(request)).await?;
        let mut answers = answers.into_inner();
        let begin = match next(client, limit, &mut answers).await? {
            Given::Begin(begin) => begin,
            other => return Err(out_of_order(name(&other))),
        };
        let no_schema = || Error::Protocol("the begin has no schema".to_owned());
        let schema = begin.schema.ok_or_else(no_schema)?;
        match &self.schema {
            None => {
                self.decoder.push(&from_proto(&schema)?)?;
                // Its positions mean nothing in another one.
                self.request.incarnation = begin.incarnation;
                self.schema = Some(schema);
            }
            // What was read so far would not fit what comes.
            Some(first) if *first != schema => {
                let text = "the schema is another one after the call was made again";
                let error = sheaf_flight::Error::new(Code::FailedPrecondition, text);
                return Err(error.into());
            }
            Some(_) => {}
        }
        if self.request.consume {
            self.acknowledged = self.position;
        }
        self.answers = Some(answers);
        Ok(())
    }

    /// How long an answer may take, the time that the worker waits included.
    fn limit(&self, client: &DataExchangeClient) -> std::time::Duration {
        let wait = std::time::Duration::from_millis(self.request.wait_ms);
        client.shared.options.call_deadline.saturating_add(wait)
    }

    /// The next record batch. An error leaves the position at the last whole chunk.
    async fn step(
        &mut self,
        client: &DataExchangeClient,
        peer: &str,
        key: &PartitionKey,
    ) -> Result<Option<RecordBatch>, Error> {
        while !self.is_over {
            if self.answers.is_none() {
                self.open(client, peer).await?;
            }
            // Taken out: where this is dropped or fails, the call is made again.
            let Some(mut answers) = self.answers.take() else { continue };
            match next(client, self.limit(client), &mut answers).await? {
                Given::Chunk(chunk) => {
                    let batch = self.take(chunk).await?;
                    self.answers = Some(answers);
                    if batch.is_some() {
                        return Ok(batch);
                    }
                }
                Given::More(more) if more.next_sequence == self.position => {}
                Given::End(end) => self.end(key, &end)?,
                other => return Err(out_of_order(name(&other))),
            }
        }
        Ok(None)
    }

    async fn take(&mut self, chunk: proto::DataChunk) -> Result<Option<RecordBatch>, Error> {
        if chunk.sequence != self.position {
            let (found, expected) = (chunk.sequence, self.position);
            return Err(Error::Protocol(format!("chunk {found} came where {expected} is next")));
        }
        let message = unpack_aside(chunk).await?;
        let decoded = self.decoder.push(&message)?;
        self.position += 1;
        match decoded {
            Decoded::Batch(batch) => {
                self.rows += batch.num_rows() as u64;
                Ok(Some(batch))
            }
            _ => Ok(None),
        }
    }

    fn end(&mut self, key: &PartitionKey, end: &proto::DataEnd) -> Result<(), Error> {
        use crate::shuffle::Totals;
        let is_whole = self.request.from_sequence == 0;
        let said = Totals { chunks: end.chunks, rows: end.rows };
        let found = Totals { chunks: self.position, rows: self.rows };
        if said.chunks != found.chunks || (is_whole && said.rows != found.rows) {
            return Err(Error::Incomplete { key: key.clone(), said, found });
        }
        // The last page is consumed with one more call.
        self.is_over = !self.request.consume || self.acknowledged == self.position;
        Ok(())
    }
}

async fn next(
    client: &DataExchangeClient,
    limit: std::time::Duration,
    answers: &mut Streaming<proto::RequestDataResponse>,
) -> Result<Given, Error> {
    let answer = client.within_time(limit, answers.message()).await?;
    let broken_off = || {
        let text = "the stream of a partition ended without its end";
        Error::Flight(sheaf_flight::Error::new(Code::Unavailable, text))
    };
    let unknown = || Error::Protocol("an answer is none of those that are known".to_owned());
    answer.ok_or_else(broken_off)?.message.ok_or_else(unknown)
}

const fn name(given: &Given) -> &'static str {
    match given {
        Given::Begin(_) => "a begin",
        Given::Chunk(_) => "a chunk",
        Given::More(_) => "a more",
        Given::End(_) => "an end",
    }
}

fn out_of_order(what: &str) -> Error {
    Error::Protocol(format!("{what} of a partition came where it cannot be"))
}

fn fetch_failed(peer: &str, key: &PartitionKey, cause: Error) -> Error {
    let (peer, partition, cause) = (peer.to_owned(), key.clone(), Box::new(cause));
    Error::Fetch(Box::new(FetchFailed { peer, partition, cause }))
}
