//! What runs the components of a control plane.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sheaf_drivers::docker::{self, DockerDriver};
use sheaf_drivers::kubernetes::{self, Cluster, KubernetesDriver};
use sheaf_drivers::process::{LogLimits, ProcessDriver, ProcessOptions, Programs};
use sheaf_drivers::runner::DurableOptions;
use sheaf_drivers::{Driver, DriverError};
use sheaf_retry::{Code, SharedClock};
use sheaf_terminal::Failure;

use super::folder::named;
use crate::args::{DriverName, PlaneArgs, PlatformArgs};
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
    let programs = programs(args, &own);
    let folder = args.data.pipelines();
    let (keeper, log) = (own, LogLimits::default());
    let options = ProcessOptions { folder, keeper, programs, outlive, prints, log };
    Ok(Arc::new(ProcessDriver::new(options, clock.clone())))
}

/// A driver of a platform that answers.
pub(crate) async fn connect(
    driver: DriverName,
    platform: &PlatformArgs,
    pipelines: &Path,
    prints: bool,
    clock: &SharedClock,
) -> Result<Arc<dyn Driver>, Failure> {
    match driver {
        DriverName::Docker => {
            let settings = docker::Settings {
                engine: platform.docker_host.clone(),
                component_image: platform.image.clone(),
                folder: folder(platform)?,
                owner: owner(pipelines),
                prints,
                variables: environment(),
                clock: clock.clone(),
            };
            let driver = DockerDriver::connect(settings).await;
            let help = "start the engine, name another one with --docker-host, or use \
                        --driver process";
            Ok(Arc::new(driver.map_err(|error| failed(&error, help))?))
        }
        DriverName::Kubernetes => {
            let settings = kubernetes::Settings {
                namespace: platform.namespace.clone(),
                component_image: platform.image.clone(),
                storage_class: platform.storage_class.clone(),
                ..kubernetes::Settings::default()
            };
            let (kubeconfig, context) = (platform.kubeconfig.clone(), platform.context.clone());
            let cluster = Cluster { kubeconfig, context };
            let driver =
                KubernetesDriver::connect(settings, &cluster, environment(), clock.clone()).await;
            let help = "look whether `kubectl get pods` works; --kubeconfig, --context and \
                        --namespace say where";
            Ok(Arc::new(driver.map_err(|error| failed(&error, help))?))
        }
        DriverName::Process => {
            Err(Failure::new(Code::Internal, "processes are run by this process alone"))
        }
    }
}

fn failed(error: &DriverError, help: &str) -> Failure {
    Failure::new(Code::Unavailable, error.to_string()).help(help)
}

/// Who runs pipelines on an engine: this machine, by the folder that it keeps them in.
fn owner(pipelines: &Path) -> String {
    let path = std::path::absolute(pipelines).unwrap_or_else(|_| pipelines.to_owned());
    let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}:{}", machine.trim(), path.display())
}

/// The folder that components work in; `None` for a volume of each.
fn folder(platform: &PlatformArgs) -> Result<Option<PathBuf>, Failure> {
    let is_here = platform.docker_host.starts_with("unix://");
    let path = match &platform.docker_folder {
        Some(path) if path.as_os_str() == "none" => return Ok(None),
        Some(path) => path.clone(),
        None if is_here => PathBuf::from("."),
        None => return Ok(None),
    };
    let found = path.canonicalize().and_then(|path| match path.is_dir() {
        true => Ok(path),
        false => Err(std::io::ErrorKind::NotADirectory.into()),
    });
    found.map(Some).map_err(|error| {
        let text = format!("--docker-folder {} cannot be used", path.display());
        Failure::new(Code::InvalidArgument, text).because(error)
    })
}

