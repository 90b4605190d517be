//! Opening a log: its records are read once, a torn end is cut off, and
//! anything else that is not as it was written is refused.

use std::fs::{File, OpenOptions};
use std::sync::Arc;

use sheaf_proto::raft::v1::log_record::Record;

use super::directory::{Directory, sync_directory};
use super::frame::{Frame, Frames, Next, VERSION};
use super::state::{Place, Segment, State};
use super::{Error, Identity};
use crate::stored;

/// More than the first write to a log has: a head and an empty truncation.
const FIRST_WRITE_BYTES: u64 = 512;

/// What the files hold.
pub(super) fn recover(directory: &Directory, identity: &Identity) -> Result<State, Error> {
    let incarnation = directory.incarnation(identity)?;
    let starts = directory.segments()?;
    let mut state = State::default();
    let Some(incarnation) = incarnation else {
        refuse_strangers(directory, &starts)?;
        return Ok(state);
    };
    state.incarnation = incarnation;
    let (leftover, chain) = last_chain(directory, &starts)?;
    let Some(&last) = chain.last() else {
        return Err(missing(directory, 0, "its segments are missing".to_owned()));
    };
    let mut needed = None;
    for &start in chain {
        let head = replay(directory, &mut state, start, start == last)?;
        if start == chain[0] {
            needed = head;
        }
    }
    let purged = state.purged.map(|purged| purged.index);
    if chain[0] > 0 && needed > purged {
        let problem = format!(
            "the segments before are missing: they have entries up to {}, and {} are purged",
            needed.unwrap_or(0),
            purged.map_or_else(|| "none".to_owned(), |purged| format!("those up to {purged}")),
        );
        return Err(missing(directory, chain[0], problem));
    }
    // Purged before, and the removal did not come to its end.
    for &start in leftover {
        let path = directory.segment(start);
        std::fs::remove_file(&path).map_err(Error::io("remove", &path))?;
    }
    settle(directory, &mut state)?;
    Ok(state)
}

fn missing(directory: &Directory, at: u64, problem: String) -> Error {
    Error::Damaged { path: directory.segment(at), at: 0, problem }
}

/// A directory becomes someone's after its first segment is on disk; until then there is
/// nothing but that one, with what is written into it at once.
fn refuse_strangers(directory: &Directory, starts: &[u64]) -> Result<(), Error> {
    match starts {
        [] => Ok(()),
        [0] if is_unclaimed(directory)? => {
            let path = directory.segment(0);
            std::fs::remove_file(&path).map_err(Error::io("remove", &path))
        }
        _ => {
            let (path, at) = (directory.path.clone(), 0);
            let problem = "it has a log, but its file `identity` is missing".to_owned();
            Err(Error::Damaged { path, at, problem })
        }
    }
}

/// Whether the first segment is the first write to it, or a part of that: a head and an empty
/// truncation, which is all there is before anybody is told that the log exists.
fn is_unclaimed(directory: &Directory) -> Result<bool, Error> {
    let path = directory.segment(0);
    let run = || {
        let file = File::open(&path)?;
        let is_short = file.metadata()?.len() <= FIRST_WRITE_BYTES;
        let mut frames = Frames::new(file, 0)?;
        for place in 0.. {
            let record = match frames.next()? {
                Next::Frame(frame) => frame.record.record,
                Next::End => return Ok(true),
                Next::Broken(_) => return Ok(place < 2 && is_short),
            };
            let is_first_write = match record {
                Some(Record::Head(_)) => place == 0,
                Some(Record::Truncation(cut)) => place == 1 && cut.last.is_none(),
                _ => false,
            };
            if !is_first_write {
                return Ok(false);
            }
        }
        Ok(false)
    };
    run().map_err(Error::io("read", &path))
}

/// The segments without a gap up to the last one, and those before.
fn last_chain<'a>(
    directory: &Directory,
    starts: &'a [u64],
) -> Result<(&'a [u64], &'a [u64]), Error> {
    let mut first = starts.len().saturating_sub(1);
    while first > 0 {
        let start = starts[first - 1];
        let path = directory.segment(start);
        let length = std::fs::metadata(&path).map_err(Error::io("read", &path))?.len();
        if start + length != starts[first] {
            break;
        }
        first -= 1;
    }
    Ok(starts.split_at(first))
}

