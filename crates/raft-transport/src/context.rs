//! What all parts of a transport share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sheaf_retry::{Code, Jitter, SharedClock};

use crate::frame::{Ends, Hello, Packer};
use crate::packet::{Lane, Packet};
use crate::{Compression, Config, Error, Metrics, NodeId};

/// Configuration, clock and counters.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) config: Config,
    pub(crate) clock: SharedClock,
    pub(crate) metrics: Metrics,
    pub(crate) hello: Hello,
    cluster: u64,
    sessions: AtomicU64,
}

impl Context {
    pub(crate) fn new(config: Config, clock: SharedClock) -> Arc<Self> {
        // A node that was started anew does not take up the numbers of before.
        let first = clock.now().as_micros() ^ config.seed.rotate_left(48);
        let hello = Hello::of(&config.cluster_id);
        let cluster = Jitter::seed_of(&config.cluster_id);
        let (metrics, sessions) = (Metrics::default(), AtomicU64::new(first));
        Arc::new(Context { config, clock, metrics, hello, cluster, sessions })
    }

    /// From this node to another.
    pub(crate) fn ends_to(&self, peer: NodeId) -> Ends {
        Ends { cluster: self.cluster, from: self.config.node_id, to: peer }
    }

    pub(crate) fn next_session(&self) -> u64 {
        self.sessions.fetch_add(1, Ordering::Relaxed)
    }

    /// Makes the frames of a new session to a peer.
    pub(crate) fn packer(&self, peer: NodeId, lane: Lane) -> (Packer, u64) {
        let session = self.next_session();
        (Packer::new(self.ends_to(peer), session, self.compression(lane)), session)
    }

    pub(crate) fn compression(&self, lane: Lane) -> Compression {
        match lane {
            Lane::Control => Compression::Off,
            Lane::Data | Lane::Bulk => self.config.compression,
        }
    }

    /// Refuses a message that no peer would take.
    ///
    /// # Errors
    /// [`Error::TooLarge`].
    pub(crate) fn check_size(&self, packet: &Packet) -> Result<(), Error> {
        let limit = self.config.max_message_bytes;
        let too_large = |what, actual| {
            self.metrics.failed("too_large");
            Err(Error::TooLarge { what, actual, limit, limit_name: "max_message_bytes" })
        };
        if packet.len() > limit {
            return too_large("a message", packet.len());
        }
        let table = packet.payloads.len().saturating_mul(4);
        if table > limit {
            return too_large("the table of a message's payloads", table);
        }
        Ok(())
    }

    /// The same for a reply, to whoever asked: what was asked has been done, so it must not look
    /// as if the request had been refused.
    pub(crate) fn check_reply(&self, reply: &Packet) -> Result<(), Error> {
        self.check_size(reply).map_err(|error| {
            let problem = format!("it was done, and its reply cannot be sent: {error}");
            Error::engine(Code::Internal, problem)
        })
    }

    /// Counts an error, and hands it on.
    pub(crate) fn count(&self, error: Error) -> Error {
        self.metrics.failed(error.reason());
        error
    }

    /// What `work` gives, unless it takes longer than `limit`.
    pub(crate) async fn within<T>(
        &self,
        limit: Duration,
        peer: NodeId,
        what: &str,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        tokio::select! {
            biased;
            done = work => done,
            () = self.clock.sleep(limit) => {
                Err(Error::Deadline { peer, what: what.to_owned(), after: limit })
            }
        }
    }
}
