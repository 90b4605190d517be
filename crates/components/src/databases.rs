//! Databases, as sources and sinks open them.

use sheaf_connectors::{AdbcDatabase, AdbcSpec, DriverPaths};
use sheaf_dataflow::ComponentError;
use sheaf_pipeline::spec::Database;
use sheaf_retry::Code;

use crate::failure::{failed, refused};
use crate::host::{DUCKDB, FOLDERS, Host};
use crate::secrets;

/// Opens a database.
pub(crate) async fn open(database: &Database, host: &Host) -> Result<AdbcDatabase, ComponentError> {
    let uri = secrets::text(host, "config.database.uri", &database.uri).await?;
    let mut spec = match database.driver.as_str() {
        "duckdb" => AdbcSpec::duckdb(uri.expose()),
        driver => AdbcSpec::driver(driver_of(driver, &host.drivers), uri.expose()),
    };
    for (name, value) in &database.options {
        let field = format!("config.database.options.{name}");
        spec = spec.with_option(name, secrets::text(host, &field, value).await?.expose());
    }
    let opened = AdbcDatabase::open(&spec, &host.drivers).await;
    opened.map_err(|error| match error.is_missing_library() {
        // It is not there at the next start either.
        true => {
            let text = format!(
                "the database cannot be opened: {DUCKDB} names the library of DuckDB, and {FOLDERS} \
                 the folders with those of other databases"
            );
            ComponentError::new(Code::InvalidArgument, text).because(error)
        }
        false => failed("the database cannot be opened")(error),
    })
}

/// The library of a driver that is named by its database, or as it is named.
fn driver_of(driver: &str, paths: &DriverPaths) -> String {
    use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};

    if !matches!(driver, "postgresql" | "sqlite") {
        return driver.to_owned();
    }
    let name = format!("adbc_driver_{driver}");
    let library = format!("{DLL_PREFIX}{name}{DLL_SUFFIX}");
    let there =
        paths.folders.iter().map(|folder| folder.join(&library)).find(|path| path.is_file());
    there.map_or(name, |path| path.display().to_string())
}

/// A name as SQL has it.
pub(crate) fn identifier(name: &str) -> Result<String, ComponentError> {
    if name.is_empty() || name.contains('\0') {
        return Err(refused(format!("{name:?} is no name that a database takes")));
    }
    Ok(format!("\"{}\"", name.replace('"', "\"\"")))
}
