//! What a log is, in memory: where each entry lies, and the newest entries.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use sheaf_proto::raft::v1 as proto;
use sheaf_proto::raft::v1::log_record::Record;

use super::Error;
use super::frame;
use crate::stored::{self, Entry, LogId, Vote};

/// Told when what was written is on disk, or never will be.
pub(super) type Done = Box<dyn FnOnce(Result<(), Error>) + Send>;

/// Where an entry lies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) term: u64,
    pub(super) offset: u64,
    pub(super) bytes: u64,
}

/// A file of the log.
#[derive(Clone)]
pub(super) struct Segment {
    pub(super) path: PathBuf,
    pub(super) file: Arc<File>,
    /// The last entry before it: where that is purged, the files before are not needed.
    pub(super) last_before: Option<LogId>,
}

/// Bytes for one segment.
pub(super) struct Part {
    pub(super) segment: u64,
    pub(super) offset: u64,
    pub(super) bytes: Vec<u8>,
    /// What the segment's head says, where it begins here.
    pub(super) last_before: Option<LogId>,
}

/// What waits to be written.
#[derive(Default)]
pub(super) struct Pending {
    pub(super) parts: Vec<Part>,
    pub(super) done: Vec<Done>,
    pub(super) is_sync: bool,
    /// Segments to be removed once all this is on disk.
    pub(super) obsolete: Vec<PathBuf>,
}

impl Pending {
    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty() && self.done.is_empty() && self.obsolete.is_empty()
    }
}

/// See the module.
#[derive(Default)]
pub(super) struct State {
    /// 0 where the directory has none yet.
    pub(super) incarnation: u64,
    pub(super) vote: Option<Vote>,
    pub(super) committed: Option<LogId>,
    pub(super) purged: Option<LogId>,
    pub(super) last: Option<LogId>,
    /// Of the entries after the purged one.
    places: VecDeque<Place>,
    first: u64,
    /// The newest entries, without a gap up to the last.
    cache: VecDeque<Entry>,
    cached_bytes: u64,
    /// By where they begin.
    pub(super) segments: BTreeMap<u64, Segment>,
    /// Where the next record goes, and the segment it goes to.
    pub(super) end: u64,
    pub(super) segment: u64,
    /// Up to where the files have it.
    pub(super) written: u64,
    /// Up to where it is on disk.
    pub(super) durable: u64,
    pub(super) pending: Pending,
    pub(super) failed: Option<Error>,
    pub(super) is_closing: bool,
}

impl State {
    /// Where entry `index` lies, where the log has it.
    pub(super) fn place(&self, index: u64) -> Option<Place> {
        self.places.get(usize::try_from(index.checked_sub(self.first)?).ok()?).copied()
    }

    /// The entry itself, where it is in memory.
    pub(super) fn cached(&self, index: u64) -> Option<&Entry> {
        let first = self.cache.front()?.log_id.index;
        self.cache.get(usize::try_from(index.checked_sub(first)?).ok()?)
    }

    /// Entries that the log has: the first and behind the last.
    pub(super) fn range(&self) -> (u64, u64) {
        (self.first, self.first + self.places.len() as u64)
    }

    pub(super) fn cached_bytes(&self) -> u64 {
        self.cached_bytes
    }

    /// The segment that has the byte.
    pub(super) fn segment_of(&self, offset: u64) -> Option<(u64, &Segment)> {
        self.segments.range(..=offset).next_back().map(|(&start, segment)| (start, segment))
    }

    /// Takes in an entry that lies at `place`.
    pub(super) fn append(&mut self, id: LogId, place: Place) -> Result<(), Error> {
        if let Some(last) = self.last
            && id.index != last.index + 1
        {
            return Err(Error::Hole { last: last.index, actual: id.index });
        }
        if self.places.is_empty() {
            self.first = id.index;
        }
        self.places.push_back(place);
        self.last = Some(id);
        Ok(())
    }

    /// Keeps an entry in memory, older ones than fit are read from disk.
    pub(super) fn keep(&mut self, entry: Entry, limit: u64) {
        self.cached_bytes += stored::size(&entry);
        self.cache.push_back(entry);
        self.evict(limit);
    }

