//! What calls to the services of a port need of their token.

use std::collections::BTreeMap;

use super::{HEALTH_SERVICE, REFLECTION};
use crate::plain::FLIGHT_SERVICE;
use crate::security::{Need, Right};

/// What one service needs.
#[derive(Clone, Copy, Debug)]
pub(super) enum Access {
    /// Nobody said what.
    Everything,
    /// The right in a namespace that is said of each method; to change for others.
    In { namespace: &'static str, needs: &'static [(&'static str, Right)] },
}

/// The services that were added to Flight, health and reflection, by name.
#[derive(Debug, Default)]
pub(super) struct Services {
    access: BTreeMap<&'static str, Access>,
}

impl Services {
    pub(super) fn add(&mut self, name: &'static str, access: Access) {
        self.access.insert(name, access);
    }

    /// What a call to this path needs.
    pub(super) fn need(&self, path: &str) -> Need {
        let path = path.trim_start_matches('/');
        let (service, method) = path.split_once('/').unwrap_or((path, ""));
        match self.access.get(service) {
            // The router sees to Flight's own calls; the others show nothing
            // but what is served.
            None if is_open(service) => Need::Nothing,
            None | Some(Access::Everything) => Need::Everything,
            Some(Access::In { namespace, needs }) => {
                let said = needs.iter().find(|(name, _)| *name == method);
                Need::One(namespace, said.map_or(Right::Change, |(_, right)| *right))
            }
        }
    }
}

fn is_open(service: &str) -> bool {
    service == FLIGHT_SERVICE || service == HEALTH_SERVICE || REFLECTION.contains(&service)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_reads_only_where_that_is_said() {
        let mut services = Services::default();
        services.add("a.B", Access::In { namespace: "b", needs: &[("Look", Right::Read)] });
        services.add("c.D", Access::Everything);
        let needs = &[("Look", Right::Read), ("Put", Right::Write)];
        services.add("e.F", Access::In { namespace: "e", needs });
        for (path, need) in [
            ("/a.B/Look", Need::One("b", Right::Read)),
            ("/a.B/Look/", Need::One("b", Right::Change)),
            ("/a.B/look", Need::One("b", Right::Change)),
            ("//a.B/Set", Need::One("b", Right::Change)),
            ("/a.B", Need::One("b", Right::Change)),
            ("/c.D/Look", Need::Everything),
            ("/e.F/Look", Need::One("e", Right::Read)),
            ("/e.F/Put", Need::One("e", Right::Write)),
            ("/e.F/put", Need::One("e", Right::Change)),
            ("/e.F", Need::One("e", Right::Change)),
            ("/arrow.flight.protocol.FlightService/DoPut", Need::Nothing),
            ("/grpc.health.v1.Health/Check", Need::Nothing),
            ("/nobody.Knows/Look", Need::Everything),
            ("/a%2EB/Look", Need::Everything),
            ("", Need::Everything),
        ] {
            assert_eq!(services.need(path), need, "{path}");
        }
    }
}
