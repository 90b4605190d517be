//! What files say about themselves, and where a partition began.

use bytes::Bytes;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use serde::{Deserialize, Serialize};
use sheaf_retry::Code;

use super::blobs::{Blobs, Tail};
use super::names::{OURS, Partition};
use crate::error::Error;

/// Version of all that is stored.
const VERSION: u32 = 1;

/// Bytes of a file's end that are read first: most footers are shorter.
const TAIL: u64 = 64 << 10;

/// Keys in the metadata of a file.
const KEYS: [&str; 7] = [
    "sheaf.topic_files_version",
    "sheaf.group",
    "sheaf.topic",
    "sheaf.partition",
    "sheaf.start",
    "sheaf.next_offset",
    "sheaf.rows",
];

/// Only where something is beside the rows.
const BESIDE: &str = "sheaf.beside";

/// The place of one file in the chain of its partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) group: String,
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) start: i64,
    pub(super) end: i64,
    pub(super) rows: u64,
    /// What is decided with it: a hash, and the stream it is in.
    pub(super) beside: Option<String>,
}

impl Link {
    pub(super) fn new(of: &Partition, group: &str, (start, end): (i64, i64)) -> Self {
        let (topic, partition) = of.key();
        Link { group: group.to_owned(), topic, partition, start, end, rows: 0, beside: None }
    }

    /// What the file of so many rows beside it says, for people.
    pub(super) fn beside(&self, rows: u64) -> Self {
        Link { beside: None, rows, ..self.clone() }
    }

    /// Keys and values for the metadata of a file.
    pub(super) fn pairs(&self) -> Vec<(&'static str, String)> {
        let values = [
            VERSION.to_string(),
            self.group.clone(),
            self.topic.clone(),
            self.partition.to_string(),
            self.start.to_string(),
            self.end.to_string(),
            self.rows.to_string(),
        ];
        let beside = self.beside.iter().map(|reference| (BESIDE, reference.clone()));
        KEYS.into_iter().zip(values).chain(beside).collect()
    }

    /// That of a file; it has to be of this partition, place and group.
    pub(super) async fn read(
        blobs: &dyn Blobs,
        of: &Partition,
        start: i64,
        group: &str,
    ) -> Result<Self, Error> {
        let name = of.file(start);
        let place = blobs.place(&name);
        let metadata = footer(blobs, &name, &place).await?;
        let link = Link::parse(&metadata, &place)?;
        check_group(&link.group, group, &place)?;
        let (topic, partition) = of.key();
        if (&link.topic, link.partition, link.start) != (&topic, partition, start) {
            let Link { topic, partition, start, .. } = &link;
            let why = format!("it is of {topic}, partition {partition}, from {start} on");
            return Err(Error::malformed(place, WHAT, why));
        }
        Ok(link)
    }

    fn parse(metadata: &ParquetMetaData, place: &str) -> Result<Self, Error> {
        let pairs = metadata.file_metadata().key_value_metadata();
        let find = |key: &str| pairs?.iter().find(|pair| pair.key == key)?.value.clone();
        let text = |key: &str| {
            find(key)
                .ok_or_else(|| Error::malformed(place, WHAT, format!("it has no metadata {key:?}")))
        };
        let number = |key: &str| {
            let text = text(key)?;
            text.parse::<i64>()
                .map_err(|_| Error::malformed(place, WHAT, format!("{key:?} is {text:?}")))
        };
        let [version, group, topic, partition, start, end, rows] = KEYS;
        check_version(number(version)?, place)?;
        let bad = |key: &str| Error::malformed(place, WHAT, format!("{key:?} is out of range"));
        let link = Link {
            group: text(group)?,
            topic: text(topic)?,
            partition: i32::try_from(number(partition)?).map_err(|_| bad(partition))?,
            start: number(start)?,
            end: number(end)?,
            rows: u64::try_from(number(rows)?).map_err(|_| bad(rows))?,
            beside: find(BESIDE),
        };
        // Or there were two files at one place of the chain.
        if link.end <= link.start {
            return Err(bad(end));
        }
        Ok(link)
    }
}

const WHAT: &str = "file of a topic";

