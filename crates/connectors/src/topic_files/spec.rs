//! Where topics are written to, as it is written in a flag.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use percent_encoding::percent_decode_str;
use sheaf_retry::SharedClock;

use super::blobs::Blobs;
use super::local::Local;
use crate::error::Error;

const FORMS: &str = "write parquet:DIR, or s3://BUCKET/PREFIX?region=R&endpoint=URL";

/// Where topics are written to as Parquet files: `parquet:DIR` or
/// `s3://BUCKET/PREFIX`, with `?endpoint=URL` for servers that are not Amazon's and
/// `region=R`. Only an endpoint that begins with `http://` is asked without TLS.
///
/// What it shows of itself has no credentials.
///
/// ```
/// use sheaf_connectors::FilesSpec;
///
/// let spec: FilesSpec = "parquet:/data/topics".parse()?;
/// assert_eq!(spec.to_string(), "parquet:/data/topics");
/// let spec: FilesSpec = "s3://lake/topics?endpoint=http://minio:9000".parse()?;
/// let spec = spec.with_setting("AWS_SECRET_ACCESS_KEY", "secret");
/// assert_eq!(spec.to_string(), "s3://lake/topics");
/// # Ok::<(), sheaf_connectors::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct FilesSpec {
    pub(super) target: Target,
    /// Names and values as the environment has them for Amazon's tools.
    pub(super) settings: Vec<(String, String)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Directory(PathBuf),
    Bucket { bucket: String, prefix: String, endpoint: Option<String>, region: Option<String> },
}

impl FilesSpec {
    /// Whether a text may be one of these, and not of something else.
    pub fn is_meant(text: &str) -> bool {
        text.starts_with("parquet:") || text.starts_with("s3:")
    }

    /// Adds a setting of the bucket's, by the name that Amazon's tools have for it in
    /// the environment, such as `AWS_ACCESS_KEY_ID`. Unknown ones are left out.
    #[must_use]
    pub fn with_setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }

    pub(super) async fn open(&self, clock: SharedClock) -> Result<Arc<dyn Blobs>, Error> {
        match &self.target {
            Target::Directory(path) => Ok(Arc::new(Local::open(path, clock).await?)),
            #[cfg(feature = "s3")]
            Target::Bucket { .. } => Ok(Arc::new(super::bucket::Bucket::connect(self)?)),
            #[cfg(not(feature = "s3"))]
            Target::Bucket { .. } => Err(Error::Invalid(format!(
                "{self}: this build has no S3; build it with the feature `s3`"
            ))),
        }
    }
}

impl FromStr for FilesSpec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        // The text itself stays out of the messages: it may hold a password.
        let invalid = |why: &str| Error::Invalid(format!("the place {why}; {FORMS}"));
        let settings = Vec::new();
        if let Some(path) = text.strip_prefix("parquet:") {
            if path.is_empty() {
                return Err(invalid("names no directory"));
            }
            return Ok(FilesSpec { target: Target::Directory(path.into()), settings });
        }
        let rest = text.strip_prefix("s3://").ok_or_else(|| invalid("is of no known kind"))?;
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (bucket, prefix) = path.split_once('/').unwrap_or((path, ""));
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if bucket.is_empty() || !bucket.chars().all(is_name) {
            return Err(invalid("names no bucket"));
        }
        let (mut endpoint, mut region) = (None, None);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) =
                pair.split_once('=').ok_or_else(|| invalid("has a setting without a value"))?;
            let value = percent_decode_str(value).decode_utf8_lossy().into_owned();
            match key {
                "endpoint" if value.starts_with("http://") || value.starts_with("https://") => {
                    endpoint = Some(value);
                }
                "endpoint" => return Err(invalid("has an endpoint without http:// or https://")),
                "region" => region = Some(value),
                _ => return Err(invalid("has a setting that is neither endpoint nor region")),
            }
        }
        let (bucket, prefix) = (bucket.to_owned(), prefix.trim_matches('/').to_owned());
        Ok(FilesSpec { target: Target::Bucket { bucket, prefix, endpoint, region }, settings })
    }
}

impl fmt::Display for FilesSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.target {
            Target::Directory(path) => write!(f, "parquet:{}", path.display()),
            Target::Bucket { bucket, prefix, .. } if prefix.is_empty() => {
                write!(f, "s3://{bucket}")
            }
            Target::Bucket { bucket, prefix, .. } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

/// As [`fmt::Display`]: a secret must not get into a log by `{:?}` either.
impl fmt::Debug for FilesSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FilesSpec({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Target {
        text.parse::<FilesSpec>().unwrap().target
    }

    #[test]
    fn every_form_is_read() {
        assert_eq!(parse("parquet:a b/c"), Target::Directory("a b/c".into()));
        let bucket = |prefix: &str, endpoint: Option<&str>, region: Option<&str>| Target::Bucket {
            bucket: "lake".to_owned(),
            prefix: prefix.to_owned(),
            endpoint: endpoint.map(str::to_owned),
            region: region.map(str::to_owned),
        };
        assert_eq!(parse("s3://lake"), bucket("", None, None));
        assert_eq!(parse("s3://lake/a/b/"), bucket("a/b", None, None));
        let both = bucket("a", Some("http://h:1"), Some("eu-west-1"));
        assert_eq!(parse("s3://lake/a?endpoint=http%3A%2F%2Fh:1&region=eu-west-1"), both);
    }

    #[test]
    fn mistakes_say_what_to_write_and_not_what_was_written() {
        for text in [
            "",
            "parquet:",
            "s3://",
            "s3:///secret",
            "s3://me:secret@lake/x",
            "s3://lake?secret=1",
            "s3://lake?secret",
            "s3://lake?endpoint=secret:9000",
        ] {
            let error = text.parse::<FilesSpec>().unwrap_err().to_string();
            assert!(error.ends_with(FORMS) && !error.contains("secret"), "{error}");
        }
    }
}
