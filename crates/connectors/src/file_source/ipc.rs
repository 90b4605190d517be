//! Arrow IPC, files and streams.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use arrow_array::RecordBatch;
use arrow_ipc::reader::{FileReader, StreamReader};
use arrow_schema::{ArrowError, SchemaRef};

use super::open_file;
use crate::error::{Error, io_cause};
use crate::file_sink::Footer;

const MAGIC: &[u8; 6] = b"ARROW1";

/// A reader of either kind; which, the first bytes tell.
pub(crate) enum IpcBatches {
    File(Box<FileReader<BufReader<File>>>, String),
    Stream(Box<StreamReader<BufReader<File>>>, String),
}

impl IpcBatches {
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let mut file = open_file(path)?;
        let place = path.display().to_string();
        let mut start = [0; 6];
        let is_file = match file.read_exact(&mut start) {
            Ok(()) => start == *MAGIC,
            Err(e) => return Err(super::read_error(path, "Arrow IPC", &e)),
        };
        if is_file {
            check_footer(&mut file).map_err(|e| error(&place, e))?;
        }
        file.seek(SeekFrom::Start(0)).map_err(|e| Error::io("read", path, e))?;
        let buffered = BufReader::with_capacity(256 << 10, file);
        Ok(if is_file {
            let reader = FileReader::try_new(buffered, None).map_err(|e| error(&place, e))?;
            IpcBatches::File(Box::new(reader), place)
        } else {
            let reader = StreamReader::try_new(buffered, None).map_err(|e| error(&place, e))?;
            IpcBatches::Stream(Box::new(reader), place)
        })
    }

    pub(crate) fn schema(&self) -> SchemaRef {
        match self {
            IpcBatches::File(reader, _) => reader.schema(),
            IpcBatches::Stream(reader, _) => reader.schema(),
        }
    }

    /// Rows, where a sink of ours wrote them into the footer.
    pub(crate) fn rows(&self) -> Option<u64> {
        match self {
            IpcBatches::File(reader, place) => {
                let get = |key: &str| reader.custom_metadata().get(key).cloned();
                Footer::read(get, place).ok().map(|footer| footer.rows)
            }
            IpcBatches::Stream(..) => None,
        }
    }
}

/// The reader allocates as many bytes as the footer claims to have.
fn check_footer(file: &mut File) -> Result<(), ArrowError> {
    let length = file.seek(SeekFrom::End(0))?;
    if length < 18 {
        return Err(ArrowError::IpcError(format!("{length} bytes are too few for a file")));
    }
    file.seek(SeekFrom::End(-10))?;
    let mut end = [0; 10];
    file.read_exact(&mut end)?;
    let footer = arrow_ipc::reader::read_footer_length(end)?;
    if footer as u64 > length - 18 {
        let message = format!("a footer of {footer} bytes does not fit a file of {length}");
        return Err(ArrowError::IpcError(message));
    }
    Ok(())
}

fn error(place: &str, error: ArrowError) -> Error {
    match io_cause(&error) {
        Some(io) => super::read_error(Path::new(place), "Arrow IPC", io),
        None => Error::malformed(place, "Arrow IPC", error),
    }
}

impl Iterator for IpcBatches {
    type Item = Result<RecordBatch, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let (next, place) = match self {
            IpcBatches::File(reader, place) => (reader.next(), place),
            IpcBatches::Stream(reader, place) => (reader.next(), place),
        };
        next.map(|result| result.map_err(|e| error(place, e)))
    }
}
