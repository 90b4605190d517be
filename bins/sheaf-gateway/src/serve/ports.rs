//! The ports of a gateway, bound before anything else.

use sheaf_flight::{Exposure, Listener, Security};
use sheaf_retry::{Code, Retryable as _, SharedClock};
use sheaf_telemetry::{AdminServer, Health, Pages, Protection, SharedRegistry, scheme};
use sheaf_terminal::Failure;
use tokio::net::TcpListener;

use super::settings::Settings;

/// How a port may be open to other machines.
const SECURE: &str =
    "use 127.0.0.1, give --tls-cert, --tls-key and --token-file, or allow it by --insecure";

/// Where a token needs the right to read for metrics and profiles.
const NAMESPACE: &str = "admin";

/// The ports of a gateway.
pub(super) struct Ports {
    pub(super) flight: Listener,
    metrics: Option<TcpListener>,
    pprof: Option<TcpListener>,
}

/// An HTTP port that is served, and what it is called in the ready line.
pub(super) struct Page {
    name: &'static str,
    scheme: &'static str,
    server: AdminServer,
}

impl Page {
    pub(super) fn shown(&self) -> String {
        format!("{}={}://{}", self.name, self.scheme, self.server.local_addr())
    }
}

impl Ports {
    pub(super) fn bind(settings: &Settings) -> Result<Self, Failure> {
        let exposure = settings.security.exposure();
        let flight = Listener::bind(&settings.flight, "--port", exposure)
            .map_err(|error| exposed(Failure::from_error(&error)))?;
        let page = |flag: &str, address: &Option<String>| match address {
            None => Ok(None),
            Some(address) => http(flag, address, exposure).map(Some),
        };
        let metrics = page("--metrics-addr", &settings.metrics)?;
        let pprof = page("--pprof-addr", &settings.pprof)?;
        Ok(Ports { flight, metrics, pprof })
    }

    /// Serves the HTTP ports that were asked for.
    pub(super) fn pages(
        &mut self,
        registry: &SharedRegistry,
        health: &Health,
        (security, clock): (&Security, &SharedClock),
    ) -> Result<Vec<Page>, Failure> {
        let asked = [
            ("metrics", self.metrics.take(), Pages::METRICS),
            ("pprof", self.pprof.take(), Pages::PROFILES),
        ];
        let mut served = Vec::new();
        for (name, listener, pages) in asked {
            let Some(listener) = listener else { continue };
            let (registry, health) = (registry.clone(), health.clone());
            let protection = Protection::by(security, NAMESPACE, clock);
            let server = AdminServer::start_pages(listener, registry, health, protection, pages)
                .map_err(|error| Failure::from_error(&error))?;
            served.push(Page { name, scheme: scheme(security), server });
        }
        Ok(served)
    }
}

/// What to do where a port is open to other machines.
fn exposed(failure: Failure) -> Failure {
    match failure.code() {
        Code::FailedPrecondition => failure.help(SECURE),
        _ => failure,
    }
}

fn http(flag: &str, address: &str, exposure: Exposure) -> Result<TcpListener, Failure> {
    let bound = std::net::TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener)
    });
    let listener = bound.map_err(|error| {
        Failure::new(error.code(), format!("{flag} {address} cannot be bound"))
            .because(error)
            .help("stop what listens there, or use port 0 for a free one")
    })?;
    let is_local = listener.local_addr().is_ok_and(|address| address.ip().is_loopback());
    if !is_local && exposure == Exposure::Loopback {
        let text = format!("{flag} {address} is open to other machines");
        return Err(Failure::new(Code::FailedPrecondition, text).help(SECURE));
    }
    Ok(listener)
}
