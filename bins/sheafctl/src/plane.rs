//! A control plane with a runner in this process, and the port that it serves.

mod coordinator;
mod driver;
mod folder;
mod mode;
mod serve;
mod web;

use std::time::Duration;

use sheaf_drivers::control::{PipelineService, ServerToken};
use sheaf_drivers::runner::{self, Runner};
use sheaf_flight::{Exposure, Listener, ServerHandle};
use sheaf_pipeline::control::{ControlPlane, Options};
use sheaf_pipeline::health::Monitor;
use sheaf_retry::SharedClock;
use sheaf_terminal::Failure;

use crate::args::PlaneArgs;
use crate::logging;
use driver::{driver, environment};
use folder::{named, prepare, state};
use serve::serve;
use web::Web;

pub(crate) use mode::Mode;
pub(crate) use web::console_file;

/// How long calls may go on when it is closed.
const GRACE: Duration = Duration::from_secs(2);

/// See the module.
pub(crate) struct Plane {
    pub(crate) runner: Runner,
    pub(crate) plane: ControlPlane,
    server: ServerHandle,
    web: Web,
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
        let admin = web::bind(&args.console)?;
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
        let pipelines = PipelineService::new(runner.clone(), token.clone(), mode.starts);
        let server = serve(listener, &plane, pipelines).await.map_err(failed)?;
        let monitor = Monitor::start(&plane, clock);
        let web = Web::start(args, admin, (&runner, token), server.local_addr(), clock)?;
        Ok(Plane { runner, plane, server, web, _monitor: monitor })
    }

    /// Where it serves: `grpc://HOST:PORT`.
    pub(crate) fn uri(&self) -> String {
        self.server.uri()
    }

    /// Where the console is: `http://HOST:PORT`.
    pub(crate) fn console(&self) -> String {
        self.web.uri()
    }

    /// Ends calls and writes everything down.
    pub(crate) async fn close(self) -> Result<(), Failure> {
        self.web.close(GRACE).await;
        self.server.drain(GRACE).await;
        self.plane.close().await.map_err(|error| Failure::from_error(&error))
    }
}
