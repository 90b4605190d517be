//! Topics as Parquet files, and how far each partition of them reaches.

mod blobs;
#[cfg(feature = "s3")]
mod bucket;
mod encode;
mod link;
mod local;
mod names;
mod pending;
mod spec;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::RecordBatch;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use sheaf_retry::SharedClock;

use crate::adbc::Position;
use crate::blocking::blocking;
use crate::error::Error;
use blobs::Blobs;
#[cfg(feature = "s3")]
pub use bucket::Objects;
use link::{Begin, Link};
use names::Partition;
pub use spec::FilesSpec;

/// Partitions that are looked at, or written to, at the same time.
const AT_ONCE: usize = 8;

/// Topics in a directory or a bucket, as Parquet files that a consumer group writes
/// exactly once.
///
/// ```text
/// PLACE/TOPIC/partition-3/00000000000000001200.parquet     rows of messages from 1200 on
/// PLACE/TOPIC/partition-3/_begin.json                      where the partition began
/// PLACE/OTHER/partition-3/00000000000000001200.parquet     what else came of these messages
/// PLACE/_sheaf/pending/TOPIC/partition-3/START.HASH        the same, before it is decided
/// PLACE/_sheaf/format.json                                 the version of all this
/// ```
///
/// `OTHER` is the stream that [`Span::beside`] names. Readers take `TOPIC/**/*.parquet`
/// and see whole files only. The folders are not called `partition=3`: readers make a
/// column of that, which would hide the messages' own column `partition`.
///
/// # What holds
///
/// 1. A name is created only if it is absent, and what it names is whole and
///    durable from then on. No file is ever replaced.
/// 2. The footer of a file says where the next one begins, which is behind its own
///    beginning. So the files of a partition are a chain: each place in it has one
///    successor at most, and the name is what two writers compete for. Who comes
///    second takes up nothing ([`Error::Fenced`]) until it has claimed again.
/// 3. The place of a partition is the end of the file with the greatest beginning,
///    else what `_begin.json` says.
/// 4. What is beside the rows (dead letters) is decided with them: it is written
///    to `_sheaf/pending` first, the footer of the rows names it, and then it gets its
///    name among the readable ones. Where the writer dies before that, the next claim
///    does it, before anything is written behind it. What is pending and not named
///    by the file of its beginning is removed.
/// 5. What is pending for a place where no file is stays: it may become decided.
///
/// So that a file without rows can be a link, it has the columns that every
/// stream has. Old files may be removed, or rewritten elsewhere, except the newest
/// of each partition: it is what says where to go on.
pub struct TopicFiles {
    blobs: Arc<dyn Blobs>,
    group: String,
    /// Where each partition is, for those that were claimed or written.
    places: Mutex<BTreeMap<(String, i32), State>>,
}

#[derive(Clone, Copy, Debug)]
struct State {
    place: i64,
    /// The last file may not have been settled, see rule 4.
    is_open: bool,
}

/// What came of consecutive messages of one partition.
#[derive(Clone, Debug)]
pub struct Span {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The first offset of it: where a partition begins of which nothing is known.
    pub first: i64,
    /// The offset behind the last message.
    pub end: i64,
    /// Its rows, all with the same columns. A batch without rows says what the columns
    /// are; one at least is needed.
    pub rows: Vec<RecordBatch>,
    /// What else came of it, all with the same columns: the name of that stream, and
    /// batches.
    pub beside: Option<(String, Vec<RecordBatch>)>,
}

impl std::fmt::Debug for TopicFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TopicFiles").field("blobs", &self.blobs).finish_non_exhaustive()
    }
}

impl TopicFiles {
    /// Opens the place, for a consumer group.
    ///
    /// # Errors
    /// Where it cannot be written to, is of a newer version, or replaces what is
    /// there when asked not to.
    pub async fn open(spec: &FilesSpec, group: &str, clock: SharedClock) -> Result<Self, Error> {
        TopicFiles::on(spec.open(clock).await?, group).await
    }

    async fn on(blobs: Arc<dyn Blobs>, group: &str) -> Result<Self, Error> {
        link::check_format(blobs.as_ref()).await?;
        Ok(TopicFiles { blobs, group: group.to_owned(), places: Mutex::default() })
    }

    /// Where these partitions go on, for those of which anything is known. What
    /// another writer left unfinished is finished.
    ///
    /// # Errors
    /// Those of the place; where another group has written the partition.
    pub async fn claim(&self, partitions: &[(String, i32)]) -> Result<Vec<Position>, Error> {
        let asked = partitions
            .iter()
            .cloned()
            .map(|(topic, partition)| async move { self.claim_one(&topic, partition).await });
        let found: Vec<_> = futures::stream::iter(asked).buffered(AT_ONCE).try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    }

    async fn claim_one(&self, topic: &str, partition: i32) -> Result<Option<Position>, Error> {
        let of = Partition::new(topic, partition)?;
        let Some(next_offset) = self.stored(&of).await? else { return Ok(None) };
        self.set(&of, next_offset, false);
        Ok(Some(Position { topic: topic.to_owned(), partition, next_offset }))
    }

    /// These partitions begin there.
    ///
    /// # Errors
    /// [`Error::Fenced`] where another writer has begun them elsewhere.
    pub async fn begin(&self, places: &[Position]) -> Result<(), Error> {
        for Position { topic, partition, next_offset } in places {
            self.begin_one(&Partition::new(topic, *partition)?, *next_offset).await?;
        }
        Ok(())
    }

