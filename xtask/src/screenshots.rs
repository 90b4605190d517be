//! `cargo xtask screenshots`: pictures of the web console for the README, of the real page.

use std::fs;

use crate::error::{Error, Result};
use crate::workspace::Workspace;
use crate::{process, services};

/// Where the README has them from.
const FOLDER: &str = "crates/console/pictures";
/// The test that makes them.
const TEST: &str = "console::pictures_are_made_of_the_real_page";

/// Builds what runs, has the test run a pipeline for a minute, and keeps what it saw.
///
/// # Errors
///
/// Fails where there is no Chromium, or the test fails.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    services::run(workspace, &["chromium".to_owned()])?;
    if !workspace.services().join("chromium/chromium").exists() {
        return Err(Error::Message("there is no Chromium to make pictures with".into()));
    }
    let folder = workspace.path(FOLDER);
    fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
    let packages = ["-p", "sheafctl", "-p", "sheaf-component", "-p", "sheaf-cli"];
    process::run(workspace.cargo().arg("build").args(packages))?;
    let mut test = workspace.cargo();
    test.args(["test", "-p", "sheafctl", "--test", "it", "--", "--exact", TEST]);
    process::run(test.env("SHEAF_SCREENSHOTS", &folder))?;
    println!("{}", folder.display());
    Ok(())
}
