//! What `cargo xtask services` provisions, and what happens where it has not.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Names another folder of services than `target/services`.
pub const SERVICES_DIR: &str = "SHEAF_SERVICES_DIR";

/// Names another Python; it has to have pyarrow.
pub const PYTHON: &str = "SHEAF_TEST_PYTHON";

/// Names another Redis server than the provisioned one.
pub const REDIS_SERVER: &str = "SHEAF_REDIS_SERVER";

/// Names a Kafka broker, as `host:port`, to be used instead of the provisioned one.
pub const TEST_KAFKA: &str = "SHEAF_TEST_KAFKA";

/// Names a PostgreSQL server for tests, as a URI such as
/// `postgresql://user@host:port/database`; there is no other one.
pub const TEST_POSTGRES: &str = "SHEAF_TEST_POSTGRES";

/// `1` makes a missing service a failure; Redis, which is optional, never is one.
pub const REQUIRE_SERVERS: &str = "SHEAF_REQUIRE_SERVERS";

/// Whether tests named `soak_…` are to run long: `cargo xtask soak` sets it.
pub const SOAK: &str = "SHEAF_SOAK";

/// Whether tests named `soak_…` are to run their long form.
pub fn soak() -> bool {
    variable(SOAK).is_some_and(|value| value == "1")
}

/// The root of the workspace that this crate was built in.
pub fn workspace_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Where services are installed: what [`SERVICES_DIR`] names, else
/// `target/services`.
pub fn services_dir() -> PathBuf {
    variable(SERVICES_DIR).map_or_else(|| workspace_root().join("target/services"), PathBuf::from)
}

