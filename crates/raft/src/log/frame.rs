//! Records as bytes: how one is known to be whole, and torn from damaged.
//!
//! A frame is `magic, length, offset, durable, checksum, body`, little endian.
//! `offset` is where the frame begins, counted over all segments. `durable` is
//! up to where everything was on disk when the frame was made: a frame that is
//! not whole and lies before the `durable` of a whole one was acknowledged, so
//! it is damage; any other is the torn end of a write that never was.

use std::fs::File;
use std::io::{self, BufReader, Read as _};
use std::os::unix::fs::FileExt as _;

use prost::Message as _;
use sheaf_proto::raft::v1 as proto;

/// The version of records that this build writes.
pub(crate) const VERSION: u32 = 1;

const MAGIC: [u8; 4] = *b"SHRL";
/// Where the checksum is; it is of what is before it and of the body.
const CHECKED: usize = 24;
/// Of a frame, before its body.
pub(super) const HEAD_BYTES: usize = 28;

/// Of one body: no entry is larger, and no length that was read is believed beyond.
pub(super) const MAX_BODY_BYTES: usize = 64 << 20;

/// The fields of a frame's head.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    length: usize,
    offset: u64,
    durable: u64,
    checksum: u32,
}

impl Head {
    fn read(bytes: &[u8]) -> Option<Head> {
        let number = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let small = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        if bytes.get(..4)? != MAGIC {
            return None;
        }
        let length = usize::try_from(small(4)?).ok().filter(|&length| length <= MAX_BODY_BYTES)?;
        Some(Head { length, offset: number(8)?, durable: number(16)?, checksum: small(CHECKED)? })
    }

    fn is_of(&self, head: &[u8], body: &[u8]) -> bool {
        crc32c::crc32c_append(crc32c::crc32c(&head[..CHECKED]), body) == self.checksum
    }
}

/// Appends a frame of the record that begins at `offset`; its bytes.
pub(super) fn write(
    record: proto::log_record::Record,
    offset: u64,
    durable: u64,
    into: &mut Vec<u8>,
) -> usize {
    let record = proto::LogRecord { version: VERSION, record: Some(record) };
    write_record(&record, offset, durable, into)
}

pub(super) fn write_record(
    record: &proto::LogRecord,
    offset: u64,
    durable: u64,
    into: &mut Vec<u8>,
) -> usize {
    let start = into.len();
    let length = record.encoded_len();
    into.reserve(HEAD_BYTES + length);
    into.extend_from_slice(&MAGIC);
    // Entries are refused beyond MAX_BODY_BYTES, and other records are small.
    into.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
    into.extend_from_slice(&offset.to_le_bytes());
    into.extend_from_slice(&durable.to_le_bytes());
    into.extend_from_slice(&[0; 4]);
    record.encode_raw(into);
    let frame = &mut into[start..];
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&frame[..CHECKED]), &frame[HEAD_BYTES..]);
    frame[CHECKED..HEAD_BYTES].copy_from_slice(&checksum.to_le_bytes());
    HEAD_BYTES + length
}

/// The body of the frame that `bytes` are, where they are that one and whole.
pub(super) fn body(bytes: &[u8], offset: u64) -> Option<&[u8]> {
    let head = Head::read(bytes)?;
    let body = bytes.get(HEAD_BYTES..HEAD_BYTES + head.length)?;
    (head.offset == offset && head.is_of(bytes, body)).then_some(body)
}

/// One whole frame of a file.
pub(super) struct Frame {
    pub(super) offset: u64,
    pub(super) bytes: u64,
    pub(super) record: proto::LogRecord,
}

/// What comes next in a segment.
pub(super) enum Next {
    /// A whole frame.
    Frame(Frame),
    /// The end of the file.
    End,
    /// Bytes that are no whole frame, and why.
    Broken(String),
}

/// Reads a segment from its begin.
pub(super) struct Frames {
    file: BufReader<File>,
    start: u64,
    at: u64,
    end: u64,
    body: Vec<u8>,
}

impl Frames {
    pub(super) fn new(file: File, start: u64) -> io::Result<Frames> {
        let end = start + file.metadata()?.len();
        let file = BufReader::with_capacity(1 << 20, file);
        Ok(Frames { file, start, at: start, end, body: Vec::new() })
    }

    /// Where the next frame begins.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// Where the file ends.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    pub(super) fn next(&mut self) -> io::Result<Next> {
        let left = self.end - self.at;
        if left == 0 {
            return Ok(Next::End);
        }
        if left < HEAD_BYTES as u64 {
            return Ok(Next::Broken(format!("{left} bytes are left of a record")));
        }
        let mut bytes = [0; HEAD_BYTES];
        self.file.read_exact(&mut bytes)?;
        let Some(head) = Head::read(&bytes).filter(|head| head.offset == self.at) else {
            return Ok(Next::Broken("no record begins here".to_owned()));
        };
        let whole = (HEAD_BYTES + head.length) as u64;
        if whole > left {
            return Ok(Next::Broken(format!(
                "a record of {whole} bytes, of which {left} are left"
            )));
        }
        self.body.resize(head.length, 0);
        self.file.read_exact(&mut self.body)?;
        if !head.is_of(&bytes, &self.body) {
            return Ok(Next::Broken("a record that does not match its checksum".to_owned()));
        }
        match proto::LogRecord::decode(self.body.as_slice()) {
            Ok(record) => {
                let frame = Frame { offset: self.at, bytes: whole, record };
                self.at += whole;
                Ok(Next::Frame(frame))
            }
            Err(error) => Ok(Next::Broken(format!("a record that cannot be read: {error}"))),
        }
    }

    /// Up to where all was on disk, by the whole frames behind the broken place.
    pub(super) fn durable_after(&self, broken: u64) -> io::Result<u64> {
        let file = self.file.get_ref();
        let length = usize::try_from(self.end - broken).unwrap_or(usize::MAX);
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, broken - self.start)?;
        let mut durable = 0;
        let mut at = 0;
        while let Some(found) = bytes[at..].windows(4).position(|four| four == MAGIC) {
            at += found;
            let rest = &bytes[at..];
            if body(rest, broken + at as u64).is_some()
                && let Some(head) = Head::read(rest)
            {
                durable = durable.max(head.durable);
                at += HEAD_BYTES + head.length;
            } else {
                at += 1;
            }
        }
        Ok(durable)
    }
}
