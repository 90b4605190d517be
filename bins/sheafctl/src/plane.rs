//! A control plane with a runner in this process, and the port that it serves.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sheaf_drivers::Driver;
use sheaf_drivers::control::{PipelineService, ServerToken};
use sheaf_drivers::process::{LogLimits, ProcessDriver, ProcessOptions, Programs};
use sheaf_drivers::runner::{self, Runner};
use sheaf_flight::{Exposure, FlightRouter, Listener, Server, ServerHandle};
use sheaf_pipeline::control::{ControlPlane, ControlService, Options};
use sheaf_pipeline::health::Monitor;
use sheaf_pipeline::state::State;
use sheaf_retry::{Code, Retryable as _, SharedClock};
use sheaf_terminal::Failure;

use crate::args::{DriverName, PlaneArgs};
use crate::logging;

/// How long calls may go on when it is closed.
const GRACE: Duration = Duration::from_secs(2);

/// What differs between a run and a server.
pub(crate) struct Mode {
    /// Where it remembers runs, where nothing is said.
    pub(crate) state: PathBuf,
    /// Whether components go on without it.
    pub(crate) outlive: bool,
    /// Whether `stdout` sinks print to its standard output.
    pub(crate) prints: bool,
    /// Whether others may start pipelines here.
    pub(crate) starts: bool,
}

/// See the module.
pub(crate) struct Plane {
    pub(crate) runner: Runner,
    pub(crate) plane: ControlPlane,
    server: ServerHandle,
    _monitor: Monitor,
}

impl Plane {
    pub(crate) async fn start(
        args: &PlaneArgs,
        mode: Mode,
        clock: &SharedClock,
    ) -> Result<Self, Failure> {
        let failed = |error: sheaf_flight::Error| Failure::from_error(&error);
        let listener = Listener::bind(&args.control_addr, "--control-addr", Exposure::Loopback);
        let listener = listener.map_err(failed)?;
        prepare(&args.data.data_dir)?;
        let token = ServerToken::open(&args.data.token(), clock.now());
        let token = token.map_err(|error| named(&args.data.token(), &error))?;
        let outlive = mode.outlive && args.state.as_deref() != Some("memory");
        let state = state(args, mode.state)?;
        let options = Options { state, ..Options::default() };
        let plane = ControlPlane::open(options, clock.clone())
            .map_err(|error| Failure::from_error(&error))?;
        for damaged in plane.damaged() {
            tracing::warn!(name = damaged.name, why = damaged.why, "a record was left out");
        }
        let control = format!("grpc://{}", listener.local_addr());
        let driver = driver(args, outlive, mode.prints, clock)?;
        let folder = args.data.pipelines();
        let options = runner::Options {
            folder,
            host: "127.0.0.1".to_owned(),
            control,
            environment: environment(),
            variables: logging::variables(args.log_level.as_deref()),
        };
        let runner = Runner::new(plane.clone(), driver, options, clock.clone());
        let pipelines = PipelineService::new(runner.clone(), token, mode.starts);
        let registry = ControlService::new(plane.clone());
        let namespace = ControlService::NAMESPACE;
        let server = Server::new(FlightRouter::builder().build().map_err(failed)?)
            .descriptors(sheaf_proto::FILE_DESCRIPTOR_SET)
            .add_service_in(namespace, ControlService::NEEDS, registry.into_server())
            .add_service_in(namespace, PipelineService::NEEDS, pipelines.into_server())
            .serve(listener)
            .await
            .map_err(failed)?;
        let monitor = Monitor::start(&plane, clock);
        Ok(Plane { runner, plane, server, _monitor: monitor })
    }

    /// Where it serves: `grpc://HOST:PORT`.
    pub(crate) fn uri(&self) -> String {
        self.server.uri()
    }

    /// Ends calls and writes everything down.
    pub(crate) async fn close(self) -> Result<(), Failure> {
        self.server.drain(GRACE).await;
        self.plane.close().await.map_err(|error| Failure::from_error(&error))
    }
}

fn state(args: &PlaneArgs, default: PathBuf) -> Result<State, Failure> {
    let path = match args.state.as_deref() {
        Some("memory") => return Ok(State::Memory),
        Some(path) => PathBuf::from(path),
        None => default,
    };
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        create(folder)?;
    }
    Ok(State::File(path))
}

/// The folder, which no repository takes in.
fn prepare(folder: &Path) -> Result<(), Failure> {
    create(folder)?;
    let ignore = folder.join(".gitignore");
    if !ignore.exists() {
        std::fs::write(&ignore, "*\n").map_err(|error| named(&ignore, &error))?;
    }
    Ok(())
}

fn create(folder: &Path) -> Result<(), Failure> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|error| named(folder, &error).help("name another folder with --data-dir"))
}

fn named(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(error.code(), format!("{} cannot be used: {error}", path.display()))
}

fn driver(
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

fn environment() -> BTreeMap<String, String> {
    let texts = |(name, value): (OsString, OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    std::env::vars_os().filter_map(texts).collect()
}
