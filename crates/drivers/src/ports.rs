//! The ports of components that have an address of their own.

use sheaf_pipeline::health::DEFAULT_PORT;
use sheaf_pipeline::spec::Component;

/// The port of a component's Flight server, where its file does not say.
pub(crate) const FLIGHT_PORT: u16 = 50051;

/// The ports of a component. Each instance has an address of its own, so that all have the
/// same ones.
pub(crate) struct Ports {
    pub(crate) flight: u16,
    pub(crate) health: u16,
}

impl Ports {
    pub(crate) fn of(component: &Component) -> Self {
        let or = |port: u16, default: u16| if port == 0 { default } else { port };
        Ports {
            flight: or(component.port, FLIGHT_PORT),
            health: or(component.health.port, DEFAULT_PORT),
        }
    }
}
