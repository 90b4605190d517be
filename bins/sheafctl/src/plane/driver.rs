//! What runs the components of a control plane.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sheaf_drivers::Driver;
use sheaf_drivers::process::{LogLimits, ProcessDriver, ProcessOptions, Programs};
use sheaf_retry::{Code, SharedClock};
use sheaf_terminal::Failure;

use crate::args::{DriverName, PlaneArgs};

/// The driver that was asked for.
pub(super) fn driver(
    args: &PlaneArgs,
    outlive: bool,
    prints: bool,
    clock: &SharedClock,
) -> Result<Arc<dyn Driver>, Failure> {
    let own = std::env::current_exe().map_err(|error| {
        Failure::new(Code::Io, "the path of this program is not known").because(error)
    })?;
    match args.driver {
        DriverName::Process => {
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
        DriverName::Docker | DriverName::Kubernetes => {
            let name = if args.driver == DriverName::Docker { "docker" } else { "kubernetes" };
            Err(Failure::new(Code::Unimplemented, format!("this build has no driver {name}"))
                .help("use --driver process"))
        }
    }
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
