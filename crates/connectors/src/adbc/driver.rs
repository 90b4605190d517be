//! Finding and loading a driver.

use std::path::{Path, PathBuf};

use adbc_core::options::{AdbcVersion, OptionDatabase, OptionValue};
use adbc_core::{
    Driver as _, LOAD_FLAG_ALLOW_RELATIVE_PATHS, LOAD_FLAG_SEARCH_SYSTEM, LOAD_FLAG_SEARCH_USER,
};
use adbc_driver_manager::{ManagedDatabase, ManagedDriver};
use sheaf_retry::Code;

use super::failure::Failure;
use super::spec::{AdbcSpec, Target};
use crate::error::{Error, LOAD};

/// DuckDB's library is its driver, with an entry point of its own.
const DUCKDB_ENTRY: &[u8] = b"duckdb_adbc_init";

/// Where `libduckdb` is installed by hand; `/usr` is also what the dynamic
/// linker searches, by the library's name alone.
const USUAL_FOLDERS: [&str; 4] = ["/usr/local/lib", "/usr/lib", "/usr/lib64", "/opt/homebrew/lib"];

/// Where drivers are looked for.
///
/// No library reads the environment: a program that has a variable for a
/// driver's path passes what it found there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DriverPaths {
    /// The library of DuckDB, as a flag names it. Only this is tried then.
    pub flag: Option<PathBuf>,
    /// The library of DuckDB, as a variable names it; after the flag.
    pub environment: Option<PathBuf>,
    /// Further folders with libraries and driver manifests, before the usual.
    pub folders: Vec<PathBuf>,
}

/// The database, open.
pub(super) fn open(spec: &AdbcSpec, paths: &DriverPaths) -> Result<ManagedDatabase, Error> {
    let (mut driver, key, value) = match &spec.target {
        Target::DuckDb { path } => {
            let key = OptionDatabase::Other("path".into());
            (load_duckdb(paths)?, key, path.to_string_lossy().into_owned())
        }
        Target::Other { driver, uri } => {
            (load_named(driver, paths)?, OptionDatabase::Uri, uri.clone())
        }
    };
    let own = std::iter::once((key, OptionValue::String(value)));
    let more = spec.options.iter().map(|(key, value)| {
        (OptionDatabase::from(key.as_str()), OptionValue::String(value.clone()))
    });
    let opened = driver.new_database_with_opts(own.chain(more));
    opened.map_err(Failure::of(spec).error("open"))
}

fn load_named(name: &str, paths: &DriverPaths) -> Result<ManagedDriver, Error> {
    // Without `LOAD_FLAG_SEARCH_ENV`: the caller has read the environment.
    let flags = LOAD_FLAG_SEARCH_USER | LOAD_FLAG_SEARCH_SYSTEM | LOAD_FLAG_ALLOW_RELATIVE_PATHS;
    let folders = Some(paths.folders.clone());
    ManagedDriver::load_from_name(name, None, AdbcVersion::V110, flags, folders).map_err(|error| {
        let advice = format!(
            "{}; name the driver's shared library by its path, or install its manifest (packages \
             such as adbc-driver-postgresql and adbc-driver-sqlite have the library in them)",
            error.message
        );
        Error::external(LOAD, name, Code::NotFound, advice)
    })
}

fn load_duckdb(paths: &DriverPaths) -> Result<ManagedDriver, Error> {
    let mut tried = Vec::new();
    for candidate in candidates(paths) {
        let entry = Some(DUCKDB_ENTRY);
        match ManagedDriver::load_dynamic_from_filename(&candidate, entry, AdbcVersion::V110) {
            Ok(driver) => return Ok(driver),
            Err(error) => tried.push((candidate, error.message)),
        }
    }
    Err(missing(&tried))
}

/// What is tried, in order.
fn candidates(paths: &DriverPaths) -> Vec<PathBuf> {
    if let Some(named) = paths.flag.as_ref().or(paths.environment.as_ref()) {
        return vec![named.clone()];
    }
    let usual = USUAL_FOLDERS.iter().map(Path::new);
    let folders = paths.folders.iter().map(PathBuf::as_path).chain(usual);
    let there = folders.map(|folder| folder.join(library())).filter(|path| path.is_file());
    // By the name alone it is the dynamic linker that searches.
    there.chain([PathBuf::from(library())]).collect()
}

fn library() -> String {
    use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};

    format!("{DLL_PREFIX}duckdb{DLL_SUFFIX}")
}

fn missing(tried: &[(PathBuf, String)]) -> Error {
    let tried: Vec<String> =
        tried.iter().map(|(path, why)| format!("{}: {why}", path.display())).collect();
    let library = library();
    let advice = format!(
        "tried {}; take {library} from DuckDB's release page (libduckdb-*.zip) or from the npm \
         package @duckdb/node-bindings-linux-x64, then name its path or put it into {}",
        tried.join(", "),
        USUAL_FOLDERS[0],
    );
    Error::external(LOAD, library, Code::NotFound, advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_comes_before_the_environment_and_both_before_the_usual_places() {
        let mut paths = DriverPaths {
            flag: Some("/flag".into()),
            environment: Some("/environment".into()),
            folders: Vec::new(),
        };
        assert_eq!(candidates(&paths), [PathBuf::from("/flag")]);
        paths.flag = None;
        assert_eq!(candidates(&paths), [PathBuf::from("/environment")]);
        paths.environment = None;
        assert_eq!(candidates(&paths).last(), Some(&PathBuf::from(library())));

        let folder = tempfile::tempdir().unwrap();
        let placed = folder.path().join(library());
        std::fs::write(&placed, "").unwrap();
        paths.folders.push(folder.path().into());
        assert_eq!(candidates(&paths)[0], placed);
    }

    #[test]
    fn a_missing_library_says_what_was_tried_and_where_to_get_it() {
        let paths = DriverPaths { flag: Some("/nowhere/x.so".into()), ..DriverPaths::default() };
        let error = open(&AdbcSpec::duckdb("a"), &paths).err().unwrap();
        let Error::Io { source, code, .. } = error else { panic!("{error}") };
        assert_eq!(code, Code::NotFound);
        let text = source.to_string();
        for word in ["tried /nowhere/x.so: ", "release page", "@duckdb/node-bindings-linux-x64"] {
            assert!(text.contains(word), "{text}");
        }
        let spec = AdbcSpec::driver("adbc_driver_of_nobody", "x");
        let error = open(&spec, &DriverPaths::default()).err().unwrap();
        assert_eq!(error.to_string(), "load the driver adbc_driver_of_nobody");
    }
}
