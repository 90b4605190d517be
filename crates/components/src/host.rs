//! What the process gives to the component that it hosts.

use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use sheaf_connectors::DriverPaths;
use sheaf_retry::{SharedClock, SystemClock};

/// Names the library of DuckDB.
pub(crate) const DUCKDB: &str = "SHEAF_LIBDUCKDB";
/// Names folders with the libraries of other databases.
pub(crate) const FOLDERS: &str = "SHEAF_ADBC_DRIVERS";

/// Looks up a variable of the environment.
pub type Environment = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// What a component has of the process that it runs in: no library reads the environment,
/// the time or standard output by itself.
#[derive(Clone)]
pub struct Host {
    /// The run of the pipeline: the fence of what a file sink writes over edges that are not
    /// durable. What tells batches apart is [`Received::epoch`](sheaf_dataflow::Received::epoch).
    pub run: u64,
    /// Variables that references name.
    pub environment: Environment,
    /// Where drivers of databases are looked for.
    pub drivers: DriverPaths,
    /// The time.
    pub clock: SharedClock,
    /// Where the sink `stdout` prints to.
    pub output: Output,
}

impl Host {
    /// The first run, with an empty environment, the machine's clock and standard output.
    pub fn plain() -> Self {
        Host {
            run: 1,
            environment: Arc::new(|_| None),
            drivers: DriverPaths::default(),
            clock: SystemClock::shared(),
            output: Output::new(io::stdout()),
        }
    }

    /// The same with an environment, in which `SHEAF_LIBDUCKDB` names the library of DuckDB and
    /// `SHEAF_ADBC_DRIVERS` the folders of other drivers.
    pub fn with_environment(environment: Environment) -> Self {
        let folders = environment(FOLDERS).unwrap_or_default();
        let drivers = DriverPaths {
            flag: None,
            environment: environment(DUCKDB).map(PathBuf::from),
            folders: std::env::split_paths(&folders)
                .filter(|path| !path.as_os_str().is_empty())
                .collect(),
        };
        Host { environment, drivers, ..Host::plain() }
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("run", &self.run).finish_non_exhaustive()
    }
}

/// Where rows are printed, shared by whoever prints.
#[derive(Clone)]
pub struct Output(Arc<Mutex<dyn Write + Send>>);

impl Output {
    /// Prints there.
    pub fn new(output: impl Write + Send + 'static) -> Self {
        Output(Arc::new(Mutex::new(output)))
    }

    /// Writes all of it, on a thread that may block.
    pub(crate) async fn write(&self, bytes: Vec<u8>) -> io::Result<()> {
        let output = Arc::clone(&self.0);
        let write = move || {
            let mut output = output.lock().unwrap_or_else(PoisonError::into_inner);
            output.write_all(&bytes)?;
            output.flush()
        };
        tokio::task::spawn_blocking(write).await.map_err(io::Error::other)?
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Output")
    }
}
