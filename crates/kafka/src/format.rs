//! What the values of messages are.

use std::fmt;
use std::str::FromStr;

/// The format of the values of a topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Format {
    /// Decided once per stream, by its first messages: a schema id that the
    /// registry knows, else a JSON object, else text, else bytes.
    #[default]
    Auto,
    /// One JSON object per message, with the framing of a registry or without.
    Json,
    /// Avro with the framing of a registry.
    Avro,
    /// Protobuf with the framing of a registry.
    Protobuf,
    /// One CSV record per message, without a header line.
    Csv,
    /// Text in UTF-8: the column `value`.
    String,
    /// Anything: the column `value`.
    Bytes,
    /// One Arrow IPC stream per message, of any number of rows.
    Arrow,
}

impl Format {
    /// All formats, in the order of the documentation.
    pub const ALL: [Format; 8] = [
        Format::Auto,
        Format::Json,
        Format::Avro,
        Format::Protobuf,
        Format::Csv,
        Format::String,
        Format::Bytes,
        Format::Arrow,
    ];

    /// The word that stands for it on a command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Format::Auto => "auto",
            Format::Json => "json",
            Format::Avro => "avro",
            Format::Protobuf => "protobuf",
            Format::Csv => "csv",
            Format::String => "string",
            Format::Bytes => "bytes",
            Format::Arrow => "arrow",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        let known = Format::ALL.into_iter().find(|format| format.as_str() == text);
        known.ok_or_else(|| UnknownFormat(text.to_owned()))
    }
}

/// No format has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown format `{0}`: auto, json, avro, protobuf, csv, string, bytes or arrow")]
pub struct UnknownFormat(pub String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_formats_are_the_same() {
        for format in Format::ALL {
            assert_eq!(format.to_string().parse(), Ok(format));
        }
        let error = "xml".parse::<Format>().unwrap_err().to_string();
        assert!(error.starts_with("unknown format `xml`"), "{error}");
        for format in Format::ALL {
            assert!(error.contains(format.as_str()), "{error}");
        }
    }
}
