//! Batches of one stream that wait on disk.
//!
//! The files are of this process only: those that an earlier one left are removed when a stream
//! is made, since what it had not acknowledged comes again from further up.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Cursor};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use sheaf_retry::{Code, Retryable as _};

use crate::error::ComponentError;

/// A file is closed for more when it has this size, and removed when all in it is done with.
const FILE_BYTES: u64 = 64 << 20;

/// The folder of one stream.
#[derive(Debug)]
pub(crate) struct Disk {
    folder: PathBuf,
    current: Option<Arc<Segment>>,
    written: u64,
    files: u64,
}

/// A file, which goes with the last batch in it.
#[derive(Debug)]
struct Segment {
    file: File,
    path: PathBuf,
}

impl Drop for Segment {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            let path = self.path.display();
            tracing::warn!(%error, %path, "a file that is done with cannot be removed");
        }
    }
}

/// Where one batch is: an IPC stream of its own, so that it needs no other.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    segment: Arc<Segment>,
    at: u64,
    size: u32,
    checksum: u32,
}

impl Disk {
    /// An empty folder; it is made when it is needed.
    pub(crate) fn new(folder: PathBuf) -> Result<Self, ComponentError> {
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed("empty", &folder, error))
            }
            _ => Ok(Disk { folder, current: None, written: 0, files: 0 }),
        }
    }

    /// Writes a batch. It blocks.
    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<Record, ComponentError> {
        let bytes = encode(batch).map_err(|error| {
            let text = format!("a batch cannot be written to {}", self.folder.display());
            ComponentError::new(Code::InvalidArgument, text).because(error)
        })?;
        let size = u32::try_from(bytes.len()).map_err(|_| {
            let text = format!("a batch of {} bytes: at most 4 GiB can wait on disk", bytes.len());
            ComponentError::new(Code::LimitExceeded, text)
        })?;
        let segment = match self.current.take() {
            Some(segment) if self.written < FILE_BYTES => segment,
            _ => self.open()?,
        };
        let at = self.written;
        let record =
            Record { segment: Arc::clone(&segment), at, size, checksum: crc32c::crc32c(&bytes) };
        let result = segment.file.write_all_at(&bytes, at);
        result.map_err(|error| failed("write", &segment.path, error))?;
        self.written += u64::from(size);
        self.current = Some(segment);
        Ok(record)
    }

    fn open(&mut self) -> Result<Arc<Segment>, ComponentError> {
        fs::create_dir_all(&self.folder).map_err(|error| failed("make", &self.folder, error))?;
        self.files += 1;
        let path = self.folder.join(format!("{:08}.batches", self.files));
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        let file = options.open(&path).map_err(|error| failed("make", &path, error))?;
        self.written = 0;
        Ok(Arc::new(Segment { file, path }))
    }
}

impl Record {
    /// Bytes in the file.
    pub(crate) fn size_bytes(&self) -> u64 {
        u64::from(self.size)
    }

    /// Reads the batch back. It blocks.
    pub(crate) fn read(&self) -> Result<RecordBatch, ComponentError> {
        let path = &self.segment.path;
        let mut bytes = vec![0; self.size as usize];
        self.segment
            .file
            .read_exact_at(&mut bytes, self.at)
            .map_err(|error| failed("read", path, error))?;
        let corrupt = |why: &str| {
            let text = format!("{} is damaged at byte {}: {why}", path.display(), self.at);
            ComponentError::new(Code::Corrupt, text)
        };
        if crc32c::crc32c(&bytes) != self.checksum {
            return Err(corrupt("the checksum is another one"));
        }
        let batch = StreamReader::try_new(Cursor::new(bytes), None).and_then(|mut reader| {
            reader.next().transpose().map(|batch| batch.ok_or_else(|| corrupt("it is empty")))
        });
        batch.map_err(|error| corrupt("it cannot be decoded").because(error))?
    }
}

fn encode(batch: &RecordBatch) -> Result<Vec<u8>, arrow_schema::ArrowError> {
    let mut writer = StreamWriter::try_new(Vec::new(), batch.schema_ref())?;
    writer.write(batch)?;
    writer.into_inner()
}

fn failed(verb: &str, path: &Path, error: io::Error) -> ComponentError {
    let text = format!("cannot {verb} {}", path.display());
    ComponentError::new(error.code(), text).because(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{Int64Array, StringArray};

    fn batch(number: i64) -> RecordBatch {
        let numbers = Arc::new(Int64Array::from(vec![number, number + 1])) as _;
        let texts = Arc::new(StringArray::from(vec![Some("a"), None])) as _;
        RecordBatch::try_from_iter([("n", numbers), ("t", texts)]).unwrap()
    }

    #[test]
    fn batches_come_back_as_they_were_and_leave_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stream");
        let mut disk = Disk::new(path.clone()).unwrap();
        let records: Vec<Record> = (0..10).map(|n| disk.write(&batch(n)).unwrap()).collect();
        for (number, record) in (0..).zip(&records) {
            assert_eq!(record.read().unwrap(), batch(number));
        }
        assert_eq!(fs::read_dir(&path).unwrap().count(), 1);
        drop((records, disk));
        assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
    }

    #[test]
    fn what_an_earlier_process_left_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("00000001.batches"), b"old").unwrap();
        let mut disk = Disk::new(folder.path().to_owned()).unwrap();
        assert_eq!(disk.write(&batch(1)).unwrap().read().unwrap(), batch(1));
    }

    #[test]
    fn a_damaged_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let mut disk = Disk::new(folder.path().join("s")).unwrap();
        let record = disk.write(&batch(1)).unwrap();
        record.segment.file.write_all_at(b"x", 20).unwrap();
        let error = record.read().unwrap_err();
        assert_eq!(error.code(), Code::Corrupt);
        assert!(error.to_string().contains("00000001.batches"), "{error}");
    }
}
