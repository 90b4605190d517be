//! The web console of a control plane, and the port that it is on.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sheaf_console::Console;
use sheaf_console::figures::Reader;
use sheaf_drivers::control::ServerToken;
use sheaf_drivers::runner::Runner;
use sheaf_flight::{Exposure, Listener, TlsFiles};
use sheaf_retry::{Code, Retryable as _, SharedClock};
use sheaf_telemetry::{AdminServer, Health, Registry};
use sheaf_terminal::Failure;

use super::coordinator::coordinators;
use super::folder::named;
use super::place::{console_file, forget};
use crate::args::PlaneArgs;

/// What it tells of, and to whom.
pub(super) struct Told<'a> {
    pub(super) runner: &'a Runner,
    pub(super) token: ServerToken,
    /// To look at the health of components under TLS.
    pub(super) health: Option<TlsFiles>,
}

/// See the module.
pub(super) struct Web {
    admin: AdminServer,
    console: Console,
    health: Health,
    /// Says to `sheafctl console` where it is, as long as it is there.
    place: PathBuf,
}

/// The port, bound before anything is started.
pub(super) fn bind(args: &PlaneArgs) -> Result<Listener, Failure> {
    let exposure = if args.insecure { Exposure::Insecure } else { Exposure::Loopback };
    let listener = Listener::bind(&args.console.admin_addr, "--admin-addr", exposure);
    listener.map_err(|error| {
        let failure = Failure::from_error(&error);
        // The page is plain HTTP, whatever `--tls` does for the rest.
        match error.code() {
            Code::FailedPrecondition => failure.help(
                "the page is not encrypted, with --tls neither: --insecure serves it beyond this \
                 machine all the same",
            ),
            _ => failure,
        }
    })
}

impl Web {
    pub(super) fn start(
        args: &PlaneArgs,
        listener: Listener,
        told: Told<'_>,
        control: SocketAddr,
        clock: &SharedClock,
    ) -> Result<Self, Failure> {
        let failed = |error: sheaf_telemetry::Error| Failure::from_error(&error);
        let Told { runner, token, health: tls } = told;
        let coordinators = coordinators(&args.console, args.data.pipelines(), clock)?;
        let reader = Reader::new(clock.clone()).with_tls(tls);
        let console =
            Console::start_with(runner.clone(), token, coordinators, reader, clock.clone());
        let mut registry = Registry::default();
        runner.plane().register_metrics(&mut registry);
        console.register_metrics(&mut registry);
        let (registry, health) = (Arc::new(Mutex::new(registry)), Health::new());
        let listener = listener.into_tokio().map_err(|error| Failure::from_error(&error))?;
        let admin = AdminServer::start_with(listener, registry, health.clone(), console.router());
        let admin = admin.map_err(failed)?;
        health.ready();
        let place = console_file(&args.data.consoles(), &control.to_string());
        forget(&args.data.consoles());
        let written = std::fs::create_dir_all(args.data.consoles())
            .and_then(|()| std::fs::write(&place, format!("http://{}\n", admin.local_addr())));
        written.map_err(|error| named(&place, &error))?;
        Ok(Web { admin, console, health, place })
    }

    pub(super) fn uri(&self) -> String {
        format!("http://{}", self.admin.local_addr())
    }

    pub(super) async fn close(self, grace: Duration) {
        self.health.draining();
        self.console.stop();
        drop(std::fs::remove_file(&self.place));
        // A page that stays open in a browser does not hold up the end.
        drop(tokio::time::timeout(grace, self.admin.shutdown()).await);
    }
}
