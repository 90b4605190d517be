//! Reads one partition over gRPC.

use std::fmt;

use arrow_array::RecordBatch;
use arrow_schema::{Schema, SchemaRef};
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use futures::{FutureExt as _, StreamExt as _};
use sheaf_proto::exchange::v1 as proto;
use sheaf_proto::exchange::v1::request_data_response::Message as Given;
use tonic::Streaming;

use super::{DataExchangeClient, failed};
use crate::service::chunk::{bounds, unpack_aside};
use crate::service::schema::{from_proto, serialize_schema};
use crate::shuffle::{
    Calls, Error, Got, Opened, PartitionKey, ReadOptions, Reading, Source, Totals, broken_off,
};

/// The record batches of one partition of one worker.
///
/// It does what [`PartitionReader`](crate::shuffle::PartitionReader) does, which says
/// what holds; the checksums are those of payloads.
pub struct DataReader {
    reading: Reading<DataExchangeClient>,
}

impl DataReader {
    pub(super) async fn open(
        client: DataExchangeClient,
        peer: &str,
        key: &PartitionKey,
        expected: Option<&Schema>,
        options: ReadOptions,
    ) -> Result<Self, Error> {
        let reading = Reading::open(client, peer, key, expected, options, bounds()).await?;
        Ok(DataReader { reading })
    }

    /// The schema of the partition.
    pub fn schema(&self) -> SchemaRef {
        self.reading.schema()
    }

    /// The chunk that is next: what to read from in another reader, as
    /// [`PartitionReader::position`](crate::shuffle::PartitionReader::position) has it.
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

impl fmt::Debug for DataReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reading.show("DataReader", f)
    }
}

impl Source for DataExchangeClient {
    fn calls(&self) -> &Calls {
        &self.calls
    }

    fn ask<'a>(
        &'a self,
        peer: &'a str,
        key: &'a PartitionKey,
        expected: Option<&'a Schema>,
        options: ReadOptions,
    ) -> BoxFuture<'a, Result<Opened, Error>> {
        async move {
            let request = request(self, key, expected, options)?;
            let mut stub = Self::client_of(&self.shared.reads, peer)?;
            let mut answers = stub.request_data(request).await.map_err(failed)?.into_inner();
            let begin = match next(&mut answers).await? {
                Given::Begin(begin) => begin,
                other => return Err(out_of_order(name(&other))),
            };
            let no_schema = || Error::Protocol("the begin has no schema".to_owned());
            let schema = from_proto(&begin.schema.ok_or_else(no_schema)?)?;
            let chunks = stream::try_unfold(answers, |mut answers| async move {
                let got = got(next(&mut answers).await?).await?;
                Ok(Some((got, answers)))
            });
            let (incarnation, chunks) = (begin.incarnation, chunks.boxed());
            Ok(Opened { schema, incarnation, chunks, is_local: false })
        }
        .boxed()
    }
}

fn request(
    client: &DataExchangeClient,
    key: &PartitionKey,
    expected: Option<&Schema>,
    options: ReadOptions,
) -> Result<proto::RequestDataRequest, Error> {
    let ReadOptions { from_sequence, pipelined, consume, max_bytes, incarnation, wait } = options;
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
        compression: client.shared.options.compression.to_proto().into(),
        expected_schema: expected.map(serialize_schema).transpose()?,
    })
}

async fn next(answers: &mut Streaming<proto::RequestDataResponse>) -> Result<Given, Error> {
    let answer = answers.message().await.map_err(failed)?;
    let unknown = || Error::Protocol("an answer is none of those that are known".to_owned());
    answer.ok_or_else(broken_off)?.message.ok_or_else(unknown)
}

async fn got(given: Given) -> Result<Got, Error> {
    Ok(match given {
        Given::Chunk(chunk) => {
            let sequence = chunk.sequence;
            Got::Chunk { sequence, message: unpack_aside(chunk).await? }
        }
        Given::More(more) => Got::More(more.next_sequence),
        Given::End(proto::DataEnd { chunks, rows, .. }) => Got::End(Totals { chunks, rows }),
        other @ Given::Begin(_) => return Err(out_of_order(name(&other))),
    })
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
