//! Rows to partitions, partitions to workers.

use std::pin::pin;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};

use super::DataExchangeClient;
use super::lane::{Goal, Lane};
use crate::service::chunk::pack_aside;
use crate::service::schema::to_proto;
use crate::shuffle::{Error, PartitionKey, Sender, SentPartition};
use crate::{Partitioner, Partitioning, Sealed};

/// Partitions a stream and sends it; commits every partition at its end, also
/// those without rows.
///
/// Where there are few partitions their calls stay open, and the next rows are taken
/// while chunks are on their way; where there are many, each sends what it has
/// and lets go of its call.
pub(super) async fn run(
    client: &DataExchangeClient,
    targets: Vec<(String, PartitionKey)>,
    sender: Sender,
    partitioning: Partitioning,
    schema: SchemaRef,
    batches: impl Stream<Item = Result<RecordBatch, Error>> + Send,
) -> Result<Vec<SentPartition>, Error> {
    let options = &client.shared.options;
    let mut partitioner =
        Partitioner::try_new(schema, partitioning, targets.len(), options.partitioner)?;
    let first = to_proto(&partitioner.schema_message())?;
    let goal = if targets.len() <= options.lanes { Goal::Room } else { Goal::Empty };
    let lane = |(peer, key)| Lane::new(client, peer, key, sender, first.clone());
    let mut lanes: Vec<Lane> = targets.into_iter().map(lane).collect();
    let mut batches = pin!(batches);
    loop {
        let batch = tokio::select! {
            biased;
            batch = batches.next() => batch,
            // Who waits for rows takes answers, and so holds nothing of the governor.
            taken = drive(client, &mut lanes, Goal::Taken) => {
                taken?;
                batches.next().await
            }
        };
        let Some(batch) = batch else { break };
        add(client, &mut lanes, partitioner.push(&batch?)?).await?;
        drive(client, &mut lanes, goal).await?;
    }
    add(client, &mut lanes, partitioner.finish()?).await?;
    lanes.iter_mut().for_each(Lane::commit);
    drive(client, &mut lanes, Goal::Committed).await?;
    let sent: Vec<_> = lanes.into_iter().map(Lane::into_sent).collect();
    sent.iter().for_each(|one| client.calls.metrics.committed(one.totals.rows));
    Ok(sent)
}

async fn add(
    client: &DataExchangeClient,
    lanes: &mut [Lane],
    sealed: Vec<Sealed>,
) -> Result<(), Error> {
    let compression = client.shared.options.compression;
    for Sealed { partition, messages, .. } in sealed {
        let lane = &mut lanes[partition as usize];
        for message in messages {
            let bytes = message.len() as u64;
            let chunk = pack_aside(lane.next_sequence(), message, compression).await?;
            lane.push(chunk, bytes);
        }
    }
    Ok(())
}

/// Cancel-safe.
async fn drive<'a>(
    client: &DataExchangeClient,
    lanes: &'a mut [Lane],
    goal: Goal,
) -> Result<(), Error> {
    let at_once = client.shared.options.lanes.max(1);
    let call = |lane: &'a mut Lane| lane.has_to(goal).then(|| lane.drive(goal));
    let calls: Vec<_> = lanes.iter_mut().filter_map(call).collect();
    stream::iter(calls).buffer_unordered(at_once).try_collect::<Vec<()>>().await.map(drop)
}
