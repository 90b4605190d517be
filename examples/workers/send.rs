//! A share of a table to the partitions that need it.

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};
use sheaf_exchange::shuffle::{self, PartitionKey, Sender, SentPartition, ShufflePlan};
use sheaf_exchange::{Column, hash_partition_data};
use sheaf_retry::Code;

use super::protocol::{Event, Send};
use super::worker::{Worker, say};
use super::{Error, Input, Route, tables};

type Rows = Result<RecordBatch, shuffle::Error>;

pub(crate) async fn send(worker: &Worker, task: &Send) -> Result<Event, Error> {
    let input = &worker.job.inputs[task.input];
    let senders = worker.arguments.workers;
    let plan = ShufflePlan {
        query: worker.job.name.to_owned(),
        stage: u32::try_from(task.input)?,
        sender: Sender { index: task.share, attempt: task.attempt, senders },
        workers: task.workers.clone(),
        partitions: task.partitions,
    };
    let sent = if task.only.len() == task.partitions as usize {
        send_all(worker, input, &plan).await?
    } else {
        send_some(worker, input, &plan, task).await?
    };
    let (rows, bytes) = (sent.iter().map(|one| one.totals.rows), sent.iter().map(|one| one.bytes));
    Ok(Event::Sent { rows: rows.sum(), bytes: bytes.sum() })
}

async fn send_all(
    worker: &Worker,
    input: &Input,
    plan: &ShufflePlan,
) -> Result<Vec<SentPartition>, Error> {
    let (schema, of, batches) = share(worker, input, plan.sender.index)?;
    let mut rows = 0;
    let batches = batches.inspect_ok(move |batch| {
        rows += batch.num_rows() as u64;
        say(&Event::Sending { rows: rows.min(of), of });
    });
    let client = &worker.client;
    Ok(match input.route {
        Route::Hash(keys) => {
            client.perform_hash_shuffle(plan, keys.iter().copied(), schema, batches).await?
        }
        Route::Broadcast | Route::Stay => client.perform_broadcast(plan, schema, batches).await?,
    })
}

/// The partitions that were lost, one after the other.
async fn send_some(
    worker: &Worker,
    input: &Input,
    plan: &ShufflePlan,
    task: &Send,
) -> Result<Vec<SentPartition>, Error> {
    let mut sent = Vec::new();
    for &partition in &task.only {
        let (schema, _, batches) = share(worker, input, plan.sender.index)?;
        let (at, partitions) = (partition as usize, plan.partitions as usize);
        let batches = batches.map(|batch| match input.route {
            Route::Hash(keys) => {
                let keys: Vec<Column> = keys.iter().copied().map(Column::from).collect();
                Ok(hash_partition_data(&batch?, &keys, partitions)?.swap_remove(at))
            }
            Route::Broadcast | Route::Stay => batch,
        });
        let key = PartitionKey::try_new(&plan.query, plan.stage, partition)?;
        let peer = plan.worker_of(partition).ok_or("no workers")?;
        let one = worker.client.send_data_to_worker(peer, &key, plan.sender, schema, batches);
        sent.push(one.await?);
    }
    Ok(sent)
}

/// The rows of a share as they are to be sent: their schema, how many were read, and
/// the batches. Reading blocks, for a batch at a time.
pub(crate) fn share(
    worker: &Worker,
    input: &Input,
    share: u32,
) -> Result<(SchemaRef, u64, impl Stream<Item = Rows> + std::marker::Send + use<>), Error> {
    let arguments = &worker.arguments;
    let of = (share, arguments.workers);
    let tables::Share { rows, schema, batches } =
        tables::open(input, &arguments.data, of, arguments.batch_rows)?;
    let before = input.before;
    let schema = before(RecordBatch::new_empty(schema))?.schema();
    let batches = batches.map(move |batch| {
        let failed =
            |error: Error| sheaf_flight::Error::new(Code::Io, format!("read rows: {error}"));
        Ok(before(batch.map_err(|error| failed(error.into()))?).map_err(failed)?)
    });
    Ok((schema, rows, stream::iter(batches)))
}
