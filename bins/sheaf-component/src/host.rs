//! What this process gives to its component.

use std::path::PathBuf;
use std::sync::Arc;

use sheaf_components::Host;
use sheaf_connectors::DriverPaths;

/// Names the library of DuckDB.
const DUCKDB: &str = "SHEAF_LIBDUCKDB";
/// Names folders with the libraries of other databases.
const FOLDERS: &str = "SHEAF_ADBC_DRIVERS";

/// The environment, the machine's clock and standard output.
#[allow(clippy::disallowed_methods, reason = "a binary")]
pub(crate) fn host(run: u64) -> Host {
    let folders = std::env::var_os(FOLDERS).unwrap_or_default();
    let drivers = DriverPaths {
        flag: None,
        environment: std::env::var_os(DUCKDB).map(PathBuf::from),
        folders: std::env::split_paths(&folders)
            .filter(|path| !path.as_os_str().is_empty())
            .collect(),
    };
    let environment = Arc::new(|name: &str| std::env::var(name).ok());
    Host { run, environment, drivers, ..Host::plain() }
}
