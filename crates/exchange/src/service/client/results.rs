//! One attempt in one call.

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use futures::future::BoxFuture;
use futures::stream;
use sheaf_proto::exchange::v1 as proto;
use sheaf_proto::exchange::v1::data_transfer_request::Message as Said;

use super::{DataExchangeClient, begin};
use crate::service::chunk::pack_aside;
use crate::service::schema::to_proto;
use crate::shuffle::{Error, PartitionKey, Sender, SentPartition, Totals};
use crate::{Partitioner, Partitioning};

/// What is sent, which a retry sends again.
struct Results {
    requests: Vec<proto::DataTransferRequest>,
    /// Of payloads.
    bytes: usize,
    sent: SentPartition,
}

pub(super) async fn send(
    client: &DataExchangeClient,
    peer: &str,
    key: &PartitionKey,
    sender: Sender,
    schema: SchemaRef,
    batches: &[RecordBatch],
) -> Result<SentPartition, Error> {
    let results = prepare(client, peer, key, sender, schema, batches).await?;
    let call = || -> BoxFuture<'_, _> { Box::pin(one_call(client, peer, &results)) };
    let sent = client.calls.with_retries(peer, call).await;
    sent.map_err(|cause| client.calls.send_failed(peer, key, cause))?;
    client.calls.metrics.committed(results.sent.totals.rows);
    Ok(results.sent)
}

async fn prepare(
    client: &DataExchangeClient,
    peer: &str,
    key: &PartitionKey,
    sender: Sender,
    schema: SchemaRef,
    batches: &[RecordBatch],
) -> Result<Results, Error> {
    let options = &client.shared.options;
    let mut partitioner =
        Partitioner::try_new(schema, Partitioning::Single, 1, options.partitioner)?;
    let first = to_proto(&partitioner.schema_message())?;
    let mut results = Results {
        requests: vec![begin(key, sender, first)],
        bytes: 0,
        sent: SentPartition {
            key: key.clone(),
            peer: peer.to_owned(),
            totals: Totals::default(),
            bytes: 0,
        },
    };
    let mut sealed = Vec::new();
    for batch in batches {
        sealed.extend(partitioner.push(batch)?);
    }
    sealed.extend(partitioner.finish()?);
    let sent = &mut results.sent;
    for message in sealed.into_iter().flat_map(|part| part.messages) {
        let bytes = message.len() as u64;
        let chunk = pack_aside(sent.totals.chunks, message, options.compression).await?;
        sent.totals.chunks += 1;
        sent.totals.rows += chunk.rows;
        sent.bytes += bytes;
        results.bytes += chunk.payload.len();
        results.requests.push(proto::DataTransferRequest { message: Some(Said::Chunk(chunk)) });
    }
    let Totals { chunks, rows } = sent.totals;
    let commit = Said::Commit(proto::TransferCommit { chunks, rows });
    results.requests.push(proto::DataTransferRequest { message: Some(commit) });
    Ok(results)
}

async fn one_call(client: &DataExchangeClient, peer: &str, results: &Results) -> Result<(), Error> {
    let _bytes = client.shared.governor.acquire(results.bytes).await;
    let mut stub = client.client(peer)?;
    client.calls.sent(peer, results.requests.len().saturating_sub(2), results.bytes);
    let request = client.timed(stream::iter(results.requests.clone()));
    let answer = client.within(stub.send_results(request)).await?.into_inner();
    if !answer.committed || answer.next_sequence != results.sent.totals.chunks {
        let said = results.sent.totals.chunks;
        return Err(Error::Protocol(format!("{peer} answers {answer:?} to {said} chunks")));
    }
    Ok(())
}
