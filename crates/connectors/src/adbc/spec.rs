//! Which database, as it is written in a flag.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use percent_encoding::percent_decode_str;

use crate::error::Error;

const FORMS: &str = "write duckdb:PATH or adbc:DRIVER:URI";

/// What is shown in place of what may be a secret.
const HIDDEN: &str = "***";

/// Words of a `key=value` connection string that are shown.
const SHOWN: [&str; 6] = ["host", "hostaddr", "port", "dbname", "user", "sslmode"];

/// A database: `duckdb:PATH` (`duckdb:PATH?threads=2` with DuckDB's own
/// settings), or `adbc:DRIVER:URI`, where the driver is the path of a shared
/// library or a name that the ADBC driver manager finds.
///
/// What it shows of itself has no passwords and no values of parameters.
///
/// ```
/// use sheaf_connectors::AdbcSpec;
///
/// let spec: AdbcSpec = "adbc:adbc_driver_postgresql:postgresql://me:secret@db/sales".parse()?;
/// assert_eq!(spec.to_string(), "adbc:adbc_driver_postgresql:postgresql://me:***@db/sales");
/// let spec: AdbcSpec = "duckdb:roar.duckdb?threads=2".parse()?;
/// assert_eq!(spec.to_string(), "duckdb:roar.duckdb?threads=***");
/// # Ok::<(), sheaf_connectors::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct AdbcSpec {
    pub(super) target: Target,
    /// Options of the driver.
    pub(super) options: Vec<(String, String)>,
}

#[derive(Clone, PartialEq, Eq)]
pub(super) enum Target {
    DuckDb { path: PathBuf },
    Other { driver: String, uri: String },
}

impl AdbcSpec {
    /// A file of DuckDB; it is made when it is not there.
    pub fn duckdb(path: impl Into<PathBuf>) -> Self {
        AdbcSpec { target: Target::DuckDb { path: path.into() }, options: Vec::new() }
    }

    /// A database of any driver.
    pub fn driver(driver: impl Into<String>, uri: impl Into<String>) -> Self {
        let target = Target::Other { driver: driver.into(), uri: uri.into() };
        AdbcSpec { target, options: Vec::new() }
    }

    /// Adds an option of the driver, such as `password`.
    #[must_use]
    pub fn with_option(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.options.push((key.into(), value.into()));
        self
    }

    /// What must not appear in messages, the driver's included.
    pub(super) fn secrets(&self) -> Vec<String> {
        let mut secrets: Vec<String> =
            self.options.iter().map(|(_, value)| value.clone()).collect();
        if let Target::Other { uri, .. } = &self.target {
            secrets.extend(hidden_parts(uri).into_iter().map(str::to_owned));
            let decoded: Vec<String> = hidden_parts(uri)
                .into_iter()
                .map(|part| percent_decode_str(part).decode_utf8_lossy().into_owned())
                .collect();
            secrets.extend(decoded);
        }
        // Short ones, such as a number of threads, are in too many words.
        secrets.retain(|secret| secret.len() > 3);
        secrets
    }
}

impl FromStr for AdbcSpec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        // The text itself stays out of the messages: it may hold a password.
        let invalid = |why: &str| Error::Invalid(format!("the database {why}; {FORMS}"));
        if let Some(rest) = text.strip_prefix("duckdb:") {
            let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
            if path.is_empty() {
                return Err(invalid("names no file"));
            }
            let mut spec = AdbcSpec::duckdb(path);
            for pair in query.split('&').filter(|pair| !pair.is_empty()) {
                let (key, value) =
                    pair.split_once('=').ok_or_else(|| invalid("has a setting without a value"))?;
                let decode = |text| percent_decode_str(text).decode_utf8_lossy().into_owned();
                spec = spec.with_option(decode(key), decode(value));
            }
            return Ok(spec);
        }
        let rest = text.strip_prefix("adbc:").ok_or_else(|| invalid("is of no known kind"))?;
        match rest.split_once(':') {
            Some((driver, uri)) if !driver.is_empty() && !uri.is_empty() => {
                Ok(AdbcSpec::driver(driver, uri))
            }
            _ => Err(invalid("names no driver, or no URI")),
        }
    }
}

