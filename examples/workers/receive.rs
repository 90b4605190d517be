//! A partition to its result, in a Parquet file.

use std::fs::File;
use std::path::PathBuf;
use std::pin::pin;

use arrow_array::RecordBatch;
use futures::TryStreamExt as _;
use parquet::arrow::ArrowWriter;
use sheaf_exchange::shuffle::{PartitionKey, ReadOptions};

use super::protocol::{Event, Reduce};
use super::worker::Worker;
use super::{Error, Route, send};

pub(crate) async fn reduce(worker: &Worker, task: &Reduce) -> Result<Event, Error> {
    let (job, partition) = (worker.job, task.partition);
    let mut reducer = (job.reducer)();
    let folder = worker.arguments.out.as_ref().ok_or("no --out")?;
    let mut output = Output::new(folder.join(format!("part-{partition:05}.parquet")));
    for (at, input) in job.inputs.iter().enumerate() {
        let mut batches = pin!(match input.route {
            // There is a partition for each worker.
            Route::Stay => futures::future::Either::Left(send::share(worker, input, partition)?.2),
            Route::Hash(_) | Route::Broadcast => {
                let key = PartitionKey::try_new(job.name, u32::try_from(at)?, partition)?;
                let options = ReadOptions { consume: task.consume, ..ReadOptions::default() };
                let holder = &task.holder;
                let reader = worker.client.request_data_from_worker(holder, &key, None, options);
                futures::future::Either::Right(reader.await?.into_stream())
            }
        });
        while let Some(batch) = batches.try_next().await? {
            output.write(reducer.push(at, &batch)?)?;
        }
    }
    output.write(reducer.finish()?)?;
    Ok(Event::Reduced { partition, rows: output.close()? })
}

/// A Parquet file that has its name once it is whole; none without rows.
struct Output {
    path: PathBuf,
    writer: Option<ArrowWriter<File>>,
    rows: u64,
}

impl Output {
    fn new(path: PathBuf) -> Self {
        Output { path, writer: None, rows: 0 }
    }

    fn temporary(&self) -> PathBuf {
        self.path.with_extension("unfinished")
    }

    fn write(&mut self, batch: Option<RecordBatch>) -> Result<(), Error> {
        let Some(batch) = batch.filter(|batch| batch.num_rows() > 0) else { return Ok(()) };
        if self.writer.is_none() {
            let file = File::create(self.temporary())?;
            self.writer = Some(ArrowWriter::try_new(file, batch.schema(), None)?);
        }
        if let Some(writer) = &mut self.writer {
            writer.write(&batch)?;
            self.rows += batch.num_rows() as u64;
        }
        Ok(())
    }

    fn close(self) -> Result<u64, Error> {
        let (temporary, rows) = (self.temporary(), self.rows);
        if let Some(writer) = self.writer {
            writer.close()?;
            std::fs::rename(temporary, self.path)?;
        }
        Ok(rows)
    }
}
