//! One file of chunks: written once, then read here and there.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use arrow_buffer::MutableBuffer;
use bytes::Bytes;
use sheaf_flight::{Budget, Message, Piece};
use tokio::runtime::Handle;

use super::directory::{SpillDirectory, spill_io};
use crate::shuffle::chunk::crc32c_of;
use crate::shuffle::error::Error;

const MAGIC: &[u8; 8] = b"SHEAFSPL";
const VERSION: u32 = 1;
/// Chunks begin at multiples of this, and so does what Arrow reads of them.
const UNIT: usize = 64;
/// The length of the header, at the end of a chunk.
const TRAILER: usize = 4;
/// Smaller pieces are put together before they are written.
const WRITE_BYTES: usize = 256 << 10;

/// A file of chunks, removed when the last of them goes.
#[derive(Debug)]
pub(in crate::shuffle) struct SpillFile {
    directory: Arc<SpillDirectory>,
    path: PathBuf,
    bytes: u64,
}

impl SpillFile {
    /// Writes messages into a new file; it, and where each of them begins, in
    /// units. Where that fails nothing is left. Blocks.
    pub(in crate::shuffle) fn write<'a>(
        directory: &Arc<SpillDirectory>,
        messages: impl Iterator<Item = &'a Message> + Clone,
    ) -> Result<(Arc<Self>, Vec<u32>), Error> {
        let mut starts = Vec::new();
        let mut end = UNIT;
        for message in messages.clone() {
            let at = u32::try_from(end / UNIT).map_err(|_| too_large(end))?;
            starts.push(at);
            let bytes = message.header.len() + message.body_len() + TRAILER;
            end = (end + bytes).next_multiple_of(UNIT);
        }
        let bytes = end as u64;
        directory.reserve(bytes)?;
        let path = directory.next_path();
        // From here on its drop removes it.
        let file = SpillFile { directory: Arc::clone(directory), path, bytes };
        file.fill(messages)?;
        Ok((Arc::new(file), starts))
    }

    fn fill<'a>(&self, messages: impl Iterator<Item = &'a Message>) -> Result<(), Error> {
        let failed = |error| spill_io("write", &self.path, error);
        let disk = self.directory.disk();
        let file = disk.create(&self.path).map_err(failed)?;
        let write = |bytes: &[u8]| disk.write(&file, bytes).map_err(failed);
        let mut pending = Vec::with_capacity(WRITE_BYTES);
        pending.extend_from_slice(MAGIC);
        pending.extend_from_slice(&VERSION.to_le_bytes());
        pending.resize(UNIT, 0);
        let mut written = 0;
        for message in messages {
            for piece in message.body.iter().chain([&message.header]) {
                if pending.len() + piece.len() > WRITE_BYTES {
                    write(&pending)?;
                    written += pending.len();
                    pending.clear();
                }
                if piece.len() >= WRITE_BYTES {
                    write(piece)?;
                    written += piece.len();
                } else {
                    pending.extend_from_slice(piece);
                }
            }
            let header = u32::try_from(message.header.len());
            let header = header.map_err(|_| too_large(message.header.len()))?;
            pending.extend_from_slice(&header.to_le_bytes());
            let end = written + pending.len();
            pending.resize(pending.len() + (end.next_multiple_of(UNIT) - end), 0);
        }
        write(&pending)
    }

    /// Reads a message back and checks it. Blocks.
    pub(in crate::shuffle) fn read(
        &self,
        at: u32,
        bytes: u32,
        crc: u32,
        budget: &Arc<Budget>,
    ) -> Result<Message, Error> {
        let offset = u64::from(at) * UNIT as u64;
        let corrupt = |problem| Error::Spilled { path: self.path.clone(), offset, problem };
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => corrupt("it is gone".to_owned()),
            io::ErrorKind::UnexpectedEof => corrupt("it ends before the chunk does".to_owned()),
            _ => spill_io("read", &self.path, error),
        };
        let file = File::open(&self.path).map_err(failed)?;
        let mut start = [0; MAGIC.len() + 4];
        file.read_exact_at(&mut start, 0).map_err(failed)?;
        let (magic, version) = start.split_at(MAGIC.len());
        if magic != MAGIC || version != VERSION.to_le_bytes() {
            return Err(corrupt(format!("it begins with {start:?}, which is no spill file")));
        }
        let length = bytes as usize;
        let mut buffer = MutableBuffer::from_len_zeroed(length + TRAILER);
        file.read_exact_at(&mut buffer, offset).map_err(failed)?;
        let all = Bytes::from_owner(ReadBack::new(buffer, budget));
        let header = all[length..].iter().rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        let Some(body) = length.checked_sub(header) else {
            return Err(corrupt(format!("a header of {header} bytes in a chunk of {length}")));
        };
        let message = Message::new(all.slice(body..length), all.slice(..body));
        let found = crc32c_of(&message);
        if found != crc {
            return Err(corrupt(format!("CRC32C {found:08x} where {crc:08x} was written")));
        }
        Ok(message)
    }

    /// Its path.
    #[cfg(test)]
    pub(in crate::shuffle) fn path(&self) -> &std::path::Path {
        &self.path
    }
}

impl Drop for SpillFile {
    fn drop(&mut self) {
        let (directory, bytes) = (Arc::clone(&self.directory), self.bytes);
        let path = std::mem::take(&mut self.path);
        let remove = move || directory.remove(&path, bytes);
        // It takes a while, and may go where nothing should wait.
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(remove)),
            Err(_) => remove(),
        }
    }
}

fn too_large(bytes: usize) -> Error {
    Error::Argument(format!("{bytes} bytes are too many for a spill file"))
}

/// Memory of a chunk that was read, counted until it goes. Where there is no
/// room it is not counted: who reads makes room, and must not wait for it.
struct ReadBack {
    buffer: MutableBuffer,
    counted: Option<(Arc<Budget>, Piece)>,
}

impl ReadBack {
    fn new(buffer: MutableBuffer, budget: &Arc<Budget>) -> Self {
        let piece = (buffer.as_ptr().addr(), buffer.len());
        let held = budget.hold(&[piece], 0).is_ok();
        ReadBack { buffer, counted: held.then(|| (Arc::clone(budget), piece)) }
    }
}

impl AsRef<[u8]> for ReadBack {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for ReadBack {
    fn drop(&mut self) {
        if let Some((budget, piece)) = &self.counted {
            budget.release(std::slice::from_ref(piece), 0);
        }
    }
}
