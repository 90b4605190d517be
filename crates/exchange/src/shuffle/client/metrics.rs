//! What a client counts.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use sheaf_retry::Retryable as _;

use crate::shuffle::error::Error;
use crate::shuffle::governor::Governor;

/// Workers that are told apart; those that come later count as [`OTHER`].
const MANY_PEERS: usize = 256;

/// The label of workers beyond [`MANY_PEERS`].
const OTHER: &str = "other";

/// A stable code of an error: there are few.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByCode {
    code: &'static str,
}

/// The URI of a worker, or [`OTHER`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByPeer {
    peer: String,
}

/// Counters of a client and its clones.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    sent_bytes: Counter,
    sent_chunks: Counter,
    read_bytes: Counter,
    read_chunks: Counter,
    committed_rows: Counter,
    committed_partitions: Counter,
    local_chunks: Counter,
    retries: Counter,
    pub(crate) memory_refusals: Counter,
    send_failures: Family<ByCode, Counter>,
    fetch_failures: Family<ByCode, Counter>,
    peers: Peers,
}

/// The same by worker.
#[derive(Debug, Default)]
struct Peers {
    known: Mutex<HashMap<String, Arc<Peer>>>,
    sent_bytes: Family<ByPeer, Counter>,
    read_bytes: Family<ByPeer, Counter>,
    retries: Family<ByPeer, Counter>,
    failures: Family<ByPeer, Counter>,
}

/// Counters of one worker.
#[derive(Debug)]
struct Peer {
    sent_bytes: Counter,
    read_bytes: Counter,
    retries: Counter,
    failures: Counter,
}

impl Peers {
    fn of(&self, peer: &str) -> Arc<Peer> {
        // Whole entries only: a panic elsewhere leaves them whole.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known.get(peer) {
            return Arc::clone(found);
        }
        let name = if known.len() < MANY_PEERS { peer } else { OTHER };
        let named = || Arc::new(self.named(name));
        Arc::clone(known.entry(name.to_owned()).or_insert_with(named))
    }

    fn named(&self, name: &str) -> Peer {
        let by = ByPeer { peer: name.to_owned() };
        Peer {
            sent_bytes: self.sent_bytes.get_or_create_owned(&by),
            read_bytes: self.read_bytes.get_or_create_owned(&by),
            retries: self.retries.get_or_create_owned(&by),
            failures: self.failures.get_or_create_owned(&by),
        }
    }

    fn register(&self, registry: &mut Registry) {
        let families = [
            ("peer_sent_bytes", "Bytes of chunks that went to a worker", &self.sent_bytes),
            ("peer_read_bytes", "Bytes of chunks that came from a worker", &self.read_bytes),
            ("peer_retries", "Calls to a worker made again after a failure", &self.retries),
            ("peer_failures", "Partitions given up, by their worker", &self.failures),
        ];
        for (name, help, family) in families {
            registry.register(name, help, family.clone());
        }
    }
}

impl Metrics {
    /// Has them show up behind a prefix.
    pub(crate) fn register(&self, prefix: &str, governor: &Governor, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix(prefix);
        let counters = [
            ("sent_bytes", "Bytes of chunks that went out, again included", &self.sent_bytes),
            ("sent_chunks", "Chunks that went out, again included", &self.sent_chunks),
            ("read_bytes", "Bytes of chunks that were read", &self.read_bytes),
            ("read_chunks", "Chunks that were read", &self.read_chunks),
            ("committed_rows", "Rows of partitions that were committed", &self.committed_rows),
            ("committed_partitions", "Partitions committed", &self.committed_partitions),
            ("local_chunks", "Chunks handed over within the process", &self.local_chunks),
            ("retries", "Calls made again after a failure", &self.retries),
            ("memory_refusals", "Times that a worker had no memory", &self.memory_refusals),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
        let failures = "Partitions that could not be sent, by cause";
        registry.register("send_failures", failures, self.send_failures.clone());
        let failures = "Partitions that could not be read, by cause";
        registry.register("fetch_failures", failures, self.fetch_failures.clone());
        let gauge = governor.gauge();
        registry.register("in_flight_bytes", "Bytes sent and not taken yet, of the process", gauge);
        self.peers.register(registry);
    }

    pub(crate) fn sent(&self, peer: &str, chunks: usize, bytes: usize) {
        self.sent_chunks.inc_by(chunks as u64);
        self.sent_bytes.inc_by(bytes as u64);
        self.peers.of(peer).sent_bytes.inc_by(bytes as u64);
    }

    pub(crate) fn read(&self, peer: &str, bytes: usize) {
        self.read_chunks.inc();
        self.read_bytes.inc_by(bytes as u64);
        self.peers.of(peer).read_bytes.inc_by(bytes as u64);
    }

    pub(crate) fn retried(&self, peer: &str) {
        self.retries.inc();
        self.peers.of(peer).retries.inc();
    }

    pub(super) fn handed_over(&self, chunks: usize) {
        self.local_chunks.inc_by(chunks as u64);
    }

    pub(crate) fn committed(&self, rows: u64) {
        self.committed_partitions.inc();
        self.committed_rows.inc_by(rows);
    }

    pub(crate) fn send_failed(&self, peer: &str, cause: &Error) {
        self.send_failures.get_or_create(&ByCode { code: cause.code().as_str() }).inc();
        self.peers.of(peer).failures.inc();
    }

    pub(crate) fn fetch_failed(&self, peer: &str, cause: &Error) {
        self.fetch_failures.get_or_create(&ByCode { code: cause.code().as_str() }).inc();
        self.peers.of(peer).failures.inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_beyond_many_count_as_others() {
        let metrics = Metrics::default();
        for peer in 0..2 * MANY_PEERS {
            metrics.retried(&format!("grpc://h:{peer}"));
        }
        let last = metrics.peers.retries.get_or_create_owned(&ByPeer { peer: OTHER.to_owned() });
        assert_eq!(last.get(), MANY_PEERS as u64);
        assert_eq!(metrics.peers.known.lock().unwrap().len(), MANY_PEERS + 1);
    }
}
