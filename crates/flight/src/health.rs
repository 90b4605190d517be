//! Whether the server, and each service on its port, takes work.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::json;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

/// The status that gRPC health checks and the action `HealthCheck` show.
///
/// The empty name is the server as a whole. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Health {
    reporter: HealthReporter,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    services: BTreeMap<String, bool>,
    draining: bool,
}

impl Health {
    /// Sets the status of a service; `""` is the server as a whole. Once the
    /// server drains, nothing becomes serving again.
    pub async fn set(&self, service: &str, serving: bool) {
        let serving = {
            let mut state = self.state();
            let serving = serving && !state.draining;
            state.services.insert(service.to_owned(), serving);
            serving
        };
        self.reporter.set_service_status(service, status(serving)).await;
        // A drain that began between the two lines above has the last word.
        if serving && self.state().draining {
            self.reporter.set_service_status(service, ServingStatus::NotServing).await;
        }
    }

    /// Whether a service is serving; one never set is not.
    pub fn is_serving(&self, service: &str) -> bool {
        self.state().services.get(service).copied().unwrap_or(false)
    }

    /// Turns everything to not serving, for good.
    pub(crate) async fn drain(&self) {
        let names: Vec<String> = {
            let mut state = self.state();
            state.draining = true;
            state.services.values_mut().for_each(|serving| *serving = false);
            state.services.keys().cloned().collect()
        };
        for name in names {
            self.reporter.set_service_status(name, ServingStatus::NotServing).await;
        }
    }

    /// `{"status":"serving","services":{"arrow.flight.protocol.FlightService":"serving"}}`.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        let word = |serving: bool| if serving { "serving" } else { "not_serving" };
        let state = self.state();
        let services: BTreeMap<&str, &str> = state
            .services
            .iter()
            .filter(|(name, _)| !name.is_empty())
            .map(|(name, &serving)| (name.as_str(), word(serving)))
            .collect();
        let all = state.services.get("").copied().unwrap_or(false);
        json!({ "status": word(all), "services": services })
    }

    /// The gRPC face.
    pub(crate) fn service(
        &self,
    ) -> tonic_health::pb::health_server::HealthServer<impl tonic_health::pb::health_server::Health>
    {
        let service =
            tonic_health::server::HealthService::from_health_reporter(self.reporter.clone());
        tonic_health::pb::health_server::HealthServer::new(service)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Single insertions only: a panic elsewhere leaves the map whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn status(serving: bool) -> ServingStatus {
    if serving { ServingStatus::Serving } else { ServingStatus::NotServing }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_drained_server_never_serves_again() {
        let health = Health::default();
        health.set("", true).await;
        health.set("a", true).await;
        assert_eq!(health.to_json()["status"], "serving");
        health.drain().await;
        health.set("", true).await;
        assert!(!health.is_serving("") && !health.is_serving("a") && !health.is_serving("b"));
        assert_eq!(health.to_json()["services"]["a"], "not_serving");
    }
}
