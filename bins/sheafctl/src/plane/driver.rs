//! What runs the components of a control plane.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sheaf_drivers::process::{LogLimits, ProcessDriver, ProcessOptions, Programs};
use sheaf_drivers::runner::DurableOptions;
use sheaf_drivers::{Driver, StoreBeside};
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
    let programs = programs_of(args);
    let folder = args.data.pipelines();
    let (keeper, log) = (own.clone(), LogLimits::default());
    let options = ProcessOptions { folder: folder.clone(), keeper, programs, outlive, prints, log };
    let processes = Arc::new(ProcessDriver::new(options, clock.clone()));
    if args.driver == DriverName::Process {
        return Ok(processes);
    }
    let mut driver = connect(args.driver, &args.platform, &folder, prints, clock).await?;
    if !outlive {
        let (name, platform) = (args.driver, args.platform.clone());
        let orders = Orders { driver: name, platform, folder };
        driver = Arc::new(Swept::new(driver, &own, &orders)?);
    }
    Ok(match args.driver {
        // Its containers are let through to what listens on this machine; pods are elsewhere.
        DriverName::Docker => Arc::new(StoreBeside::new(driver, processes)),
        _ => driver,
    })
}

/// Where programs of Sheaf are, those that are named too.
pub(crate) fn programs(host: Option<PathBuf>, store: Option<PathBuf>) -> Programs {
    let own = std::env::current_exe().unwrap_or_default();
    Programs { host, store, beside: own.parent().map(Path::to_owned), path: search_path() }
}

fn programs_of(args: &PlaneArgs) -> Programs {
    programs(args.component.component_program.clone(), args.durable.store_program.clone())
}

/// Where batches of durable edges wait.
pub(super) fn durable(args: &PlaneArgs) -> Result<DurableOptions, Failure> {
    let given = &args.durable.store;
    Ok(DurableOptions {
        address: given.durable_store.clone(),
        token: given.token()?,
        insecure: given.durable_insecure,
        retention: given.durable_retention,
        programs: programs_of(args),
    })
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
