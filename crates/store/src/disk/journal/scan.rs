//! What can be read of a journal, whatever became of its bytes.

use std::path::Path;

use prost::Message as _;
use sheaf_proto::storage::v1::RegistrationRecord;

use super::{FRAME, HEAD, MAGIC, VERSION};
use crate::error::Error;

/// A longer record was never written.
const MAX_RECORD: usize = 64 << 20;
/// Bytes that are checked to find where a damaged part ends: each place in it
/// may look like the beginning of a record.
const MAX_SEARCH: usize = 64 << 20;

/// What was read.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    /// In their order.
    pub(crate) records: Vec<RegistrationRecord>,
    /// Where the last whole record ends; 0 where the file begins in another way.
    pub(crate) whole: usize,
    /// Bytes between whole records that are none.
    pub(crate) damaged: usize,
}

impl Scan {
    /// Reads the whole file, past what is damaged in it.
    ///
    /// # Errors
    /// [`Error::FormatNewer`].
    pub(crate) fn of(bytes: &[u8], path: &Path) -> Result<Self, Error> {
        let newer = |found: u32| Error::FormatNewer {
            path: path.to_path_buf(),
            found: u64::from(found),
            supported: u64::from(VERSION),
        };
        let mut scan = Scan::default();
        let Some((head, _)) = bytes.split_at_checked(HEAD) else { return Ok(scan) };
        let (magic, version) = head.split_at(MAGIC.len());
        if magic != MAGIC {
            return Ok(scan);
        }
        match version.try_into().map(u32::from_le_bytes) {
            Ok(version) if version > VERSION => return Err(newer(version)),
            _ => {}
        }
        scan.whole = HEAD;
        let (mut at, mut unlimited) = (HEAD, usize::MAX);
        while at < bytes.len() {
            let Some((record, end)) = record_at(bytes, at, &mut unlimited) else {
                let mut budget = MAX_SEARCH;
                let mut after = at + 1..bytes.len();
                match after.find(|at| record_at(bytes, *at, &mut budget).is_some()) {
                    Some(next) => at = next,
                    None => {
                        // Searched to its end it is a torn one; else nobody knows.
                        if budget == 0 {
                            scan.damaged += bytes.len() - scan.whole;
                        }
                        break;
                    }
                }
                continue;
            };
            if record.version > VERSION {
                return Err(newer(record.version));
            }
            scan.damaged += at - scan.whole;
            scan.records.push(record);
            (scan.whole, at) = (end, end);
        }
        Ok(scan)
    }
}

/// A whole record, and where it ends.
fn record_at(bytes: &[u8], at: usize, budget: &mut usize) -> Option<(RegistrationRecord, usize)> {
    let frame = bytes.get(at..at + FRAME)?;
    let (length, crc) = frame.split_at(4);
    let length = u32::from_le_bytes(length.try_into().ok()?) as usize;
    let start = at + FRAME;
    // Nothing but zeros would be a record without content.
    let body = bytes.get(start..start + length).filter(|body| !body.is_empty())?;
    if length > MAX_RECORD {
        return None;
    }
    if *budget < length {
        *budget = 0;
        return None;
    }
    *budget -= length;
    if crc32c::crc32c(body) != u32::from_le_bytes(crc.try_into().ok()?) {
        return None;
    }
    let record = RegistrationRecord::decode(body).ok()?;
    (record.version > 0 && !record.id.is_empty()).then_some((record, start + length))
}