/// A Python that can import `pyarrow.flight`: what [`PYTHON`] names, else the
/// provisioned one. `None`, after a `SKIP` line, where there is none.
///
/// # Panics
/// Where there is none and [`REQUIRE_SERVERS`] is `1`.
pub fn python() -> Option<PathBuf> {
    let path =
        variable(PYTHON).map_or_else(|| services_dir().join("python/bin/python"), PathBuf::from);
    let imports = Command::new(&path)
        .args(["-c", "import pyarrow.flight"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    found("python with pyarrow", path, imports)
}

/// Python packages that make gRPC clients of a .proto file (grpcio, grpcio-tools,
/// google-crc32c), for `PYTHONPATH`, by the same rule.
///
/// # Panics
/// As [`python`].
pub fn grpc_packages() -> Option<PathBuf> {
    let path = services_dir().join("grpc");
    let there = path.join("grpc_tools/protoc.py").is_file();
    found("gRPC for Python", path, there)
}

/// The library that shows a process a wrong wall clock (`LD_PRELOAD`, with
/// `FAKETIME=+600s`), by the same rule.
///
/// # Panics
/// As [`python`].
pub fn faketime() -> Option<PathBuf> {
    let path = services_dir().join("faketime/libfaketimeMT.so.1");
    let there = path.is_file();
    found("libfaketime", path, there)
}

/// DuckDB's library, by the same rule.
///
/// # Panics
/// As [`python`].
pub fn libduckdb() -> Option<PathBuf> {
    use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};

    let path = services_dir().join("duckdb").join(format!("{DLL_PREFIX}duckdb{DLL_SUFFIX}"));
    let there = path.is_file();
    found("libduckdb", path, there)
}

/// The ADBC driver of SQLite, by the same rule.
///
/// # Panics
/// As [`python`].
pub fn sqlite_driver() -> Option<PathBuf> {
    let path = services_dir().join("sqlite/libadbc_driver_sqlite.so");
    let there = path.is_file();
    found("ADBC driver of SQLite", path, there)
}

/// The ADBC driver of PostgreSQL, and the URI of the server that
/// [`TEST_POSTGRES`] names; `None`, after a `SKIP` line, where it names none.
///
/// # Panics
/// Where it names one, there is no driver and [`REQUIRE_SERVERS`] is `1`.
pub fn postgres() -> Option<(PathBuf, String)> {
    let Some(uri) = variable(TEST_POSTGRES) else {
        say(&format!("SKIP PostgreSQL: {TEST_POSTGRES} names no server"));
        return None;
    };
    let path = services_dir().join("postgresql/libadbc_driver_postgresql.so");
    let there = path.is_file();
    let driver = found("ADBC driver of PostgreSQL", path, there)?;
    Some((driver, uri.to_string_lossy().into_owned()))
}

/// A Python, and the folder of packages with a server that speaks S3, by the same
/// rule.
pub(crate) fn s3_packages() -> Option<(PathBuf, PathBuf)> {
    let packages = services_dir().join("s3");
    let there = packages.join("moto/server.py").is_file();
    let packages = found("S3 server", packages, there)?;
    Some((services_dir().join("python/bin/python"), packages))
}

/// The Kafka-compatible broker's binary, by the same rule.
pub(crate) fn kafka_binary() -> Option<PathBuf> {
    let path = services_dir().join("kafka/tansu");
    let there = path.is_file();
    found("Kafka broker", path, there)
}

/// The etcd server's binary, by the same rule.
pub(crate) fn etcd_binary() -> Option<PathBuf> {
    let path = services_dir().join("etcd/etcd");
    let there = path.is_file();
    found("etcd", path, there)
}

/// The program that makes rules for packets, by the same rule.
pub(crate) fn nft_binary() -> Option<PathBuf> {
    let path = services_dir().join("nftables/nft");
    let there = path.is_file();
    found("nftables", path, there)
}

/// The program that makes networks; it comes with the system.
pub(crate) fn ip_program() -> Option<PathBuf> {
    let folders = variable("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    let mut all = std::env::split_paths(&folders).chain(system).map(|folder| folder.join("ip"));
    let there = all.find(|path| path.is_file());
    let is_there = there.is_some();
    found("ip (of iproute2)", there.unwrap_or_else(|| "/usr/sbin/ip".into()), is_there)
}

/// The browser; `None`, after a `SKIP` line, where there is none.
pub(crate) fn chromium_binary() -> Option<PathBuf> {
    let path = services_dir().join("chromium/chromium");
    let there = path.is_file();
    optional("chromium", path, there)
}

/// A program of another package of this workspace, which stands beside one of the own
/// package once both are built; `None`, after a `SKIP` line, where it does not.
///
/// # Panics
/// As [`python`].
pub fn program_beside(own: &Path, name: &str, package: &str) -> Option<PathBuf> {
    let path = own.with_file_name(name);
    let required = variable(REQUIRE_SERVERS).is_some_and(|value| value == "1");
    let missing = format!("no {}: run `cargo build -p {package}`", path.display());
    assert!(path.is_file() || !required, "{missing} ({REQUIRE_SERVERS} is 1)");
    if !path.is_file() {
        say(&format!("SKIP {missing}"));
        return None;
    }
    Some(path)
}

/// The broker that [`TEST_KAFKA`] names, if it names one.
pub(crate) fn named_kafka() -> Option<String> {
    variable(TEST_KAFKA).map(|name| name.to_string_lossy().into_owned())
}

/// Where the Valkey server's binary is, or would be.
pub(crate) fn valkey_path() -> PathBuf {
    services_dir().join("valkey/valkey-server")
}

/// The Valkey server's binary, by the same rule.
pub(crate) fn valkey_binary() -> Option<PathBuf> {
    let path = valkey_path();
    let there = path.is_file();
    found("valkey", path, there)
}

/// Where the Redis server's binary is, or would be: what [`REDIS_SERVER`]
/// names, else the provisioned one, else the system's.
pub(crate) fn redis_path() -> PathBuf {
    if let Some(named) = variable(REDIS_SERVER) {
        return named.into();
    }
    let provisioned = services_dir().join("redis/redis-server");
    let folders = variable("PATH").unwrap_or_default();
    let system = std::env::split_paths(&folders).map(|folder| folder.join("redis-server"));
    let mut all = std::iter::once(provisioned.clone()).chain(system);
    all.find(|path| path.is_file()).unwrap_or(provisioned)
}

/// The Redis server's binary; `None`, after a `SKIP` line, where there is none.
pub(crate) fn redis_binary() -> Option<PathBuf> {
    let path = redis_path();
    let there = path.is_file();
    optional("redis", path, there)
}

#[allow(clippy::disallowed_methods, reason = "the test runner tells the tests where servers are")]
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// The path, if the service is there; otherwise the rule for missing ones.
fn found(service: &str, path: PathBuf, there: bool) -> Option<PathBuf> {
    let required = variable(REQUIRE_SERVERS).is_some_and(|value| value == "1");
    match decide(service, path, there, required) {
        Decision::Use(path) => Some(path),
        Decision::Fail(message) => panic!("{message}"),
        Decision::Skip(message) => {
            say(&message);
            None
        }
    }
}

/// The path, if the service is there; otherwise the test goes without, aloud.
fn optional(service: &str, path: PathBuf, there: bool) -> Option<PathBuf> {
    match decide(service, path, there, false) {
        Decision::Use(path) => Some(path),
        Decision::Fail(message) | Decision::Skip(message) => {
            say(&message);
            None
        }
    }
}

/// Says why something is skipped.
pub(crate) fn say(message: &str) {
    // Not `eprintln!`, which the harness swallows in tests that pass.
    // If even standard error is closed, nobody reads this anyway.
    drop(writeln!(std::io::stderr(), "{message}"));
}

#[derive(Debug, PartialEq)]
enum Decision {
    Use(PathBuf),
    Skip(String),
    Fail(String),
}

fn decide(service: &str, path: PathBuf, there: bool, required: bool) -> Decision {
    if there {
        return Decision::Use(path);
    }
    let missing = format!("no {service} at {}: run `cargo xtask services`", path.display());
    if required {
        Decision::Fail(format!("{missing} ({REQUIRE_SERVERS} is 1)"))
    } else {
        Decision::Skip(format!("SKIP {missing}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_service_is_skipped_aloud_or_fails() {
        let decide = |there, required| decide("valkey", PathBuf::from("x/y"), there, required);
        assert_eq!(decide(true, true), Decision::Use(PathBuf::from("x/y")));
        let missing = "no valkey at x/y: run `cargo xtask services`";
        assert_eq!(decide(false, false), Decision::Skip(format!("SKIP {missing}")));
        let failed = format!("{missing} (SHEAF_REQUIRE_SERVERS is 1)");
        assert_eq!(decide(false, true), Decision::Fail(failed));
    }

    #[test]
    fn the_root_is_the_workspace() {
        let manifest = std::fs::read_to_string(workspace_root().join("Cargo.toml")).unwrap();
        assert!(manifest.contains("[workspace]"));
    }
}
