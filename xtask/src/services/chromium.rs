//! A Chromium without a window, for tests of the web console: the system's, or Debian's
//! without installing it, with fonts. It is optional: those tests are skipped aloud without it.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Services, debian, on_path, remove_if_there, wheel::fresh_folder};
use crate::error::{Error, Result};
use crate::process;

/// As systems call it, the smallest first.
const NAMES: [&str; 5] = [
    "chromium-headless-shell",
    "chromium",
    "chromium-browser",
    "google-chrome-stable",
    "google-chrome",
];
const PACKAGE: &str = "chromium-headless-shell";
const PACKED: &str = "package/usr/lib/chromium/chromium-headless-shell";
/// Without any, a page has no letters.
const FONTS: [&str; 2] = ["fonts-inter", "fonts-dejavu-core"];

/// The fonts beside this file.
const FONTS_CONFIGURATION: &str = "<?xml version=\"1.0\"?>
<fontconfig>
<dir prefix=\"relative\">package/usr/share/fonts</dir>
<cachedir prefix=\"xdg\">fontconfig</cachedir>
<alias><family>system-ui</family><prefer><family>Inter</family></prefer></alias>
<alias><family>sans-serif</family><prefer><family>Inter</family></prefer></alias>
<alias><family>monospace</family><prefer><family>DejaVu Sans Mono</family></prefer></alias>
</fontconfig>
";

const LAUNCHER: &str = "#!/bin/sh
here=$(dirname \"$(readlink -f \"$0\")\")
FONTCONFIG_FILE=\"$here/fonts.conf\"
export FONTCONFIG_FILE
exec \"$here/program\" \"$@\"
";

impl Services {
    /// The browser, or `None` after a line that says why there is none.
    pub(super) fn chromium(&self) -> Option<PathBuf> {
        let folder = self.folder.join("chromium");
        let browser = folder.join("chromium");
        let installed = self.once("chromium", PACKAGE, &browser, || {
            fresh_folder(&folder)?;
            let found = NAMES.iter().filter_map(|name| on_path(name));
            if let Some(found) = found.into_iter().find(|path| check(path).is_ok()) {
                return symlink(&found, &browser).map_err(Error::io("link", &browser));
            }
            unpack(&folder, &browser)?;
            check(&browser).inspect_err(|_| drop(remove_if_there(&browser)))
        });
        match installed {
            Ok(path) => Some(path),
            Err(error) => {
                eprintln!(
                    "SKIP chromium: {error}\nDebian and Ubuntu: apt-get update, apt-get install \
                     chromium; tests of the web console in a browser are skipped until then"
                );
                None
            }
        }
    }
}

/// Whether it starts at all.
fn check(browser: &Path) -> Result<()> {
    let version = process::capture(Command::new(browser).arg("--version"))?;
    match version.contains("Chrom") {
        true => Ok(()),
        false => Err(Error::Message(format!("{} is no Chromium: {version}", browser.display()))),
    }
}

fn unpack(folder: &Path, browser: &Path) -> Result<()> {
    let package = folder.join("package");
    for name in missing()?.iter().map(String::as_str).chain(FONTS) {
        debian::unpack(name, &package)?;
    }
    remove_downloads(&package)?;
    fs::write(folder.join("fonts.conf"), FONTS_CONFIGURATION)
        .map_err(Error::io("write", folder))?;
    debian::launcher(folder, PACKED, &folder.join("program"))?;
    fs::write(browser, LAUNCHER).map_err(Error::io("write", browser))?;
    let runnable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(browser, runnable).map_err(Error::io("make runnable", browser))
}

/// The package and all that it needs which the system does not have.
fn missing() -> Result<Vec<String>> {
    let mut simulated = Command::new("apt-get");
    simulated.args(["install", "--simulate", "--no-install-recommends", PACKAGE]);
    let told = process::capture(simulated.env("LC_ALL", "C"))?;
    match parse(&told) {
        names if names.iter().any(|name| name == PACKAGE) => Ok(names),
        _ => Err(Error::Message(format!("apt-get would not install {PACKAGE}"))),
    }
}

/// `Inst NAME (VERSION …)`, one a line.
fn parse(told: &str) -> Vec<String> {
    let names = told.lines().filter_map(|line| line.strip_prefix("Inst ")?.split(' ').next());
    names.map(str::to_owned).collect()
}

/// What was unpacked is not needed packed as well: that is 100 MB.
fn remove_downloads(package: &Path) -> Result<()> {
    let downloads = package.join("downloads");
    fs::remove_dir_all(&downloads).map_err(Error::io("remove", &downloads))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn packages_that_would_be_installed_are_read() {
        let told = "Reading package lists...\nInst libopus0 (1.3 Debian:12 [amd64])\n\
                    Inst chromium-headless-shell (1 x [amd64]) []\nConf libopus0 (1.3 x)\n";
        assert_eq!(parse(told), ["libopus0", "chromium-headless-shell"]);
        assert!(parse("").is_empty());
    }
}
