//! A Docker engine for tests: Debian's, unpacked and not installed. Tests start its daemon
//! themselves, which needs to be root; where one runs already they use that.

use std::path::PathBuf;
use std::process::Command;

use super::{Services, debian, wheel::fresh_folder};
use crate::error::Result;
use crate::process;

/// The engine and what it runs: `docker-proxy` and `docker-init` are in the first.
const PACKAGES: [&str; 4] = ["docker.io", "containerd", "runc", "tini"];

impl Services {
    pub(super) fn docker(&self) -> Result<PathBuf> {
        let folder = self.folder.join("docker");
        let package = folder.join("package");
        let daemon = package.join("usr/sbin/dockerd");
        self.once("docker", &PACKAGES.join(" "), &daemon, || {
            fresh_folder(&folder)?;
            for name in PACKAGES {
                debian::unpack(name, &package)?;
            }
            process::capture(Command::new(&daemon).arg("--version")).map(drop)
        })
    }
}
