//! What runs the components of a control plane.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sheaf_drivers::Driver;
use sheaf_drivers::process::{LogLimits, ProcessDriver, ProcessOptions, Programs};
use sheaf_retry::{Code, SharedClock};
use sheaf_terminal::Failure;

use super::connect::connect;
use crate::args::{DriverName, PlaneArgs};
use crate::sweep::{Orders, Swept};

/// The driver that was asked for.
pub(super) async fn driver(
    args: &PlaneArgs,
    outlive: bool,
    prints: bool,
    clock: &SharedClock,
) -> Result<Arc<dyn Driver>, Failure> {
    let own = std::env::current_exe().map_err(|error| {
        Failure::new(Code::Io, "the path of this program is not known").because(error)
    })?;
    if args.driver != DriverName::Process {
        let folder = args.data.pipelines();
        let driver = connect(args.driver, &args.platform, &folder, prints, clock).await?;
        if outlive {
            return Ok(driver);
        }
        let (name, platform) = (args.driver, args.platform.clone());
        let orders = Orders { driver: name, platform, folder };
        return Ok(Arc::new(Swept::new(driver, &own, &orders)?));
    }
    let programs = Programs {
        host: args.component_program.clone(),
        beside: own.parent().map(Path::to_owned),
        path: search_path(),
    };
    let folder = args.data.pipelines();
    let (keeper, log) = (own, LogLimits::default());
    let options = ProcessOptions { folder, keeper, programs, outlive, prints, log };
    Ok(Arc::new(ProcessDriver::new(options, clock.clone())))
}

#[allow(clippy::disallowed_methods, reason = "a binary reads the environment")]
fn search_path() -> Vec<PathBuf> {
    std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default()
}

/// What references of files may name.
pub(super) fn environment() -> BTreeMap<String, String> {
    let texts = |(name, value): (OsString, OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    std::env::vars_os().filter_map(texts).collect()
}
