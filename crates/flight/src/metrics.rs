//! The `sheaf_flight_*` metrics.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

type Labels<const N: usize> = [(&'static str, String); N];

/// Counters of one server. Every label takes its values from a closed set.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics {
    requests: Family<Labels<2>, Counter>,
    rejected: Family<Labels<1>, Counter>,
    received: Counter,
    sent: Counter,
    /// Calls under way, streams included.
    pub(crate) active: Gauge,
    /// Open connections.
    pub(crate) connections: Gauge,
    panics: Counter,
}

impl Metrics {
    /// Registers everything under the prefix `sheaf_flight`.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("sheaf_flight");
        registry.register("requests", "Calls ended, by method and code", self.requests.clone());
        registry.register(
            "rejected",
            "Calls, connections and messages refused, by limit",
            self.rejected.clone(),
        );
        registry.register(
            "received_bytes",
            "Bytes of messages received: headers, metadata and bodies",
            self.received.clone(),
        );
        registry.register(
            "sent_bytes",
            "Bytes of messages handed to the network",
            self.sent.clone(),
        );
        registry.register("active_calls", "Calls under way", self.active.clone());
        registry.register("connections", "Open connections", self.connections.clone());
        registry.register("panics", "Panics contained in handlers", self.panics.clone());
    }

    pub(crate) fn ended(&self, method: &str, code: &str) {
        self.requests
            .get_or_create(&[("method", method.to_owned()), ("code", code.to_owned())])
            .inc();
    }

    pub(crate) fn rejected(&self, limit: &'static str) {
        self.rejected.get_or_create(&[("limit", limit.to_owned())]).inc();
    }

    pub(crate) fn received(&self, bytes: usize) {
        self.received.inc_by(bytes as u64);
    }

    pub(crate) fn sent(&self, bytes: usize) {
        self.sent.inc_by(bytes as u64);
    }

    pub(crate) fn panicked(&self) {
        self.panics.inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_labels_are_as_documented() {
        let (metrics, mut registry) = (Metrics::default(), Registry::default());
        metrics.register(&mut registry);
        metrics.ended("DoPut", "ok");
        metrics.rejected("idle");
        metrics.received(7);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "sheaf_flight_requests_total{method=\"DoPut\",code=\"ok\"} 1",
            "sheaf_flight_rejected_total{limit=\"idle\"} 1",
            "sheaf_flight_received_bytes_total 7",
            "sheaf_flight_active_calls 0",
        ] {
            assert!(text.contains(line), "{line} missing in\n{text}");
        }
    }
}