/// The metadata of a Parquet file, by its end.
async fn footer(blobs: &dyn Blobs, name: &str, place: &str) -> Result<ParquetMetaData, Error> {
    let mut most = TAIL;
    loop {
        let Some(Tail { bytes, size }) = blobs.tail(name, most).await? else {
            let why = "it was removed a moment ago, but the newest file of a partition says where \
                       to go on";
            return Err(Error::external("read", place, Code::NotFound, why));
        };
        let mut reader = ParquetMetaDataReader::new();
        match reader.try_parse_sized(&bytes, size) {
            Ok(()) => return reader.finish().map_err(|e| Error::malformed(place, "Parquet", e)),
            // No more than the file has, and more than was asked for: this ends.
            Err(ParquetError::NeedMoreData(needed)) if needed as u64 > most && most < size => {
                most = needed as u64;
            }
            Err(error) => return Err(Error::malformed(place, "Parquet", error)),
        }
    }
}

/// Where a partition began.
#[derive(Serialize, Deserialize)]
pub(super) struct Begin {
    version: i64,
    group: String,
    topic: String,
    partition: i32,
    next_offset: i64,
}

impl Begin {
    pub(super) fn new(of: &Partition, group: &str, next_offset: i64) -> Self {
        let (topic, partition) = of.key();
        Begin { version: VERSION.into(), group: group.to_owned(), topic, partition, next_offset }
    }

    pub(super) fn bytes(&self) -> Result<Bytes, Error> {
        json(self)
    }

    /// Where a partition began that has no file yet.
    pub(super) async fn read(
        blobs: &dyn Blobs,
        of: &Partition,
        group: &str,
    ) -> Result<Option<i64>, Error> {
        let name = of.begin();
        let Some(bytes) = blobs.read(&name).await? else { return Ok(None) };
        let place = blobs.place(&name);
        check_json(&bytes, &place)?;
        let begin: Begin =
            serde_json::from_slice(&bytes).map_err(|e| Error::malformed(&*place, "JSON", e))?;
        check_group(&begin.group, group, &place)?;
        if (begin.topic.as_str(), begin.partition) != (of.topic(), of.number()) {
            let why = format!("it is of {}, partition {}", begin.topic, begin.partition);
            return Err(Error::malformed(place, "beginning of a partition", why));
        }
        Ok(Some(begin.next_offset))
    }
}

#[derive(Serialize, Deserialize)]
struct Format {
    version: i64,
}

/// Writes down the version of all that is stored, or reads it. On the way it sees
/// whether the place can be written to, and keeps what is there when it should.
pub(super) async fn check_format(blobs: &dyn Blobs) -> Result<(), Error> {
    let name = format!("{OURS}/format.json");
    let place = blobs.place(&name);
    let bytes = json(&Format { version: VERSION.into() })?;
    if blobs.create(&name, bytes.clone()).await? && blobs.create(&name, bytes).await? {
        let why = "it was replaced where it should have been kept: without conditional writes \
                   (`If-None-Match: *`) no message is there exactly once; take another server";
        return Err(Error::external("write", place, Code::Unimplemented, why));
    }
    match blobs.read(&name).await? {
        Some(bytes) => check_json(&bytes, &place),
        None => Err(Error::external("read", place, Code::NotFound, "it was written a moment ago")),
    }
}

fn json(value: &impl Serialize) -> Result<Bytes, Error> {
    let bytes = serde_json::to_vec(value).map_err(|e| Error::malformed("a record", "JSON", e))?;
    Ok(bytes.into())
}

fn check_json(bytes: &[u8], place: &str) -> Result<(), Error> {
    // The version first: a newer record may have other fields.
    let Format { version } =
        serde_json::from_slice(bytes).map_err(|e| Error::malformed(place, "JSON", e))?;
    check_version(version, place)
}

fn check_version(version: i64, place: &str) -> Result<(), Error> {
    if (1..=i64::from(VERSION)).contains(&version) {
        return Ok(());
    }
    let why = format!("it has version {version}, this build knows {VERSION}");
    Err(Error::external("read", place, Code::FormatNewer, why))
}

/// A chain is one group's: another one would have to begin its own.
fn check_group(found: &str, group: &str, place: &str) -> Result<(), Error> {
    if found == group {
        return Ok(());
    }
    let why = format!(
        "it was written by the group {found:?}, this is {group:?}: take that group, or another \
         place"
    );
    Err(Error::external("go on from", place, Code::FailedPrecondition, why))
}
