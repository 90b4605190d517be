//! What a committed file says about itself.

use std::fs::File;
use std::io;
use std::path::Path;

use arrow_ipc::reader::FileReader;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use serde::{Deserialize, Serialize};
use sheaf_proto::BatchId;
use sheaf_retry::Code;

use super::layout::Layout;
use crate::error::Error;
use crate::format::FileFormat;
use crate::sink::CommitKey;

/// Version of what is written below.
const VERSION: u32 = 1;

/// Parquet metadata that holds the Arrow schema of columns with run-end
/// encoding, which the library forgets.
pub(crate) const RUNS_KEY: &str = "sheaf.arrow_schema";

/// The winner of a batch: in the footer of Parquet and Arrow IPC files, in
/// `_commits/ID.json` for formats without one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Footer {
    /// Version of this record.
    pub(crate) version: u32,
    /// The batch.
    pub(crate) batch_id: String,
    /// The attempt.
    pub(crate) fence: u64,
    /// Its rows.
    pub(crate) rows: u64,
}

impl Footer {
    /// Keys in the metadata of a file.
    pub(crate) const KEYS: [&str; 4] =
        ["sheaf.sink_version", "sheaf.batch_id", "sheaf.fence", "sheaf.rows"];

    pub(crate) fn new(key: &CommitKey, rows: u64) -> Self {
        let batch_id = key.id.as_str().to_owned();
        Footer { version: VERSION, batch_id, fence: key.fence, rows }
    }

    /// Keys and values for the metadata of a file.
    pub(crate) fn pairs(&self) -> [(&'static str, String); 4] {
        let [version, id, fence, rows] = Footer::KEYS;
        [
            (version, self.version.to_string()),
            (id, self.batch_id.clone()),
            (fence, self.fence.to_string()),
            (rows, self.rows.to_string()),
        ]
    }

    /// Reads them back.
    pub(crate) fn read(get: impl Fn(&str) -> Option<String>, place: &str) -> Result<Self, Error> {
        let [version, id, fence, rows] = Footer::KEYS;
        let text = |key: &'static str| {
            get(key).ok_or_else(|| no_footer(place, format!("it has no metadata {key:?}")))
        };
        let number = |key: &'static str| {
            let text = text(key)?;
            text.parse::<u64>()
                .map_err(|_| no_footer(place, format!("{key:?} is {text:?}, not a number")))
        };
        let version = u32::try_from(number(version)?).unwrap_or(u32::MAX);
        check_version(version, place)?;
        Ok(Footer { version, batch_id: text(id)?, fence: number(fence)?, rows: number(rows)? })
    }

    /// The winner as the committed file names it; nothing where there is none.
    pub(crate) fn of_part(layout: &Layout, id: &BatchId) -> Result<Option<Self>, Error> {
        let path = layout.part(id);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::io("open", &path, e)),
        };
        let place = path.display().to_string();
        let format = layout.format.name();
        let footer = match layout.format {
            FileFormat::Parquet => {
                let read = ArrowReaderMetadata::load(&file, ArrowReaderOptions::new())
                    .map_err(|e| Error::malformed(place.clone(), format, e))?;
                let pairs = read.metadata().file_metadata().key_value_metadata();
                let get = |key: &str| {
                    pairs?.iter().find(|pair| pair.key == key).and_then(|pair| pair.value.clone())
                };
                Footer::read(get, &place)?
            }
            _ => {
                let read = FileReader::try_new_buffered(file, None)
                    .map_err(|e| Error::malformed(place.clone(), format, e))?;
                Footer::read(|key| read.custom_metadata().get(key).cloned(), &place)?
            }
        };
        footer.check_id(id, &place)?;
        Ok(Some(footer))
    }

    /// The winner as the commit record names it; nothing where there is none.
    pub(crate) fn of_record(path: &Path, id: &BatchId) -> Result<Option<Self>, Error> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::io("read", path, e)),
        };
        let place = path.display().to_string();
        // The version first: a newer record may have other fields.
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let bad = |e: serde_json::Error| Error::malformed(place.clone(), "commit record", e);
        let Version { version } = serde_json::from_slice(&bytes).map_err(bad)?;
        check_version(version, &place)?;
        let footer: Footer = serde_json::from_slice(&bytes).map_err(bad)?;
        footer.check_id(id, &place)?;
        Ok(Some(footer))
    }

    fn check_id(&self, id: &BatchId, place: &str) -> Result<(), Error> {
        if self.batch_id == id.as_str() {
            return Ok(());
        }
        Err(no_footer(place, format!("it holds batch {}, not {id}", self.batch_id)))
    }
}

fn no_footer(place: &str, problem: String) -> Error {
    Error::malformed(place, "file of this sink", problem)
}

fn check_version(version: u32, place: &str) -> Result<(), Error> {
    if version <= VERSION {
        return Ok(());
    }
    let source = format!("it has version {version}, this build knows {VERSION}");
    Err(Error::external("read", place, Code::FormatNewer, source))
}

#[cfg(test)]
mod tests {
    use sheaf_retry::Retryable as _;

    use super::*;

    #[test]
    fn pairs_read_back_and_newer_or_foreign_ones_are_refused() {
        let key = CommitKey { id: "a:1".parse().unwrap(), fence: u64::MAX };
        let footer = Footer::new(&key, 3);
        let pairs = footer.pairs();
        let get = |key: &str| pairs.iter().find(|p| p.0 == key).map(|p| p.1.clone());
        assert_eq!(Footer::read(get, "f").unwrap(), footer);
        let newer = |key: &str| if key == Footer::KEYS[0] { Some("2".into()) } else { get(key) };
        assert_eq!(Footer::read(newer, "f").unwrap_err().code(), Code::FormatNewer);
        assert_eq!(Footer::read(|_| None, "f").unwrap_err().code(), Code::MalformedData);
        assert!(footer.check_id(&"a:2".parse().unwrap(), "f").is_err());
    }

    #[test]
    fn a_newer_record_is_told_from_a_broken_one() {
        let dir = tempfile::tempdir().unwrap();
        let (path, id) = (dir.path().join("r"), "a".parse().unwrap());
        assert_eq!(Footer::of_record(&path, &id).unwrap(), None);
        std::fs::write(&path, r#"{"version":9,"other":true}"#).unwrap();
        assert_eq!(Footer::of_record(&path, &id).unwrap_err().code(), Code::FormatNewer);
        std::fs::write(&path, "{").unwrap();
        assert_eq!(Footer::of_record(&path, &id).unwrap_err().code(), Code::MalformedData);
    }
}