    async fn begin_one(&self, of: &Partition, place: i64) -> Result<(), Error> {
        let begin = Begin::new(of, &self.group, place);
        if !self.blobs.create(&of.begin(), begin.bytes()?).await? {
            // It may be ours, where an answer was lost.
            let found = self.stored(of).await?;
            if found != Some(place) {
                return Err(self.fenced(of, None, found));
            }
        }
        self.set(of, place, false);
        Ok(())
    }

    /// Stores spans, those of a partition in their order; how many rows were not
    /// there. A span that ends before the place where its partition is, is there.
    ///
    /// Where one fails, so do the later ones of its partition; those of others are
    /// tried nevertheless.
    ///
    /// # Errors
    /// [`Error::Fenced`] where another writer has moved a partition on. The same call
    /// again does the rest.
    pub async fn append(&self, spans: Vec<Span>) -> Result<u64, Error> {
        let mut by_partition: BTreeMap<(String, i32), Vec<Span>> = BTreeMap::new();
        for span in spans {
            by_partition.entry((span.topic.clone(), span.partition)).or_default().push(span);
        }
        let writes = by_partition.into_values().map(|spans| async move {
            let mut rows = 0;
            for span in spans {
                rows += self.append_one(span).await?;
            }
            Ok(rows)
        });
        let done: Vec<_> = futures::stream::iter(writes).buffer_unordered(AT_ONCE).collect().await;
        done.into_iter().sum()
    }

    async fn append_one(&self, span: Span) -> Result<u64, Error> {
        let of = Partition::new(&span.topic, span.partition)?;
        let place = self.ready(&of, span.first).await?;
        if span.end <= place {
            return Ok(0);
        }
        let Span { end, rows, beside, .. } = span;
        let mut link = Link::new(&of, &self.group, (place, end));
        link.rows = count(&rows);
        let mut written = link.rows;
        let mut staged = None;
        if let Some((stream, batches)) = beside {
            let its_own = link.beside(count(&batches));
            written += its_own.rows;
            let bytes = self.encode(&of, batches, its_own).await?;
            let stage = pending::Staged::new(&of, place, &stream, bytes)?;
            self.blobs.create(&stage.name, stage.bytes.clone()).await?;
            link.beside = Some(stage.reference());
            staged = Some(stage);
        }
        let bytes = self.encode(&of, rows, link.clone()).await?;
        if !self.blobs.create(&of.file(place), bytes).await? {
            return Err(self.fenced(&of, Some(place), None));
        }
        self.set(&of, end, staged.is_some());
        if let Some(stage) = staged {
            pending::publish(self.blobs.as_ref(), &stage).await?;
            self.set(&of, end, false);
        }
        Ok(written)
    }

    /// The place of a partition, all before which is settled.
    async fn ready(&self, of: &Partition, first: i64) -> Result<i64, Error> {
        let known = self.places().get(&of.key()).copied();
        match known {
            Some(State { place, is_open: false }) => Ok(place),
            Some(State { place, is_open: true }) => {
                let found = self.stored(of).await?;
                if found != Some(place) {
                    return Err(self.fenced(of, Some(place), found));
                }
                self.set(of, place, false);
                Ok(place)
            }
            None => {
                self.begin_one(of, first).await?;
                Ok(first)
            }
        }
    }

    /// Where a partition is by what is stored, all before which is settled then.
    async fn stored(&self, of: &Partition) -> Result<Option<i64>, Error> {
        let blobs = self.blobs.as_ref();
        let Some(start) = blobs.newest(&of.folder()).await? else {
            return Begin::read(blobs, of, &self.group).await;
        };
        let link = Link::read(blobs, of, start, &self.group).await?;
        pending::settle(blobs, of, &link).await?;
        Ok(Some(link.end))
    }

    async fn encode(
        &self,
        of: &Partition,
        rows: Vec<RecordBatch>,
        link: Link,
    ) -> Result<Bytes, Error> {
        let place = self.blobs.place(&of.file(link.start));
        let shown = place.clone();
        blocking("write", &place, move || encode::parquet(&rows, &link, &shown)).await
    }

    /// Where the rows of a stream go, for people.
    ///
    /// # Errors
    /// [`Error::Invalid`] where its name is none of a topic.
    pub fn place_of(&self, stream: &str) -> Result<String, Error> {
        names::check(stream)?;
        Ok(self.blobs.place(stream))
    }

    /// Where a partition goes on, as far as this writer knows.
    pub fn place(&self, topic: &str, partition: i32) -> Option<i64> {
        self.places().get(&(topic.to_owned(), partition)).map(|state| state.place)
    }

    fn places(&self) -> std::sync::MutexGuard<'_, BTreeMap<(String, i32), State>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A claim may run beside an `append`: whoever saw the later place is right.
    fn set(&self, of: &Partition, place: i64, is_open: bool) {
        let mut places = self.places();
        let state = places.entry(of.key()).or_insert(State { place, is_open });
        if place >= state.place {
            *state = State { place, is_open };
        }
    }

    fn fenced(&self, of: &Partition, expected: Option<i64>, found: Option<i64>) -> Error {
        let (topic, partition) = of.key();
        Error::Fenced { group: self.group.clone(), topic, partition, expected, found }
    }
}

fn count(batches: &[RecordBatch]) -> u64 {
    batches.iter().map(|batch| batch.num_rows() as u64).sum()
}

#[cfg(test)]
#[path = "topic_files/tests.rs"]
mod tests;
