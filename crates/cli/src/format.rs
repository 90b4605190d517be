//! In which form rows are written.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use sheaf_retry::{Code, Retryable};

/// A form of rows, by the name in `--format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum OutputFormat {
    /// Columns for people.
    Table,
    /// Comma-separated values with a header line.
    Csv,
    /// One JSON object per row and line.
    Json,
    /// Parquet, compressed by Zstandard.
    Parquet,
    /// Arrow IPC: the file format into a file, the stream format elsewhere.
    Arrow,
}

/// No format of that name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no output format: write table, csv, json, parquet or arrow")]
pub struct UnknownFormat(pub String);

impl Retryable for UnknownFormat {
    fn code(&self) -> Code {
        Code::InvalidArgument
    }
}

impl OutputFormat {
    /// Every format, as help texts list them.
    pub const ALL: [OutputFormat; 5] = [
        OutputFormat::Table,
        OutputFormat::Csv,
        OutputFormat::Json,
        OutputFormat::Parquet,
        OutputFormat::Arrow,
    ];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            OutputFormat::Table => "table",
            OutputFormat::Csv => "csv",
            OutputFormat::Json => "json",
            OutputFormat::Parquet => "parquet",
            OutputFormat::Arrow => "arrow",
        }
    }

    /// Whether it is text that a terminal can show.
    pub const fn is_text(self) -> bool {
        matches!(self, OutputFormat::Table | OutputFormat::Csv | OutputFormat::Json)
    }

    /// What the name of a file asks for; `None` where its ending says nothing.
    pub fn of_path(path: &Path) -> Option<Self> {
        let ending = path.extension()?.to_str()?.to_ascii_lowercase();
        match ending.as_str() {
            "csv" => Some(OutputFormat::Csv),
            "json" | "jsonl" | "ndjson" => Some(OutputFormat::Json),
            "parquet" | "pq" => Some(OutputFormat::Parquet),
            "arrow" | "ipc" | "feather" => Some(OutputFormat::Arrow),
            "txt" => Some(OutputFormat::Table),
            _ => None,
        }
    }
}

impl fmt::Display for OutputFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for OutputFormat {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        OutputFormat::ALL
            .into_iter()
            .find(|format| format.as_str() == text)
            .ok_or_else(|| UnknownFormat(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        for format in OutputFormat::ALL {
            assert_eq!(format.as_str().parse(), Ok(format));
        }
        let error = "xml".parse::<OutputFormat>().unwrap_err().to_string();
        assert!(error.contains("xml") && error.contains("parquet"), "{error}");
    }

    #[test]
    fn endings_ask_for_formats() {
        assert_eq!(OutputFormat::of_path(Path::new("a/b.PARQUET")), Some(OutputFormat::Parquet));
        assert_eq!(OutputFormat::of_path(Path::new("b.jsonl")), Some(OutputFormat::Json));
        assert_eq!(OutputFormat::of_path(Path::new("b.csv/c")), None);
    }
}
