//! A Redis server beside Valkey: the system's, or Debian's without installing
//! it. It is optional: what only Redis can show is skipped aloud without it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Services, debian, on_path, remove_if_there, wheel::fresh_folder};
use crate::error::{Error, Result};
use crate::process;

const SERVER: &str = "redis-server";
/// The oldest that Sheaf works with.
const MAJOR: u32 = 7;
/// Debian's server is in the package of its tools, under the name of one.
const PACKAGE: &str = "redis-tools";
const PACKED: &str = "redis-check-rdb";
/// What it links that a small system may lack. Not every release has each of
/// them under this name; whether enough was found shows when the server starts.
const LIBRARIES: [&str; 4] = ["libatomic1", "libjemalloc2", "liblzf1", "libssl3"];

impl Services {
    /// The server, or `None` after a line that says why there is none.
    pub(super) fn redis(&self) -> Option<PathBuf> {
        let folder = self.folder.join("redis");
        let server = folder.join(SERVER);
        let installed = self.once("redis", SERVER, &server, || {
            fresh_folder(&folder)?;
            if let Some(found) = on_path(SERVER).filter(|path| check(path).is_ok()) {
                return symlink(&found, &server).map_err(Error::io("link", &server));
            }
            unpack(&folder, &server)?;
            check(&server).inspect_err(|_| drop(remove_if_there(&server)))
        });
        match installed {
            Ok(path) => Some(path),
            Err(error) => {
                eprintln!(
                    "SKIP redis: {error}\nDebian and Ubuntu: apt-get install redis-server; tests \
                     with Redis are skipped until then"
                );
                None
            }
        }
    }
}

/// Whether it starts at all and is new enough.
fn check(server: &Path) -> Result<()> {
    let version = process::capture(Command::new(server).arg("--version"))?;
    let major = major(&version);
    if major.is_some_and(|major| major >= MAJOR) {
        return Ok(());
    }
    let (server, version) = (server.display(), version.trim());
    Err(Error::Message(format!("{server} is no Redis {MAJOR} or newer: {version}")))
}

/// Of `Redis server v=7.0.15 sha=…`.
fn major(version: &str) -> Option<u32> {
    version.strip_prefix("Redis server v=")?.split('.').next()?.parse().ok()
}

/// The server from Debian's package, started through a script that shows it
/// its libraries.
fn unpack(folder: &Path, server: &Path) -> Result<()> {
    let package = folder.join("package");
    debian::unpack(PACKAGE, &package)?;
    for library in LIBRARIES {
        // The system may have it already.
        if let Err(error) = debian::unpack(library, &package) {
            eprintln!("redis without a {library} of its own: {error}");
        }
    }
    let packed = debian::find(&package, &|name| name == PACKED)?.ok_or_else(|| {
        Error::Message(format!("the package {PACKAGE} holds no {PACKED} any more"))
    })?;
    // Under the tool's name it would be the tool.
    let program = folder.join("program").join(SERVER);
    let parent = folder.join("program");
    fs::create_dir_all(&parent).map_err(Error::io("create", &parent))?;
    fs::copy(&packed, &program).map_err(Error::io("copy", &packed))?;
    debian::launcher(folder, &format!("program/{SERVER}"), server)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_told_apart_from_other_servers() {
        assert_eq!(major("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc"), Some(7));
        assert_eq!(major("Redis server v=6.2 sha=0"), Some(6));
        assert_eq!(major("Valkey server v=8.1.8 sha=0"), None);
        assert_eq!(major(""), None);
    }
}
