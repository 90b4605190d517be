//! A processor of one's own: flights in, one row per carrier out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use arrow_array::cast::AsArray as _;
use arrow_array::types::Int16Type;
use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use async_trait::async_trait;
use futures::StreamExt as _;
use sheaf_worker::{Job, Output, ProcessError, Processor};

/// Adds up departure delays by carrier. Sums and counts, not means: those of
/// several batches can be added up again.
#[derive(Debug, Default)]
pub(crate) struct DelayByCarrier {
    lookups: AtomicU32,
}

#[async_trait]
impl Processor for DelayByCarrier {
    async fn process(&self, job: Job) -> Result<Output, ProcessError> {
        let attempt = job.attempt;
        let mut rows = job.into_rows().await?.rows;
        let mut sums = BTreeMap::<String, (i64, i64)>::new();
        while let Some(batch) = rows.next().await {
            add(&mut sums, &batch?)?;
        }
        self.look_up(attempt)?;
        Ok(Output::from_batch(table(&sums)?))
    }

    fn describe(&self) -> String {
        "departure delay by carrier".to_owned()
    }

    fn makes_batches(&self) -> bool {
        false // rows for the sink only, no further batches
    }
}

impl DelayByCarrier {
    /// Stands for a service that is not to be relied upon: its first call fails.
    fn look_up(&self, attempt: u32) -> Result<(), ProcessError> {
        match self.lookups.fetch_add(1, Ordering::Relaxed) {
            // Transient: the batch's own policy says when it is tried again.
            0 => Err(ProcessError::transient(format!("attempt {attempt}: carrier list is down"))),
            _ => Ok(()),
        }
    }
}

fn add(sums: &mut BTreeMap<String, (i64, i64)>, batch: &RecordBatch) -> Result<(), ProcessError> {
    let carriers = batch.column_by_name("carrier").and_then(|column| column.as_string_opt::<i32>());
    let delays =
        batch.column_by_name("dep_delay").and_then(|column| column.as_primitive_opt::<Int16Type>());
    let (Some(carriers), Some(delays)) = (carriers, delays) else {
        // No attempt will find other columns in the same data.
        return Err(ProcessError::permanent("these are no flights: no carrier or dep_delay"));
    };
    for (carrier, delay) in carriers.iter().zip(delays) {
        // A flight without a delay never left.
        if let (Some(carrier), Some(delay)) = (carrier, delay) {
            let sum = sums.entry(carrier.to_owned()).or_default();
            sum.0 += i64::from(delay);
            sum.1 += 1;
        }
    }
    Ok(())
}

fn table(sums: &BTreeMap<String, (i64, i64)>) -> Result<RecordBatch, arrow_schema::ArrowError> {
    let columns: [(_, ArrayRef); 3] = [
        ("carrier", Arc::new(StringArray::from_iter_values(sums.keys()))),
        ("minutes", Arc::new(Int64Array::from_iter_values(sums.values().map(|sum| sum.0)))),
        ("flights", Arc::new(Int64Array::from_iter_values(sums.values().map(|sum| sum.1)))),
    ];
    RecordBatch::try_from_iter(columns)
}
