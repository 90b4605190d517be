//! Where rows are written to besides: a database, or files.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sheaf_connectors::{AdbcDatabase, AdbcSpec, DriverPaths};
use sheaf_kafka::{FileSink, TableSink, TopicSink};
use sheaf_retry::{Code, Retryable as _, SharedClock};
use sheaf_terminal::Failure;

use super::target::{Target, with_environment};

/// Where, and how.
pub(super) struct Persist {
    target: Target,
    drivers: DriverPaths,
    /// How long rows wait for others; each kind has its own default.
    every: Option<Duration>,
    /// Bytes of rows that wait at most.
    most_bytes: usize,
}

impl Persist {
    /// `limit` is what a stream may have, in bytes.
    pub(super) fn new(
        target: Target,
        library: Option<PathBuf>,
        every: Option<Duration>,
        limit: u64,
    ) -> Self {
        let drivers = DriverPaths { flag: library, ..DriverPaths::default() };
        // A stream that is full waits for these rows, so they go before it is.
        let most_bytes = usize::try_from(limit / 2).unwrap_or(usize::MAX);
        Persist { target, drivers, every, most_bytes }
    }

    pub(super) async fn open(
        &self,
        group: &str,
        clock: &SharedClock,
    ) -> Result<Arc<dyn TopicSink>, Failure> {
        match &self.target {
            Target::Database(spec) => self.open_database(spec, group).await,
            Target::Files(spec) => {
                let spec = with_environment(spec.clone());
                let sink = FileSink::open(&spec, group, Arc::clone(clock)).await;
                let sink = sink.map_err(|error| {
                    let failure = Failure::from_error(&error).of("--persist-to");
                    match helped(error.code()) {
                        Some(help) => failure.help(help),
                        None => failure,
                    }
                })?;
                let sink = sink.with_most_bytes(self.most_bytes);
                Ok(Arc::new(match self.every {
                    Some(every) => sink.with_linger(every),
                    None => sink,
                }))
            }
        }
    }

    async fn open_database(
        &self,
        spec: &AdbcSpec,
        group: &str,
    ) -> Result<Arc<dyn TopicSink>, Failure> {
        let opened = AdbcDatabase::open(spec, &self.drivers).await;
        let database = opened.map_err(|error| {
            let failure = Failure::from_error(&error);
            match failure.code() {
                Code::NotFound => failure.help("name its path with --libduckdb FILE"),
                _ => failure,
            }
        })?;
        let tables = TableSink::open(&database, group).await;
        let tables = tables.map_err(|error| Failure::from_error(&error))?;
        Ok(Arc::new(match self.every {
            Some(every) => tables.with_linger(every),
            None => tables,
        }))
    }
}

/// What to do where files cannot be written.
fn helped(code: Code) -> Option<&'static str> {
    match code {
        Code::NotFound => Some("create the bucket, or correct its name and region"),
        Code::PermissionDenied | Code::Unauthenticated => Some(
            "a directory has to be writable; a bucket needs AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        ),
        Code::Unavailable => Some("check the address, and whether a server answers there"),
        _ => None,
    }
}
