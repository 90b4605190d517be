//! Rows and offsets into Parquet files, each in the other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::RecordBatch;
use arrow_schema::{Fields, Schema};
use async_trait::async_trait;
use sheaf_connectors::{FilesSpec, Span, TopicFiles};
use sheaf_retry::SharedClock;

use super::positions::{named, places, positions};
use super::{Portion, TopicRows, TopicSink, storable};
use crate::error::Error;
use crate::gateway::DEAD_LETTERS;
use crate::schema::message_fields;
use crate::stream::offsets;
use crate::tracker::TopicPartition;

/// What goes into files at once: small ones are slow to read.
const PORTION: Portion =
    Portion { rows: 1 << 20, bytes: 64 << 20, linger: Duration::from_secs(10) };

/// Parquet files in a directory or a bucket, a folder for each stream and partition.
/// Where a partition goes on is in the file of its last rows: see [`TopicFiles`].
///
/// Each file has the columns of its rows. Where they change within a portion, a new
/// file begins, so that no value is changed for others to fit.
#[derive(Debug)]
pub struct FileSink {
    files: TopicFiles,
    portion: Portion,
}

impl FileSink {
    /// Opens the files of a consumer group.
    ///
    /// # Errors
    /// Where the place cannot be written to.
    pub async fn open(spec: &FilesSpec, group: &str, clock: SharedClock) -> Result<Self, Error> {
        Ok(FileSink { files: TopicFiles::open(spec, group, clock).await?, portion: PORTION })
    }

    /// Has rows wait so long for others; ten seconds if nothing is said.
    #[must_use]
    pub fn with_linger(mut self, linger: Duration) -> Self {
        self.portion.linger = linger;
        self
    }

    /// Takes so many bytes in memory at once: where less room is left than a file of the
    /// usual size takes.
    #[must_use]
    pub fn with_most_bytes(mut self, bytes: usize) -> Self {
        self.portion.bytes = self.portion.bytes.min(bytes);
        self
    }

    /// What is not there yet, as files to be.
    fn spans(&self, chunks: &[TopicRows]) -> Result<Vec<Span>, Error> {
        let mut done = Vec::new();
        let mut open: BTreeMap<&TopicPartition, Building> = BTreeMap::new();
        for chunk in chunks {
            if chunk.of.topic.ends_with(DEAD_LETTERS) {
                let why = format!("a topic whose name ends with {DEAD_LETTERS} has no files");
                return Err(Error::Invalid(format!("topic {}: {why}", chunk.of.topic)));
            }
            let place = self.files.place(&chunk.of.topic, chunk.of.partition);
            if place.is_some_and(|place| chunk.end <= place) {
                continue;
            }
            let mut left = chunk.clone();
            if let Some(place) = place {
                left = left.beyond(place);
            }
            left.rows = left.rows.as_ref().map(storable::batch).transpose()?;
            let building = open.entry(&chunk.of).or_insert_with(|| Building::begin(&left));
            if !building.takes(&left) {
                let next = Building::begin(&left);
                done.push(std::mem::replace(building, next).span(&chunk.of));
            }
            building.push(left);
        }
        done.extend(open.into_iter().map(|(of, building)| building.span(of)));
        Ok(done)
    }
}

/// A file to be: rows with the same columns.
struct Building {
    first: i64,
    end: i64,
    rows: Vec<RecordBatch>,
    dead_letters: Vec<RecordBatch>,
}

impl Building {
    fn begin(chunk: &TopicRows) -> Self {
        let firsts = chunk.by_stream().filter_map(|(_, rows)| offsets(rows)?.values().first());
        // Without a message there is nothing that could be before it.
        let first = firsts.min().copied().unwrap_or(0);
        Building { first, end: chunk.end, rows: Vec::new(), dead_letters: Vec::new() }
    }

    fn takes(&self, chunk: &TopicRows) -> bool {
        match (self.rows.first(), &chunk.rows) {
            (Some(known), Some(rows)) => known.schema_ref() == rows.schema_ref(),
            _ => true,
        }
    }

    fn push(&mut self, chunk: TopicRows) {
        self.rows.extend(chunk.rows);
        self.dead_letters.extend(chunk.dead_letters);
        self.end = chunk.end;
    }

    fn span(self, of: &TopicPartition) -> Span {
        let Building { first, end, mut rows, dead_letters } = self;
        if rows.is_empty() {
            let schema = Schema::new(message_fields().collect::<Fields>());
            rows.push(RecordBatch::new_empty(Arc::new(schema)));
        }
        let (topic, partition) = (of.topic.to_string(), of.partition);
        let beside = (!dead_letters.is_empty())
            .then(|| (format!("{}{DEAD_LETTERS}", of.topic), dead_letters));
        Span { topic, partition, first, end, rows, beside }
    }
}

#[async_trait]
impl TopicSink for FileSink {
    async fn claim(
        &self,
        partitions: &[TopicPartition],
        _committed: &BTreeMap<TopicPartition, i64>,
    ) -> Result<BTreeMap<TopicPartition, i64>, Error> {
        Ok(places(self.files.claim(&named(partitions)).await?))
    }

    async fn begin(&self, places: &[(TopicPartition, i64)]) -> Result<(), Error> {
        Ok(self.files.begin(&positions(places)).await?)
    }

    async fn append(&self, chunks: &[TopicRows]) -> Result<u64, Error> {
        Ok(self.files.append(self.spans(chunks)?).await?)
    }

    fn needs_committed(&self) -> bool {
        false
    }

    fn portion(&self) -> Portion {
        self.portion
    }

    fn place_of(&self, stream: &str) -> Result<String, Error> {
        Ok(self.files.place_of(stream)?)
    }
}
