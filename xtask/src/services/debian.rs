//! Debian's packages, unpacked into a folder of ours: that needs no rights and
//! installs nothing.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Error, Result};
use crate::process;
use crate::workspace::files_below;

/// Downloads a package and unpacks it below `folder`.
///
/// # Errors
///
/// Fails where there is no apt-get or dpkg-deb, or the package is not known.
pub(super) fn unpack(package: &str, folder: &Path) -> Result<()> {
    let downloads = folder.join("downloads").join(package);
    std::fs::create_dir_all(&downloads).map_err(Error::io("create", &downloads))?;
    process::capture(Command::new("apt-get").args(["download", package]).current_dir(&downloads))?;
    let file = find(&downloads, &|name| name.ends_with(".deb"))?
        .ok_or_else(|| Error::Message(format!("apt-get downloaded no package {package}")))?;
    process::capture(Command::new("dpkg-deb").arg("-x").arg(file).arg(folder)).map(drop)
}

/// The first file below `folder` with such a name.
pub(super) fn find(folder: &Path, wanted: &dyn Fn(&str) -> bool) -> Result<Option<PathBuf>> {
    let named = |path: &PathBuf| path.file_name().is_some_and(|n| wanted(&n.to_string_lossy()));
    Ok(files_below(folder)?.into_iter().find(named))
}
