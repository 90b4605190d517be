//! Hands rows on, and hears which of them were taken.

use std::collections::BTreeMap;
use std::time::Duration;

use arrow_array::RecordBatch;
use async_trait::async_trait;
use sheaf_kafka::{Error, Portion, TopicPartition, TopicRows, TopicSink};
use tokio::sync::{Mutex, mpsc, watch};

/// Batches that wait to be asked for.
const QUEUE: usize = 16;
/// Batches of one call: as many may be under way.
const BATCHES: usize = 16;
/// Bytes of one call, beyond which it takes no more.
const BYTES: usize = 32 << 20;

/// The end at which rows come from Kafka.
///
/// Rows are kept when they were acknowledged: then their offsets are committed.
#[derive(Debug)]
pub(super) struct Handover {
    portion: Portion,
    batches: mpsc::Sender<(RecordBatch, u64)>,
    acknowledged: watch::Receiver<u64>,
    /// Batches that were handed on.
    number: Mutex<u64>,
}

/// The end at which they are asked for.
pub(super) struct Handed {
    batches: mpsc::Receiver<(RecordBatch, u64)>,
    acknowledged: Option<watch::Sender<u64>>,
}

impl Handover {
    pub(super) fn pair(batch_rows: usize, linger: Duration) -> (Handover, Handed) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let (tell, told) = watch::channel(0);
        let rows = batch_rows.saturating_mul(BATCHES);
        let handover = Handover {
            portion: Portion { rows, bytes: BYTES, linger },
            batches: sender,
            acknowledged: told,
            number: Mutex::new(0),
        };
        (handover, Handed { batches: receiver, acknowledged: Some(tell) })
    }
}

impl Handed {
    /// The next batch with its number; `None` when no more comes. May be dropped and asked
    /// for again.
    pub(super) async fn next(&mut self) -> Option<(RecordBatch, u64)> {
        self.batches.recv().await
    }

    /// All batches up to this one were taken.
    pub(super) fn acknowledged(&self, number: u64) {
        if let Some(acknowledged) = &self.acknowledged {
            acknowledged.send_if_modified(|all| {
                let is_more = number > *all;
                *all = number.max(*all);
                is_more
            });
        }
    }

    /// Nothing more is taken.
    pub(super) fn close(&mut self) {
        self.acknowledged = None;
        self.batches.close();
    }
}

#[async_trait]
impl TopicSink for Handover {
    async fn claim(
        &self,
        partitions: &[TopicPartition],
        committed: &BTreeMap<TopicPartition, i64>,
    ) -> Result<BTreeMap<TopicPartition, i64>, Error> {
        let known = |of: &TopicPartition| Some((of.clone(), *committed.get(of)?));
        Ok(partitions.iter().filter_map(known).collect())
    }

    async fn begin(&self, _: &[(TopicPartition, i64)]) -> Result<(), Error> {
        Ok(())
    }

    async fn append(&self, chunks: &[TopicRows]) -> Result<u64, Error> {
        let mut number = self.number.lock().await;
        let mut rows = 0;
        for chunk in chunks {
            if let Some(letters) = &chunk.dead_letters {
                let (of, messages) = (&chunk.of, letters.num_rows());
                tracing::warn!(%of, messages, end = chunk.end, "messages that are no rows: left out");
            }
            let Some(batch) = &chunk.rows else { continue };
            rows += batch.num_rows() as u64;
            *number += 1;
            let handed = self.batches.send((batch.clone(), *number)).await;
            // Nothing is committed from here on, and a restart reads it again.
            handed.map_err(|_| Error::TaskLost)?;
        }
        Ok(rows)
    }

    fn kept(&self) -> Option<watch::Receiver<u64>> {
        Some(self.acknowledged.clone())
    }

    fn needs_committed(&self) -> bool {
        true
    }

    fn portion(&self) -> Portion {
        self.portion
    }

    fn place_of(&self, stream: &str) -> Result<String, Error> {
        Ok(format!("the readers of {stream}"))
    }
}
