//! Drivers of platforms that have to be reached.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sheaf_drivers::docker::{self, DockerDriver};
use sheaf_drivers::kubernetes::{self, Cluster, KubernetesDriver};
use sheaf_drivers::{Driver, DriverError};
use sheaf_retry::{Code, SharedClock};
use sheaf_terminal::Failure;

use super::driver::environment;
use crate::args::{DriverName, PlatformArgs};

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::testing::plane_args as args;

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