impl fmt::Display for AdbcSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.target {
            Target::DuckDb { path } => write!(f, "duckdb:{}", path.display())?,
            Target::Other { driver, uri } => write!(f, "adbc:{driver}:{}", shown(uri))?,
        }
        for (place, (key, _)) in self.options.iter().enumerate() {
            let mark = if place == 0 { '?' } else { '&' };
            write!(f, "{mark}{key}={HIDDEN}")?;
        }
        Ok(())
    }
}

/// As [`fmt::Display`]: a secret must not get into a log by `{:?}` either.
impl fmt::Debug for AdbcSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AdbcSpec({self})")
    }
}

/// The parts of a URI, or of a `key=value` connection string, that are hidden.
fn hidden_parts(uri: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    if let Some((_, rest)) = uri.split_once("://") {
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        // A password may hold an @ itself.
        if let Some((login, _)) = rest[..end].rsplit_once('@')
            && let Some((_, password)) = login.split_once(':')
        {
            parts.push(password);
        }
        let query = rest.split_once('?').map_or("", |(_, query)| query);
        parts.extend(query.split('&').filter_map(|pair| Some(pair.split_once('=')?.1)));
    } else if uri.contains('=') {
        let pairs = uri.split([' ', ';']).filter_map(|pair| pair.split_once('='));
        let hidden = pairs.filter(|(key, _)| !SHOWN.contains(&key.trim()));
        parts.extend(hidden.map(|(_, value)| value));
    }
    parts.retain(|part| !part.is_empty());
    parts
}

fn shown(uri: &str) -> String {
    let mut shown = String::with_capacity(uri.len());
    let mut rest = uri;
    for part in hidden_parts(uri) {
        // Each part is a slice of the URI, in order.
        let start = part.as_ptr() as usize - rest.as_ptr() as usize;
        shown.push_str(&rest[..start]);
        shown.push_str(HIDDEN);
        rest = &rest[start + part.len()..];
    }
    shown + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> AdbcSpec {
        text.parse().unwrap()
    }

    #[test]
    fn every_form_is_read() {
        assert_eq!(parse("duckdb:/data/a b.duckdb"), AdbcSpec::duckdb("/data/a b.duckdb"));
        assert_eq!(parse("duckdb::memory:"), AdbcSpec::duckdb(":memory:"));
        let set = AdbcSpec::duckdb("a").with_option("memory_limit", "1 GB");
        assert_eq!(parse("duckdb:a?memory_limit=1%20GB"), set);
        let sqlite = AdbcSpec::driver("/lib/libx.so", "file:a.db?mode=rw");
        assert_eq!(parse("adbc:/lib/libx.so:file:a.db?mode=rw"), sqlite);
    }

    #[test]
    fn mistakes_say_what_to_write_and_not_what_was_written() {
        for text in
            ["", "duckdb:", "roar.duckdb", "adbc:x", "adbc::secret", "adbc:x:", "duckdb:a?secret"]
        {
            let error = text.parse::<AdbcSpec>().unwrap_err().to_string();
            assert!(error.ends_with(FORMS) && !error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn no_secret_is_shown() {
        for (uri, expected) in [
            (
                "postgresql://u:s@cret@h:1/d?sslpassword=secret&x=y",
                "postgresql://u:***@h:1/d?sslpassword=***&x=***",
            ),
            ("postgresql://u@h/d", "postgresql://u@h/d"),
            ("host=h user=u password=secret dbname=d", "host=h user=u password=*** dbname=d"),
            ("http://h?token=secret", "http://h?token=***"),
            ("/data/a.sqlite", "/data/a.sqlite"),
        ] {
            let spec = AdbcSpec::driver("x", uri);
            assert_eq!(spec.to_string(), format!("adbc:x:{expected}"));
            assert_eq!(format!("{spec:?}"), format!("AdbcSpec(adbc:x:{expected})"));
        }
        let spec = AdbcSpec::driver("x", "u").with_option("password", "secret");
        assert_eq!(spec.to_string(), "adbc:x:u?password=***");
        assert_eq!(spec.secrets(), ["secret"]);
        let coded = AdbcSpec::driver("x", "p://u:s%40cret@h").secrets();
        assert_eq!(coded, ["s%40cret", "s@cret"]);
    }
}