/// Takes in the records of one segment; the index of the last entry before it.
fn replay(
    directory: &Directory,
    state: &mut State,
    start: u64,
    is_last: bool,
) -> Result<Option<u64>, Error> {
    let path = directory.segment(start);
    let reading = || Error::io("read", &path);
    let damaged = |at: u64, problem| Error::Damaged { path: path.clone(), at: at - start, problem };
    let file = OpenOptions::new().read(true).write(true).open(&path).map_err(reading())?;
    let shared = Arc::new(file.try_clone().map_err(reading())?);
    let mut frames = Frames::new(file, start).map_err(reading())?;
    let mut before = None;
    loop {
        match frames.next().map_err(reading())? {
            Next::End => break,
            Next::Frame(frame) if frame.record.version > VERSION => {
                let actual = frame.record.version;
                return Err(Error::Newer { path, actual, limit: VERSION });
            }
            Next::Frame(frame) => {
                let at = frame.offset;
                let is_head = matches!(frame.record.record, Some(Record::Head(_)));
                if is_head != (at == start) {
                    return Err(damaged(at, "its first record is not its head".to_owned()));
                }
                apply(state, frame).map_err(|problem| damaged(at, problem))?;
                if is_head {
                    before = state.last;
                    let (path, file) = (path.clone(), shared.clone());
                    state.segments.insert(start, Segment { path, file, last_before: before });
                    state.segment = start;
                }
            }
            Next::Broken(problem) => {
                let at = frames.at();
                // The first segment has its head since it was made.
                let is_first = state.segments.is_empty();
                if !is_last || is_first || frames.durable_after(at).map_err(reading())? > at {
                    return Err(damaged(at, problem));
                }
                tracing::warn!(
                    path = %path.display(), at = at - start, bytes = frames.end() - at, problem,
                    "the log ends in a write that was never acknowledged: it is cut off"
                );
                shared.set_len(at - start).map_err(Error::io("truncate", &path))?;
                break;
            }
        }
    }
    state.end = frames.at();
    if state.segments.is_empty() {
        return Err(damaged(start, "its first record is missing".to_owned()));
    }
    if state.end == start {
        // Not even its head: it is made again by the next record.
        std::fs::remove_file(&path).map_err(Error::io("remove", &path))?;
    }
    Ok(before.map(|last| last.index))
}

/// What the record did when it was written; a message where that cannot be.
fn apply(state: &mut State, frame: Frame) -> Result<(), String> {
    let Frame { offset, bytes, record } = frame;
    match record.record.ok_or("a record without content")? {
        Record::Head(head) if state.segments.is_empty() => {
            state.vote = head.vote.map(stored::from_vote);
            state.committed = head.committed.map(stored::log_id);
            if let Some(purged) = head.purged {
                state.purge(stored::log_id(purged));
            }
            state.last = head.last.map(stored::log_id);
        }
        Record::Head(head) => {
            if state.head() != head {
                return Err("the segment does not continue the one before".to_owned());
            }
        }
        Record::Vote(vote) => state.vote = Some(stored::from_vote(vote)),
        Record::Committed(position) => state.committed = Some(stored::log_id(position)),
        Record::Purged(position) => state.purge(stored::log_id(position)),
        Record::Truncation(truncation) => state.truncate(truncation.last.map(stored::log_id)),
        Record::Closed(_) => {}
        Record::Entry(entry) => {
            let position = entry.position.ok_or("an entry without its position")?;
            let id = stored::log_id(position);
            let place = Place { term: position.term, offset, bytes };
            state.append(id, place).map_err(|error| error.to_string())?;
        }
    }
    Ok(())
}

/// What was read may have been in the system's cache alone.
fn settle(directory: &Directory, state: &mut State) -> Result<(), Error> {
    for segment in state.segments.values() {
        segment.file.sync_all().map_err(Error::io("sync", &segment.path))?;
    }
    sync_directory(&directory.path).map_err(Error::io("sync", &directory.path))?;
    state.written = state.end;
    state.durable = state.end;
    Ok(())
}

#[cfg(test)]
mod tests {
    use openraft_rt_tokio::TokioRuntime;

    use crate::log::{Error, Flush, LogStore, Options};
    use crate::testing::{append, entry, identity};

    #[tokio::test]
    async fn a_log_that_is_longer_than_the_first_write_is_not_removed_for_want_of_its_identity() {
        let home = tempfile::tempdir().unwrap();
        let options = || Options { flush: Flush::Thread, ..Options::default() };
        let mut log = LogStore::open(home.path(), &identity(), options()).unwrap();
        append(&mut log, (0..30).map(|index| entry(1, index, vec![7; 100]))).await;
        drop(log);
        let segment = home.path().join(format!("{:020}.log", 0));
        let whole = std::fs::read(&segment).unwrap();
        std::fs::remove_file(home.path().join("identity")).unwrap();
        // In its head, and in the record behind it.
        for at in [40, 80] {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            std::fs::write(&segment, &bytes).unwrap();
            let opened = LogStore::<TokioRuntime>::open(home.path(), &identity(), options());
            assert!(matches!(opened, Err(Error::Damaged { .. })), "{at}: {opened:?}");
            assert_eq!(std::fs::read(&segment).unwrap(), bytes);
        }
    }
}
