//! File formats, and where a file is.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use percent_encoding::percent_decode_str;

use crate::error::Error;

/// The formats that sources read and sinks write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileFormat {
    /// Apache Parquet.
    Parquet,
    /// Arrow IPC: files (`.arrow`), and to read also streams (`.arrows`).
    Ipc,
    /// Separated values with a header line.
    Csv,
    /// JSON, one object per line; to read also one array of objects.
    Json,
}

impl FileFormat {
    /// The word for it in options and specifications: `parquet`, `ipc`, `csv`, `json`.
    pub const fn as_str(self) -> &'static str {
        match self {
            FileFormat::Parquet => "parquet",
            FileFormat::Ipc => "ipc",
            FileFormat::Csv => "csv",
            FileFormat::Json => "json",
        }
    }

    /// The extension of the files that a sink writes, without the dot.
    pub const fn extension(self) -> &'static str {
        match self {
            FileFormat::Parquet => "parquet",
            FileFormat::Ipc => "arrow",
            FileFormat::Csv => "csv",
            FileFormat::Json => "jsonl",
        }
    }

    /// Its name in messages.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            FileFormat::Parquet => "Parquet",
            FileFormat::Ipc => "Arrow IPC",
            FileFormat::Csv => "CSV",
            FileFormat::Json => "JSON",
        }
    }

    fn of_extension(extension: &str) -> Option<Self> {
        Some(match extension {
            "parquet" | "pq" => FileFormat::Parquet,
            "arrow" | "arrows" | "ipc" | "feather" => FileFormat::Ipc,
            "csv" | "tsv" => FileFormat::Csv,
            "json" | "jsonl" | "ndjson" => FileFormat::Json,
            _ => return None,
        })
    }
}

impl fmt::Display for FileFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for FileFormat {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        [FileFormat::Parquet, FileFormat::Ipc, FileFormat::Csv, FileFormat::Json]
            .into_iter()
            .find(|format| format.as_str() == text)
            .ok_or_else(|| {
                Error::Invalid(format!("unknown format {text:?}; use parquet, ipc, csv or json"))
            })
    }
}

/// How a text file is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip, of one or several members (`.gz`).
    Gzip,
    /// Zstandard (`.zst`).
    Zstd,
}

/// What the name of a file says about it.
pub(crate) struct Named {
    pub(crate) format: Option<FileFormat>,
    pub(crate) compression: Compression,
    pub(crate) tabs: bool,
}

/// Reads `name.csv.gz` and its like.
pub(crate) fn of_name(path: &Path) -> Named {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let (stem, compression) = match name.rsplit_once('.') {
        Some((stem, "gz" | "gzip")) => (stem, Compression::Gzip),
        Some((stem, "zst" | "zstd")) => (stem, Compression::Zstd),
        _ => (name.as_str(), Compression::None),
    };
    let extension = stem.rsplit_once('.').map_or("", |(_, extension)| extension);
    Named { format: FileFormat::of_extension(extension), compression, tabs: extension == "tsv" }
}

/// A path as it is, or what a `file:` URL names.
pub(crate) fn local_path(location: &str) -> Result<PathBuf, Error> {
    let Some((scheme, rest)) = location.split_once("://") else {
        if location.is_empty() {
            return Err(Error::Invalid("the path of a file is empty".to_owned()));
        }
        return Ok(PathBuf::from(location));
    };
    if !scheme.eq_ignore_ascii_case("file") {
        return Err(Error::Invalid(format!(
            "{scheme} URLs cannot be read by this build; use a path or a file:// URL"
        )));
    }
    let path = rest.strip_prefix("localhost").unwrap_or(rest);
    if !path.starts_with('/') {
        return Err(Error::Invalid(format!(
            "{location:?} names a host; a file URL is written file:///absolute/path"
        )));
    }
    let path = percent_decode_str(path).decode_utf8().map_err(|_| {
        Error::Invalid(format!("{location:?} is not valid UTF-8 once its percent signs are read"))
    })?;
    Ok(PathBuf::from(path.into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_format_and_compression() {
        let named = |name: &str| {
            let named = of_name(Path::new(name));
            (named.format, named.compression, named.tabs)
        };
        assert_eq!(named("d/A.Parquet"), (Some(FileFormat::Parquet), Compression::None, false));
        assert_eq!(named("a.tsv.gz"), (Some(FileFormat::Csv), Compression::Gzip, true));
        assert_eq!(named("a.ndjson.zst"), (Some(FileFormat::Json), Compression::Zstd, false));
        assert_eq!(named("a.arrows"), (Some(FileFormat::Ipc), Compression::None, false));
        assert_eq!(named("csv"), (None, Compression::None, false));
    }

    #[test]
    fn urls_are_decoded_and_foreign_ones_refused() {
        assert_eq!(local_path("a b.csv").unwrap(), Path::new("a b.csv"));
        assert_eq!(local_path("file:///t/a%20b.csv").unwrap(), Path::new("/t/a b.csv"));
        assert_eq!(local_path("file://localhost/t").unwrap(), Path::new("/t"));
        for wrong in ["", "s3://bucket/a", "file://host/a", "file:///%ff"] {
            assert!(matches!(local_path(wrong), Err(Error::Invalid(_))), "{wrong}");
        }
    }

    #[test]
    fn words_read_back() {
        for format in [FileFormat::Parquet, FileFormat::Ipc, FileFormat::Csv, FileFormat::Json] {
            assert_eq!(format.to_string().parse::<FileFormat>().unwrap(), format);
            assert_eq!(FileFormat::of_extension(format.extension()), Some(format));
        }
        let error = "orc".parse::<FileFormat>().unwrap_err();
        assert_eq!(error.to_string(), "unknown format \"orc\"; use parquet, ipc, csv or json");
    }
}
