//! Debian's packages, unpacked into a folder of ours: that needs no rights and
//! installs nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
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
    fs::create_dir_all(&downloads).map_err(Error::io("create", &downloads))?;
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

/// Writes a script that runs `program`, a path below `folder`, with the shared libraries
/// that were unpacked into `folder`'s `package`.
pub(super) fn launcher(folder: &Path, program: &str, script: &Path) -> Result<()> {
    let libraries = library_folders(&folder.join("package"))?;
    let text = launcher_text(program, &libraries);
    fs::write(script, text).map_err(Error::io("write", script))?;
    let runnable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(script, runnable).map_err(Error::io("make runnable", script))
}

/// Below the package, with a shared library directly in it.
fn library_folders(package: &Path) -> Result<Vec<PathBuf>> {
    let mut folders: Vec<PathBuf> = files_below(package)?
        .into_iter()
        .filter(|path| path.file_name().is_some_and(|n| is_library(&n.to_string_lossy())))
        .filter_map(|path| Some(path.parent()?.strip_prefix(package).ok()?.to_path_buf()))
        // Modules of OpenSSL, which it finds by itself or does without.
        .filter(|folder| !folder.components().any(|part| part.as_os_str() == "ossl-modules"))
        .collect();
    folders.sort();
    folders.dedup();
    Ok(folders)
}

/// With a version at the end, or before it.
fn is_library(name: &str) -> bool {
    name.contains(".so.") || (name.starts_with("lib") && name.ends_with(".so"))
}

/// Finds everything from where it stands itself, so that the target directory
/// may be moved or cached, and becomes the program: signals reach that.
fn launcher_text(program: &str, folders: &[PathBuf]) -> String {
    let folders: Vec<String> =
        folders.iter().map(|folder| format!("$here/package/{}", folder.display())).collect();
    let path = folders.join(":");
    format!(
        "#!/bin/sh\nhere=$(dirname \"$(readlink -f \"$0\")\")\n\
         LD_LIBRARY_PATH=\"{path}${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}\"\n\
         export LD_LIBRARY_PATH\nexec \"$here/{program}\" \"$@\"\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_runs_the_program_beside_it_with_its_libraries_and_arguments() {
        let script = launcher_text("program/server", &["usr/lib/a".into(), "usr/lib/b".into()]);
        assert!(script.contains("\"$here/package/usr/lib/a:$here/package/usr/lib/b${LD_"));
        assert!(script.ends_with("exec \"$here/program/server\" \"$@\"\n"));
    }
}