    /// Lets go of the oldest entries over the limit which are in their files.
    pub(super) fn evict(&mut self, limit: u64) {
        while self.cached_bytes > limit
            && let Some(front) = self.cache.front()
            && self
                .place(front.log_id.index)
                .is_none_or(|place| place.offset + place.bytes <= self.written)
        {
            self.drop_front();
        }
    }

    fn drop_front(&mut self) {
        if let Some(entry) = self.cache.pop_front() {
            self.cached_bytes -= stored::size(&entry);
        }
    }

    /// Drops all entries after `last`.
    pub(super) fn truncate(&mut self, last: Option<LogId>) {
        let keep = last.map_or(0, |last| last.index + 1);
        if self.last.is_none_or(|own| own.index < keep) {
            return;
        }
        let kept = usize::try_from(keep.saturating_sub(self.first)).unwrap_or(usize::MAX);
        self.places.truncate(kept);
        while self.cache.back().is_some_and(|entry| entry.log_id.index >= keep) {
            if let Some(entry) = self.cache.pop_back() {
                self.cached_bytes -= stored::size(&entry);
            }
        }
        self.last = match self.places.back() {
            Some(place) => {
                let index = self.first + self.places.len() as u64 - 1;
                Some(LogId::new_term_index(place.term, index))
            }
            // While a log is read, the entry may be in a segment that is gone.
            None => last.max(self.purged),
        };
    }

    /// Forgets all entries up to `upto`.
    pub(super) fn purge(&mut self, upto: LogId) {
        if self.purged.is_some_and(|purged| purged.index >= upto.index) {
            return;
        }
        while self.first <= upto.index && self.places.pop_front().is_some() {
            self.first += 1;
        }
        while self.cache.front().is_some_and(|entry| entry.log_id.index <= upto.index) {
            self.drop_front();
        }
        self.purged = Some(upto);
        if self.places.is_empty() {
            self.first = upto.index + 1;
            self.last = self.last.filter(|last| last.index > upto.index).or(Some(upto));
        }
    }

    /// What the head of a segment says that begins now.
    pub(super) fn head(&self) -> proto::SegmentHead {
        proto::SegmentHead {
            vote: self.vote.as_ref().map(stored::to_vote),
            committed: self.committed.as_ref().map(stored::position),
            purged: self.purged.as_ref().map(stored::position),
            last: self.last.as_ref().map(stored::position),
        }
    }

    /// Puts a record behind all others; where it lies, and its bytes.
    pub(super) fn write(&mut self, record: Record, segment_bytes: u64) -> (u64, u64) {
        let is_first = self.end == 0;
        if is_first || self.end - self.segment >= segment_bytes {
            self.segment = self.end;
            let head = Record::Head(self.head());
            let (segment, last_before) = (self.segment, self.last);
            self.pending.parts.push(Part {
                segment,
                offset: segment,
                bytes: Vec::new(),
                last_before,
            });
            self.put(head);
        }
        self.put(record)
    }

    fn put(&mut self, record: Record) -> (u64, u64) {
        let (offset, segment) = (self.end, self.segment);
        if self.pending.parts.last().is_none_or(|part| part.segment != segment) {
            let part = Part { segment, offset, bytes: Vec::new(), last_before: None };
            self.pending.parts.push(part);
        }
        let Some(part) = self.pending.parts.last_mut() else { return (offset, 0) };
        let bytes = frame::write(record, offset, self.durable, &mut part.bytes) as u64;
        self.end += bytes;
        (offset, bytes)
    }

    /// Has the files removed of which no entry is needed.
    pub(super) fn drop_obsolete(&mut self) {
        let Some(purged) = self.purged.map(|purged| purged.index) else { return };
        loop {
            let mut starts = self.segments.iter();
            let (Some((&oldest, segment)), Some((_, next))) = (starts.next(), starts.next()) else {
                return;
            };
            if next.last_before.is_some_and(|last| last.index > purged) {
                return;
            }
            self.pending.obsolete.push(segment.path.clone());
            self.segments.remove(&oldest);
        }
    }
}

/// An entry's payload shares the bytes it was read in.
pub(super) fn decode(body: Bytes) -> Result<Entry, String> {
    use prost::Message as _;
    let record = proto::LogRecord::decode(body).map_err(|error| error.to_string())?;
    match record.record {
        Some(Record::Entry(entry)) => stored::from_entry(entry),
        _ => Err("no entry is here".to_owned()),
    }
}
