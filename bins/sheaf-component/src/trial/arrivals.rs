//! Which instance of a reader gets which batch: as on the streams of a pipeline that runs.

use arrow_array::RecordBatch;
use sheaf_dataflow::Received;
use sheaf_exchange::{Column, hash_partition_data};
use sheaf_pipeline::plan::Edge;
use sheaf_pipeline::spec::Partitioning;

/// Gives what the instances of the sender have sent to those of the reader.
///
/// Batches of one stream stay in order; one sender comes after another.
pub(super) fn deliver(
    edge: &Edge,
    sent: &[Vec<RecordBatch>],
    arriving: &mut [Vec<Received>],
) -> Result<(), String> {
    for (from, batches) in (0_u32..).zip(sent) {
        let streams = edge.streams.iter().filter(|stream| stream.from == from);
        let to: Vec<usize> = streams.map(|stream| stream.to as usize).collect();
        let mut last = vec![0; to.len()];
        for (turn, batch) in batches.iter().enumerate() {
            for (stream, part) in parts(edge, to.len(), turn, batch)? {
                last[stream] += 1;
                let Some(reader) = arriving.get_mut(to[stream]) else { continue };
                reader.push(Received {
                    batch: part,
                    from: edge.from.as_str().into(),
                    from_instance: from,
                    epoch: 1,
                    sequence: last[stream],
                    lease: None,
                });
            }
        }
    }
    Ok(())
}

/// A batch by the streams that it goes over.
fn parts(
    edge: &Edge,
    streams: usize,
    turn: usize,
    batch: &RecordBatch,
) -> Result<Vec<(usize, RecordBatch)>, String> {
    if streams == 0 {
        return Ok(Vec::new());
    }
    Ok(match &edge.partitioning {
        Partitioning::Hash(columns) => {
            let columns: Vec<Column> = columns.iter().map(|name| name.as_str().into()).collect();
            let parts = hash_partition_data(batch, &columns, streams);
            let parts = parts.map_err(|error| format!("edge {}: {error}", edge.id))?;
            parts.into_iter().enumerate().filter(|(_, part)| part.num_rows() > 0).collect()
        }
        Partitioning::RoundRobin => vec![(turn % streams, batch.clone())],
        Partitioning::Forward | Partitioning::Broadcast => {
            (0..streams).map(|stream| (stream, batch.clone())).collect()
        }
    })
}
