//! The `sheaf_raft_transport_*` metrics.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::packet::Packet;

/// Upper ends of the buckets of round trips, in seconds: from a loopback to a
/// connection around the world that is full.
const ROUND_TRIPS: [f64; 14] =
    [0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0];

/// Counters of one transport, both of what it asks and of what it answers. Cheap
/// to clone; clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    messages_sent: Counter,
    messages_received: Counter,
    bytes_sent: Counter,
    bytes_received: Counter,
    frames_sent: Counter,
    frames_received: Counter,
    errors: Family<[(&'static str, &'static str); 1], Counter>,
    errors_all: Counter,
    reconnects: Counter,
    inbox_refused: Counter,
    compressed_from_bytes: Counter,
    compressed_to_bytes: Counter,
    in_flight_requests: Gauge,
    in_flight_bytes: Gauge,
    round_trip: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        let inner = Inner {
            messages_sent: Counter::default(),
            messages_received: Counter::default(),
            bytes_sent: Counter::default(),
            bytes_received: Counter::default(),
            frames_sent: Counter::default(),
            frames_received: Counter::default(),
            errors: Family::default(),
            errors_all: Counter::default(),
            reconnects: Counter::default(),
            inbox_refused: Counter::default(),
            compressed_from_bytes: Counter::default(),
            compressed_to_bytes: Counter::default(),
            in_flight_requests: Gauge::default(),
            in_flight_bytes: Gauge::default(),
            round_trip: Histogram::new(ROUND_TRIPS),
        };
        Metrics { inner: Arc::new(inner) }
    }
}

impl Metrics {
    /// Registers everything under the prefix `sheaf_raft_transport`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("sheaf_raft_transport");
        for (name, help, counter) in self.counters() {
            registry.register(name, help, counter.clone());
        }
        let inner = &self.inner;
        registry.register(
            "errors",
            "Calls, streams and frames that failed, by reason",
            inner.errors.clone(),
        );
        registry.register(
            "in_flight_requests",
            "Requests sent and not answered yet",
            inner.in_flight_requests.clone(),
        );
        registry.register(
            "in_flight_bytes",
            "Bytes of requests sent and not answered yet",
            inner.in_flight_bytes.clone(),
        );
        registry.register(
            "round_trip_seconds",
            "From a request to its answer: of calls, and of the first answer of each frame",
            inner.round_trip.clone(),
        );
    }

    /// A counter by its name, such as `messages_sent`; `errors` are those of all
    /// reasons. `None` where there is none of that name.
    pub fn counter(&self, name: &str) -> Option<u64> {
        if name == "errors" {
            return Some(self.inner.errors_all.get());
        }
        self.counters().into_iter().find(|(known, ..)| *known == name).map(|(.., one)| one.get())
    }

    /// What failed for one reason: a word of [`Reason`](crate::Reason), or a code.
    pub fn errors(&self, reason: &'static str) -> u64 {
        self.inner.errors.get(&[("reason", reason)]).map_or(0, |counter| counter.get())
    }

    fn counters(&self) -> [(&'static str, &'static str, &Counter); 10] {
        let inner = &*self.inner;
        [
            ("messages_sent", "Messages sent, requests and replies", &inner.messages_sent),
            (
                "messages_received",
                "Messages received, requests and replies",
                &inner.messages_received,
            ),
            ("bytes_sent", "Bytes of messages sent", &inner.bytes_sent),
            ("bytes_received", "Bytes of messages received", &inner.bytes_received),
            ("frames_sent", "Frames sent, each with one message or several", &inner.frames_sent),
            ("frames_received", "Frames received", &inner.frames_received),
            ("reconnects", "Addresses that could be used again", &inner.reconnects),
            ("inbox_refused", "Messages that found the inbox full", &inner.inbox_refused),
            (
                "compressed_from_bytes",
                "Bytes of bodies that were compressed, before",
                &inner.compressed_from_bytes,
            ),
            (
                "compressed_to_bytes",
                "Bytes of bodies that were compressed, after",
                &inner.compressed_to_bytes,
            ),
        ]
    }

    pub(crate) fn sent(&self, packets: &[Packet]) {
        let inner = &self.inner;
        inner.frames_sent.inc();
        inner.messages_sent.inc_by(packets.len() as u64);
        inner.bytes_sent.inc_by(packets.iter().map(|one| one.len() as u64).sum());
    }

    pub(crate) fn received(&self, packets: &[Packet]) {
        let inner = &self.inner;
        inner.frames_received.inc();
        inner.messages_received.inc_by(packets.len() as u64);
        inner.bytes_received.inc_by(packets.iter().map(|one| one.len() as u64).sum());
    }

    /// One Arrow message of a bulk transfer.
    pub(crate) fn bulk_sent(&self, bytes: usize) {
        self.inner.frames_sent.inc();
        self.inner.bytes_sent.inc_by(bytes as u64);
    }

    pub(crate) fn bulk_received(&self, bytes: usize) {
        self.inner.frames_received.inc();
        self.inner.bytes_received.inc_by(bytes as u64);
    }

    pub(crate) fn compressed(&self, from: usize, to: usize) {
        self.inner.compressed_from_bytes.inc_by(from as u64);
        self.inner.compressed_to_bytes.inc_by(to as u64);
    }

    pub(crate) fn failed(&self, reason: &'static str) {
        self.inner.errors_all.inc();
        self.inner.errors.get_or_create(&[("reason", reason)]).inc();
    }

    pub(crate) fn reconnected(&self) {
        self.inner.reconnects.inc();
    }

    pub(crate) fn inbox_refused(&self) {
        self.inner.inbox_refused.inc();
    }

    pub(crate) fn answered_after(&self, took: Duration) {
        self.inner.round_trip.observe(took.as_secs_f64());
    }

    /// Requests and bytes under way.
    pub(crate) fn in_flight(&self) -> (Gauge, Gauge) {
        (self.inner.in_flight_requests.clone(), self.inner.in_flight_bytes.clone())
    }
}
