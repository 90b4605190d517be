//! One security for all ports of a process.

use sheaf_flight::{ClientConfig, Security};
use sheaf_retry::SharedClock;
use sheaf_telemetry::{AdminServer, Health, Protection, SharedRegistry};
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
    let protection = Protection::by(security, NAMESPACE, clock);
    Ok(AdminServer::start_protected(listener, registry, health, protection)?)
}

/// `http`, or `https` where the ports speak TLS.
pub(super) fn scheme(security: &Security) -> &'static str {
    sheaf_telemetry::scheme(security)
}

/// How other servers are called.
pub(super) fn client(config: &Config) -> ClientConfig {
    ClientConfig { security: config.security().client().clone(), ..ClientConfig::default() }
}
