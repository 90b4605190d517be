//! A control plane with a runner in this process, and the port that it serves.

pub(crate) mod connect;
mod driver;
mod folder;
mod reach;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sheaf_drivers::control::{PipelineService, ServerToken};
use sheaf_drivers::runner::{self, Runner};
use sheaf_drivers::{Driver, Elsewhere};
use sheaf_flight::{Exposure, FlightRouter, Listener, Security, Server, ServerHandle, TlsFiles};
use sheaf_pipeline::control::{ControlPlane, ControlService, Options};
use sheaf_pipeline::health::Monitor;
use sheaf_retry::SharedClock;
use sheaf_terminal::Failure;

use crate::args::PlaneArgs;
use crate::logging;
use crate::secure::{FOLDER, Own};
use driver::{driver, environment};
use folder::{named, prepare, state};

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
    /// Whether others start the components.
    pub(crate) elsewhere: bool,
    /// The only pipeline, where it is for one run.
    pub(crate) run_of: Option<String>,
}

/// See the module.
pub(crate) struct Plane {
    pub(crate) runner: Runner,
    pub(crate) plane: ControlPlane,
    /// To look at the health of components under TLS.
    pub(crate) health: Option<TlsFiles>,
    /// The folder of certificates.
    tls: Option<PathBuf>,
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
        // Under TLS who calls has to show a certificate, so that no token of the port is needed.
        let is_open = args.insecure || args.tls.is_wanted();
        let exposure = if is_open { Exposure::Insecure } else { Exposure::Loopback };
        let listener = Listener::bind(&args.control_addr, "--control-addr", exposure);
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
        let secure = secure(args, mode.run_of.as_deref(), clock)?;
        let scheme = if secure.is_some() { "grpc+tls" } else { "grpc" };
        let control = format!("{scheme}://{}", reach::control(args, listener.local_addr())?);
        let driver: Arc<dyn Driver> = match mode.elsewhere {
            true => Arc::new(Elsewhere),
            false => driver(args, outlive, mode.prints, clock).await?,
        };
        let folder = args.data.pipelines();
        let options = runner::Options {
            folder,
            host: "127.0.0.1".to_owned(),
            control,
            environment: environment(),
            authority: secure.as_ref().map(|own| Arc::clone(&own.authority)),
            variables: logging::variables(args.log_level.as_deref()),
        };
        let runner = Runner::new(plane.clone(), driver, options, clock.clone());
        let pipelines = PipelineService::new(runner.clone(), token, mode.starts);
        let registry = ControlService::new(plane.clone());
        let namespace = ControlService::NAMESPACE;
        let security = secure.as_ref().map_or_else(Security::none, |own| own.security.clone());
        let server = Server::new(FlightRouter::builder().build().map_err(failed)?)
            .security(security)
            .descriptors(sheaf_proto::FILE_DESCRIPTOR_SET)
            .add_service_in(namespace, ControlService::NEEDS, registry.into_server())
            .add_service_in(namespace, PipelineService::NEEDS, pipelines.into_server())
            .serve(listener)
            .await
            .map_err(failed)?;
        let health = secure.as_ref().map(|own| own.health.clone());
        let monitor = Monitor::start_with(&plane, health.clone(), clock);
        let tls = secure.map(|own| own.authority.folder().to_owned());
        Ok(Plane { runner, plane, health, tls, server, _monitor: monitor })
    }

    /// Where it serves: `grpc://HOST:PORT`.
    pub(crate) fn uri(&self) -> String {
        self.server.uri()
    }

    /// The folder with what it takes to call it under TLS, for the line that says where it is.
    pub(crate) fn tls_shown(&self) -> String {
        let folder = self.tls.as_ref();
        folder.map_or_else(String::new, |folder| format!(" tls={}", folder.display()))
    }

    /// Ends calls and writes everything down.
    pub(crate) async fn close(self) -> Result<(), Failure> {
        self.server.drain(GRACE).await;
        self.plane.close().await.map_err(|error| Failure::from_error(&error))
    }
}

/// What it serves with under TLS, where that is asked for.
fn secure(
    args: &PlaneArgs,
    run_of: Option<&str>,
    clock: &SharedClock,
) -> Result<Option<Own>, Failure> {
    let pipelines = args.data.pipelines();
    let folder = match run_of {
        Some(pipeline) => pipelines.join(pipeline).join(FOLDER),
        None => args.data.data_dir.join(FOLDER),
    };
    let run_of = run_of.map(|pipeline| (pipelines.as_path(), pipeline));
    Own::open(&args.tls, &folder, run_of, clock)
}
