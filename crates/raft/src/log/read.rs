//! Entries from memory, and from disk where they are older.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use super::Error;
use super::state::{Place, State, decode};
use super::{frame, state::Segment};
use crate::stored::Entry;

/// Bytes that one read of a file takes, but for a larger entry.
const READ_BYTES: u64 = 1 << 20;

/// Where entries are taken from.
enum Source {
    Memory(Entry),
    Disk { path: PathBuf, file: Arc<File>, start: u64, places: Vec<(u64, Place)> },
}

/// What is to be read, as the log was when it was planned: later changes of the
/// log do not change the files' bytes.
pub(super) struct Plan {
    sources: Vec<Source>,
}

impl Plan {
    /// Entries `start..end`, as far as the log has them, of at most `limit` bytes
    /// but at least one entry.
    pub(super) fn new(state: &State, start: u64, end: u64, limit: u64) -> Plan {
        let (first, behind) = state.range();
        let mut plan = Plan { sources: Vec::new() };
        let mut left = limit;
        for index in start.max(first)..end.min(behind) {
            let Some(place) = state.place(index) else { break };
            if place.bytes > left && !plan.sources.is_empty() {
                break;
            }
            left = left.saturating_sub(place.bytes);
            match state.cached(index) {
                Some(entry) => plan.sources.push(Source::Memory(entry.clone())),
                None => match state.segment_of(place.offset) {
                    Some((start, segment)) => plan.add(index, place, start, segment),
                    None => break,
                },
            }
        }
        plan
    }

    fn add(&mut self, index: u64, place: Place, at: u64, segment: &Segment) {
        if let Some(Source::Disk { start, places, .. }) = self.sources.last_mut()
            && *start == at
            && let Some((_, first)) = places.first()
            && place.offset + place.bytes - first.offset <= READ_BYTES
        {
            places.push((index, place));
            return;
        }
        self.sources.push(Source::Disk {
            path: segment.path.clone(),
            file: segment.file.clone(),
            start: at,
            places: vec![(index, place)],
        });
    }

    /// Whether files are read.
    pub(super) fn is_on_disk(&self) -> bool {
        self.sources.iter().any(|source| matches!(source, Source::Disk { .. }))
    }

    pub(super) fn read(self) -> Result<Vec<Entry>, Error> {
        let mut entries = Vec::new();
        for source in self.sources {
            match source {
                Source::Memory(entry) => entries.push(entry),
                Source::Disk { path, file, start, places } => {
                    read_places(&path, &file, start, &places, &mut entries)?;
                }
            }
        }
        Ok(entries)
    }
}

fn read_places(
    path: &PathBuf,
    file: &File,
    start: u64,
    places: &[(u64, Place)],
    into: &mut Vec<Entry>,
) -> Result<(), Error> {
    let (Some((_, first)), Some((_, last))) = (places.first(), places.last()) else {
        return Ok(());
    };
    let length = usize::try_from(last.offset + last.bytes - first.offset).unwrap_or(usize::MAX);
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, first.offset - start).map_err(Error::io("read", path))?;
    let bytes = Bytes::from(bytes);
    for (index, place) in places {
        let damaged = |problem: String| Error::Damaged {
            path: path.clone(),
            at: place.offset - start,
            problem: format!("entry {index}: {problem}"),
        };
        let from = usize::try_from(place.offset - first.offset).unwrap_or(usize::MAX);
        let body = bytes.get(from..).and_then(|bytes| frame::body(bytes, place.offset));
        let body = body.ok_or_else(|| damaged("it does not match its checksum".to_owned()))?;
        let entry = decode(bytes.slice_ref(body)).map_err(damaged)?;
        if entry.log_id.index != *index {
            return Err(damaged(format!("entry {} is here", entry.log_id.index)));
        }
        into.push(entry);
    }
    Ok(())
}
