//! What `--sink` says.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use sheaf_retry::SharedClock;

use crate::error::Error;
use crate::file_sink::{FileSink, SinkOptions};
use crate::format::FileFormat;
use crate::sink::Sink;

/// A sink as it is written in a flag: `none`, `parquet:DIR`, `ipc:DIR`,
/// `csv:DIR` or `json:DIR`.
///
/// ```
/// use sheaf_connectors::SinkSpec;
///
/// let spec: SinkSpec = "parquet:out/orders".parse()?;
/// assert_eq!(spec.to_string(), "parquet:out/orders");
/// assert!("orc:out".parse::<SinkSpec>().is_err());
/// # Ok::<(), sheaf_connectors::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SinkSpec {
    /// Results go nowhere: the work is its own effect.
    #[default]
    None,
    /// One file a batch.
    Files {
        /// Their format.
        format: FileFormat,
        /// Their directory.
        dir: PathBuf,
    },
}

impl SinkSpec {
    /// Opens the sink, where there is one.
    ///
    /// # Errors
    /// As [`FileSink::open`].
    pub async fn open(&self, clock: SharedClock) -> Result<Option<Arc<dyn Sink>>, Error> {
        match self {
            SinkSpec::None => Ok(None),
            SinkSpec::Files { format, dir } => {
                let sink = FileSink::open(dir, *format, SinkOptions::default(), clock).await?;
                Ok(Some(Arc::new(sink)))
            }
        }
    }
}

impl fmt::Display for SinkSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SinkSpec::None => f.write_str("none"),
            SinkSpec::Files { format, dir } => write!(f, "{format}:{}", dir.display()),
        }
    }
}

impl FromStr for SinkSpec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        const FORMS: &str = "write none, parquet:DIR, ipc:DIR, csv:DIR or json:DIR";
        if text == "none" {
            return Ok(SinkSpec::None);
        }
        let Some((format, dir)) = text.split_once(':') else {
            return Err(Error::Invalid(format!("{text:?} is no sink; {FORMS}")));
        };
        let Ok(format) = format.parse::<FileFormat>() else {
            return Err(Error::Invalid(format!("{text:?} is no sink that exists; {FORMS}")));
        };
        if dir.is_empty() {
            return Err(Error::Invalid(format!("sink {text:?} names no directory; {FORMS}")));
        }
        if dir.contains("://") {
            return Err(Error::Invalid(format!(
                "sink {text:?}: only directories of this machine can be written; {FORMS}"
            )));
        }
        Ok(SinkSpec::Files { format, dir: PathBuf::from(dir) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_reads_back() {
        for text in ["none", "parquet:/a", "ipc:a/b", "csv:a:b", "json:."] {
            assert_eq!(text.parse::<SinkSpec>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn mistakes_say_what_to_write() {
        for text in ["", "parquet", "parquet:", "NONE", "orc:a", "parquet:s3://bucket"] {
            let error = text.parse::<SinkSpec>().unwrap_err().to_string();
            assert!(error.contains("write none, parquet:DIR"), "{error}");
        }
    }
}