/// Where components find the control plane that serves there.
pub(super) fn control(args: &PlaneArgs, bound: std::net::SocketAddr) -> Result<String, Failure> {
    let port = bound.port();
    if let Some(host) = &args.platform.advertise_host {
        let host = match host.contains(':') && !host.starts_with('[') {
            true => format!("[{host}]"),
            false => host.clone(),
        };
        return Ok(format!("{host}:{port}"));
    }
    let ip = bound.ip();
    if args.driver == DriverName::Kubernetes && (ip.is_loopback() || ip.is_unspecified()) {
        let text = format!("pods cannot reach a control plane at {bound}");
        return Err(Failure::new(Code::InvalidArgument, text).help(
            "give --control-addr an address that they reach, and --advertise-host its host where \
             that is another one",
        ));
    }
    match ip.is_unspecified() {
        // Every address is this machine too; on Docker the driver finds the one of the network.
        true => Ok(format!("127.0.0.1:{port}")),
        false => Ok(bound.to_string()),
    }
}

fn programs(args: &PlaneArgs, own: &Path) -> Programs {
    Programs {
        host: args.component_program.clone(),
        store: args.durable.store_program.clone(),
        beside: own.parent().map(Path::to_owned),
        path: search_path(),
    }
}

/// Where batches of durable edges wait.
pub(super) fn durable(args: &PlaneArgs) -> Result<DurableOptions, Failure> {
    let own = std::env::current_exe().unwrap_or_default();
    let given = &args.durable;
    let token = given.durable_token_file.as_ref().map(|path| token(path)).transpose()?;
    Ok(DurableOptions {
        address: given.durable_store.clone(),
        token,
        insecure: given.durable_insecure,
        retention: given.durable_retention,
        programs: programs(args, &own),
    })
}

/// The first word of the first line that has one: the file may be that of the server.
fn token(path: &Path) -> Result<String, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| named(path, &error))?;
    let line = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
    let mut words = line.unwrap_or_default().split_whitespace().filter(|word| !word.contains('='));
    let (first, second) = (words.next(), words.next());
    // `NAME TOKEN`, or `TOKEN` alone.
    second.or(first).map(str::to_owned).ok_or_else(|| {
        Failure::new(Code::InvalidArgument, format!("{} has no token in it", path.display()))
            .help("write the token of the store into it, in one line")
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

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        plane: PlaneArgs,
    }

    fn args(words: &[&str]) -> PlaneArgs {
        Line::parse_from([&["x"], words].concat()).plane
    }

    fn told(words: &[&str], bound: &str) -> Result<String, String> {
        control(&args(words), bound.parse().unwrap()).map_err(|failure| failure.to_text())
    }

    #[test]
    fn components_are_told_an_address_that_they_reach() {
        assert_eq!(told(&[], "127.0.0.1:5").unwrap(), "127.0.0.1:5");
        assert_eq!(told(&["--driver", "docker"], "0.0.0.0:5").unwrap(), "127.0.0.1:5");
        let named = ["--driver", "kubernetes", "--advertise-host", "control.shop.svc"];
        assert_eq!(told(&named, "0.0.0.0:5").unwrap(), "control.shop.svc:5");
        assert_eq!(told(&["--advertise-host", "fd00::1"], "0.0.0.0:5").unwrap(), "[fd00::1]:5");
        let why = told(&["--driver", "kubernetes"], "0.0.0.0:5").unwrap_err();
        assert!(why.contains("--advertise-host"), "{why}");
        assert_eq!(told(&["--driver", "kubernetes"], "10.0.0.7:5").unwrap(), "10.0.0.7:5");
    }

    #[test]
    fn containers_work_in_this_directory_where_the_engine_sees_it() {
        let here = std::env::current_dir().unwrap().canonicalize().unwrap();
        let of = |words: &[&str]| folder(&args(words).platform);
        assert_eq!(of(&["--docker-host", "unix:///x"]).unwrap(), Some(here.clone()));
        assert_eq!(of(&["--docker-host", "tcp://far:1"]).unwrap(), None);
        assert_eq!(of(&["--docker-host", "unix:///x", "--docker-folder", "none"]).unwrap(), None);
        let given = ["--docker-host", "tcp://far:1", "--docker-folder", "src"];
        assert_eq!(of(&given).unwrap(), Some(here.join("src")));
        let missing = of(&["--docker-folder", "/no/such"]).unwrap_err().to_text();
        assert!(missing.contains("--docker-folder /no/such"), "{missing}");
    }
}
