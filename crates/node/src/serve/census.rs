//! How many batches there are, for the metrics of a coordinator that does not
//! count them itself.

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use sheaf_coordinator::{QueueStats, State};
use sheaf_telemetry::SharedRegistry;

/// The gauge `sheaf_coordinator_batches`, as an embedded coordinator has it:
/// every server on one Valkey shows the same numbers. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Census(Family<[(&'static str, &'static str); 1], Gauge>);

impl Census {
    /// Shows up in `registry` from now on.
    pub(super) fn registered(registry: &SharedRegistry) -> Self {
        let census = Census::default();
        let mut registry = registry.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let registry = registry.sub_registry_with_prefix("sheaf_coordinator");
        registry.register("batches", "Batches in a state", census.0.clone());
        census
    }

    /// What there is now.
    pub(super) fn note(&self, queues: &[QueueStats]) {
        for state in State::ALL {
            let count: u64 = queues.iter().filter_map(|queue| queue.counts.get(&state)).sum();
            let gauge = self.0.get_or_create(&[("state", state.as_str())]);
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
}
