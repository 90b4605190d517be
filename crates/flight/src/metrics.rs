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
    /// How bodies went through memory.
    pub(crate) copies: BothWays,
    /// Calls under way, streams included.
    pub(crate) active: Gauge,
    /// Open connections.
    pub(crate) connections: Gauge,
    panics: Counter,
}

/// Bytes of gRPC messages of one direction: those that were copied between the
/// socket's buffer and where they stay, and those that were not.
///
/// What the system copies into and out of the socket is not counted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Copies {
    copied: Counter,
    wrapped: Counter,
}

impl Copies {
    pub(crate) fn copied(&self, bytes: usize) {
        self.copied.inc_by(bytes as u64);
    }

    pub(crate) fn wrapped(&self, bytes: usize) {
        self.wrapped.inc_by(bytes as u64);
    }

    /// Bytes copied, and bytes that were not.
    #[cfg(test)]
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.copied.get(), self.wrapped.get())
    }
}

/// What was sent and what was received.
#[derive(Clone, Debug)]
pub(crate) struct BothWays {
    pub(crate) sent: Copies,
    pub(crate) received: Copies,
    copied: Family<Direction, Counter>,
    wrapped: Family<Direction, Counter>,
}

type Direction = [(&'static str, &'static str); 1];

impl Default for BothWays {
    fn default() -> Self {
        let (copied, wrapped) = (Family::default(), Family::default());
        let of = |family: &Family<Direction, Counter>, direction| {
            family.get_or_create(&[("direction", direction)]).clone()
        };
        let copies =
            |direction| Copies { copied: of(&copied, direction), wrapped: of(&wrapped, direction) };
        let (sent, received) = (copies("sent"), copies("received"));
        BothWays { sent, received, copied, wrapped }
    }
}

impl BothWays {
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register(
            "copied_bytes",
            "Bytes of data calls that were copied once within this process",
            self.copied.clone(),
        );
        registry.register(
            "wrapped_bytes",
            "Bytes of data calls that went from or to the network as they lie in memory",
            self.wrapped.clone(),
        );
    }
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
        self.copies.register(registry);
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
