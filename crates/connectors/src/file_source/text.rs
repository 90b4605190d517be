//! Opening text files, compressed or not.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::Error;
use crate::format::Compression;

/// Bytes read at a time.
const CHUNK: usize = 64 << 10;

/// A text file as it reads once it is unpacked, without a byte order mark.
pub(crate) fn open(
    path: &Path,
    compression: Compression,
) -> Result<Box<dyn BufRead + Send>, Error> {
    let file = super::open_file(path)?;
    let unreadable = |e| super::read_error(path, "compressed text", &e);
    let mut reader = unpack(file, compression).map_err(unreadable)?;
    let start = reader.fill_buf().map_err(unreadable)?;
    if start.starts_with(b"\xef\xbb\xbf") {
        reader.consume(3);
    }
    Ok(reader)
}

fn unpack(file: File, compression: Compression) -> io::Result<Box<dyn BufRead + Send>> {
    Ok(match compression {
        Compression::None => Box::new(BufReader::with_capacity(CHUNK, file)),
        Compression::Gzip => {
            let packed = BufReader::with_capacity(CHUNK, file);
            Box::new(BufReader::with_capacity(CHUNK, flate2::bufread::MultiGzDecoder::new(packed)))
        }
        Compression::Zstd => {
            let packed = BufReader::with_capacity(CHUNK, file);
            Box::new(BufReader::with_capacity(CHUNK, zstd::Decoder::with_buffer(packed)?))
        }
    })
}

/// Counts the line ends that pass, and stops at a limit between two resets.
pub(crate) struct Counted<R> {
    inner: R,
    count: Arc<Count>,
    limit: u64,
}

/// What [`Counted`] has seen.
#[derive(Debug, Default)]
pub(crate) struct Count {
    lines: AtomicU64,
    since_reset: AtomicU64,
}

impl Count {
    /// The line that is being read, from 1.
    pub(crate) fn line(&self) -> u64 {
        self.lines.load(Ordering::Relaxed) + 1
    }

    pub(crate) fn reset(&self) {
        self.since_reset.store(0, Ordering::Relaxed);
    }
}

impl<R> Counted<R> {
    pub(crate) fn new(inner: R, limit: u64) -> (Self, Arc<Count>) {
        let count = Arc::new(Count::default());
        (Counted { inner, count: Arc::clone(&count), limit }, count)
    }
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        let mut lines = 0u64;
        for byte in &buffer[..read] {
            lines += u64::from(*byte == b'\n');
        }
        self.count.lines.fetch_add(lines, Ordering::Relaxed);
        let seen = self.count.since_reset.fetch_add(read as u64, Ordering::Relaxed) + read as u64;
        if seen > self.limit {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("a record is longer than the limit of {} bytes", self.limit),
            ));
        }
        Ok(read)
    }
}
