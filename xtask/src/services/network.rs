//! What tests of clusters need: etcd, as a peer, and nftables, which cuts networks; and
//! protoc, which building etcd's client needs.
//! Each is the system's where there is one, else Debian's without installing it.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Services, debian, on_path, remove_if_there, wheel::fresh_folder};
use crate::error::{Error, Result};
use crate::process;

/// What `nft` links that a small system may lack.
const NFT_LIBRARIES: [&str; 8] = [
    "libnftables1",
    "libnftnl11",
    "libmnl0",
    "libjansson4",
    "libxtables12",
    "libedit2",
    "libbsd0",
    "libmd0",
];

/// A program of Debian's.
struct Program {
    /// As it is called, and the service with it.
    name: &'static str,
    service: &'static str,
    package: &'static str,
    /// Where it is in the package.
    path: &'static str,
    libraries: &'static [&'static str],
    /// What `--version` begins with.
    version: &'static str,
}

impl Services {
    pub(super) fn etcd(&self) -> Result<PathBuf> {
        self.program(&Program {
            name: "etcd",
            service: "etcd",
            package: "etcd-server",
            path: "usr/bin/etcd",
            libraries: &[],
            version: "etcd Version: 3.",
        })
    }

    pub(super) fn nftables(&self) -> Result<PathBuf> {
        self.program(&Program {
            name: "nft",
            service: "nftables",
            package: "nftables",
            path: "usr/sbin/nft",
            libraries: &NFT_LIBRARIES,
            version: "nftables v",
        })
    }

    /// For peers of benches that compile protocol definitions.
    pub(super) fn protoc(&self) -> Result<PathBuf> {
        self.program(&Program {
            name: "protoc",
            service: "protoc",
            package: "protobuf-compiler",
            path: "usr/bin/protoc",
            libraries: &["libprotoc32", "libprotobuf32"],
            version: "libprotoc ",
        })
    }

    fn program(&self, program: &Program) -> Result<PathBuf> {
        let folder = self.folder.join(program.service);
        let target = folder.join(program.name);
        self.once(program.service, program.package, &target, || {
            fresh_folder(&folder)?;
            if let Some(found) = system(program) {
                return symlink(&found, &target).map_err(Error::io("link", &target));
            }
            let unpacked = unpack(program, &folder, &target).and_then(|()| check(program, &target));
            unpacked.map_err(|error| {
                drop(remove_if_there(&target));
                let Program { name, package, .. } = program;
                Error::Message(format!(
                    "{error}\nno {name} either: install it with the system's package manager \
                     (Debian and Ubuntu: apt-get update, apt-get install {package}) and run this \
                     again"
                ))
            })
        })
    }
}

/// The system's; administrators' programs are not on everybody's path.
fn system(program: &Program) -> Option<PathBuf> {
    let everywhere = ["/usr/sbin", "/sbin"].map(|folder| Path::new(folder).join(program.name));
    on_path(program.name)
        .into_iter()
        .chain(everywhere)
        .find(|path| path.is_file() && check(program, path).is_ok())
}

/// Whether it starts at all and is what it should be.
fn check(program: &Program, path: &Path) -> Result<()> {
    let version = process::capture(Command::new(path).arg("--version"))?;
    if version.starts_with(program.version) {
        return Ok(());
    }
    let (path, version) = (path.display(), version.trim());
    Err(Error::Message(format!("{path} is no {}: {version}", program.name)))
}

fn unpack(program: &Program, folder: &Path, target: &Path) -> Result<()> {
    let package = folder.join("package");
    debian::unpack(program.package, &package)?;
    for library in program.libraries {
        // The system may have it already.
        if let Err(error) = debian::unpack(library, &package) {
            eprintln!("{} without a {library} of its own: {error}", program.name);
        }
    }
    let packed = format!("package/{}", program.path);
    if !folder.join(&packed).is_file() {
        let Program { name, package, path, .. } = program;
        return Err(Error::Message(format!("{package} holds no {name} at /{path} any more")));
    }
    if program.libraries.is_empty() {
        return symlink(&packed, target).map_err(Error::io("link", target));
    }
    debian::launcher(folder, &packed, target)
}
