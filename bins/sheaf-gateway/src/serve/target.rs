//! Flags that say where rows are written to besides.

use std::path::PathBuf;
use std::str::FromStr;

use sheaf_connectors::{AdbcSpec, Error, FilesSpec};
use sheaf_retry::HumanDuration;

use super::persist::Persist;

/// Where rows are written to besides, and how often.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct PersistArgs {
    /// Write rows to DuckDB too, to the file of --db-path
    #[arg(long)]
    persist: bool,
    /// File of DuckDB, with a table for each topic
    #[arg(long, value_name = "FILE", default_value = "roar.duckdb", requires = "persist")]
    db_path: PathBuf,
    /// Where to write rows to: duckdb:PATH, adbc:DRIVER:URI, parquet:DIR or s3://BUCKET/PREFIX
    #[arg(long, value_name = "TARGET", conflicts_with = "persist")]
    persist_to: Option<Target>,
    /// How long rows wait for others at most [default: 10s for files, 250ms for databases]
    #[arg(long, value_name = "TIME")]
    persist_every: Option<HumanDuration>,
    /// Path of libduckdb.so, where it is not in a usual place
    #[arg(long, value_name = "FILE", env = "SHEAF_LIBDUCKDB")]
    libduckdb: Option<PathBuf>,
}

impl PersistArgs {
    /// What they come to, where a stream may have `limit` bytes; what is wrong with
    /// them goes to `problems`.
    pub(super) fn resolve(self, limit: u64, problems: &mut Vec<String>) -> Option<Persist> {
        let target = self.persist.then(|| Target::Database(AdbcSpec::duckdb(self.db_path)));
        let target = self.persist_to.or(target);
        if self.persist_every.is_some() && target.is_none() {
            problems.push("--persist-every is for --persist and --persist-to".to_owned());
        }
        let every = self.persist_every.map(|every| every.0);
        target.map(|target| Persist::new(target, self.libduckdb, every, limit))
    }
}

/// What `--persist-to` names.
#[derive(Clone, Debug)]
pub(super) enum Target {
    Database(AdbcSpec),
    Files(FilesSpec),
}

impl FromStr for Target {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if FilesSpec::is_meant(text) {
            return text.parse().map(Target::Files);
        }
        let database = text.parse().map(Target::Database);
        database.map_err(|error: Error| {
            Error::Invalid(format!("{error}; for files, parquet:DIR or s3://BUCKET/PREFIX"))
        })
    }
}

/// What Amazon's tools read of the environment: credentials, region, endpoint.
pub(super) fn with_environment(spec: FilesSpec) -> FilesSpec {
    let settings = std::env::vars_os().filter_map(|(name, value)| {
        let name = name.into_string().ok().filter(|name| name.starts_with("AWS_"))?;
        Some((name, value.into_string().ok()?))
    });
    settings.fold(spec, |spec, (name, value)| spec.with_setting(name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_told_apart_and_no_text_is_repeated() {
        let files = |text: &str| matches!(text.parse(), Ok(Target::Files(_)));
        assert!(files("parquet:/data") && files("s3://lake/x?endpoint=http://h:9"));
        assert!(matches!("duckdb:a.duckdb".parse(), Ok(Target::Database(_))));
        for text in ["secret", "s3:secret", "parquet:"] {
            let error = text.parse::<Target>().unwrap_err().to_string();
            assert!(error.contains("parquet:DIR") && !error.contains("secret"), "{error}");
        }
    }
}
