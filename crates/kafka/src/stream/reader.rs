//! Reading a stream from some place on.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;

use super::{Part, TopicStream, Waiting, rows_from_offset};
use crate::error::Error;

/// Where a reader begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// With the oldest rows that are there.
    #[default]
    Oldest,
    /// With what comes from now on.
    Newest,
    /// In each partition with this offset.
    Offset(i64),
    /// Where a reader was that was told of other columns, in all partitions at once.
    /// Good for as long as the rows from there on are kept.
    Place(u64),
    /// In each partition with the first row of this time or later, milliseconds
    /// since 1970.
    Time(i64),
}

/// What is read of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Only this partition.
    pub partition: Option<i32>,
    /// From where on.
    pub start: Start,
    /// Whether to wait for more at the end of what is there.
    pub follow: bool,
}

/// Reads what a selection says, once.
pub struct Reader {
    stream: Arc<TopicStream>,
    id: u64,
    selection: Selection,
    schema: SchemaRef,
    version: u32,
    /// Partitions whose first row from [`Start::Time`] on has been found.
    begun: BTreeMap<i32, ()>,
    /// What was given last, and whether as a whole: it counts until the next is
    /// asked for, and counts as read from then on.
    last: Option<(u64, Arc<Part>, bool)>,
}

impl TopicStream {
    /// A reader of what is there now, and with `follow` of what comes after it.
    ///
    /// # Errors
    /// Where rows from the start that is asked for on are gone, and where no row
    /// has come yet: there is no schema then.
    pub fn read(self: &Arc<Self>, selection: Selection) -> Result<Reader, Error> {
        let mut state = self.state();
        let Some((schema, version)) = state.schema.clone() else {
            let topic = self.topic.to_string();
            return Err(Error::NoRows { topic });
        };
        if let Start::Offset(offset) = selection.start {
            let of = |partition: &i32| selection.partition.is_none_or(|one| one == *partition);
            let gone = state.partitions.iter().filter(|(partition, _)| of(partition));
            let gone = gone.filter_map(|(partition, known)| Some((*partition, known.gone?)));
            if let Some((partition, oldest)) = gone.into_iter().find(|(_, gone)| *gone > offset) {
                let topic = self.topic.to_string();
                return Err(Error::OffsetGone { topic, partition, offset, oldest });
            }
        }
        let next = match selection.start {
            Start::Newest => state.next,
            Start::Place(place) if place < state.gone => {
                return Err(Error::PlaceGone { topic: self.topic.to_string(), place });
            }
            Start::Place(place) => place,
            Start::Oldest | Start::Offset(_) | Start::Time(_) => 0,
        };
        let end = (!selection.follow).then_some(state.next);
        let id = state.next_reader;
        state.next_reader += 1;
        state.readers.insert(id, Waiting { next, end, partition: selection.partition });
        state.used_at = self.clock.elapsed();
        self.show(&state);
        drop(state);
        let (stream, begun, last) = (Arc::clone(self), BTreeMap::new(), None);
        Ok(Reader { stream, id, selection, schema, version, begun, last })
    }
}

impl TopicStream {
    fn has_begun(&self) -> bool {
        let state = self.state();
        state.schema.is_some() || state.is_over
    }

    /// Waits until the first rows came, or the stream is over.
    pub async fn wait_for_rows(&self) {
        loop {
            let mut came = std::pin::pin!(self.came.notified());
            came.as_mut().enable();
            if self.has_begun() {
                return;
            }
            came.await;
        }
    }
}

/// What a look at the stream found.
enum Found {
    Part(u64, Arc<Part>),
    Nothing,
    End,
}

impl Reader {
    /// The columns of all rows that it reads.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Which schema of the stream that is.
    pub fn schema_version(&self) -> u32 {
        self.version
    }

    /// The next rows, with the columns of its schema or fewer: rows of an
    /// earlier version lack what came since. `None` at the end.
    ///
    /// # Errors
    /// Where the schema of the stream is another one since it began: it is to be
    /// read anew from there.
    pub async fn next(&mut self) -> Result<Option<RecordBatch>, Error> {
        self.let_go();
        loop {
            let stream = Arc::clone(&self.stream);
            let mut came = std::pin::pin!(stream.came.notified());
            came.as_mut().enable();
            match self.look() {
                Found::End => return Ok(None),
                Found::Nothing => came.await,
                Found::Part(number, part) => {
                    if part.schema_version > self.version {
                        let topic = stream.topic.to_string();
                        let (partition, version) = (part.partition, part.schema_version);
                        let (offset, place) = (part.start, number);
                        return Err(Error::SchemaChanged {
                            topic,
                            partition,
                            offset,
                            version,
                            place,
                        });
                    }
                    let rows = self.trimmed(&part);
                    let is_whole = rows.num_rows() == part.rows.num_rows();
                    self.last = Some((number, part, is_whole));
                    if rows.num_rows() > 0 {
                        return Ok(Some(rows));
                    }
                }
            }
        }
    }

    /// Whoever asks for more is done with what was given last.
    fn let_go(&mut self) {
        let Some((number, part, is_whole)) = self.last.take() else { return };
        drop(part);
        if is_whole && let Some(stored) = self.stream.state().parts.get_mut(&number) {
            stored.was_read = true;
        }
        self.stream.room.notify_waiters();
    }

    /// Steps to the next part that is there.
    fn look(&self) -> Found {
        let now = self.stream.clock.elapsed();
        let mut state = self.stream.state();
        let state = &mut *state;
        let Some(waiting) = state.readers.get_mut(&self.id) else { return Found::End };
        let next = waiting.next;
        let mut parts = state.parts.range_mut(next..);
        let found = parts.find(|(number, stored)| waiting.wants(**number, &stored.part));
        state.used_at = now;
        match found {
            Some((number, stored)) => {
                waiting.next = number + 1;
                stored.used_at = now;
                Found::Part(*number, Arc::clone(&stored.part))
            }
            None if state.is_over || waiting.end.is_some() => Found::End,
            None => {
                waiting.next = state.next;
                Found::Nothing
            }
        }
    }

    /// The rows of a part that are not before the start.
    fn trimmed(&mut self, part: &Part) -> RecordBatch {
        match self.selection.start {
            Start::Oldest | Start::Newest | Start::Place(_) => part.rows.clone(),
            Start::Offset(offset) => rows_from_offset(&part.rows, offset),
            Start::Time(_) if self.begun.contains_key(&part.partition) => part.rows.clone(),
            Start::Time(millis) => {
                let rows = part.rows_from_time(millis);
                if rows.num_rows() > 0 {
                    self.begun.insert(part.partition, ());
                }
                rows
            }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = self.stream.state();
        state.readers.remove(&self.id);
        self.stream.show(&state);
        drop(state);
        self.stream.room.notify_waiters();
    }
}
