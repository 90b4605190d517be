//! What readers get.

use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use sheaf_proto::exchange::v1 as proto;
use sheaf_proto::exchange::v1::request_data_response::Message as Given;
use sheaf_retry::Code;
use tokio::sync::OwnedSemaphorePermit;

use crate::service::chunk::pack_aside;
use crate::service::codec::Compression;
use crate::service::schema::to_proto;
use crate::shuffle::{
    AvailablePartition, Error, Exchange, Item, MAX_MESSAGE_BYTES, MAX_WAIT, PartitionKey,
    ReadOptions, Reader,
};

/// What a reader asks for.
pub(super) struct Wanted {
    pub(super) key: PartitionKey,
    pub(super) options: ReadOptions,
    pub(super) compression: Compression,
}

impl TryFrom<&proto::RequestDataRequest> for Wanted {
    type Error = Error;

    fn try_from(request: &proto::RequestDataRequest) -> Result<Self, Error> {
        let wait = Duration::from_millis(request.wait_ms);
        if wait > MAX_WAIT {
            let (said, limit) = (request.wait_ms, MAX_WAIT.as_millis());
            return Err(Error::Argument(format!("wait_ms is {said}, the limit is {limit}")));
        }
        let options = ReadOptions {
            from_sequence: request.from_sequence,
            pipelined: request.pipelined,
            consume: request.consume,
            max_bytes: request.max_bytes,
            incarnation: request.incarnation,
            wait,
        };
        let key = PartitionKey::try_new(&request.query, request.stage, request.partition)?;
        let compression = Compression::from_proto(request.compression)?;
        Ok(Wanted { key, options, compression })
    }
}

/// The answer to one reader.
pub(super) struct Answer {
    reader: Reader,
    compression: Compression,
    _permit: OwnedSemaphorePermit,
}

impl Answer {
    pub(super) fn new(
        reader: Reader,
        compression: Compression,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        Answer { reader, compression, _permit: permit }
    }

    /// A begin, chunks as they are read, an end.
    pub(super) fn into_stream(
        self,
    ) -> BoxStream<'static, Result<proto::RequestDataResponse, Error>> {
        let begin = self.begin();
        let chunks = stream::try_unfold(Some(self), |answer| async move {
            let Some(mut answer) = answer else { return Ok(None) };
            let given = answer.next().await?;
            let is_chunk = matches!(given, Given::Chunk(_));
            Ok(Some((response(given), is_chunk.then_some(answer))))
        });
        stream::once(async { begin.map(response) }).chain(chunks).boxed()
    }

    fn begin(&self) -> Result<Given, Error> {
        let schema = Some(to_proto(&self.reader.schema())?);
        let incarnation = self.reader.incarnation();
        Ok(Given::Begin(proto::DataBegin { schema, incarnation }))
    }

    async fn next(&mut self) -> Result<Given, Error> {
        Ok(match self.reader.next().await? {
            Item::Chunk { sequence, sender, message, .. } => {
                let chunk = pack_aside(sequence, message, self.compression).await?;
                Given::Chunk(proto::DataChunk { sender, ..chunk })
            }
            Item::More(next_sequence) => Given::More(proto::DataMore { next_sequence }),
            Item::End(totals) => {
                Given::End(proto::DataEnd { chunks: totals.chunks, rows: totals.rows })
            }
        })
    }
}

fn response(given: Given) -> proto::RequestDataResponse {
    proto::RequestDataResponse { message: Some(given) }
}

/// What is there of a stage.
pub(super) fn available(
    exchange: &Exchange,
    request: &proto::GetAvailablePartitionsRequest,
) -> Result<proto::GetAvailablePartitionsResponse, Error> {
    let proto::GetAvailablePartitionsRequest { query, stage, include_schemas } = request;
    let there = exchange.get_available_partitions(query, *stage)?;
    let (mut partitions, mut bytes) = (Vec::new(), 0);
    for one in there.partitions {
        let mut schema =
            proto::ArrowSchema { fingerprint: one.schema.clone(), ..Default::default() };
        if *include_schemas {
            let key = PartitionKey::try_new(query, *stage, one.partition)?;
            match exchange.schema(&key) {
                Ok(message) => schema = to_proto(&message)?,
                // It has gone in between.
                Err(Error::NotFound { .. } | Error::CleanedUp { .. }) => continue,
                Err(error) => return Err(error),
            }
        }
        bytes += schema.ipc_schema.len();
        if bytes > MAX_MESSAGE_BYTES / 2 {
            let text = format!(
                "the schemas of stage {stage} have over {} bytes; ask without include_schemas",
                MAX_MESSAGE_BYTES / 2
            );
            return Err(Error::Flight(sheaf_flight::Error::new(Code::LimitExceeded, text)));
        }
        partitions.push(info(&one, schema)?);
    }
    Ok(proto::GetAvailablePartitionsResponse { partitions })
}

fn info(
    one: &AvailablePartition,
    schema: proto::ArrowSchema,
) -> Result<proto::PartitionInfo, Error> {
    let checksum = u32::from_str_radix(&one.checksum, 16).map_err(|_| {
        Error::Protocol(format!("checksum {:?} is not eight hexadecimal digits", one.checksum))
    })?;
    Ok(proto::PartitionInfo {
        partition: one.partition,
        ready: one.ready,
        committed: one.committed,
        senders: one.senders,
        rows: one.rows,
        bytes: one.bytes,
        chunks: one.chunks,
        schema: Some(schema),
        checksum,
    })
}
