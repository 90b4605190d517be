//! One security for all ports of a process.

use sheaf_flight::{Audit, ClientConfig, Protocol, Right, Security};
use sheaf_retry::{Code, Retryable as _, SharedClock};
use sheaf_telemetry::{AdminServer, Health, Protection, Refusal, SharedRegistry};
use tokio::net::TcpListener;

use super::error::Error;
use crate::config::Config;

/// Where a token needs the right to read for the admin port.
pub(super) const NAMESPACE: &str = "admin";

/// Reads certificates and tokens.
pub(super) fn open(config: &Config, clock: &SharedClock) -> Result<Security, Error> {
    let security = Security::open(config.security().server().clone(), clock.clone())?;
    Ok(security)
}

/// Serves the admin port under the same security.
pub(super) fn serve_admin(
    listener: TcpListener,
    registry: &SharedRegistry,
    health: &Health,
    security: &Security,
    clock: &SharedClock,
) -> Result<AdminServer, Error> {
    let (registry, health) = (registry.clone(), health.clone());
    Ok(AdminServer::start_protected(listener, registry, health, protection(security, clock))?)
}

fn protection(security: &Security, clock: &SharedClock) -> Protection {
    let audit = Audit::new(clock.clone());
    let (accepting, asking) = (security.clone(), security.clone());
    Protection::new(
        move |stream| {
            let security = accepting.clone();
            Box::pin(async move {
                match security.accept(stream, Protocol::Http).await {
                    Ok(stream) => Some(Box::new(stream) as _),
                    Err(error) => {
                        tracing::debug!(%error, "connection to the admin port refused");
                        None
                    }
                }
            })
        },
        move |path, headers| {
            let let_in = audit.authorize(&asking, headers, path, (NAMESPACE, Right::Read));
            let_in.map_err(|error| match error.code() {
                Code::PermissionDenied => Refusal::Forbidden(error.message().to_owned()),
                _ => Refusal::Unauthenticated(error.message().to_owned()),
            })
        },
    )
}

/// `http`, or `https` where the ports speak TLS.
pub(super) fn scheme(security: &Security) -> &'static str {
    if security.has_tls() { "https" } else { "http" }
}

/// How other servers are called.
pub(super) fn client(config: &Config) -> ClientConfig {
    ClientConfig { security: config.security().client().clone(), ..ClientConfig::default() }
}
