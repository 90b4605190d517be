//! A control plane with a runner in this process, and the port that it serves.

mod driver;
mod folder;

use std::path::PathBuf;
use std::time::Duration;

use sheaf_drivers::control::{PipelineService, ServerToken};
use sheaf_drivers::runner::{self, Runner};
use sheaf_flight::{Exposure, FlightRouter, Listener, Server, ServerHandle};
use sheaf_pipeline::control::{ControlPlane, ControlService, Options};
use sheaf_pipeline::health::Monitor;
use sheaf_retry::SharedClock;
use sheaf_terminal::Failure;

use crate::args::PlaneArgs;
use crate::logging;
use driver::{driver, durable, environment};
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
        let options = runner::Options {
            folder: args.data.pipelines(),
            host: "127.0.0.1".to_owned(),
            control,
            environment: environment(),
            variables: logging::variables(args.log_level.as_deref()),
            durable: durable(args)?,
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
