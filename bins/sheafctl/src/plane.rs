//! A control plane with a runner in this process, and the port that it serves.

pub(crate) mod connect;
mod coordinator;
mod driver;
mod folder;
mod mode;
mod place;
mod reach;
mod secure;
mod serve;
mod told;
mod web;

use std::path::PathBuf;
use std::sync::Arc;

use sheaf_drivers::control::{PipelineService, ServerToken};
use sheaf_drivers::runner::{self, Runner};
use sheaf_drivers::{Driver, Elsewhere};
use sheaf_flight::{Exposure, Listener, Security, ServerHandle, TlsFiles};
use sheaf_pipeline::control::ControlPlane;
use sheaf_pipeline::health::Monitor;
use sheaf_retry::SharedClock;
use sheaf_terminal::Failure;

use crate::args::PlaneArgs;
use crate::logging;
use crate::pages::{self, GivesBack};
use driver::{driver, durable, environment};
use folder::{open, prepare};
use secure::secure;
use serve::serve;
use web::{Told, Web};

pub(crate) use driver::programs;
pub(crate) use folder::named;
pub(crate) use mode::Mode;
pub(crate) use place::console_file;

/// See the module.
pub(crate) struct Plane {
    pub(crate) runner: Runner,
    pub(crate) plane: ControlPlane,
    /// To look at the health of components under TLS.
    pub(crate) health: Option<TlsFiles>,
    /// The folder of certificates.
    tls: Option<PathBuf>,
    server: ServerHandle,
    web: Web,
    _kept: (Monitor, GivesBack),
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
        let admin = web::bind(args)?;
        prepare(&args.data.data_dir)?;
        let token = ServerToken::open(&args.data.token(), clock.now());
        let token = token.map_err(|error| named(&args.data.token(), &error))?;
        let outlive = mode.outlive && args.state.as_deref() != Some("memory");
        let plane = open(args, mode.state, clock)?;
        let secure = secure(args, mode.run_of.as_deref(), clock)?;
        let scheme = if secure.is_some() { "grpc+tls" } else { "grpc" };
        let control = format!("{scheme}://{}", reach::control(args, listener.local_addr())?);
        let driver: Arc<dyn Driver> = match mode.elsewhere {
            true => Arc::new(Elsewhere),
            false => driver(args, outlive, mode.prints, clock).await?,
        };
        let options = runner::Options {
            folder: args.data.pipelines(),
            host: "127.0.0.1".to_owned(),
            control,
            environment: environment(),
            authority: secure.as_ref().map(|own| Arc::clone(&own.authority)),
            variables: logging::variables(args.log_level.as_deref()),
            durable: durable(args)?,
            tracer: mode.tracer,
        };
        let runner = Runner::new(plane.clone(), driver, options, clock.clone());
        let pipelines = PipelineService::new(runner.clone(), token.clone(), mode.starts);
        let security = secure.as_ref().map_or_else(Security::none, |own| own.security.clone());
        let server = serve(listener, &plane, pipelines, security).await.map_err(failed)?;
        let health = secure.as_ref().map(|own| own.health.clone());
        let kept = (Monitor::start_with(&plane, health.clone(), clock), pages::give_back(clock));
        let tls = secure.map(|own| own.authority.folder().to_owned());
        let told = Told { runner: &runner, token, health: health.clone() };
        let web = Web::start(args, admin, told, server.local_addr(), clock)?;
        Ok(Plane { runner, plane, health, tls, server, web, _kept: kept })
    }
}
