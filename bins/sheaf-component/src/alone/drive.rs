//! Moves rows from standard input to standard output through a component.

use std::path::Path;

use arrow_array::RecordBatch;
use sheaf_components::Host;
use sheaf_dataflow::{Processor, Received, Sink, Source};
use sheaf_terminal::Failure;

use super::{failure, offset};
use crate::feed::Feed;

pub(super) async fn make(
    source: &mut dyn Source,
    print: &mut dyn Sink,
    most: Option<usize>,
    state: &Path,
) -> Result<(), Failure> {
    let (mut left, mut sequence) = (most.unwrap_or(usize::MAX), 0);
    while left > 0
        && let Some(made) = source.next().await.map_err(failure)?
    {
        let rows = made.batch.num_rows();
        let batch = made.batch.slice(0, rows.min(left));
        left -= batch.num_rows();
        sequence += 1;
        let is_whole = batch.num_rows() == rows;
        print.write(&received(batch, 1, sequence)).await.map_err(failure)?;
        // Of a batch that is cut, the rest would be missing next time.
        if is_whole {
            source.acknowledged(&made.offset).await.map_err(failure)?;
            offset::write(state, &made.offset)?;
        }
    }
    Ok(())
}

pub(super) async fn process(
    processor: &mut dyn Processor,
    print: &mut dyn Sink,
    host: &Host,
) -> Result<(), Failure> {
    let (mut feed, mut sequence, mut printed) = (Feed::open(), 0, 0);
    loop {
        let (outcome, is_over) = tokio::select! {
            next = feed.next() => match next? {
                Some(batch) => {
                    sequence += 1;
                    (processor.process(&received(batch, 1, sequence)).await.map(Some), false)
                }
                None => (processor.end().await.map(Some), true),
            },
            () = host.clock.sleep(std::time::Duration::from_millis(100)) => {
                (processor.tick().await, false)
            }
        };
        for batch in outcome.map_err(failure)?.into_iter().flat_map(|outcome| outcome.batches) {
            printed += 1;
            print.write(&received(batch, 1, printed)).await.map_err(failure)?;
        }
        if is_over {
            return Ok(());
        }
    }
}

pub(super) async fn take(sink: &mut dyn Sink, run: u64) -> Result<(), Failure> {
    let (mut feed, mut sequence) = (Feed::open(), 0);
    while let Some(batch) = feed.next().await? {
        sequence += 1;
        sink.write(&received(batch, run, sequence)).await.map_err(failure)?;
    }
    sink.flush().await.map_err(failure)?;
    sink.end().await.map_err(failure)
}

/// As of a process `epoch` of a sender.
fn received(batch: RecordBatch, epoch: u64, sequence: u64) -> Received {
    Received { batch, from: "stdin".into(), from_instance: 0, epoch, sequence, lease: None }
}
